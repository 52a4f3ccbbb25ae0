"""A closed day changes by a new version alone, and what it costs by what gives the old one back."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from server.models.database import pool, rows, transaction
from server.services import corrections
from server.services.audit import audit
from server.services.balances import balances
from server.services.corrections import correct_due
from server.services.locks import lock_tenancies
from server.services.readings import NewReading, keep
from server.services.settlement import settle_due
from server.services.site_import import import_site
from tests.fakes.site_text import PROFILES
from tests.scenarios.world import ONE_YUAN, World, local
from tests.services.money import sum_of_all_accounts_fen, wallet_fen

OPENED = local("2026-05-29 00:00")
BY_MONTH = """kind = "block"
period = "month"
blocks = [{up_to_kwh = 5, price = "1.00"}, {price = "2.00"}]"""
BY_YEAR = BY_MONTH.replace("month", "year")
VERSIONS = """
SELECT extract(day FROM day)::int AS day, version, energy_wh, amount_fen FROM statement
ORDER BY day, version
"""
# What was given back, and what was charged.
POSTED = """
SELECT extract(day FROM (event.details ->> 'day')::date)::int AS day,
       max(transfer.amount_fen) FILTER (WHERE credit.tenancy_id IS NOT NULL) AS given_back,
       max(transfer.amount_fen) FILTER (WHERE credit.tenancy_id IS NULL) AS charged
FROM ledger_transfer transfer JOIN ledger_transaction event ON event.id = transaction_id
JOIN account credit ON credit.id = credit_account_id
WHERE flow = 'energy.corrected' GROUP BY event.id ORDER BY event.id
"""


async def live(world: World, folder: Path, tariff: str, *, days: int = 5) -> None:
    """Days of 24 times 200 Wh, read at half past each hour from ten o'clock on, and closed."""
    world.now, world.meter.reachable = OPENED, False
    await world.open(folder, balance_fen=10_000, tariff=tariff)
    first = OPENED + timedelta(hours=10, minutes=30)
    hours = 24 * days - 9  # the last one is read after midnight
    await read(world, *((first + timedelta(hours=n), 100_000 + 200 * n) for n in range(hours)))
    await settle_due(world.now)
    assert await world.close() == days


async def read(world: World, *readings: tuple[datetime, int]) -> None:
    batch = [NewReading(world.meter_id, at, wh, world.epoch) for at, wh in readings]
    world.now = max(world.now, *(at for at, _ in readings))
    await keep(batch, world.now)


async def correct(world: World) -> None:
    """What the worker does until nothing is left to do."""
    await settle_due(world.now)
    while await correct_due(world.now):
        pass


async def newest() -> dict[int, tuple[int, int, int]]:
    """Version, energy and amount of each day."""
    found = await rows(pool(), VERSIONS)
    return {one["day"]: (one["version"], one["energy_wh"], one["amount_fen"]) for one in found}


async def awaiting() -> int:
    """The days that the audit counts as awaiting their correction; nothing else is found."""
    report = await audit(lambda _: None)
    assert report.violations == []
    return report.awaiting_correction


