"""The composition root: the only file that knows everybody.

Each role opens what it needs, runs until cancelled, and closes in the opposite order.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import structlog
from redis.asyncio import Redis
from sanic import Sanic

import miniprogram_api.routes
from server.channels.contract import MessageChannel
from server.channels.log.client import LogChannel
from server.channels.weixin.client import WeixinClient
from server.channels.weixin.client import build as build_weixin
from server.channels.weixin.tokens import MemoryTokenStore, RedisTokenStore
from server.devices.profiles import Profile, load_catalogue
from server.handlers import (
    admin_api,
    admin_days,
    admin_exchanges,
    admin_moving,
    admin_pages,
    front_page,
    health,
    kiosk,
    live,
    payment_callbacks,
    public_page,
    static,
)
from server.http.answers import install_answers
from server.http.context import WebContext
from server.http.routing import PlainRouter
from server.merchants import Merchants
from server.models.database import close_database, open_database
from server.services.site_file import ProfileFacts
from server.services.wakeups import Wakeups
from server.settings import Settings
from server.workers.collect import CollectContext, run_collector
from server.workers.context import WorkContext
from server.workers.worker import run_worker

log = structlog.get_logger(__name__)

REDIS_CONNECT_S = 1.0
REQUEST_BYTES_MAX = 256 * 1024
STOP_LOOK_S = 0.05
STOP_S = 5.0  # for answers under way; whoever supervises waits longer


def wall_clock() -> datetime:
    """Now, in UTC; the one clock of a process."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Outside:
    """What a role reaches of the world."""

    settings: Settings
    wakeups: Wakeups
    merchants: Merchants
    weixin: WeixinClient | None


@asynccontextmanager
async def open_outside(
    settings: Settings, *, pool_max: int = 10, name: str = "mallwatt"
) -> AsyncIterator[Outside]:
    """Database, Redis, platforms and WeChat; closed again at the end of the block."""
    assert settings.database_url is not None  # noqa: S101  the commands see to it
    async with AsyncExitStack() as stack:
        await open_database(settings.database_url, pool_max=pool_max, name=name)
        stack.push_async_callback(close_database)
        redis = None
        if settings.redis_url is not None:
            redis = Redis.from_url(
                settings.redis_url,
                socket_connect_timeout=REDIS_CONNECT_S,
                socket_timeout=None,  # a subscription is silent for hours; telling is limited
                health_check_interval=15,
            )
            stack.push_async_callback(redis.aclose)
        merchants = Merchants(settings)
        stack.push_async_callback(merchants.aclose)
        weixin = _weixin(settings)
        if weixin is not None:
            stack.push_async_callback(weixin.aclose)
        yield Outside(settings, Wakeups(redis), merchants, weixin)


def _weixin(settings: Settings) -> WeixinClient | None:
    if settings.weixin_appid is None or settings.weixin_secret is None:
        return None
    store = RedisTokenStore(settings.redis_url) if settings.redis_url else MemoryTokenStore()
    return build_weixin(
        settings.weixin_appid, settings.weixin_secret, settings.weixin_api_url, store
    )


def create_web_app(context: WebContext, *, name: str = "mallwatt") -> Sanic[Any, Any]:
    """Every HTTP door on one app."""
    app: Sanic[Any, Any] = Sanic(name, configure_logging=False, router=PlainRouter())
    app.config.update(
        REQUEST_MAX_SIZE=REQUEST_BYTES_MAX,
        REQUEST_TIMEOUT=15,
        RESPONSE_TIMEOUT=40,
        KEEP_ALIVE_TIMEOUT=30,
        GRACEFUL_SHUTDOWN_TIMEOUT=STOP_S,
        ACCESS_LOG=False,
        PROXIES_COUNT=context.settings.proxies_count or None,
        TOUCHUP=False,  # it rewrites the server class once a process; tests make several apps
    )
    install_answers(app)
    for door in (
        miniprogram_api.routes,
        payment_callbacks,
        admin_api,
        admin_days,
        admin_exchanges,
        admin_moving,
        admin_pages,
        front_page,
        kiosk,
        public_page,
        live,
        static,
    ):
        app.blueprint(door.blueprint(context))
    app.blueprint(health.blueprint(context, metrics_token=context.settings.metrics_token))
    return app


async def serve_web(settings: Settings, ready: socket.socket | None = None) -> None:
    """The web role until cancelled; `ready` is an already bound place to listen."""
    async with open_outside(settings, pool_max=16) as outside:
        context = WebContext(
            settings, wall_clock, outside.merchants, outside.weixin, outside.wakeups
        )
        app = create_web_app(context)
        place: dict[str, Any] = (
            {"sock": ready}
            if ready is not None
            else {"host": settings.http.host, "port": settings.http.port}
        )
        server: Any = await app.create_server(
            **place, access_log=False, asyncio_server_kwargs={"start_serving": False}
        )
        await server.startup()
        await server.before_start()
        await server.start_serving()
        await server.after_start()
        log.info("web is ready", at=str(settings.http))
        try:
            await asyncio.Event().wait()
        finally:
            await _stop(server)


async def _stop(server: Any) -> None:
    """Take nobody more, give the answers that are under way, then go."""
    await server.before_stop()
    closed = server.close()
    for _ in range(int(STOP_S / STOP_LOOK_S)):
        if not _still_answering(server):
            break
        await asyncio.sleep(STOP_LOOK_S)
    for connection in tuple(server.connections):
        connection.abort()
    await closed
    await server.after_stop()


def _still_answering(server: Any) -> bool:
    """Whether an answer is under way; hangs up where none is."""
    idle = [connection.close_if_idle() for connection in tuple(server.connections)]
    return not all(idle)


async def serve_worker(settings: Settings) -> None:
    """The worker role until cancelled."""
    async with open_outside(settings) as outside:
        channels: dict[str, MessageChannel] = {"log": LogChannel()}
        if outside.weixin is not None:
            channels["weixin"] = outside.weixin
        log.info("worker is ready")
        context = WorkContext(
            *(wall_clock, outside.merchants, channels, outside.wakeups),
            *(settings.public_url, outside.weixin),
        )
        await run_worker(context)


async def serve_collector(settings: Settings) -> None:
    """The collector role until cancelled."""
    listen = settings.dtu_listen
    # PostgreSQL keeps 63 bytes of a connection's name
    owner = f"mallwatt:{socket.gethostname()[:30]}:{os.getpid()}:{time.time_ns() % 10**9}"
    async with open_outside(settings, name=owner) as outside:
        context = CollectContext(
            clock=wall_clock,
            wakeups=outside.wakeups,
            catalogue=load_catalogue(settings.profiles_dir),
            dtu_listen=None if listen is None else (listen.host, listen.port),
            owner=owner,
        )
        log.info("collector is ready", owner=context.owner)
        await run_collector(context)


def profile_facts(settings: Settings) -> dict[str, ProfileFacts]:
    """What an import needs of every known meter profile; raises ProfileError."""
    return {
        name: _facts(profile) for name, profile in load_catalogue(settings.profiles_dir).items()
    }


def _facts(profile: Profile) -> ProfileFacts:
    most_kw: Decimal | None = profile.limits.max_power_kw
    return ProfileFacts(
        protocol=profile.protocol,
        has_relay=profile.supply is not None,
        permit_only=profile.supply is not None and profile.supply.permits_only,
        max_power_w=None if most_kw is None else int(most_kw * 1000),
        rollover_wh=profile.limits.rollover_wh,
    )
