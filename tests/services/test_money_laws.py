"""Whatever comes in whatever order, a tenancy's money is what a plain reference makes of it.

The reference rates the whole path of true readings once, day by day, with core/settlement. The
product gets the same readings in any order, repeated, between settling, closing, paying, imports.
"""

import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from payments.contract import Method, Platform
from server.core.calendar import local_day
from server.core.settlement.day import settle_day
from server.core.settlement.interval import path_from_rows
from server.core.tariff.parse import parse_tariff
from server.models.database import close_database, open_database, pool, row, rows
from server.services import top_ups
from server.services.audit import audit
from server.services.balances import balances
from server.services.crediting import credit
from server.services.desk import take_desk_payment
from server.services.readings import NewReading, forget_months, keep
from server.services.settlement import close_days, settle_due
from server.services.site_file import ProfileFacts
from server.services.site_import import import_site
from server.services.site_rules import chinese_holidays, forget_site_rules
from tests.databases import CopySchema
from tests.fakes.payment_platform import FakeDirectory
from tests.services.money import sum_of_all_accounts_fen

ZONE = ZoneInfo("Asia/Shanghai")
OPENED = datetime(2026, 5, 29, 2, 0, tzinfo=UTC)  # a Friday; the month ends within the story
HOURS = 80
NOW = OPENED + timedelta(hours=HOURS + 2)
ROLLOVER_WH = 1_000_000
GAP_S = 3_600
PROFILES = {"example/demo-relay": ProfileFacts("modbus", True, False, 30_000, ROLLOVER_WH)}
OPENING_FEN = 700
TARIFF = {
    "code": "both",
    "valid_from": date(2026, 1, 1),
    "kind": "block",
    "period": "month",
    "blocks": [
        {"up_to_kwh": 20, "prices": {"peak": "1.2345", "valley": "0.2891"}},
        {"prices": {"peak": "1.5", "valley": "0.3333"}},
    ],
    "periods": [{"valley": ["00:00-08:00", "20:00-24:00"], "peak": ["08:00-20:00"]}],
}
SITE = """
[site]
code = "{code}"
name = "示范商场"
timezone = "Asia/Shanghai"
close_after_days = 60

[[tariff]]
code = "both"
valid_from = 2026-01-01
kind = "block"
period = "month"
blocks = [
    {{up_to_kwh = 20, prices = {{peak = "1.2345", valley = "0.2891"}}}},
    {{prices = {{peak = "1.5", valley = "0.3333"}}}},
]
periods = [{{valley = ["00:00-08:00", "20:00-24:00"], peak = ["08:00-20:00"]}}]

[[gateway]]
code = "gw-01"
link = "modbus-tcp"
address = "127.0.0.1:15020"

[[meter]]
code = "M-1"
gateway = "gw-01"
unit = 1
profile = "example/demo-relay"
shop = "A1"

[[meter]]
code = "M-2"
gateway = "gw-01"
unit = 2
transformer_ratio = 3
profile = "example/demo-relay"
shop = "A1"

[[shop]]
code = "A1"
name = "茶饮"
tariff = "both"
binding_code = "482913"
opening_balance_fen = {fen}
"""
_numbers = itertools.count(1)

Curve = list[tuple[datetime, int]]


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    """A meter's true readings from the opening on, 41 to 60 minutes apart: none may be missing.

    The register rolls over on the way.
    """
    at, register_wh, path = OPENED, ROLLOVER_WH - draw(st.integers(1, 40_000)), []
    while at < OPENED + timedelta(hours=HOURS):
        path.append((at, register_wh % ROLLOVER_WH))
        at += timedelta(minutes=draw(st.sampled_from([41, 50, 57, 60])))
        register_wh += draw(st.sampled_from([0, 1, 333, 1_000, 2_000]))
    return path


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(1, 120)),
        st.tuples(st.just("settle"), st.just(0)),
        st.tuples(st.just("close"), st.just(0)),
        st.tuples(st.just("desk"), st.integers(1, 5_000)),
        st.tuples(st.just("pay"), st.integers(1, 5_000)),
        st.tuples(st.just("import"), st.just(0)),
    ),
    min_size=4,
    max_size=14,
)


