r"""Synchronous answers: `{"alipay_trade_query_response": {...}, "sign": "..."}`.

The signature covers the very bytes of the inner object as they came over the wire (with `\/` and
any blanks), so the outer object is walked by hand to cut them out; re-encoding would not do.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from payments.alipay.errors import may_be_unsigned, unproven
from payments.alipay.signing import is_signed
from payments.contract import PlatformUnavailableError

_BLANK = " \t\r\n"


class UnknownCertificateError(PlatformUnavailableError):
    """An answer signed with a certificate that we do not know; `number` names it."""

    def __init__(self, method: str, number: str) -> None:
        super().__init__(f"{method}: signed with an unknown certificate", code="CERTIFICATE")
        self.number = number


def read_answer(
    raw: bytes, method: str, key_of: Callable[[str], RSAPublicKey | None]
) -> Mapping[str, str]:
    """The verified inner object, its scalars as text; raises PlatformUnavailableError.

    `key_of` has the key of a certificate's number ("" where the answer names none), or None:
    UnknownCertificateError.
    """
    answer, signed, members = _read(raw, method)
    signature = members.get("sign", "")
    if not signature and may_be_unsigned(answer):
        return answer
    number = members.get("alipay_cert_sn", "")
    if not isinstance(signature, str) or not signature or not isinstance(number, str):
        raise unproven(method, "the answer is not signed")
    key = key_of(number)
    if key is None:
        raise UnknownCertificateError(method, number)
    if not is_signed(key, signed, signature):
        raise unproven(method, "the answer is not signed by Alipay's key")
    return answer


def read_unproven(raw: bytes, method: str) -> Mapping[str, str]:
    """The inner object, whoever wrote it: only for what proves itself."""
    return _read(raw, method)[0]


def _read(raw: bytes, method: str) -> tuple[Mapping[str, str], bytes, Mapping[str, Any]]:
    """The inner object's scalars, the bytes of it, and what stands beside it."""
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
    beside = {field: item for field, (item, _, _) in members.items()}
    return answer, text[start:end].encode(), beside


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