BEFORE_THE_FIRST = (local("2026-05-29 00:30"), 98_000)
AT_MIDNIGHT_WH = 100_000 + 200 * 13 + 100
CASES = [
    pytest.param(
        ONE_YUAN,
        [(local("2026-05-30 00:00"), AT_MIDNIGHT_WH + 100)],
        {29: (2, 2_800, 280), 30: (2, 4_700, 470)},
        [(29, 270, 280), (30, 480, 470)],
        id="energy moves over midnight",
    ),
    pytest.param(
        ONE_YUAN,
        [(local("2026-05-30 00:00"), AT_MIDNIGHT_WH)],
        {29: (2, 2_700, 270), 30: (2, 4_800, 480)},
        [],
        id="another reading and the same money: nothing is posted",
    ),
    pytest.param(
        ONE_YUAN,
        [(local("2026-05-29 10:30"), 100_000)],
        {},
        [],
        id="a reading repeated",
    ),
    pytest.param(
        ONE_YUAN,
        [(local("2026-05-30 11:00"), 90_000)],
        {},
        [],
        id="a reading that no rule trusts",
    ),
    pytest.param(
        ONE_YUAN,
        [BEFORE_THE_FIRST],
        {29: (2, 4_700, 470)},
        [(29, 270, 470)],
        id="energy comes to light: without blocks in its day alone",
    ),
    pytest.param(
        ONE_YUAN,
        [BEFORE_THE_FIRST, (local("2026-06-01 00:00"), AT_MIDNIGHT_WH + 9_700)],
        {29: (2, 4_700, 470), 31: (2, 4_900, 490), 1: (2, 4_700, 470)},
        [(29, 270, 470), (31, 480, 490), (1, 480, 470)],
        id="in two places",
    ),
    pytest.param(
        BY_MONTH,
        [BEFORE_THE_FIRST],
        {29: (2, 4_700, 470), 30: (2, 4_800, 930), 31: (2, 4_800, 960)},
        [(29, 270, 470), (30, 730, 930)],
        id="blocks go on from it until the month's end",
    ),
    pytest.param(
        BY_YEAR,
        [BEFORE_THE_FIRST],
        {
            29: (2, 4_700, 470),
            30: (2, 4_800, 930),
            31: (2, 4_800, 960),
            1: (2, 4_800, 960),
            2: (2, 4_800, 960),
        },
        [(29, 270, 470), (30, 730, 930)],
        id="blocks go on from it until the year's end",
    ),
    pytest.param(
        BY_MONTH,
        [(local("2026-05-30 00:00"), AT_MIDNIGHT_WH + 100)],
        {29: (2, 2_800, 280), 30: (2, 4_700, 720)},
        [(29, 270, 280), (30, 730, 720)],
        id="blocks go on as before where the sum is the same",
    ),
]


@pytest.mark.parametrize(("tariff", "late", "changed", "posted"), CASES)
async def test_a_late_reading_makes_new_versions(
    world: World,
    tmp_path: Path,
    tariff: str,
    late: list[tuple[datetime, int]],
    changed: dict[int, tuple[int, int, int]],
    posted: list[tuple[int, int, int]],
) -> None:
    await live(world, tmp_path, tariff)
    before = await newest()
    wallet = await wallet_fen(world.tenancy_id)
    await read(world, *late)
    assert (await awaiting() > 0) == bool(changed)
    await correct(world)
    assert await newest() == {**before, **changed}
    assert [tuple(one.values()) for one in await rows(pool(), POSTED)] == posted
    taken = sum(changed[day][2] - before[day][2] for day in changed)
    assert await wallet_fen(world.tenancy_id) == wallet - taken
    assert await awaiting() == 0
    assert await sum_of_all_accounts_fen() == 0


async def test_what_was_corrected_is_corrected_again_and_back(world: World, tmp_path: Path) -> None:
    await live(world, tmp_path, BY_MONTH)
    await read(world, BEFORE_THE_FIRST)
    await correct(world)
    assert (await newest())[30] == (2, 4_800, 930)
    held_apart = "UPDATE reading SET verdict = $2, reason = $3 WHERE read_at = $1"
    await rows(pool(), held_apart, BEFORE_THE_FIRST[0], "quarantined", "jump")
    assert await awaiting() == 1
    await read(world, (BEFORE_THE_FIRST[0] + timedelta(minutes=1), 100_000))
    await correct(world)
    assert (await newest())[29] == (3, 2_700, 270)
    assert (await newest())[30] == (3, 4_800, 730)
    assert await awaiting() == 0
    assert await rows(pool(), "SELECT 1 AS due FROM correction_due") == []


async def test_open_days_go_on_from_corrected_blocks(world: World, tmp_path: Path) -> None:
    await live(world, tmp_path, BY_MONTH, days=2)
    assert await rows(pool(), "SELECT amount_fen FROM open_day") == [{"amount_fen": 20}]
    await read(world, (local("2026-05-29 00:30"), 99_900), (local("2026-05-31 01:30"), 107_800))
    await correct(world)
    open_day = await rows(pool(), "SELECT energy_wh, amount_fen FROM open_day")
    assert open_day == [{"energy_wh": 300, "amount_fen": 60}]
    assert (await newest())[30] == (2, 4_800, 740)
    owned = (await balances(pool(), [world.tenancy_id]))[world.tenancy_id]
    assert owned.available_fen == 10_000 - 280 - 740 - 60


