"""A small mall for the pages' tests: a site file through the real import, states set by hand."""

import itertools
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from sanic import Sanic

from payments.contract import (
    Method,
    Notice,
    NoticeAnswer,
    PaymentRequest,
    Platform,
    PlatformRefusedError,
    Trade,
    TradeStatus,
)
from server.handlers import (
    admin_api,
    admin_pages,
    health,
    kiosk,
    live,
    public_page,
    static,
)
from server.http.answers import install_answers
from server.http.context import WebContext
from server.models import database
from server.services import managers, site_import
from server.services.manager_acts import Role
from server.services.site_file import ProfileFacts
from server.services.wakeups import Wakeups
from server.settings import Settings, load_settings

PASSWORD = "correct horse battery"
PROFILE = "example/demo-relay"
PROFILES = {PROFILE: ProfileFacts("modbus", True, False, 30_000, 1_000_000_000)}
SITE = """
[site]
code = "{code}"
name = "{name}"
timezone = "Asia/Shanghai"

[supply_policy.standard]
notice_minutes = []
no_disconnect = []

[[tariff]]
code = "commercial"
valid_from = 2026-01-01
kind = "flat"
price = "0.6883"

[[gateway]]
code = "gw-01"
link = "modbus-tcp"
address = "127.0.0.1:15020"
"""
SHOP = """
[[shop]]
code = "{code}"
name = "{name}"
tariff = "commercial"
supply_policy = "standard"
binding_code = "482913"
opening_balance_fen = {fen}

[[meter]]
code = "M-{code}"
gateway = "gw-01"
unit = {unit}
profile = "example/demo-relay"
shop = "{code}"
"""
SHOPS = (
    ("A101", "茶饮", 5_000_00),
    ("A102", "春风书店", 12_50),
    ("A103", "老王修鞋", 0),
    ("B201", "光明眼镜", 830_20),
    ("B202", "小城故事川菜馆", 26_400_00),
    ("B203", "The Very Long Name Bakery & Café", 61_00),
)
_names = itertools.count(1)


