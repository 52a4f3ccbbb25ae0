"""For whoever operates it: alive, ready, and the numbers Prometheus asks for."""

import hmac
import ipaddress

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import raw, text

from server.core.errors import ForbiddenError
from server.handlers.metrics import table_metrics
from server.http.answers import json_answer
from server.http.context import WebContext
from server.http.openapi import Operation, attach
from server.services import health


class Readiness(msgspec.Struct):
    """`ok`, or one word for what is wrong."""

    database: str


OPERATIONS = (
    Operation(
        method="GET",
        path="/health/live",
        summary="Whether the process lives",
        tag="operator",
        answer=str,
        media_type="text/plain",
        bearer=False,
    ),
    Operation(
        method="GET",
        path="/health/ready",
        summary="Whether it can serve: 503 while the database is away",
        tag="operator",
        answer=Readiness,
        bearer=False,
        others={503: Readiness},
    ),
    Operation(
        method="GET",
        path="/metrics",
        summary="Numbers for Prometheus: for loopback, or the bearer of MALLWATT_METRICS_TOKEN",
        tag="operator",
        answer=str,
        media_type="text/plain",
        bearer=False,
        problems=(403,),
    ),
)


def blueprint(context: WebContext, *, metrics_token: str | None = None) -> Blueprint:
    """The routes of health and metrics; without a token metrics answer loopback alone."""
    room = Blueprint("health")
    attach(room, OPERATIONS)

    @room.get("/health/live")
    async def live(_request: Request) -> HTTPResponse:
        return text("ok\n", headers={"Cache-Control": "no-store"})

    @room.get("/health/ready")
    async def ready(_request: Request) -> HTTPResponse:
        problem = await health.database_problem()
        return json_answer(Readiness(problem or "ok"), status=200 if problem is None else 503)

    @room.get("/metrics")
    async def metrics(request: Request) -> HTTPResponse:
        if not may_read_metrics(request, metrics_token):
            raise ForbiddenError("metrics are for this machine, or for the token's bearer")
        numbers = table_metrics(await health.table_numbers(context.clock()))
        body = generate_latest(REGISTRY) + generate_latest(numbers)
        return raw(body, headers={"Cache-Control": "no-store"}, content_type=CONTENT_TYPE_LATEST)

    return room


def may_read_metrics(request: Request, metrics_token: str | None) -> bool:
    """Loopback itself (nothing that a proxy on this machine passes on), or the token."""
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    if metrics_token and hmac.compare_digest(bearer.encode(), metrics_token.encode()):
        return True
    passed_on = any(
        name in request.headers for name in ("x-forwarded-for", "x-real-ip", "forwarded")
    )
    try:
        return not passed_on and ipaddress.ip_address(request.ip).is_loopback
    except ValueError:  # a socket file has no address
        return False
