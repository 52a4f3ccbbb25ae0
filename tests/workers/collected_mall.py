"""A small mall whose simulated meters are behind real sockets, and collectors that own them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import desk_payment
from server.devices.simulator.bank import MeterBank
from server.devices.simulator.config import BankConfig, GatewayConfig, MeterConfig, ModbusTcpGateway
from server.models.database import Row, pool, rows, transaction
from server.services.announce import announce_tenancies
from server.services.journal import post
from server.services.readings import NewReading, keep
from server.services.settlement import settle_due
from server.services.site_file import ProfileFacts
from server.services.site_import import ImportReport, import_site
from server.services.supply import decide_within
from server.services.wakeups import SETTLE, Wakeups
from server.workers.collect import CollectContext, LeaseTimes, run_collector
from server.workers.collector.running import undisturbed
from server.workers.loop import keep_doing
from tests.fakes.profiles import shipped_profiles

CATALOGUE = shipped_profiles()
FACTS = {
    name: ProfileFacts(
        protocol=profile.protocol,
        has_relay=profile.supply is not None,
        permit_only=profile.supply is not None and profile.supply.permits_only,
        max_power_w=30_000,
        rollover_wh=profile.limits.rollover_wh,
    )
    for name, profile in CATALOGUE.items()
}
FACTS["example/gone"] = FACTS["example/demo-relay"]  # imported where it was known, read where not
QUICK = LeaseTimes(held_s=1.6, close_after_s=1.0, renew_every_s=0.2)

SITE = """
[site]
code = "demo"
name = "示范商场"
timezone = "Asia/Shanghai"
poll_seconds = 1

[supply_policy.immediate]
notice_minutes = []
no_disconnect = []

[[tariff]]
code = "flat"
valid_from = 2020-01-01
kind = "flat"
price = "1.00"
"""
SHOP = """
[[shop]]
code = "A{number}"
name = "茶饮"
tariff = "flat"
supply_policy = "immediate"
binding_code = "482913"
opening_balance_fen = 20
"""
METER = """
[[meter]]
code = "M-{number}"
gateway = "gw-01"
unit = {number}
profile = "example/demo-relay"
shop = "A{number}"
"""


def wall_clock() -> datetime:
    return datetime.now(UTC)


def gateway_table(port: int, code: str = "gw-01") -> str:
    return f'[[gateway]]\ncode = "{code}"\nlink = "modbus-tcp"\naddress = "127.0.0.1:{port}"\n'


def modbus_gateway(code: str, units: range) -> ModbusTcpGateway:
    meters = tuple(
        MeterConfig(
            code=f"M-{n}", profile="example/demo-relay", unit=n, identity=n, start_wh=50_000
        )
        for n in units
    )
    return ModbusTcpGateway(code=code, listen="127.0.0.1:0", meters=meters)


async def until(condition: Callable[[], Awaitable[object]], within_s: float = 5.0) -> None:
    """Wait until a condition holds; fails when it does not in time."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110  a table has no event to wait for
            await asyncio.sleep(0.02)


async def one(sql: str, *values: object) -> Row:
    found = await rows(pool(), sql, *values)
    assert len(found) == 1, found
    return found[0]


