"""The limit of a door: a JSON route of Sanic that does nothing, served as the web role serves."""

import asyncio
import os
import socket
from typing import Any

import uvloop
from sanic import HTTPResponse, Request, Sanic
from sanic.response import json

from server.app import REQUEST_BYTES_MAX


async def serve(place: socket.socket) -> None:
    """Answer every POST alike, until cancelled."""
    app: Sanic[Any, Any] = Sanic("bare", configure_logging=False)
    app.config.update(REQUEST_MAX_SIZE=REQUEST_BYTES_MAX, ACCESS_LOG=False, TOUCHUP=False)

    @app.post("/payments/<platform:str>/<site:str>/notify")
    async def notify(_: Request, platform: str, site: str) -> HTTPResponse:
        return json({"platform": platform, "site": site})

    server: Any = await app.create_server(
        sock=place, access_log=False, asyncio_server_kwargs={"start_serving": False}
    )
    await server.startup()
    await server.before_start()
    await server.start_serving()
    await server.after_start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(socket.create_server(("127.0.0.1", int(os.environ["PORT"])))))