@dataclass
class Story:
    """One tenancy, what is still to be read of it, and what was paid in."""

    site_id: int
    site_path: Path
    tenancy_id: int
    unread: list[NewReading]
    kept: list[NewReading] = field(default_factory=list)
    paid_fen: int = OPENING_FEN

    async def act(self, name: str, number: int) -> None:
        """One thing that happens; whatever can be repeated is."""
        match name:
            case "read":
                batch, self.unread = self.unread[:number], self.unread[number:]
                await keep(batch + self.kept[-3:], NOW)
                self.kept += batch
            case "settle":
                await settle_due(NOW)
            case "close":
                await close_days(NOW)
            case "import":
                await import_site(self.site_path, PROFILES, NOW)
            case "desk":
                await self.pay_at_the_desk(number)
            case "pay":
                await self.pay_online(number)
        await self.check_projection()

    async def pay_at_the_desk(self, amount_fen: int) -> None:
        receipt_no = f"R-{next(_numbers)}"
        for _ in range(2):
            await take_desk_payment(
                self.tenancy_id,
                amount_fen,
                method="bank_transfer",
                receipt_no=receipt_no,
                paid_at=NOW,
                now=NOW,
            )
        self.paid_fen += amount_fen

    async def pay_online(self, amount_fen: int) -> None:
        directory = FakeDirectory()
        wish = top_ups.TopUpOrder(
            tenancy_id=self.tenancy_id,
            amount_fen=amount_fen,
            method=Method.ALIPAY_QR,
            wallet="electricity",
            idempotency_key=f"key-{next(_numbers)}",
            user_id=None,
            payer_id=None,
            client_ip=None,
            public_url="http://mall.test",
        )
        view = await top_ups.order(wish, directory, NOW)
        assert view.payment is not None
        trade = directory.platforms[Platform.ALIPAY].pay(view.payment["out_trade_no"], NOW)
        for _ in range(2):
            await credit(self.site_id, Platform.ALIPAY, trade, NOW)
        self.paid_fen += amount_fen

    async def check_projection(self) -> None:
        """At every instant: what the wallet shows is what was paid less what the statements say."""
        owned = (await balances(pool(), [self.tenancy_id]))[self.tenancy_id]
        charged = await row(
            pool(),
            "SELECT coalesce(sum(amount_fen), 0)::bigint AS fen FROM statement"
            " WHERE tenancy_id = $1",
            self.tenancy_id,
        )
        assert charged is not None
        assert owned.wallet_fen == self.paid_fen - charged["fen"]
        assert owned.available_fen == owned.wallet_fen - owned.open_days_fen

    async def amounts(self) -> dict[date, tuple[int, int]]:
        """Energy and money of every day, closed or open, as the product has them."""
        found = await rows(
            pool(),
            "SELECT day, energy_wh, amount_fen FROM statement WHERE tenancy_id = $1"
            " UNION ALL SELECT day, energy_wh, amount_fen FROM open_day WHERE tenancy_id = $1",
            self.tenancy_id,
        )
        assert len({one["day"] for one in found}) == len(found)
        return {one["day"]: (one["energy_wh"], one["amount_fen"]) for one in found}


def reference(paths: Sequence[Curve]) -> dict[date, tuple[int, int]]:
    """Every day rated once, from the whole path."""
    version = parse_tariff(TARIFF)
    meters = [
        path_from_rows(number, f"M-{number}", ratio, ROLLOVER_WH, path)
        for (number, ratio), path in zip(((1, 1), (2, 3)), paths, strict=True)
    ]
    days: dict[date, tuple[int, int]] = {}
    day, used_wh = local_day(OPENED, ZONE), 0
    last = local_day(max(path[-1][0] for path in paths), ZONE)
    while day <= last:
        used_wh = 0 if day.day == 1 else used_wh
        settled = settle_day(
            day,
            ZONE,
            meters,
            version,
            chinese_holidays(),
            block_start_wh=used_wh,
            gap_s=GAP_S,
            opened_at=OPENED,
        )
        days[day] = (settled.energy_wh, settled.amount_fen)
        used_wh += settled.energy_wh
        day += timedelta(days=1)
    return days


async def open_story(folder: Path, paths: Sequence[Curve], order: Sequence[int]) -> Story:
    """A new site; its readings come in this order, after each meter's first."""
    code = f"s{next(_numbers)}"
    site_path = folder / f"{code}.toml"
    site_path.write_text(SITE.format(code=code, fen=OPENING_FEN), encoding="utf-8")
    report = await import_site(site_path, PROFILES, OPENED)
    meters = await rows(
        pool(), "SELECT id FROM meter WHERE site_id = $1 ORDER BY code", report.site_id
    )
    tenancy = await row(pool(), "SELECT id FROM tenancy WHERE site_id = $1", report.site_id)
    assert tenancy is not None
    readings = [
        NewReading(meter["id"], at, register_wh, 0)
        for meter, path in zip(meters, paths, strict=True)
        for at, register_wh in path
    ]
    firsts = [one for one in readings if one.read_at == OPENED]
    others = [one for one in readings if one.read_at != OPENED]
    weighted = sorted(range(len(others)), key=lambda n: (order[n % len(order)], n))
    await keep(firsts, OPENED)
    unread = [others[number] for number in weighted]
    return Story(report.site_id, site_path, tenancy["id"], unread, firsts)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def folder(
    copy_schema: CopySchema, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Path]:
    """One database for all stories, each at a site of its own."""
    forget_site_rules()
    forget_months()
    await open_database(await copy_schema("laws"))
    yield tmp_path_factory.mktemp("laws")
    await close_database()


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    paths=st.tuples(curves(), curves()),
    order=st.lists(st.integers(0, 5), min_size=1, max_size=50),
    acts=ACTS,
)
async def test_any_order_of_anything_ends_in_the_same_money(
    folder: Path, paths: tuple[Curve, Curve], order: list[int], acts: list[tuple[str, int]]
) -> None:
    story = await open_story(folder, paths, order)
    for name, number in acts:
        await story.act(name, number)
    await story.act("read", len(story.unread))
    await story.act("settle", 0)
    wanted = reference(paths)
    assert await story.amounts() == wanted
    while await close_days(NOW):
        await story.check_projection()
    assert await story.amounts() == wanted
    owned = (await balances(pool(), [story.tenancy_id]))[story.tenancy_id]
    assert owned.available_fen == story.paid_fen - sum(fen for _, fen in wanted.values())
    assert await sum_of_all_accounts_fen() == 0
    assert (await audit(lambda _: None)).violations == []
