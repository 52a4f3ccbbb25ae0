"""Two malls with time-of-use and block prices, served over a socket to people with phones."""

import itertools
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema
from sanic import Sanic

from miniprogram_api import routes
from miniprogram_api.openapi import describe
from server.http.answers import install_answers
from server.http.context import WebContext
from server.models.database import pool, row, rows
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from server.services.wakeups import Wakeups
from server.settings import load_settings
from tests.fakes.login import FakeLogin
from tests.fakes.payment_platform import FakeDirectory
from tests.fakes.site_text import GATEWAY, PROFILES, meter_text, shop_text
from tests.http import http_client
from tests.imported import imported

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)  # Wednesday, 10:00 in Shanghai
CODE = "482913"

SITE = """
[site]
code = "{code}"
name = "{name}"
timezone = "{timezone}"

[supply_policy.immediate]
notice_minutes = []
no_disconnect = []

[[tariff]]
code = "tou"
valid_from = 2026-01-01
kind = "tou"
prices = {{peak = "1.20", valley = "0.40"}}
periods = [{{months = [1,2,3,4,5,6,7,8,9,10,11,12], days = "all", \
valley = ["00:00-08:00", "20:00-24:00"], peak = ["08:00-20:00"]}}]

[[tariff]]
code = "block"
valid_from = 2026-01-01
kind = "block"
period = "month"
blocks = [{{up_to_kwh = 5, price = "0.60"}}, {{price = "0.75"}}]

[[fixed_charge]]
code = "service"
valid_from = 2026-01-01
per = "day"
price = "2.50"
"""
SITE += GATEWAY
SHOP = meter_text("M-{shop}", "{unit}", "{shop}")
SHOP += shop_text(
    "{shop}",
    "{name}",
    tariff="{tariff}",
    more='fixed_charges = ["service"]\nopening_balance_fen = {fen}\n',
)
SHOPS = (("A1", "茶饮", "tou", 100_000), ("A2", "春风书店", "block", 50_000))
_numbers = itertools.count(1)


async def build_mall(
    folder: Path, *, code: str = "demo", timezone: str = "Asia/Shanghai", now: datetime = NOW
) -> int:
    """Import a mall with two shops; the site's id."""
    text = SITE.format(code=code, name="示范商场", timezone=timezone)
    for unit, (shop, name, tariff, fen) in enumerate(SHOPS, start=1):
        text += SHOP.format(shop=shop, unit=unit, name=name, tariff=tariff, fen=fen)
    path = folder / f"{code}.toml"
    path.write_text(text, encoding="utf-8")
    return (await imported(path, PROFILES, now)).site_id


async def tenancy_id_of(shop: str, site_id: int) -> int:
    """Who lives in a shop."""
    sql = """SELECT tenancy.id FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
             WHERE shop.code = $1 AND shop.site_id = $2 AND tenancy.closed_at IS NULL"""
    found = await row(pool(), sql, shop, site_id)
    assert found is not None
    return int(found["id"])


async def token_of(shop: str, site_id: int) -> str:
    """What is printed on the shop's meter."""
    sql = "SELECT token FROM shop WHERE code = $1 AND site_id = $2"
    found = await row(pool(), sql, shop, site_id)
    assert found is not None
    return str(found["token"])


async def use(site_id: int, shop: str, since: datetime, hourly_wh: list[int]) -> datetime:
    """A shop uses so much in each hour from `since` on; read, settled, and closed where due."""
    sql = "SELECT id FROM meter WHERE code = $1 AND site_id = $2"
    meter = await row(pool(), sql, f"M-{shop}", site_id)
    newest = "SELECT register_wh FROM meter_status WHERE meter_id = $1"
    assert meter is not None
    status = await row(pool(), newest, meter["id"])
    register_wh = (status["register_wh"] if status else None) or 10_000
    at = since
    readings = [NewReading(meter["id"], at, register_wh, epoch=0)]
    for wh in hourly_wh:
        at, register_wh = at + timedelta(hours=1), register_wh + wh
        readings.append(NewReading(meter["id"], at, register_wh, epoch=0))
    for reading in readings:
        await keep([reading], reading.read_at)
    await settle_due(at)
    while await close_days(at):
        pass
    return at


