"""An open day that goes on by new readings is bit by bit the day that all its readings make.

Two shops have the same meters and the same readings. One is settled as its readings come; of the
other everything is projected from all readings and decided each time.
"""

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.models.database import Connection, Row, pool, rows
from server.services import day_inputs, settlement
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from server.services.site_file import ProfileFacts
from server.services.site_import import import_site

ROLLOVER_WH = 1_000_000
OPENED = datetime(2026, 5, 30, 16, 0, tzinfo=UTC)  # midnight in Shanghai; the month's last day
PROFILES = {
    "example/demo-relay": ProfileFacts(
        protocol="modbus",
        has_relay=True,
        permit_only=False,
        max_power_w=30_000,
        rollover_wh=ROLLOVER_WH,
    )
}
SITE = """
[site]
code = "{code}"
name = "示范商场"
timezone = "Asia/Shanghai"
close_after_days = 60

[supply_policy.immediate]
low_balance_fen = [2_000, 500]
notice_minutes = []
no_disconnect = []

[[tariff]]
code = "both"
valid_from = 2026-01-01
kind = "block"
period = "month"
blocks = [
    {{up_to_kwh = 5, prices = {{peak = "1.2345", valley = "0.2891"}}}},
    {{up_to_kwh = 9, prices = {{peak = "1.3", valley = "0.3"}}}},
    {{prices = {{peak = "1.5", valley = "0.3333"}}}},
]
periods = [{{valley = ["00:00-07:30", "20:00-24:00"], peak = ["07:30-20:00"]}}]

[[tariff]]
code = "both"
valid_from = 2026-06-02
kind = "tou"
prices = {{peak = "1.2", valley = "0.4"}}
periods = [{{valley = ["00:00-08:00", "20:00-24:00"], peak = ["08:00-20:00"]}}]

[[gateway]]
code = "gw-01"
link = "modbus-tcp"
address = "127.0.0.1:15020"
"""
SHOP = """
[[shop]]
code = "{shop}"
name = "茶饮"
tariff = "both"
supply_policy = "immediate"
binding_code = "482913"
opening_balance_fen = 2500
"""
METER = """
[[meter]]
code = "{shop}-{number}"
gateway = "gw-01"
unit = {unit}
transformer_ratio = {ratio}
profile = "example/demo-relay"
shop = "{shop}"
"""
SHOPS = ("A1", "A2")
RATIOS = (1, 3)
_numbers = itertools.count(1)

DAYS = """
SELECT day, energy_wh, amount_fen, estimated, complete, has_later_reading, rules_version,
       block_start_wh, cells_wh, read_ats, registers_wh, cardinality(meter_ids) AS meters
FROM open_day WHERE tenancy_id = $1 ORDER BY day
"""
SUPPLY = """
SELECT supply_state, supply_reasons, overdrawn_since, decide_again_at, notice_memory,
       (SELECT array_agg(kind || level ORDER BY id) FROM notice WHERE tenancy_id = tenancy.id)
           AS notices,
       (SELECT array_agg(policy_state ORDER BY meter_id) FROM meter_control
        JOIN meter ON meter.id = meter_id WHERE meter.shop_id = tenancy.shop_id) AS wishes
FROM tenancy WHERE id = $1
"""
FROM_THE_START = """
UPDATE settlement_due SET first_day = tenancy.first_open_day FROM tenancy
WHERE tenancy.id = tenancy_id AND tenancy.id = $1
"""
RESERVED = """
INSERT INTO refund (site_id, no, tenancy_id, wallet, amount_fen, status, reason, asked_by,
                    asked_at, expires_at, idempotency_key, input_hash)
SELECT site_id, 'R-' || id, id, 'electricity_wallet', 1000, 'waiting', 'why', 'wang', $2,
       $2::timestamptz + interval '7 days', 'k-' || id, 'h'
FROM tenancy WHERE id = ANY($1::bigint[])
"""
TENANCIES = """
SELECT tenancy.id FROM tenancy JOIN shop ON shop.id = shop_id WHERE tenancy.site_id = $1
ORDER BY shop.code
"""
METERS = "SELECT id FROM meter WHERE site_id = $1 ORDER BY code"


class Twins:
    """Two shops with two meters each; the second is always settled from all its readings."""

    def __init__(
        self, path: Path, site_id: int, tenancies: Sequence[int], meters: Sequence[int]
    ) -> None:
        self.path = path
        self.site_id = site_id
        self.one, self.twin = tenancies
        self.meters = (meters[:2], meters[2:])
        self.at = OPENED
        self.registers_wh = [ROLLOVER_WH - 4_000, 100]
        self.late: list[NewReading] = []

    async def read(self, which: Sequence[int], *, late: bool = False) -> None:
        """The twins' meters, alike."""
        new = [
            NewReading(of_shop[number], self.at, self.registers_wh[number] % ROLLOVER_WH, 0)
            for of_shop in self.meters
            for number in which
        ]
        if late:
            self.late += new
        else:
            await keep(new, self.at)

    async def happen(self, what: str) -> None:
        """One thing, to both shops."""
        match what:
            case "both" | "late":
                await self.read((0, 1), late=what == "late")
            case "one" | "other":
                await self.read((0,) if what == "one" else (1,))
            case "bring":
                await keep(self.late, self.at)
                self.late = []
            case "close":
                await self.settle()
                await close_days(self.at)
            case "settle":
                await self.settle()
            case "import":
                await import_site(self.path, PROFILES, self.at)

    def pass_time(self, minutes: int, rises_wh: Sequence[int]) -> None:
        """The clock and the registers go on."""
        self.at += timedelta(minutes=minutes)
        self.registers_wh = [a + b for a, b in zip(self.registers_wh, rises_wh, strict=True)]

    async def settle(self) -> None:
        """As the worker does, but of the twin everything."""
        await rows(pool(), FROM_THE_START, self.twin)
        await settle_due(self.at)

    async def both(self, sql: str) -> tuple[list[Row], list[Row]]:
        """What the database has of the one, and of the other."""
        return await rows(pool(), sql, self.one), await rows(pool(), sql, self.twin)

    async def check(self) -> None:
        """Nothing tells the twins apart."""
        for sql in (DAYS, SUPPLY):
            one, twin = await self.both(sql)
            assert one == twin


