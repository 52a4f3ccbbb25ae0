"""Typed reading of what a client sends: path, query, body, address."""

import re
from datetime import date
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TypeVar
from urllib.parse import unquote

import msgspec
from sanic import Request

from server.core.errors import InvalidInputError, NotFoundError

T = TypeVar("T")
BODY_BYTES_MAX = 64 * 1024
PATH_PART_MAX = 200
IPV6_SUBNET_BITS = 64  # what one household or phone is given: it has all the addresses in it
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


async def read_path(request: Request) -> None:
    """Decode the parts of the path for every handler, once and strictly; raises NotFoundError.

    Sanic's own `unquote` holds for a route or not by the order in which its tree is built.
    """
    parts = {name: _path_text(str(part)) for name, part in request.match_info.items()}
    request.match_info = parts  # a new one: Sanic caches the other for the next request


def _path_text(quoted: str) -> str:
    try:
        text = unquote(quoted, errors="strict")
    except UnicodeDecodeError as error:
        raise NotFoundError("path") from error
    if len(text) > PATH_PART_MAX or "\0" in text:  # PostgreSQL's text has no NUL
        raise NotFoundError("path")
    return text


def json_body(request: Request, shape: type[T]) -> T:
    """The JSON body as `shape` (a msgspec.Struct); raises InvalidInputError with its place."""
    if len(request.body) > BODY_BYTES_MAX:
        raise InvalidInputError(f"body over {BODY_BYTES_MAX} bytes", code="body_too_large")
    try:
        return msgspec.json.decode(request.body, type=shape, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(str(error), code="invalid_body") from error


def text_argument(request: Request, name: str, *, length_max: int = 200) -> str | None:
    """One query argument, or None; twice the same name is refused."""
    values = request.args.getlist(name) or []
    if len(values) > 1 or (values and len(values[0]) > length_max):
        raise InvalidInputError(f"query argument {name!r} is given twice or too long")
    if values and "\0" in values[0]:
        raise InvalidInputError(f"query argument {name!r} holds a NUL")  # PostgreSQL has none
    return values[0] if values else None


def date_argument(request: Request, name: str) -> date:
    """A local date argument YYYY-MM-DD that must be there."""
    text = text_argument(request, name)
    if text is None:
        raise InvalidInputError(f"query argument {name!r} is missing")
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass  # the 30th of February is refused like any other text
    raise InvalidInputError(f"{name}: not a date YYYY-MM-DD: {text!r}")


def client_address(request: Request) -> str:
    """The client's address, through the configured number of proxies."""
    for text in (request.remote_addr, request.ip):
        try:
            return str(ip_address(text))
        except ValueError:
            continue  # a proxy's "unknown", or a socket file
    return ""


def limited_address(request: Request) -> str:
    """What limits count a client by: its address, or the whole IPv6 subnet that it may choose from.

    Who comes by an IPv6 network picks a new address for each try.
    """
    text = client_address(request)
    if not text or not isinstance(address := ip_address(text), IPv6Address):
        return text
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address.packed, IPV6_SUBNET_BITS), strict=False))