@dataclass
class Phone:
    """A person's mini-program: a session and the calls it makes."""

    client: httpx.AsyncClient
    token: str

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """A GET with the person's token."""
        return await self.send("GET", path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        """A POST with the person's token."""
        return await self.send("POST", path, **options)

    async def delete(self, path: str) -> httpx.Response:
        """A DELETE with the person's token."""
        return await self.send("DELETE", path)

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any call with the person's token."""
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return await self.client.request(method, routes.PREFIX + path, headers=headers, **options)

    async def order(self, shop_id: int, key: str, **body: Any) -> httpx.Response:
        """Order a top-up."""
        wish = {"amount_fen": 5_000, "method": "wechat_jsapi", **body}
        headers = {"Idempotency-Key": key}
        return await self.post(f"/shops/{shop_id}/top-ups", json=wish, headers=headers)


@dataclass
class Town:
    """The served mall and what is around it; the clock is the test's."""

    client: httpx.AsyncClient
    site_id: int
    login: FakeLogin
    platforms: FakeDirectory
    now: datetime = NOW
    codes: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    async def person(self, name: str) -> Phone:
        """Somebody who logged in just now."""
        code = f"{name}-{next(self.codes)}"
        answer = await self.client.post(f"{routes.PREFIX}/sessions", json={"code": code})
        assert answer.status_code == 201, answer.text
        return Phone(self.client, answer.json()["token"])

    async def tenant(self, name: str, shop: str) -> tuple[Phone, int]:
        """Somebody who is bound to a shop, and the tenancy's id."""
        phone = await self.person(name)
        bound = await phone.post("/bindings", json=await self.binding(shop))
        assert bound.status_code == 201, bound.text
        return phone, bound.json()["id"]

    async def binding(self, shop: str, code: str = CODE) -> dict[str, str]:
        """The body that binds a shop."""
        return {"shop_token": await token_of(shop, self.site_id), "binding_code": code}

    async def use(self, shop: str, since: datetime, hourly_wh: list[int]) -> None:
        """The shop uses energy, and the clock goes on."""
        self.now = await use(self.site_id, shop, since, hourly_wh)

    async def change(self, sql: str, *values: object) -> None:
        """Set something in the database by hand."""
        await rows(pool(), sql, *values)


@asynccontextmanager
async def served_town(folder: Path, *, login: FakeLogin | None) -> AsyncIterator[Town]:
    """A town whose every good answer is held against the OpenAPI document."""
    site_id = await build_mall(folder)
    directory = FakeDirectory()
    app: Sanic[Any, Any] = Sanic(f"town_{next(_numbers)}", configure_logging=False)
    app.config.update(TOUCHUP=False, MOTD=False, ACCESS_LOG=False, GRACEFUL_SHUTDOWN_TIMEOUT=0.2)
    install_answers(app)
    settings = load_settings(
        {"MALLWATT_DATA_DIR": str(folder), "MALLWATT_PUBLIC_URL": "https://mall.example"}
    )
    town = Town(http_client(), site_id, login or FakeLogin(), directory)
    context = WebContext(settings, lambda: town.now, directory, login, Wakeups(None))
    app.blueprint(routes.blueprint(context))
    async with serving(app) as url:
        checks: dict[str, list[Callable[..., Any]]] = {
            "response": [AgreesWithDocument(describe(app, "test"))]
        }
        async with http_client(base_url=url, event_hooks=checks) as client:
            await town.client.aclose()
            town.client = client
            yield town


@asynccontextmanager
async def serving(app: Sanic[Any, Any]) -> AsyncIterator[str]:
    """The app on a free port, for as long as the block lasts."""
    place = socket.create_server(("127.0.0.1", 0))
    server: Any = await app.create_server(
        sock=place,
        access_log=False,
        return_asyncio_server=True,
        asyncio_server_kwargs={"start_serving": False},
    )
    await server.startup()
    await server.before_start()
    await server.start_serving()
    await server.after_start()
    try:
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        await server.before_stop()
        closing = server.close()
        for connection in tuple(server.connections):
            connection.close()
        await closing
        await server.after_stop()


class AgreesWithDocument:
    """Every answer has a status that the document names, and the shape that it promises."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._paths = [
            (re.compile(re.sub(r"{\w+}", "[^/]+", path)), operations)
            for path, operations in document["paths"].items()
        ]

    async def __call__(self, response: httpx.Response) -> None:
        """Hold one answer against the document."""
        method = response.request.method.lower()
        for pattern, operations in self._paths:
            if pattern.fullmatch(response.request.url.path) and method in operations:
                await self._check(response, operations[method]["responses"])
                return

    async def _check(self, response: httpx.Response, promised: dict[str, Any]) -> None:
        status = str(response.status_code)
        assert status in promised, f"{response.request.url} answers {status}: not described"
        content = promised[status].get("content")
        body = await response.aread()
        if content is None:
            assert body == b""
            return
        media_type = response.headers["content-type"].partition(";")[0]
        schema = {**content[media_type]["schema"], "components": self._document["components"]}
        found = response.json() if "json" in media_type else response.text
        jsonschema.validate(found, schema)