@dataclass
class Mall:
    """Two shops with a meter each on one gateway, a settling worker, and any collectors."""

    folder: Path
    wakeups: Wakeups
    bank: MeterBank
    site: str = ""
    collectors: list[asyncio.Task[None]] = field(default_factory=list)
    payments: int = 0

    async def load(self, site: str) -> ImportReport:
        self.site = site
        path = self.folder / "site.toml"
        path.write_text(site, encoding="utf-8")
        return await import_site(path, FACTS, wall_clock())

    def collect(
        self,
        owner: str = "first",
        *,
        leases: LeaseTimes = QUICK,
        dtu_listen: tuple[str, int] | None = None,
    ) -> asyncio.Task[None]:
        context = CollectContext(
            clock=wall_clock,
            wakeups=self.wakeups,
            catalogue=CATALOGUE,
            dtu_listen=dtu_listen,
            owner=owner,
            leases=leases,
        )
        task = asyncio.create_task(run_collector(context))
        self.collectors.append(task)
        return task

    async def stop(self, task: asyncio.Task[None]) -> None:
        self.collectors.remove(task)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def meter_id(self, code: str) -> int:
        return int((await one("SELECT id FROM meter WHERE code = $1", code))["id"])

    async def status(self, code: str) -> Row:
        return await one(
            "SELECT status.* FROM meter_status status JOIN meter ON meter.id = meter_id"
            " WHERE code = $1",
            code,
        )

    async def control(self, code: str) -> Row:
        return await one(
            "SELECT control.* FROM meter_control control JOIN meter ON meter.id = meter_id"
            " WHERE code = $1",
            code,
        )

    async def readings(self, code: str) -> list[Row]:
        return await rows(
            pool(),
            "SELECT reading.* FROM reading JOIN meter ON meter.id = meter_id WHERE code = $1"
            " ORDER BY read_at",
            code,
        )

    async def confirmed(self, code: str, state: str) -> bool:
        found = await self.control(code)
        return bool(found["confirmed"] == state and found["next_action_at"] is None)

    async def read(self, code: str) -> bool:
        return (await self.status(code))["read_at"] is not None

    async def has_readings(self, code: str, least: int) -> bool:
        return len(await self.readings(code)) >= least

    async def has_finding(self, code: str, start: str | None) -> bool:
        finding = (await self.status(code))["finding"]
        return finding is None if start is None else (finding or "").startswith(start)

    async def has_case(self, code: str, case: str) -> bool:
        return bool((await self.control(code))["case_code"] == case)

    async def is_named(self, code: str) -> bool:
        found = await one("SELECT identity FROM meter WHERE code = $1", code)
        return found["identity"] is not None

    async def owned_by(self, owner: str) -> bool:
        found = await rows(pool(), "SELECT owner FROM gateway_lease")
        return {one["owner"] for one in found} == {owner}

    async def overdraw(self, meter_id: int, by_wh: int) -> None:
        """A reading that empties the shop, kept and settled while no collector is there."""
        found = await one("SELECT epoch FROM gateway_lease")
        now = wall_clock()
        await keep([NewReading(meter_id, now, 50_000 + by_wh, found["epoch"])], now)
        await settle_due(now)
        await until(lambda: self._overdrawn("A1"))

    async def credit_top_up(self, shop: str, amount_fen: int) -> None:
        """A top-up that was paid and credited a moment ago."""
        await rows(
            pool(),
            "INSERT INTO top_up (no, site_id, tenancy_id, wallet, amount_fen, status,"
            " idempotency_key, input_hash, created_at, expires_at, credited_at, refunded_fen)"
            " SELECT 'T1', tenancy.site_id, tenancy.id, 'electricity_wallet', $2, 'paid',"
            " 'k', 'h', $3, $3, $3, 0"
            " FROM tenancy JOIN shop ON shop.id = shop_id WHERE shop.code = $1",
            *(shop, amount_fen, wall_clock()),
        )

    async def pay(self, shop: str, amount_fen: int, *, decide: bool = True) -> None:
        """A payment at the desk, announced as services announce it."""
        self.payments += 1
        tenancy = await one(
            "SELECT tenancy.id, tenancy.site_id FROM tenancy JOIN shop ON shop.id = shop_id"
            " WHERE shop.code = $1",
            shop,
        )
        posting = desk_payment("cash", electricity_wallet(tenancy["id"]), amount_fen)
        async with transaction() as connection:
            await post(
                connection,
                tenancy["site_id"],
                posting,
                key=f"desk:{self.payments}",
                booked_at=wall_clock(),
            )
            if decide:
                await decide_within(connection, [tenancy["id"]], wall_clock())
        if decide:
            await announce_tenancies(self.wakeups, [tenancy["id"]])

    async def run_empty(self, number: int) -> None:
        """Use more than the shop has, and let the worker find out."""
        self.bank.meters[f"M-{number}"].shift_counter(500)
        await until(lambda: self._overdrawn(f"A{number}"))

    async def _overdrawn(self, shop: str) -> bool:
        found = await one(
            "SELECT supply_state FROM tenancy JOIN shop ON shop.id = shop_id WHERE code = $1", shop
        )
        return bool(found["supply_state"] == "disconnected")

    async def settle(self) -> int:
        settled = await undisturbed(settle_due(wall_clock()))
        await announce_tenancies(self.wakeups, settled)
        return len(settled)


@asynccontextmanager
async def open_mall(
    folder: Path, wakeups: Wakeups, *gateways: GatewayConfig
) -> AsyncIterator["Mall"]:
    async with MeterBank(BankConfig(gateways=gateways)) as bank:
        mall = Mall(folder, wakeups, bank)
        settling = asyncio.create_task(
            keep_doing("settle", mall.settle, wakeups, [SETTLE], look_s=0.2)
        )
        try:
            yield mall
        finally:
            for task in [*mall.collectors]:
                await mall.stop(task)
            settling.cancel()
            with suppress(asyncio.CancelledError):
                await settling


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
