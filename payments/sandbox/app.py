"""The sandbox as one server: composition, life cycle, and where it refuses to run."""

import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.config import Config
from sanic.response import empty

from payments.sandbox import alipay, control, wechat, weixin
from payments.sandbox.keys import ensure_keys
from payments.sandbox.notifier import Post
from payments.sandbox.state import Pace, Sandbox, open_sandbox

App = Sanic[Config, SimpleNamespace]

REQUEST_BYTES_MAX = 256 * 1024


class SandboxRefusedError(Exception):
    """The sandbox cannot run here; says why in one line."""


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """Where the sandbox is reached and keeps its files; keys default to a folder in `data`."""

    public_url: str
    data: Path
    keys: Path | None = None
    now: Callable[[], datetime] | None = None  # the machine's clock unless given
    pace: Pace | None = None  # the demo's unless given
    post: Post | None = None  # how notices go out; over HTTP unless given


def create_app(config: SandboxConfig) -> App:
    """The sandbox's server, not yet listening; raises SandboxRefusedError in production."""
    if os.environ.get("MALLWATT_ENV") == "production":
        raise SandboxRefusedError("the sandbox does not run with MALLWATT_ENV=production")
    sandbox = open_sandbox(
        public_url=config.public_url,
        data=config.data,
        keys=ensure_keys(config.keys or config.data / "keys"),
        now=config.now,
        pace=config.pace,
        post=config.post,
    )
    app = Sanic(f"mallwatt_sandbox_{uuid.uuid4().hex}", configure_logging=False)
    app.config.REQUEST_MAX_SIZE = REQUEST_BYTES_MAX
    app.config.FALLBACK_ERROR_FORMAT = "json"
    app.config.TOUCHUP = False  # it rewrites the server class, once a process: tests need more
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 3.0
    app.ctx.sandbox = sandbox
    for part in (wechat, alipay, weixin, control):
        app.blueprint(part.blueprint(sandbox))

    @app.get("/health")
    async def health(_: Request) -> HTTPResponse:
        return empty()

    @app.after_server_stop
    async def close(_: object) -> None:
        await sandbox.aclose()

    return app


def bind_loopback(host: str, port: str) -> socket.socket:
    """A listening place on this machine only; raises SandboxRefusedError with one line."""
    if not (port.isascii() and port.isdecimal()):
        raise SandboxRefusedError(f"a place to listen is host:port, not {host}:{port}")
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise SandboxRefusedError(f"the sandbox listens on loopback only, not on {host}")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    place = socket.socket(family, socket.SOCK_STREAM)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((address, int(port)))
    except (OSError, OverflowError) as error:
        place.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise SandboxRefusedError(f"cannot listen on {host}:{port}: {reason}") from None
    return place


def public_url(place: socket.socket) -> str:
    """The address of a bound place."""
    host, port = place.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def serving(config: SandboxConfig, place: socket.socket) -> AsyncIterator[Sandbox]:
    """A running sandbox for as long as the block lasts, on a place from `bind_loopback`."""
    app = create_app(config)
    server: Any = await app.create_server(
        sock=place, access_log=False, asyncio_server_kwargs={"start_serving": False}
    )
    await server.startup()
    await server.before_start()
    await server.start_serving()
    await server.after_start()
    sandbox: Sandbox = app.ctx.sandbox
    try:
        yield sandbox
    finally:
        await server.before_stop()
        closed = server.close()
        for connection in tuple(server.connections):
            connection.close()
        await closed
        await server.after_stop()
        Sanic.unregister_app(app)
