"""For whoever operates it: alive, ready, and the numbers Prometheus asks for."""

import hmac
import ipaddress

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import raw, text

from server.core.errors import ForbiddenError
from server.handlers.metrics import table_metrics
from server.http.answers import json_answer
from server.http.context import WebContext
from server.services import health


def blueprint(context: WebContext, *, metrics_token: str | None = None) -> Blueprint:
    """The routes of health and metrics; without a token metrics answer loopback alone."""
    room = Blueprint("health")

    @room.get("/health/live")
    async def live(_request: Request) -> HTTPResponse:
        return text("ok\n", headers={"Cache-Control": "no-store"})

    @room.get("/health/ready")
    async def ready(_request: Request) -> HTTPResponse:
        problem = await health.database_problem()
        state = {"database": problem or "ok"}
        return json_answer(state, status=200 if problem is None else 503)

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
