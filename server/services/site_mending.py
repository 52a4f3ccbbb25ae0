"""A site file with faults, made fit to be looked at further: all its faults are told at once.

Nothing that is mended is imported: what a place-holder would be blamed for stands below a fault.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

Location = tuple[str | int, ...]

# Control characters, line and paragraph separators, and marks that turn the direction of text:
# they break lines of logs and pages, or show a name as another one.
ODD = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
UNIQUE = "mended-"
HARMLESS: Mapping[str, Mapping[str, object]] = {
    "site": {"code": "site", "name": "-", "timezone": "UTC"},
    "merchant.wechat": {
        "mchid": "000000",
        "appid": "-",
        "apiv3_key_file": "-",
        "private_key_file": "-",
        "cert_serial": "0",
        "platform_public_key_file": "-",
        "platform_public_key_id": "0",
    },
    "merchant.alipay": {
        "app_id": "000000",
        "seller_id": "000000",
        "private_key_file": "-",
        "alipay_public_key_file": "-",
    },
    "weixin.templates": {"id": "-", "fields": {}},
    "gateway": {"code": UNIQUE, "link": "mqtt"},
    "meter": {"code": UNIQUE, "gateway": UNIQUE, "profile": "none", "role": "feeder"},
    "shop": {"code": UNIQUE, "name": "-", "tariff": "-", "binding_code": "0000"},
}


def odd_texts(value: object, location: Location = ()) -> Iterator[tuple[Location, str]]:
    """Every text, keys too, that nobody could type or see, and the character in it."""
    if isinstance(value, str):
        if (odd := ODD.search(value)) is not None:
            yield location, f"has the character U+{ord(odd[0]):04X}"
    elif isinstance(value, dict):
        for key, inner in value.items():
            if (odd := ODD.search(key)) is not None:
                yield (*location, key), f"has the character U+{ord(odd[0]):04X} in its name"
            yield from odd_texts(inner, (*location, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from odd_texts(inner, (*location, index))


def place_of(location: Location) -> str:
    """Where a fault is, as it is printed: `meter[3].unit`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    place = "".join(parts).lstrip(".") or "file"
    return ODD.sub(lambda odd: f"\\u{ord(odd[0]):04x}", place)


def is_below(place: str, places: frozenset[str]) -> bool:
    """Whether a place is one of `places` or inside one of them."""
    return place in places or any(
        place[: mark.start()] in places for mark in re.finditer(r"[.\[]", place)
    )


def mended(raw: Mapping[str, object], locations: Iterable[Location]) -> dict[str, object]:
    """A copy whose faulty values are harmless ones or gone; lists of tables keep their length."""
    copy: dict[str, object] = deepcopy(dict(raw))
    faulty = {one[:-1] if one[-1:] == ("[key]",) else one for one in locations}
    backwards = sorted(faulty, key=lambda one: [_rank(part) for part in one], reverse=True)
    for location in backwards:  # what goes from a list moves nothing that is still to be mended
        _mend(copy, location)
    return copy


def _rank(part: str | int) -> tuple[int, str]:
    return (part, "") if isinstance(part, int) else (-1, part)


def _mend(copy: dict[str, object], location: Location) -> None:
    around: Any = copy
    for part in location[:-1]:
        try:
            around = around[part]
        except (KeyError, IndexError, TypeError):
            return  # it went with what it was in
    harmless, last = _harmless(location), location[-1]
    if isinstance(around, list) and isinstance(last, int):
        around[last : last + 1] = [] if harmless is None else [harmless]
    elif isinstance(around, dict):
        around.pop(str(last), None)
        if harmless is not None:
            around[str(last)] = harmless


def _harmless(location: Location) -> object:
    """What may stand at a place that must not be empty; None: nothing need be there."""
    top = str(location[0])
    if top in {"tariff", "fixed_charge"}:
        return {} if len(location) == 2 else None
    name, depth = top, 1 if top == "site" else 2
    if top in {"merchant", "weixin"}:
        name, depth = ".".join(map(str, location[:2])), 2 if top == "merchant" else 3
    values = HARMLESS.get(name, {})
    made = {
        field: f"{UNIQUE}{location[depth - 1]}" if value == UNIQUE else value
        for field, value in (values.items() if len(location) >= depth else ())
    }
    if len(location) == depth:  # a merchant or a template need not be there
        return deepcopy(made) if values and name == top else None
    return deepcopy(made.get(str(location[-1]))) if len(location) == depth + 1 else None
