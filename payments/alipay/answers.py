r"""Synchronous answers: `{"alipay_trade_query_response": {...}, "sign": "..."}`.

The signature covers the very bytes of the inner object as they came over the wire (with `\/` and
any blanks), so the outer object is walked by hand to cut them out; re-encoding would not do.
"""

import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from payments.alipay.errors import may_be_unsigned, unproven
from payments.alipay.signing import is_signed

_BLANK = " \t\r\n"


def read_answer(raw: bytes, method: str, key: RSAPublicKey) -> Mapping[str, str]:
    """The verified inner object, its scalars as text; raises PlatformUnavailableError."""
    try:
        text = raw.decode("utf-8")
        members = _members(text)
    except (ValueError, RecursionError):
        raise unproven(method, "the answer is not a JSON object") from None
    name = f"{method.replace('.', '_')}_response"
    value, start, end = members.get(name) or members.get("error_response") or (None, 0, 0)
    if not isinstance(value, dict):
        raise unproven(method, f"the answer has no {name}")
    answer = {field: item for field, item in value.items() if isinstance(item, str)}
    signature = members.get("sign", ("", 0, 0))[0]
    if not signature and may_be_unsigned(answer):
        return answer
    if not isinstance(signature, str) or not is_signed(key, text[start:end].encode(), signature):
        raise unproven(method, "the answer is not signed by Alipay's key")
    return answer


def _members(text: str) -> dict[str, tuple[Any, int, int]]:
    """The members of the outermost object with the span of each value."""
    decoder = json.JSONDecoder(
        object_pairs_hook=_unique,
        parse_float=str,  # money is never a float, and ids may be long
        parse_int=str,
        parse_constant=_refuse,
    )
    members: dict[str, tuple[Any, int, int]] = {}
    at = _expect(text, _skip(text, 0), "{")
    while True:
        name, at = decoder.raw_decode(text, at)
        start = _skip(text, _expect(text, at, ":"))
        value, at = decoder.raw_decode(text, start)
        if not isinstance(name, str) or name in members:
            raise ValueError("a name is no string or comes twice")
        members[name] = (value, start, at)
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            break
        at = _expect(text, at, ",")
    if _skip(text, at + 1) != len(text):
        raise ValueError("more after the object")
    return members


def _expect(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise ValueError(f"{mark} is missing")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
