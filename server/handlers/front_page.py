"""The page at /, for whoever comes by the bare address: which way is whose."""

from sanic import Blueprint, HTTPResponse, Request

from server.handlers.rendering import error_page, page
from server.http.context import WebContext


def blueprint(context: WebContext) -> Blueprint:
    """The one route."""
    room = Blueprint("front_page")
    room.exception(Exception)(error_page(context, "/"))

    @room.get("/")
    async def front(request: Request) -> HTTPResponse:
        return page(request, context, "front.html")

    return room
