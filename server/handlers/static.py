"""Serves web/static; a URL with an old digest is answered with the file of now, uncached."""

from sanic import Blueprint, HTTPResponse, Request
from sanic.response import raw

from server.core.errors import NotFoundError
from server.handlers.assets import assets
from server.http.context import WebContext

FOR_EVER = "public, max-age=31536000, immutable"


def blueprint(context: WebContext) -> Blueprint:  # noqa: ARG001 - every door is made alike
    """The routes under /static."""
    room = Blueprint("static_files", url_prefix="/static")

    @room.get("/<digest:str>/<name:str>")
    async def get_asset(_request: Request, digest: str, name: str) -> HTTPResponse:
        asset = assets().get(name)
        if asset is None:
            raise NotFoundError("asset")
        kept = FOR_EVER if digest == asset.digest else "no-cache"
        headers = {"Cache-Control": kept}
        return raw(asset.content, headers=headers, content_type=asset.content_type)

    return room
