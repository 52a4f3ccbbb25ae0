"""What a client is told of each kind of error, and in which words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sanic.exceptions import (
    HeaderExpectationFailed,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RequestTimeout,
    SanicException,
    ServerError,
    ServiceUnavailable,
)

from server.core.errors import (
    ConflictError,
    InvalidInputError,
    LimitedError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from server.http.answers import told_of
from server.http.locale import PROBLEMS

ROOT = Path(__file__).parents[2]
# no door can meet these: a command does, a refund keeps it beside what platforms said, or they are
# our own fault and told as `internal`
ELSEWHERE = {
    *("no_collector", "job_failed", "not_confirmed", "invalid_site_file", "missing_account"),
    "NO_MERCHANT",
}
DOORS = ("server/handlers", "server/http", "server/services", "miniprogram_api")


@pytest.mark.parametrize(
    ("error", "status", "code", "detail"),
    [
        (InvalidInputError("of no use"), 422, "invalid_input", "of no use"),
        (InvalidInputError("line 1", code="invalid_body"), 400, "invalid_body", "line 1"),
        (InvalidInputError("70 kB", code="body_too_large"), 413, "body_too_large", "70 kB"),
        (UnauthenticatedError(), 401, "unauthenticated", ""),
        (NotFoundError("no such shop"), 404, "not_found", "no such shop"),
        (ConflictError("twice"), 409, "conflict", "twice"),
        (LimitedError(retry_after_s=60), 429, "too_many_requests", ""),
        (UnavailableError("10.0.0.7 does not answer"), 503, "unavailable", ""),
        (RuntimeError("password=abc"), 500, "internal", ""),
        # Sanic's own
        (NotFound("Requested URL /x not found"), 404, "not_found", ""),
        (MethodNotAllowed("m", "PUT", ["GET"]), 405, "method_not_allowed", ""),
        (PayloadTooLarge("x"), 413, "body_too_large", ""),
        (HeaderExpectationFailed("x"), 417, "bad_request", ""),
        (RequestTimeout("x"), 408, "request_timeout", ""),
        (ServiceUnavailable("Response Timeout"), 503, "unavailable", ""),  # past RESPONSE_TIMEOUT
        (ServerError("a trace"), 500, "internal", ""),
        (SanicException("x", status_code=502), 500, "internal", ""),
    ],
)
def test_an_error_is_told(error: Exception, status: int, code: str, detail: str) -> None:
    told = told_of(error)
    assert (told.status, told.code) == (status, code)
    if not isinstance(error, UnauthenticatedError | LimitedError):
        assert told.detail == detail


def test_who_must_wait_is_told_how_long_and_who_erred_what_would_do() -> None:
    assert told_of(LimitedError(retry_after_s=60)).headers == {"Retry-After": "60"}
    assert told_of(MethodNotAllowed("m", "PUT", ["GET"])).headers == {"Allow": "GET"}


def _codes() -> Iterator[str]:
    """Every code that a door or a service gives an error, found in the source."""
    for folder in DOORS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "code":
                    yield from _texts(node.value)
                if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                    for line in node.body:
                        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code":
                            yield from _texts(line.value)


def _texts(node: ast.expr) -> list[str]:
    known = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return [str(ast.literal_eval(node))] if known and ast.literal_eval(node) else []


def test_every_code_has_words_in_both_languages() -> None:
    codes = set(_codes())
    assert {"site_needed", "facts_changed", "hoarding_limit"} <= codes
    assert codes - set(PROBLEMS) == ELSEWHERE
    assert all(re.search(r"[\u4e00-\u9fff]", zh) and en.isascii() for zh, en in PROBLEMS.values())
