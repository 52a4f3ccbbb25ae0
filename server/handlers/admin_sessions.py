"""Which manager is calling: by bearer token or by the pages' cookie."""

from sanic import Request

from server.core.errors import UnauthenticatedError
from server.handlers.guards import MANAGER_COOKIE
from server.http.context import WebContext
from server.services import managers
from server.services.managers import Manager

TOKEN_MAX = 128


def bearer_token(request: Request) -> str:
    """The bearer token of an API call; UnauthenticatedError where there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(token) <= TOKEN_MAX:
        raise UnauthenticatedError
    return token


def cookie_token(request: Request) -> str:
    """The pages' session cookie; UnauthenticatedError where there is none."""
    token = request.cookies.get(MANAGER_COOKIE) or ""
    if not 0 < len(token) <= TOKEN_MAX:
        raise UnauthenticatedError
    return str(token)


async def api_manager(request: Request, context: WebContext) -> Manager:
    """The manager of an API call."""
    return await managers.manager_of(bearer_token(request), context.clock())


async def page_manager(request: Request, context: WebContext) -> Manager:
    """The manager of a page."""
    return await managers.manager_of(cookie_token(request), context.clock())
