"""A small mall behind the whole web role: a site file, really imported, states set by hand.

A database and a server take longer than most tests here: there is one database a worker, one server
a file, and every row is put back before each test. A module or folder has the mall by importing
`lasting_mall`, `mall`, `mall_port` and `staged`.
"""

import itertools
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sanic import Sanic

from server.app import create_web_app
from server.http.context import WebContext
from server.models import database as db
from server.services import kiosks, live, managers, site_import
from server.services.manager_acts import Role
from server.services.readings import forget_months
from server.services.site_file import ProfileFacts
from server.services.site_rules import forget_site_rules
from server.services.wakeups import Wakeups
from server.settings import load_settings
from tests.databases import CopySchema, close_lasting_pool, run_sql
from tests.fakes.empty_site import empty_site
from tests.fakes.login import FakeLogin
from tests.fakes.payment_platform import FakeDirectory

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
TABLES = """
SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace
AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname
"""
SEQUENCES = """
SELECT format('SELECT setval(%L, %s, %L);', sequencename, coalesce(last_value, start_value),
              last_value IS NOT NULL) AS again
FROM pg_sequences WHERE schemaname = 'public'
"""
_names = itertools.count(1)
_staged: list["Staged"] = []  # one at most


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
    app: Sanic[Any, Any]
    server: Any

    async def token_of(self, code: str) -> str:
        """The printed token of a shop."""
        found = await db.row(
            db.pool(),
            "SELECT token FROM shop WHERE code = $1 AND site_id = $2",
            code,
            self.site_id,
        )
        assert found is not None
        return str(found["token"])

    async def log_in(self, name: str) -> str:
        """The token of one of the managers, who gave the password."""
        session = await managers.log_in(name, PASSWORD, self.clock(), address="127.0.0.1")
        return session.token

    async def session_of(self, name: str) -> str:
        """The token of a manager who logged in before the test began."""
        token = secrets.token_urlsafe(32)
        await db.rows(
            db.pool(),
            "INSERT INTO manager_session (token_hash, manager_id, expires_at)"
            " SELECT $2, id, $3 FROM manager WHERE name = $1",
            *(name, managers.token_digest(token), self.clock() + managers.SESSION_LIFE),
        )
        return token

    async def kiosk_of(self, name: str) -> str:
        """The token of a kiosk that this manager has enrolled."""
        manager = await managers.manager_of(await self.session_of(name), self.clock())
        return await kiosks.enrol(self.site_id, "K1", manager, self.clock())

    async def bind_manager(self, name: str, *, to: str) -> None:
        """Let a manager see one mall alone, which has no shops."""
        site_id = await empty_site(to)
        await db.rows(db.pool(), "UPDATE manager SET site_id = $2 WHERE name = $1", name, site_id)

    async def pay(self, no: str, *, ticks: int) -> None:
        """Set the first of the four times of a top-up, as the workers would."""
        names = ("paid_at", "credited_at", "commanded_at", "confirmed_at")[:ticks]
        sets = ", ".join(f"{name} = coalesce({name}, $2)" for name in names)
        await db.rows(
            db.pool(),
            f"UPDATE top_up SET status = 'paid', {sets} WHERE no = $1",  # noqa: S608 - ours
            *(no, self.clock()),
        )

    async def control(self, code: str, **columns: object) -> None:
        """Set columns of the control of a shop's meter, as the collector would."""
        await control(self.site_id, code, **columns)


async def control(site_id: int, code: str, **columns: object) -> None:
    """Set columns of the control of a shop's meter."""
    sets = ", ".join(f"{name} = ${place}" for place, name in enumerate(columns, start=3))
    await db.rows(
        db.pool(),
        f"UPDATE meter_control SET {sets} WHERE meter_id = (SELECT id FROM meter"  # noqa: S608 - ours
        " WHERE code = $1 AND site_id = $2)",
        *(f"M-{code}", site_id, *columns.values()),
    )


@lru_cache(maxsize=1)
def password_hash() -> str:
    """The digest of everybody's password."""
    return managers._hasher.hash(PASSWORD)


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


async def set_the_stage(site_id: int, now: datetime) -> None:
    """Managers of every role; a shop that is on, one low, one off, one switching, one held."""
    for role in Role:
        await db.rows(
            db.pool(),
            "INSERT INTO manager (name, password_hash, role, site_id, created_at)"
            " VALUES ($1, $2, $3, NULL, $4)",
            *(role.value, password_hash(), role.value, now),
        )
    for code, _, _ in SHOPS:
        await control(
            site_id, code, policy_state="connected", confirmed="connected", confirmed_at=now
        )
    await control(site_id, "A103", policy_state="disconnected", confirmed="disconnected")
    await control(
        site_id,
        "B201",
        policy_state="disconnected",
        commanded="disconnected",
        commanded_at=now + timedelta(seconds=1),
    )
    await control(
        site_id,
        "B203",
        confirmed="disconnected",
        hold_reason="电气检修",
        hold_by="engineer",
        held_at=now,
    )
    await db.rows(
        db.pool(),
        "UPDATE tenancy SET supply_state = 'disconnected', supply_reasons = '[\"overdrawn\"]'"
        " WHERE shop_id IN (SELECT id FROM shop WHERE code IN ('A103', 'B201'))",
    )
    await db.rows(
        db.pool(),
        "INSERT INTO meter_status (meter_id, read_at, register_wh, points, tried_at, finding)"
        " SELECT id, $1::timestamptz - interval '1 minute' * id, 1234560 + id * 7770,"
        ' \'{"power_total": {"value": "3.214", "unit": "kW"}}\', $1,'
        " CASE WHEN code = 'M-B202' THEN 'mute: no answer for 5 min' END FROM meter"
        " ON CONFLICT (meter_id) DO UPDATE SET read_at = excluded.read_at,"
        " register_wh = excluded.register_wh, points = excluded.points,"
        " finding = excluded.finding",
        now,
    )


