"""A message's values in the lengths that WeChat takes (else it refuses it whole: 47003).

Limits: developers.weixin.qq.com, "subscribeMessage.send", table of parameter kinds. Words are
shortened; numbers, money and times never are, for a cut number is a wrong one.
"""

import re
from collections.abc import Mapping

FIELDS_MAX = 10

_KIND = re.compile(r"([a-z_]+)[0-9]+", re.ASCII)
_BLANKS = re.compile(r"\s+")
_CHARS_MAX = {"thing": 20, "const": 20, "character_string": 32, "name": 10, "phrase": 5}
_ELLIPSIS = {"thing": "…"}


def fit_fields(fields: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The `data` of a message: `{"thing1": {"value": "…"}}`."""
    return {name: {"value": fit_value(name, value)} for name, value in fields.items()}


def fit_value(name: str, value: str) -> str:
    """One value on one line, shortened where its kind allows; an empty one is a dash."""
    value = _BLANKS.sub(" ", value).strip() or "-"
    match = _KIND.fullmatch(name)
    kind = match.group(1) if match else ""
    limit = _CHARS_MAX.get(kind, len(value))
    if len(value) <= limit:
        return value
    end = _ELLIPSIS.get(kind, "")
    return value[: limit - len(end)] + end