class FakePlatform:
    """A payment platform that takes every order and is never paid by itself."""

    def __init__(self, platform: Platform, methods: frozenset[Method]) -> None:
        self.platform = platform
        self.methods = methods
        self.merchant_id = "1900000109"
        self.app_id = "wx0000000000000001"
        self.requests: list[PaymentRequest] = []

    async def create(self, request: PaymentRequest, now: datetime) -> Mapping[str, str]:
        """The payment object of the method."""
        assert request.expires_at > now
        self.requests.append(request)
        if request.method in {Method.WECHAT_NATIVE, Method.ALIPAY_QR}:
            code_url = f"weixin://wxpay/bizpayurl?pr={request.out_trade_no}"
            return {"code_url": code_url, "out_trade_no": request.out_trade_no}
        url = f"https://pay.example/{request.out_trade_no}"
        return {"url": url, "out_trade_no": request.out_trade_no}

    async def query(self, out_trade_no: str, now: datetime) -> Trade:
        """Nobody has paid."""
        assert now.tzinfo is not None
        return Trade(out_trade_no, TradeStatus.WAITING, self.merchant_id)

    async def close(self, out_trade_no: str, now: datetime) -> None:
        """Closing is never refused."""
        assert out_trade_no
        assert now.tzinfo is not None

    def parse_notice(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Notice:
        """No notice comes from here."""
        raise PlatformRefusedError(f"{len(headers)} headers, {len(body)} bytes at {now}")

    def acknowledge(self, *, accepted: bool, reason: str = "") -> NoticeAnswer:
        """Plain words."""
        return NoticeAnswer(200 if accepted else 400, reason.encode(), "text/plain")

    async def aclose(self) -> None:
        """Nothing is open."""
        self.requests.clear()


@dataclass
class FakeDirectory:
    """Both platforms for every site."""

    wechat: FakePlatform = field(
        default_factory=lambda: FakePlatform(
            Platform.WECHAT, frozenset({Method.WECHAT_NATIVE, Method.WECHAT_H5})
        )
    )
    alipay: FakePlatform = field(
        default_factory=lambda: FakePlatform(
            Platform.ALIPAY, frozenset({Method.ALIPAY_QR, Method.ALIPAY_WAP})
        )
    )

    async def of_site(self, site_id: int, platform: Platform) -> FakePlatform | None:
        """The platform, whatever the site."""
        assert site_id
        return self.wechat if platform is Platform.WECHAT else self.alipay

    async def methods(self, site_id: int) -> list[Method]:
        """All methods of both."""
        assert site_id
        return sorted(self.wechat.methods | self.alipay.methods)


@dataclass
class Clock:
    """A clock that tests may set; None: the real one."""

    at: datetime | None = None

    def __call__(self) -> datetime:
        """The time of now."""
        return self.at or datetime.now(UTC)


@dataclass
class Mall:
    """A served mall: where it is, its context, and the hands that change its states."""

    url: str
    context: WebContext
    platforms: FakeDirectory
    clock: Clock
    site_id: int
    server: Any

    async def token_of(self, code: str) -> str:
        """The printed token of a shop."""
        found = await database.row(
            database.pool(),
            "SELECT token FROM shop WHERE code = $1 AND site_id = $2",
            code,
            self.site_id,
        )
        assert found is not None
        return str(found["token"])

    async def log_in(self, name: str) -> str:
        """A bearer token of one of the managers."""
        session = await managers.log_in(name, PASSWORD, self.clock(), address="127.0.0.1")
        return session.token

    async def pay(self, no: str, *, ticks: int) -> None:
        """Set the first of the four times of a top-up, as the workers would."""
        names = ("paid_at", "credited_at", "commanded_at", "confirmed_at")[:ticks]
        sets = ", ".join(f"{name} = $2" for name in names)
        await database.rows(
            database.pool(),
            f"UPDATE top_up SET status = 'paid', {sets} WHERE no = $1",  # noqa: S608 - ours
            *(no, self.clock()),
        )

    async def control(self, code: str, **columns: object) -> None:
        """Set columns of the control of a shop's meter, as the collector would."""
        sets = ", ".join(f"{name} = ${place}" for place, name in enumerate(columns, start=3))
        await database.rows(
            database.pool(),
            f"UPDATE meter_control SET {sets} WHERE meter_id = (SELECT id FROM meter"  # noqa: S608 - ours
            " WHERE code = $1 AND site_id = $2)",
            *(f"M-{code}", self.site_id, *columns.values()),
        )


@lru_cache(maxsize=1)
def password_hash() -> str:
    """The digest of everybody's password, made once: it is slow on purpose."""
    return PasswordHasher().hash(PASSWORD)


def settings_of(folder: Path, port: int) -> Settings:
    """The settings of a development server on this port."""
    return load_settings(
        {"MALLWATT_DATA_DIR": str(folder), "MALLWATT_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    )


async def import_mall(folder: Path, code: str, name: str, now: datetime) -> int:
    """Import a site file with the shops above; the site's id."""
    shops = "".join(
        SHOP.format(code=shop, name=title, fen=fen, unit=unit)
        for unit, (shop, title, fen) in enumerate(SHOPS, start=1)
    )
    path = folder / f"{code}.toml"
    path.write_text(SITE.format(code=code, name=name) + shops, encoding="utf-8")
    report = await site_import.import_site(path, PROFILES, now)
    return report.site_id


async def set_the_stage(mall: Mall) -> None:
    """Managers of every role; a shop that is on, one low, one off, one switching, one held."""
    now = mall.clock()
    for role in Role:
        await database.rows(
            database.pool(),
            "INSERT INTO manager (name, password_hash, role, site_id, created_at)"
            " VALUES ($1, $2, $3, NULL, $4)",
            *(role.value, password_hash(), role.value, now),
        )
    for code, _, _ in SHOPS:
        await mall.control(code, policy_state="connected", confirmed="connected", confirmed_at=now)
    await mall.control("A103", policy_state="disconnected", confirmed="disconnected")
    await mall.control(
        "B201",
        policy_state="disconnected",
        commanded="disconnected",
        commanded_at=now + timedelta(seconds=1),
    )
    await mall.control(
        "B203", confirmed="disconnected", hold_reason="电气检修", hold_by="engineer", held_at=now
    )
    await database.rows(
        database.pool(),
        "UPDATE tenancy SET supply_state = 'disconnected', supply_reasons = '[\"overdrawn\"]'"
        " WHERE shop_id IN (SELECT id FROM shop WHERE code IN ('A103', 'B201'))",
    )
    await database.rows(
        database.pool(),
        "INSERT INTO meter_status (meter_id, read_at, register_wh, points, tried_at, finding)"
        " SELECT id, $1::timestamptz - interval '1 minute' * id, 1234560 + id * 7770,"
        ' \'{"power_total": {"value": "3.214", "unit": "kW"}}\', $1,'
        " CASE WHEN code = 'M-B202' THEN 'mute: no answer for 5 min' END FROM meter"
        " ON CONFLICT (meter_id) DO UPDATE SET read_at = excluded.read_at,"
        " register_wh = excluded.register_wh, points = excluded.points,"
        " finding = excluded.finding",
        now,
    )


def make_app(context: WebContext) -> Sanic:  # type: ignore[type-arg]  # as above
    """The doors under test, composed as server/app.py does."""
    app: Sanic = Sanic(f"pages_{next(_names)}")  # type: ignore[type-arg]  # as above
    install_answers(app)
    app.config.MOTD = False
    app.config.TOUCHUP = False  # it rewrites Sanic itself, once a process
    for door in (admin_api, admin_pages, health, kiosk, live, public_page, static):
        app.blueprint(door.blueprint(context))
    return app


def make_context(
    folder: Path, port: int, clock: Clock, platforms: FakeDirectory, wakeups: Wakeups | None = None
) -> WebContext:
    """What the doors are handed."""
    return WebContext(
        settings=settings_of(folder, port),
        clock=clock,
        platforms=platforms,
        login=None,
        wakeups=wakeups or Wakeups(None),
    )


@asynccontextmanager
async def serve_mall(folder: Path) -> AsyncIterator[Mall]:
    """The mall behind a real HTTP server on a port of its own; the database must be open."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    clock, platforms = Clock(), FakeDirectory()
    site_id = await import_mall(folder, "demo", "示范商场", clock())
    context = make_context(folder, port, clock, platforms)
    app = make_app(context)
    mall = Mall(f"http://127.0.0.1:{port}", context, platforms, clock, site_id, None)
    await set_the_stage(mall)
    server: Any = await app.create_server(sock=listening, return_asyncio_server=True)
    mall.server = server
    await server.startup()
    await server.start_serving()
    try:
        yield mall
    finally:
        for connection in tuple(server.connections):
            connection.abort()
        await server.close()
        Sanic.unregister_app(app)
