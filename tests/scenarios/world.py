"""A mall whose time, meters and payers are in the story's hands.

Only the outside is played: relays and registers here, the platforms by their sandbox-like fake.
Every decision is the product's own, on a real PostgreSQL, through the services that roles call.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from payments.contract import Method, Platform, Trade, TradeStatus
from server.core.supply.control_state import ControlState
from server.core.supply.state import ActionKind
from server.models.database import Row, from_json, pool, rows
from server.services import crediting, supply, top_ups
from server.services.controls import authorise, pending_controls, record, wished_action
from server.services.corrections import correct_due
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from tests.fakes.payment_platform import FakeDirectory
from tests.fakes.site_text import GATEWAY, PROFILES, meter_text, shop_text
from tests.imported import imported

ZONE = ZoneInfo("Asia/Shanghai")
WANTED = {
    ActionKind.DISCONNECT: ControlState.DISCONNECTED,
    ActionKind.RECONNECT: ControlState.CONNECTED,
}
POLL_EVERY = timedelta(minutes=10)

SITE = """
[site]
code = "demo"
name = "示范商场"
timezone = "Asia/Shanghai"

[supply_policy.shop]
{policy}

[weixin.templates]
low_balance = {{id = "T-1", fields = {{shop = "thing1", balance = "amount2"}}}}

[[tariff]]
code = "tariff"
{tariff}
"""
SITE += GATEWAY + meter_text("M-1", 1, "A1")
SITE += shop_text(
    "A1", tariff="tariff", policy="shop", more="opening_balance_fen = {balance_fen}\n"
)
CUTS_AT_ONCE = "notice_minutes = []\nno_disconnect = []"
ONE_YUAN = 'kind = "flat"\nprice = "1.00"'


@dataclass
class Meter:
    """A meter on the wall: its count, its relay, and whether it can be reached."""

    register_wh: int = 100_000
    connected: bool = True
    reachable: bool = True
    writes: list[ControlState] = field(default_factory=list)

    def write(self, wanted: ControlState) -> None:
        self.writes.append(wanted)
        self.connected = wanted is ControlState.CONNECTED

    def is_connected(self) -> bool:
        return self.connected

    def is_disconnected(self) -> bool:
        return not self.connected

    @property
    def state(self) -> ControlState:
        return ControlState.CONNECTED if self.connected else ControlState.DISCONNECTED


class World:
    """One mall with one shop, A1, behind one meter."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.meter = Meter()
        self.directory = FakeDirectory()
        self.platform = self.directory.platforms[Platform.WECHAT]
        self.site_id = 0
        self.meter_id = 0
        self.tenancy_id = 0
        self.epoch = 0

    async def open(
        self, folder: Path, *, balance_fen: int, policy: str = CUTS_AT_ONCE, tariff: str = ONE_YUAN
    ) -> None:
        """Import the mall and give its gateway an owner."""
        path = folder / "site.toml"
        content = SITE.format(policy=policy, tariff=tariff, balance_fen=balance_fen)
        path.write_text(content, encoding="utf-8")
        self.site_id = (await imported(path, PROFILES, self.now)).site_id
        self.meter_id = (await self.row("SELECT id FROM meter"))["id"]
        self.tenancy_id = (await self.row("SELECT id FROM tenancy"))["id"]
        owned = await self.row(
            "UPDATE gateway_lease SET owner = 'story', epoch = epoch + 1,"
            " held_until = clock_timestamp() + interval '1 hour' RETURNING epoch"
        )
        self.epoch = owned["epoch"]
        await self.poll()

    @staticmethod
    async def row(sql: str, *values: object) -> Row:
        found = await rows(pool(), sql, *values)
        assert len(found) == 1, found
        return found[0]

    async def poll(self) -> None:
        """The collector reads the meter, the workers settle and decide, the collector acts."""
        if self.meter.reachable:
            reading = NewReading(self.meter_id, self.now, self.meter.register_wh, self.epoch)
            await keep([reading], self.now)
            await record(self.meter_id, self.epoch, self.now, written=None, found=self.meter.state)
        await settle_due(self.now)
        await correct_due(self.now)
        await supply.decide_due(self.now)
        await self.drive()

    async def drive(self) -> None:
        """What the bus does for controls, until nothing more is due."""
        gateways = [one["gateway_id"] for one in await rows(pool(), "SELECT gateway_id FROM meter")]
        for _ in range(10):
            due = await pending_controls(gateways, self.now)
            if not due or not self.meter.reachable:
                return
            kind = await wished_action(self.meter_id, self.now)
            wanted = WANTED.get(kind)
            written = None
            if wanted is not None:
                self.now += timedelta(seconds=1)
                fresh = NewReading(self.meter_id, self.now, self.meter.register_wh, self.epoch)
                if await authorise(self.meter_id, wanted, fresh, self.meter.state, self.now):
                    self.meter.write(wanted)
                    written = wanted
            await record(
                self.meter_id, self.epoch, self.now, written=written, found=self.meter.state
            )

    async def use(self, energy_wh: int, over: timedelta) -> None:
        """Time passes; while the relay is closed the shop uses energy, evenly, and is polled."""
        steps = max(1, over // POLL_EVERY)
        for step in range(steps):
            self.now += over / steps
            if self.meter.connected:
                part = energy_wh * (step + 1) // steps - energy_wh * step // steps
                self.meter.register_wh += part
            await self.poll()

    async def wait(self, over: timedelta) -> None:
        """Time passes without use."""
        await self.use(0, over)

    async def order(self, amount_fen: int, key: str = "key-1") -> str:
        """The tenant orders by QR code; the out_trade_no."""
        wish = top_ups.TopUpOrder(
            tenancy_id=self.tenancy_id,
            amount_fen=amount_fen,
            method=Method.WECHAT_NATIVE,
            wallet="electricity",
            idempotency_key=key,
            user_id=None,
            payer_id=None,
            client_ip=None,
            public_url="http://mall.test",
        )
        view = await top_ups.order(wish, self.directory, self.now)
        assert view.payment is not None
        return view.payment["out_trade_no"]

    def paid_trade(self, out_trade_no: str) -> Trade:
        """The payer pays; what the platform says of it from now on."""
        return self.platform.pay(out_trade_no, self.now)

    async def pay(self, amount_fen: int, key: str = "key-1") -> crediting.Credited:
        """Order, pay, and let the platform's word arrive."""
        trade = self.paid_trade(await self.order(amount_fen, key))
        assert trade.status is TradeStatus.PAID
        credited = await crediting.credit(self.site_id, Platform.WECHAT, trade, self.now)
        await self.drive()
        return credited

    async def close(self) -> int:
        """Close whatever days are ready."""
        closed = 0
        while count := await close_days(self.now):
            closed += count
        return closed

    async def reasons(self) -> list[str]:
        found = await self.row("SELECT supply_reasons FROM tenancy")
        return list(from_json(found["supply_reasons"]))

    async def top_up(self) -> Row:
        return await self.row("SELECT * FROM top_up")


def local(text: str) -> datetime:
    """A local time in the mall, such as "2026-05-20 10:00"."""
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).astimezone(UTC)
