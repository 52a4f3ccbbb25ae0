"""A late reading corrects a closed day, and whoever owes by it is told before the cut."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from server.models.database import pool, rows
from server.services.audit import audit
from server.services.readings import NewReading, keep
from server.services.statements import month_of_statements, statement_of_day
from server.services.transactions import moves
from tests.scenarios.world import CUTS_AT_ONCE, World, local

DAY = date(2026, 5, 20)
WITH_NOTICE = "notice_minutes = [60]\nno_disconnect = []"


async def use(world: World, energy_wh: int, *, hours: int) -> None:
    """As `world.use`, read once an hour: fast, and no gap."""
    for _ in range(hours):
        world.now += timedelta(hours=1)
        world.meter.register_wh += energy_wh // hours
        await world.poll()


async def live_a_day(world: World, folder: Path, policy: str) -> None:
    """From twelve o'clock on the meter is read, and a day is closed; 4 yuan are left."""
    world.meter.reachable = False
    await world.open(folder, balance_fen=1_000, policy=policy)
    world.now += timedelta(hours=2)
    world.meter.reachable = True
    await world.poll()
    await use(world, 5_000, hours=10)
    await use(world, 1_000, hours=3)
    assert await world.close() == 1


async def hear_of_the_morning(world: World) -> None:
    """What the meter had kept: 15 kWh were used before it was first read."""
    at = local("2026-05-20 10:10")
    await keep([NewReading(world.meter_id, at, 85_000, world.epoch)], world.now)
    await world.poll()


async def pending_notices() -> int:
    found = await rows(pool(), "SELECT 1 AS n FROM notice WHERE kind = 'disconnection_pending'")
    return len(found)


async def test_the_tenant_sees_what_was_corrected(world: World, tmp_path: Path) -> None:
    await live_a_day(world, tmp_path, CUTS_AT_ONCE)
    before = await statement_of_day(world.tenancy_id, DAY)
    assert (before.version, before.corrected) == (1, False)
    await hear_of_the_morning(world)
    after = await statement_of_day(world.tenancy_id, DAY)
    assert (after.version, after.corrected) == (2, True)
    assert after.energy_wh == before.energy_wh + 15_000
    assert after.amount_fen == before.amount_fen + 1_500
    assert [(one.version, one.amount_fen) for one in after.versions] == [
        (1, before.amount_fen),
        (2, after.amount_fen),
    ]
    [listed] = await month_of_statements(world.tenancy_id, DAY.replace(day=1))
    assert (listed.version, listed.corrected) == (2, True)
    shown = (await moves(world.tenancy_id, "electricity", None)).items[:2]
    assert {one.kind for one in shown} == {"energy.corrected"}
    assert sorted(one.amount_fen for one in shown) == [-after.amount_fen, before.amount_fen]
    assert shown[0].details == {"day": "2026-05-20", "version": 2, "energy_wh": after.energy_wh}
    report = await audit(lambda _: None)
    assert (report.violations, report.awaiting_correction) == ([], 0)


@pytest.mark.parametrize(
    ("policy", "minutes"), [(CUTS_AT_ONCE, 0), (WITH_NOTICE, 60)], ids=["at_once", "with_notice"]
)
async def test_who_owes_by_a_correction_is_told_before_the_cut(
    world: World, tmp_path: Path, policy: str, minutes: int
) -> None:
    await live_a_day(world, tmp_path, policy)
    assert await pending_notices() == 0
    await hear_of_the_morning(world)
    assert await pending_notices() == 1
    await use(world, 1_000, hours=5)  # what is left without it is not used up
    assert world.meter.is_connected()
    assert "back_billing" in await world.reasons()
    assert await pending_notices() == 1

    await rows(pool(), "UPDATE notice SET delivered_at = $1", world.now)
    if minutes:
        await world.wait(timedelta(minutes=minutes - 10))
        assert world.meter.is_connected()
        assert await world.reasons() == ["overdrawn", "notice_running"]
    await world.wait(timedelta(minutes=20))
    assert world.meter.is_disconnected()
    await world.pay(2_000)
    await world.poll()
    assert world.meter.is_connected()


async def test_what_is_used_after_it_cuts_as_ever(world: World, tmp_path: Path) -> None:
    await live_a_day(world, tmp_path, CUTS_AT_ONCE)
    await hear_of_the_morning(world)
    await use(world, 3_900, hours=2)
    assert world.meter.is_connected()
    await use(world, 200, hours=1)
    assert world.meter.is_disconnected()


async def test_who_was_told_of_an_old_debt_is_told_of_a_correction_too(
    world: World, tmp_path: Path
) -> None:
    await live_a_day(world, tmp_path, WITH_NOTICE)
    await use(world, 4_100, hours=1)
    await rows(pool(), "UPDATE notice SET delivered_at = $1", world.now)
    await world.wait(timedelta(minutes=30))
    await world.pay(10)  # nothing is owed, and the episode not over: power may be lost at -1 fen
    await hear_of_the_morning(world)
    assert await pending_notices() == 2
    await use(world, 0, hours=5)
    assert world.meter.is_connected()
    assert await world.reasons() == ["overdrawn", "back_billing", "notice_not_delivered"]
