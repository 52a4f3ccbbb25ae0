"""JSON answers and problems; the one table from errors to statuses."""

import uuid
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
from server.http.locale import Locale, locale_of, problem_text

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

# not understood at all, against understood and refused (422)
MALFORMED = frozenset({"invalid_body", "idempotency_key_needed", "bad_request"})

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
    if error.code in MALFORMED:
        return 400
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


def answer_error(request: Request, error: Exception) -> HTTPResponse:
    """Every exception that reaches the door as a problem; never a stack trace."""
    locale: Locale = locale_of(request)
    if isinstance(error, MallwattError):
        status = status_of(error)
        detail = problem_text(error.code, error.detail, locale, public=status < 500)
        answer = problem(request, status, error.code, detail)
        if isinstance(error, LimitedError):
            answer.headers["Retry-After"] = str(error.retry_after_s)
        if status == 401:
            answer.headers["WWW-Authenticate"] = "Bearer"
        if status >= 500:
            log.error("request failed", request_id=request_id(request), exc_info=error)
        return answer
    if isinstance(error, SanicException) and error.status_code < 500:
        code = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}.get(
            error.status_code, "bad_request"
        )
        answer = problem(
            request,
            error.status_code,
            code,
            problem_text(code, "", locale, public=True),
        )
        for name, value in (error.headers or {}).items():
            answer.headers[name] = str(value)
        return answer
    log.error("request failed", request_id=request_id(request), exc_info=error)
    return problem(request, 500, "internal", problem_text("internal", "", locale, public=False))


async def add_headers(request: Request, response: BaseHTTPResponse) -> None:
    """Headers that every answer carries."""
    response.headers["X-Request-Id"] = request_id(request)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")


def install_answers(app: Sanic[Any, Any]) -> None:
    """Make problems of all errors, and give each answer its request id."""
    app.error_handler.add(Exception, answer_error)
    app.register_middleware(add_headers, "response")