async def test_a_closed_day_keeps_its_tariff_and_its_gaps(world: World, tmp_path: Path) -> None:
    """Another tariff of the shop, and another pace, hold for the days to come."""
    await live(world, tmp_path, BY_MONTH)
    path = tmp_path / "site.toml"
    content = path.read_text(encoding="utf-8").replace('tariff = "tariff"', 'tariff = "other"')
    other = '[[tariff]]\ncode = "other"\nkind = "flat"\nprice = "9.00"\n'
    content = content.replace("[[gateway]]", f"{other}\n[[gateway]]")
    content = content.replace("[site]", "[site]\npoll_seconds = 36000")
    path.write_text(content, encoding="utf-8")
    await import_site(path, PROFILES, world.now)
    await read(world, BEFORE_THE_FIRST)
    await correct(world)
    assert (await newest())[30] == (2, 4_800, 930)
    estimated = await rows(pool(), "SELECT estimated FROM statement WHERE version = 2 ORDER BY day")
    assert [one["estimated"] for one in estimated] == [True, False, False]


async def test_whoever_moved_out_is_corrected_too(world: World, tmp_path: Path) -> None:
    await live(world, tmp_path, ONE_YUAN, days=1)
    left_at = local("2026-05-30 12:00")
    await rows(pool(), "UPDATE tenancy SET closed_at = $1", left_at)
    await read(world, (local("2026-05-30 01:30"), 102_900), (local("2026-05-30 12:30"), 105_100))
    world.now = local("2026-06-03 12:00")
    await settle_due(world.now)
    assert await world.close() == 1
    before = (await newest())[30]
    await read(world, (left_at, 105_100))
    await correct(world)
    _, energy_wh, amount_fen = (await newest())[30]
    assert amount_fen > before[2]
    assert (energy_wh, amount_fen) == (105_100 - 102_700, 240)
    assert await wallet_fen(world.tenancy_id) == 10_000 - 270 - 240
    assert await awaiting() == 0


async def test_days_before_an_outvoted_first_reading_name_the_one_that_is_trusted(
    world: World, tmp_path: Path
) -> None:
    world.now, world.meter.reachable = OPENED, False
    await world.open(tmp_path, balance_fen=10_000)
    first = OPENED + timedelta(days=2, hours=10)
    await read(world, (first, 900_000))
    await settle_due(world.now)
    assert await world.close() == 2
    await read(world, *((first + timedelta(hours=n), 100_000 + 100 * n) for n in (1, 2)))
    assert await awaiting() == 2
    await correct(world)
    assert await newest() == {29: (2, 0, 0), 30: (2, 0, 0)}
    assert await awaiting() == 0


async def test_a_kill_between_batches_loses_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await live(world, tmp_path, BY_YEAR)
    await read(world, BEFORE_THE_FIRST)
    await settle_due(world.now)
    monkeypatch.setattr(corrections, "DAYS_MAX", 2)
    batches = 0
    while await correct_due(world.now):
        batches += 1
        assert await sum_of_all_accounts_fen() == 0
        assert await awaiting() == {1: 3, 2: 1, 3: 0}[batches]
    assert batches == 3
    assert [version for version, _, _ in (await newest()).values()] == [2] * 5


async def test_workers_pass_over_what_others_hold(world: World, tmp_path: Path) -> None:
    await live(world, tmp_path, BY_MONTH)
    await read(world, BEFORE_THE_FIRST)
    await settle_due(world.now)
    held, end = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with transaction() as connection:
            await lock_tenancies(connection, [world.tenancy_id])
            held.set()
            await end.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(hold())
        await held.wait()
        assert await correct_due(world.now) == []
        end.set()
    done = await asyncio.gather(*(correct_due(world.now) for _ in range(4)))
    assert sorted(done) == [[], [], [], [world.tenancy_id]]
    assert (await newest())[29] == (2, 4_700, 470)
