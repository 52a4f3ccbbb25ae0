"""Typed reading of what a client sends; anything else is an InvalidInputError."""

from datetime import date
from typing import TypeVar

import msgspec
from sanic import Request

from server.core.errors import InvalidInputError

T = TypeVar("T")
BODY_BYTES_MAX = 64 * 1024


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
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(f"{name}: not a date YYYY-MM-DD: {text!r}") from error


def client_address(request: Request) -> str:
    """The client's address, through the configured number of proxies."""
    return str(request.remote_addr or request.ip or "")