async def open_twins(folder: Path) -> Twins:
    """A new site with the twins, read once."""
    code = f"t{next(_numbers)}"
    text = SITE.format(code=code)
    units = itertools.count(1)
    for shop in SHOPS:
        text += SHOP.format(shop=shop)
        for number, ratio in enumerate(RATIOS):
            text += METER.format(shop=shop, number=number, unit=next(units), ratio=ratio)
    path = folder / f"{code}.toml"
    path.write_text(text, encoding="utf-8")
    report = await import_site(path, PROFILES, OPENED)
    tenancies = [one["id"] for one in await rows(pool(), TENANCIES, report.site_id)]
    meters = [one["id"] for one in await rows(pool(), METERS, report.site_id)]
    twins = Twins(path, report.site_id, tenancies, meters)
    await twins.read((0, 1))
    return twins


@pytest.fixture(scope="module")
def folder(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for all twins, each pair at a site of its own."""
    return tmp_path_factory.mktemp("twins")


STEPS = st.lists(
    st.tuples(
        st.sampled_from([1, 15, 15, 15, 59, 59, 60, 61, 300, 1_500]),  # minutes; above 60: a gap
        st.tuples(st.sampled_from([0, 1, 777, 4_001]), st.sampled_from([0, 333, 1_250])),
        st.sampled_from(
            ["both", "both", "both", "both", "one", "other", "late", "bring", "close", "import"]
        ),
        st.booleans(),
    ),
    min_size=5,
    max_size=45,
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
async def test_going_on_is_the_same_as_projecting_and_deciding_everything(
    folder: Path, steps: list[tuple[int, tuple[int, int], str, bool]]
) -> None:
    twins = await open_twins(folder)
    for minutes, rises_wh, what, settle_now in steps:
        twins.pass_time(minutes, rises_wh)
        await twins.happen(what)
        if settle_now:
            await twins.settle()
            await twins.check()
    await twins.happen("bring")
    await twins.settle()
    await twins.check()


@pytest.fixture
def projected(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tenancies whose days were projected from all their readings."""
    found: list[int] = []

    async def noting(connection: Connection, first_days: Mapping[int, date], days: int) -> Any:
        found.extend(first_days)
        return await day_inputs.gather(connection, first_days, days)

    monkeypatch.setattr(settlement, "gather", noting)
    return found


# What comes behind an hour of ordinary readings, and whether it takes all of the day's readings.
WAYS = [
    pytest.param([("both", 15)], False, id="the next readings"),
    pytest.param([("both", 15), ("both", 15)], False, id="two at once"),
    pytest.param([("one", 15), ("one", 15), ("other", 1)], False, id="one meter is behind"),
    pytest.param([("both", 60)] * 23, False, id="midnight passes"),
    pytest.param([("both", 61)], True, id="a gap"),
    pytest.param([("both", 60)] * 47, True, id="two midnights pass"),
    pytest.param(
        [*[("both", 60)] * 23, ("settle", 0), *[("both", 60)] * 24], True, id="another price begins"
    ),
    pytest.param([("late", 15), ("both", 15), ("bring", 0)], True, id="one comes late"),
    pytest.param([("import", 0), ("both", 15)], True, id="the rules may be others"),
]


@pytest.mark.parametrize(("events", "everything"), WAYS)
async def test_the_whole_day_is_read_only_where_more_is_new_than_its_end(
    folder: Path, projected: list[int], events: list[tuple[str, int]], everything: bool
) -> None:
    twins = await open_twins(folder)
    await twins.settle()
    for _ in range(4):
        twins.pass_time(15, (250, 250))
        await twins.read((0, 1))
        await twins.settle()
    projected.clear()
    for what, minutes in events:
        twins.pass_time(minutes, (777, 333))
        await twins.happen(what)
    await twins.settle()
    assert (twins.one in projected) is everything
    assert twins.twin in projected
    await twins.check()


async def test_all_open_days_count_where_a_balance_may_decide(folder: Path) -> None:
    """Neither day alone brings 25 yuan down to the 20 at which a warning is due."""
    twins = await open_twins(folder)
    await twins.settle()
    for rise_wh in (8_000, *[0] * 23, 9_300):
        twins.pass_time(60, (rise_wh, 0))
        await twins.read((0, 1))
        await twins.settle()
        await twins.check()
    days, _ = await twins.both(DAYS)
    supply, _ = await twins.both(SUPPLY)
    assert [day["amount_fen"] for day in days] == [235, 275]
    assert supply[0]["notices"] == ["low_balance2000"]


async def test_what_is_reserved_counts_where_a_balance_may_decide(folder: Path) -> None:
    """10 of 25 yuan wait to be given back: a warning is due by what is left beside them."""
    twins = await open_twins(folder)
    await twins.settle()
    await rows(pool(), RESERVED, [twins.one, twins.twin], twins.at)
    for rise_wh in (0, 8_000, 9_000, 9_000, 6_000):
        twins.pass_time(60, (rise_wh, 0))
        await twins.read((0, 1))
        await twins.settle()
        await twins.check()
