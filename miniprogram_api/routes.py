"""The tenants' routes, one line a call: the table is served, and described, as it stands."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, get_type_hints

import msgspec
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import empty

from miniprogram_api import entry, money, shops
from miniprogram_api.bodies import Bind, ChangeMethod, LogIn, OrderTopUp
from miniprogram_api.call import Call
from miniprogram_api.openapi import describe
from server.http.answers import json_answer
from server.http.bearer import bearer_token
from server.http.context import WebContext
from server.http.openapi import Operation, Parameter, attach
from server.services import sessions
from server.services.usage import Step

PREFIX = "/api/miniprogram/v1"
DOCUMENT_PATH = "/docs/openapi.json"

Handler = Callable[[Call], Awaitable[msgspec.Struct | None]]

_FROM = Parameter("from", str, "the first local date, YYYY-MM-DD")
_TO = Parameter("to", str, "the local date after the last, YYYY-MM-DD")
_STEP = Parameter("step", Step, "how long a point is")
_MONTH = Parameter("month", str, "YYYY-MM")
_CURSOR = Parameter("cursor", str, "`next_cursor` of the page before", needed=False)
_WALLET = Parameter("wallet", str, "electricity (default) or fixed_charges", needed=False)
_KEY = Parameter("Idempotency-Key", str, "1 to 255 printable characters, new for each order")


@dataclass(frozen=True, slots=True)
class Route:
    """An operation and the function that does it."""

    operation: Operation
    handler: Handler


def _route(method: str, path: str, handler: Handler, status: int = 200, **facts: Any) -> Route:
    """A line of the table; summary and answer are the handler's own."""
    answer = get_type_hints(handler)["return"]
    operation = Operation(
        method=method,
        path=PREFIX + path,
        summary=(inspect.getdoc(handler) or "").rstrip("."),
        tag="tenant",
        status=status,
        answer=None if answer is type(None) else answer,
        **facts,
    )
    return Route(operation, handler)


ROUTES = (
    _route(
        *("POST", "/sessions", entry.open_session, 201),
        body=LogIn,
        bearer=False,
        problems=(401, 429, 503),
    ),
    _route("DELETE", "/sessions", entry.end_session, 204),
    _route("GET", "/shop-tokens/{token}", entry.get_shop_token),
    _route("POST", "/bindings", entry.bind_shop, 201, body=Bind, problems=(404, 409, 429)),
    _route("GET", "/shops", shops.list_shops, query=(_CURSOR,)),
    _route("GET", "/shops/{id}", shops.get_shop),
    _route("DELETE", "/shops/{id}/binding", entry.unbind_shop, 204),
    _route(
        *("POST", "/shops/{id}/reconnect-confirmations", shops.confirm_reconnection, 201),
        problems=(409,),
    ),
    _route(
        *("POST", "/shops/{id}/emergency-credit", shops.ask_emergency_credit, 201),
        problems=(409,),
    ),
    _route("GET", "/shops/{id}/usage", shops.get_usage, query=(_FROM, _TO, _STEP)),
    _route("GET", "/shops/{id}/statements", shops.list_statements, query=(_MONTH,)),
    _route("GET", "/shops/{id}/statements/{day}", shops.get_statement),
    _route("GET", "/shops/{id}/transactions", money.list_transactions, query=(_WALLET, _CURSOR)),
    _route(
        *("POST", "/shops/{id}/top-ups", money.order_top_up, 201),
        body=OrderTopUp,
        headers=(_KEY,),
        problems=(409, 429, 503),
    ),
    _route("GET", "/top-ups/{top_up_no}", money.get_top_up),
    _route(
        *("POST", "/top-ups/{top_up_no}/attempts", money.change_method, 201),
        body=ChangeMethod,
        problems=(409, 429, 503),
    ),
    _route("POST", "/top-ups/{top_up_no}/close", money.close_top_up),
)


def blueprint(context: WebContext) -> Blueprint:
    """The tenants' calls under /api/miniprogram/v1, and the document of all doors."""
    room = Blueprint("miniprogram_api")
    attach(room, [route.operation for route in ROUTES])
    for number, route in enumerate(ROUTES):
        operation = route.operation
        serve = _serve(context, route)
        room.add_route(serve, operation.route, methods=[operation.method], name=f"call_{number}")
    room.add_route(_serve_document, DOCUMENT_PATH, methods=["GET"], name="openapi")
    return room


def _serve(context: WebContext, route: Route) -> Callable[..., Coroutine[Any, Any, HTTPResponse]]:
    operation = route.operation

    async def serve(request: Request, **_path: str) -> HTTPResponse:
        now = context.clock()
        user = await sessions.user_of(bearer_token(request), now) if operation.bearer else None
        answer = await route.handler(Call(request, context, now, user))
        if answer is None:
            return empty(operation.status, headers={"Cache-Control": "no-store"})
        return json_answer(answer, status=operation.status)

    return serve


async def _serve_document(request: Request) -> HTTPResponse:
    return json_answer(describe(request.app, version("mallwatt")))
