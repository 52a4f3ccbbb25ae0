"""`mallwatt run`: embedded servers, the demo mall, and every role, in one go."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

import server.app
from server.core.errors import ConflictError
from server.local.demo.folder import DemoFolder
from server.local.demo.loader import load_demo
from server.local.demo.mall import DEMO
from server.local.ports import require_free
from server.local.postgres import EmbeddedPostgres
from server.local.processes import LocalServerError
from server.local.redis import EmbeddedRedis
from server.local.running import RunningUrls, forget_running, write_running
from server.local.supervisor import Child, Supervisor
from server.models.database import migrate_database
from server.services import managers
from server.services.manager_acts import Role
from server.services.sites import has_sites
from server.settings import Settings

READY_WITHIN_S = 60
DEMO_MANAGER = "demo"


def say(line: str) -> None:
    """Tell whoever started it, at once."""
    print(f"mallwatt: {line}", flush=True)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be started, and what is told once it answers."""

    children: tuple[Child, ...]
    hints: tuple[str, ...]


async def run_all(settings: Settings, *, demo: bool) -> int:
    """Run until Ctrl-C; everything that was started is ended."""
    require_free(settings.http.host, settings.http.port, "MALLWATT_HTTP (or --port)")
    _make_folder(settings.data_dir)
    server.app.profile_facts(settings)  # a faulty profile stops the start, not the collector
    if settings.dtu_listen is not None:
        require_free(settings.dtu_listen.host, settings.dtu_listen.port, "MALLWATT_DTU_LISTEN")
    async with _servers(settings) as with_servers:
        say("bringing the database to the newest schema")
        await migrate_database(with_servers.database_url or "")
        plan = await _prepare(with_servers, demo=demo)
        supervisor = Supervisor(plan.children, say=say)
        async with asyncio.TaskGroup() as group:
            greeting = group.create_task(_greet(with_servers, plan))
            await supervisor.run()
            greeting.cancel()
    say("stopped")
    return 0


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalServerError(
            f"MALLWATT_DATA_DIR cannot be used: {path}: {error.strerror}"
        ) from error


@asynccontextmanager
async def _servers(settings: Settings) -> AsyncIterator[Settings]:
    """PostgreSQL and Redis, embedded where no URL is set; other commands find them too."""
    async with AsyncExitStack() as stack:
        database_url, redis_url = settings.database_url, settings.redis_url
        if database_url is None:
            say("starting PostgreSQL")
            postgres = EmbeddedPostgres(settings.data_dir, say=say)
            database_url = (await stack.enter_async_context(postgres)).url
        if redis_url is None:
            say("starting Redis")
            redis = EmbeddedRedis(settings.data_dir, say=say)
            redis_url = (await stack.enter_async_context(redis)).url
        served = replace(settings, database_url=database_url, redis_url=redis_url)
        _tell_where(served)
        stack.callback(forget_running, settings.data_dir)
        yield served


def _tell_where(settings: Settings, *, at_sandbox: bool = False) -> None:
    """Leave for other commands where the servers are, and the demo's platforms."""
    platforms = (settings.wechat_pay_url, settings.alipay_gateway_url) if at_sandbox else ()
    database_url = settings.database_url or ""
    urls = RunningUrls(os.getpid(), database_url, settings.redis_url, *platforms)
    write_running(settings.data_dir, urls)


async def _prepare(settings: Settings, *, demo: bool) -> _Plan:
    env = _environment(settings)
    hints = []
    children: list[Child] = []
    if demo:
        folder = DemoFolder(settings.data_dir / "demo")
        settings = folder.pointed_at_sandbox(settings)
        env = _environment(settings)
        _tell_where(settings, at_sandbox=True)
        hints += await _load_demo(settings, folder)
        children += folder.children(env)
    children += [
        Child(role, (sys.executable, "-m", "server.cli", "serve", role), env)
        for role in ("collector", "worker", "web")
    ]
    return _Plan(tuple(children), tuple(hints))


def _environment(settings: Settings) -> Mapping[str, str]:
    """What the roles are told: our own environment, with what was decided here."""
    values = {
        "MALLWATT_DATA_DIR": str(settings.data_dir),
        "MALLWATT_DATABASE_URL": settings.database_url,
        "MALLWATT_REDIS_URL": settings.redis_url,
        "MALLWATT_HTTP": str(settings.http),
        "MALLWATT_PUBLIC_URL": settings.public_url,
        "MALLWATT_SECRET_KEY": settings.secret_key,
        "MALLWATT_DTU_LISTEN": str(settings.dtu_listen) if settings.dtu_listen else None,
        "MALLWATT_WEIXIN_APPID": settings.weixin_appid,
        "MALLWATT_WEIXIN_SECRET": settings.weixin_secret,
        "MALLWATT_WEIXIN_API_URL": settings.weixin_api_url,
        "MALLWATT_WECHAT_PAY_URL": settings.wechat_pay_url,
        "MALLWATT_ALIPAY_GATEWAY_URL": settings.alipay_gateway_url,
    }
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in values and name.removesuffix("_FILE") not in values
    }
    return kept | {name: value for name, value in values.items() if value is not None}


async def _load_demo(settings: Settings, folder: DemoFolder) -> list[str]:
    """Load the demo mall at the first start; how to log in."""
    async with server.app.open_outside(settings):
        first_start = not await has_sites()
        if first_start:
            folder.write_site_file(DEMO)
            profiles = server.app.profile_facts(settings)
            now = await load_demo(DEMO, folder.site_path, profiles, server.app.wall_clock, say)
            folder.write_simulators(DEMO, now)
        password = folder.password()
        with contextlib.suppress(ConflictError):  # there since the first start
            await managers.add(DEMO_MANAGER, password, Role.OWNER, None, server.app.wall_clock())
        return [
            f"log in at {settings.public_url}/admin as {DEMO_MANAGER} with {password}",
            *await folder.hints(settings, DEMO, first_start=first_start),
        ]


async def _greet(settings: Settings, plan: _Plan) -> None:
    """Print the pages' URLs once they answer."""
    url = f"http://{settings.http}/health/ready"
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
        for _ in range(READY_WITHIN_S * 5):
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == 200:
                    break
            await asyncio.sleep(0.2)
        else:
            say(f"the web role did not answer within {READY_WITHIN_S} s; see the lines above")
            return
    say(f"managers: {settings.public_url}/admin   kiosk: {settings.public_url}/kiosk")
    for hint in plan.hints:
        say(hint)
    say("Ctrl-C stops everything; the data stays")