def make_context(
    folder: Path, url: str, clock: Clock, platforms: FakeDirectory, **settings: str
) -> WebContext:
    """What the doors are handed; `settings` are further variables of the environment."""
    given = {"MALLWATT_DATA_DIR": str(folder), "MALLWATT_PUBLIC_URL": url, **settings}
    return WebContext(load_settings(given), clock, platforms, FakeLogin(), Wakeups(None))


@asynccontextmanager
async def serve_mall(folder: Path, port: int = 0, **settings: str) -> AsyncIterator[Mall]:
    """The staged mall of the open database behind a real HTTP server, as server/app composes it."""
    listening = socket.create_server(("127.0.0.1", port))
    url = "http://{}:{}".format(*listening.getsockname())
    clock, platforms = Clock(), FakeDirectory()
    context = make_context(folder, url, clock, platforms, **settings)
    app = create_web_app(context, name=f"mall_{next(_names)}")
    app.config.MOTD = False
    site = await db.row(db.pool(), "SELECT id FROM site WHERE code = 'demo'")
    assert site is not None
    server: Any = await app.create_server(sock=listening, return_asyncio_server=True)
    await server.startup()
    await server.start_serving()
    try:
        yield Mall(url, context, platforms, clock, site["id"], app, server)
    finally:
        for connection in tuple(server.connections):
            connection.abort()
        await server.close()
        Sanic.unregister_app(app)


@dataclass(frozen=True)
class Staged:
    """A database in which the mall stands, and the SQL that makes it stand there again."""

    url: str
    put_back: str
    count_anew: str  # for a file's first test


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def staged(copy_schema: CopySchema, tmp_path_factory: pytest.TempPathFactory) -> Staged:
    """Imports the mall once, and keeps a copy of every row in a schema beside it.

    Each module that imports this fixture has one of its own: they share what it makes.
    """
    if not _staged:
        _staged.append(await _stage(copy_schema, tmp_path_factory.mktemp("mall")))
    return _staged[0]


async def _stage(copy_schema: CopySchema, folder: Path) -> Staged:
    url = await copy_schema("mall")
    forget_site_rules()
    forget_months()
    await db.open_database(url)
    now = datetime.now(UTC)
    site_id = await import_mall(folder, "demo", "示范商场", now)
    await set_the_stage(site_id, now)
    found = await db.rows(db.pool(), TABLES)
    numbers = [line["again"] for line in await db.rows(db.pool(), SEQUENCES)]
    await db.close_database()
    tables = [line["name"] for line in found]
    await run_sql(
        url, "CREATE SCHEMA kept", *(f"CREATE TABLE kept.{t} AS TABLE {t}" for t in tables)
    )
    back = (f"DELETE FROM {t}; INSERT INTO {t} TABLE kept.{t};" for t in tables)  # noqa: S608 - ours
    # triggers and foreign keys would refuse what is only put back
    return Staged(
        url,
        f"BEGIN; SET LOCAL session_replication_role = replica; {''.join(back)} COMMIT",
        "".join(numbers),
    )


@pytest.fixture(scope="session")
def mall_port() -> int:
    """One port for all malls of a worker, one after the other: browsers keep what they know."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lasting_mall(
    staged: Staged, tmp_path_factory: pytest.TempPathFactory, mall_port: int
) -> AsyncIterator[Mall]:
    """One served mall for all tests of a file; as it is for those that change nothing."""
    await close_lasting_pool()
    await run_sql(staged.url, staged.put_back, staged.count_anew)
    forget_site_rules()
    forget_months()
    await db.open_database(staged.url)
    async with serve_mall(tmp_path_factory.mktemp("mall"), mall_port) as served:
        yield served
    await db.close_database()


@pytest_asyncio.fixture
async def mall(lasting_mall: Mall, staged: Staged, monkeypatch: pytest.MonkeyPatch) -> Mall:
    """The file's mall as it was before the first test: rows, clock, platforms."""
    monkeypatch.setattr(live, "LOOK_S", 0.3)  # without Redis the page looks at this pace
    monkeypatch.setattr(live, "PACE_S", 0.1)
    await run_sql(staged.url, staged.put_back)
    forget_site_rules()
    forget_months()
    lasting_mall.clock.at = None
    lasting_mall.platforms.platforms = FakeDirectory().platforms
    return lasting_mall
