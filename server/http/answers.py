"""JSON answers and problems; the one table from errors to statuses."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import structlog
from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import SanicException
from sanic.response import BaseHTTPResponse, raw

from server.core.errors import (
    ConflictError,
    Fault,
    ForbiddenError,
    InvalidInputError,
    LimitedError,
    MallwattError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from server.http.bodies import read_path
from server.http.locale import locale_of, problem_text

log = structlog.get_logger(__name__)

# in order: the first class that fits decides
STATUS_BY_ERROR: tuple[tuple[type[MallwattError], int], ...] = (
    (LimitedError, 429),
    (UnauthenticatedError, 401),
    (ForbiddenError, 403),
    (NotFoundError, 404),
    (ConflictError, 409),
    (InvalidInputError, 422),
    (UnavailableError, 503),
)

# before the table above: not understood at all is no 422, which is understood and refused
STATUS_BY_CODE = {
    "invalid_body": 400,
    "idempotency_key_needed": 400,
    "bad_request": 400,
    "body_too_large": 413,
}
# Sanic's own errors; any other below 500 is a bad request, any other at all is ours
CODE_BY_STATUS = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    503: "unavailable",
}

_encoder = msgspec.json.Encoder(decimal_format="string")


def json_answer(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> HTTPResponse:
    """Any msgspec-encodable value as JSON."""
    return raw(
        _encoder.encode(value),
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        content_type="application/json",
    )


def iso(at: datetime | None) -> str | None:
    """A time with its offset, as the API writes it."""
    return None if at is None else at.isoformat(timespec="seconds")


def status_of(error: MallwattError) -> int:
    """The HTTP status of a typed error; a peer's fault is 502, ours 500."""
    if error.code in STATUS_BY_CODE:
        return STATUS_BY_CODE[error.code]
    for kind, status in STATUS_BY_ERROR:
        if isinstance(error, kind):
            return status
    return 502 if error.fault is Fault.PEER else 500


def problem(request: Request, status: int, code: str, detail: str) -> HTTPResponse:
    """An application/problem+json answer (RFC 9457 with `code` and `request_id`)."""
    body = {"status": status, "code": code, "detail": detail, "request_id": request_id(request)}
    return raw(
        _encoder.encode(body),
        status=status,
        headers={"Cache-Control": "no-store"},
        content_type="application/problem+json",
    )


def request_id(request: Request) -> str:
    """One id a request, in its answers and its log lines."""
    if not hasattr(request.ctx, "request_id"):
        request.ctx.request_id = uuid.uuid4().hex
    return str(request.ctx.request_id)


@dataclass(frozen=True, slots=True)
class Told:
    """What a client may be told of an error; `detail` is empty where it is not theirs to read."""

    status: int
    code: str
    detail: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def told_of(error: Exception) -> Told:
    """The one way from any exception to an answer, a problem's or a page's."""
    if isinstance(error, MallwattError):
        status = status_of(error)
        headers = {}
        if isinstance(error, LimitedError):
            headers["Retry-After"] = str(error.retry_after_s)
        return Told(status, error.code, error.detail if status < 500 else "", headers)
    if isinstance(error, SanicException) and (
        error.status_code < 500 or error.status_code in CODE_BY_STATUS
    ):
        code = CODE_BY_STATUS.get(error.status_code, "bad_request")
        given = {name: str(value) for name, value in (error.headers or {}).items()}
        return Told(error.status_code, code, headers=given)
    return Told(500, "internal")


def answer_error(request: Request, error: Exception) -> HTTPResponse:
    """Every exception that reaches the door as a problem; never a stack trace."""
    told = told_of(error)
    if told.status >= 500:
        log.error("request failed", request_id=request_id(request), exc_info=error)
    words = problem_text(told.code, told.detail, locale_of(request))
    answer = problem(request, told.status, told.code, words)
    answer.headers.update(told.headers)
    if told.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


async def add_headers(request: Request, response: BaseHTTPResponse) -> None:
    """Headers that every answer carries."""
    response.headers["X-Request-Id"] = request_id(request)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")


def install_answers(app: Sanic[Any, Any]) -> None:
    """Read all paths alike, make problems of all errors, give each answer its request id."""
    app.register_middleware(read_path, "request")
    app.error_handler.add(Exception, answer_error)
    app.register_middleware(add_headers, "response")
