"""Which manager is calling, by bearer token or by the pages' cookie, and whether they may."""

from sanic import Request

from server.handlers.guards import MANAGER_COOKIE, cookie_token
from server.http.bearer import bearer_token
from server.http.context import WebContext
from server.services import managers
from server.services.manager_acts import Act, require
from server.services.managers import Manager


async def api_manager(request: Request, context: WebContext, act: Act) -> Manager:
    """The manager of an API call; UnauthenticatedError, or ForbiddenError for another role."""
    return await _allowed(bearer_token(request), context, act)


async def page_manager(request: Request, context: WebContext, act: Act) -> Manager:
    """The manager of a page; raises as `api_manager` does."""
    return await _allowed(cookie_token(request, MANAGER_COOKIE), context, act)


async def _allowed(token: str, context: WebContext, act: Act) -> Manager:
    manager = await managers.manager_of(token, context.clock())
    require(manager.role, act)
    return manager
