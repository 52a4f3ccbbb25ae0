"""A manager closes a day that waits in vain for a reading; what comes later corrects it."""

from datetime import date, datetime
from pathlib import Path

import pytest

from server.core.errors import ConflictError, InvalidInputError, MallwattError, NotFoundError
from server.models.database import from_json, pool, rows, transaction
from server.services import corrections
from server.services.audit import audit
from server.services.correction_marks import mark_closed_days
from server.services.corrections import correct_due
from server.services.estimated_closes import EstimatedClose, close_estimated, preview_close
from server.services.fixed_charges import put_charging_aside
from server.services.manager_acts import Role
from server.services.managers import Manager
from server.services.moving_in import MoveIn, move_in
from server.services.moving_out import MoveOut, move_out
from server.services.readings import NewReading, keep
from server.services.settlement import project_within, put_aside, settle_due
from server.services.waiting_days import Why, waiting_days
from tests.scenarios.world import World, local
from tests.services.money import wallet_fen

OPENED = local("2026-05-20 10:00")
DAYS = """
SELECT DISTINCT ON (day) day, version, energy_wh, amount_fen, estimated FROM statement
ORDER BY day, version DESC
"""


async def read(world: World, *readings: tuple[str, int]) -> None:
    batch = [NewReading(world.meter_id, local(at), wh, world.epoch) for at, wh in readings]
    await keep(batch, world.now)
    await settle_due(world.now)
    while await correct_due(world.now):
        pass


async def silent_since_six(world: World, folder: Path) -> None:
    """8 kWh until six in the evening, and then no word for a week."""
    world.now = OPENED
    await world.open(folder, balance_fen=10_000)
    world.now = local("2026-05-27 12:00")
    hours = range(11, 19)
    await read(world, *((f"2026-05-20 {at}:00", 100_000 + 1_000 * (at - 10)) for at in hours))
    assert await world.close() == 0


async def close(
    world: World, day: str, reason: str = "meter burnt", *, whose: int | None = None
) -> EstimatedClose:
    return await close_estimated(
        *(world.site_id, "A1", date.fromisoformat(day)),
        actor="wang",
        reason=reason,
        now=world.now,
        tenancy_id=whose,
    )


async def days() -> list[tuple[object, ...]]:
    found = await rows(pool(), DAYS)
    return [(one.pop("day").isoformat(), *one.values()) for one in found]


async def test_a_day_is_closed_with_what_is_known(world: World, tmp_path: Path) -> None:
    await silent_since_six(world, tmp_path)
    closed = await close(world, "2026-05-20")
    assert closed == EstimatedClose(world.tenancy_id, date(2026, 5, 20), 8_000, 800)
    await close(world, "2026-05-21")
    assert await days() == [("2026-05-20", 1, 8_000, 800, True), ("2026-05-21", 1, 0, 0, True)]
    assert await wallet_fen(world.tenancy_id) == 10_000 - 800
    acts = await rows(
        pool(), "SELECT actor, act, subject, reason, facts FROM manager_act ORDER BY id"
    )
    assert [(one["actor"], one["act"], one["subject"], one["reason"]) for one in acts] == [
        ("wang", "day.close_estimated", "shop:A1", "meter burnt")
    ] * 2
    facts = {"day": "2026-05-20", "energy_wh": 8_000, "amount_fen": 800}
    assert from_json(acts[0]["facts"]) == {"tenancy_id": world.tenancy_id, **facts}
    report = await audit(lambda _: None)
    assert (report.violations, report.awaiting_correction) == ([], 0)


async def test_a_later_reading_corrects_it(world: World, tmp_path: Path) -> None:
    """42 hours and 4,200 Wh later: 6 of the hours are of the first day, 24 of the second."""
    await silent_since_six(world, tmp_path)
    await close(world, "2026-05-20")
    await close(world, "2026-05-21")
    await read(world, ("2026-05-22 12:00", 112_200))
    assert await days() == [
        ("2026-05-20", 2, 8_600, 860, True),
        ("2026-05-21", 2, 2_400, 240, True),
    ]
    assert await wallet_fen(world.tenancy_id) == 10_000 - 860 - 240
    evening = [(f"2026-05-20 {at}:00", 108_000 + 200 * (at - 18)) for at in range(19, 24)]
    await read(world, *evening, ("2026-05-21 00:00", 109_200))
    assert (await days())[0] == ("2026-05-20", 3, 9_200, 920, False)
    report = await audit(lambda _: None)
    assert (report.violations, report.awaiting_correction) == ([], 0)


async def test_whoever_moved_out_may_have_a_day_left(world: World, tmp_path: Path) -> None:
    await silent_since_six(world, tmp_path)
    await rows(pool(), "UPDATE tenancy SET closed_at = $1", local("2026-05-21 12:00"))
    assert (await close(world, "2026-05-20")).energy_wh == 8_000
    assert (await close(world, "2026-05-21")).energy_wh == 0
    with pytest.raises(NotFoundError):
        await close(world, "2026-05-22")


REFUSED: list[tuple[str, str, datetime, type[MallwattError], str]] = [
    ("2026-05-21", "why", local("2026-05-27 12:00"), ConflictError, "other_day_first"),
    ("2026-05-19", "why", local("2026-05-27 12:00"), ConflictError, "other_day_first"),
    ("2026-05-20", "why", local("2026-05-20 23:59"), ConflictError, "day_not_over"),
    ("2026-05-20", " ", local("2026-05-27 12:00"), InvalidInputError, "reason_needed"),
]


async def test_days_before_the_first_reading_end_with_it(world: World, tmp_path: Path) -> None:
    """Whichever comes first: one closed by estimate, one by a reading, one with what came late."""
    world.now, world.meter.reachable = OPENED, False
    await world.open(tmp_path, balance_fen=10_000)
    world.now = local("2026-05-27 12:00")
    await close(world, "2026-05-20")
    await read(world, ("2026-05-23 12:00", 105_000))
    assert await world.close() == 2
    assert await days() == [
        ("2026-05-20", 2, 0, 0, False),
        ("2026-05-21", 1, 0, 0, False),
        ("2026-05-22", 1, 0, 0, False),
    ]
    await read(world, ("2026-05-22 12:00", 102_600))
    assert await days() == [
        ("2026-05-20", 3, 0, 0, False),
        ("2026-05-21", 2, 0, 0, False),
        ("2026-05-22", 2, 1_200, 120, True),
    ]
    report = await audit(lambda _: None)
    assert (report.violations, report.awaiting_correction) == ([], 0)


async def test_a_shop_without_a_meter_may_close_its_days(world: World, tmp_path: Path) -> None:
    await silent_since_six(world, tmp_path)
    await close(world, "2026-05-20")
    await rows(pool(), "UPDATE meter_installation SET removed_at = $1", local("2026-05-21 00:00"))
    assert (await preview_close(world.site_id, "A1", date(2026, 5, 21), world.now)).meters == ()
    assert (await close(world, "2026-05-21")).energy_wh == 0
    found = await rows(
        pool(),
        "SELECT day::text, energy_wh, estimated FROM statement WHERE day > $1",
        date(2026, 5, 20),
    )
    assert found == [{"day": "2026-05-21", "energy_wh": 0, "estimated": False}]
    assert (await audit(lambda _: None)).violations == []


async def test_what_cannot_be_is_refused(world: World, tmp_path: Path) -> None:
    await silent_since_six(world, tmp_path)
    for day, reason, now, error, code in REFUSED:
        world.now = now
        with pytest.raises(error) as caught:
            await close(world, day, reason)
        assert caught.value.code == code
    world.now = local("2026-05-27 12:00")
    with pytest.raises(NotFoundError):
        await close_estimated(
            *(world.site_id, "A9", date(2026, 5, 20)), actor="wang", reason="why", now=world.now
        )
    later = [(f"2026-05-20 {at}:00", 108_000) for at in range(19, 24)]
    await read(world, *later, ("2026-05-21 00:00", 108_000))
    with pytest.raises(ConflictError, match="closes by itself"):
        await close(world, "2026-05-20")
    assert await days() == []


async def test_what_it_would_be_closed_with_is_shown_and_nothing_done(
    world: World, tmp_path: Path
) -> None:
    await silent_since_six(world, tmp_path)
    known = await preview_close(world.site_id, "A1", date(2026, 5, 20), world.now)
    [meter] = known.meters
    assert (known.energy_wh, known.amount_fen, meter.energy_wh) == (8_000, 800, 8_000)
    assert (meter.last, meter.is_read_later) == ((local("2026-05-20 18:00"), 108_000), False)
    assert await days() == []
    closed = await close(world, "2026-05-20")
    assert (closed.energy_wh, closed.amount_fen) == (known.energy_wh, known.amount_fen)
    with pytest.raises(ConflictError, match="next is 2026-05-21"):
        await preview_close(world.site_id, "A1", date(2026, 5, 20), world.now)


async def test_a_day_that_waits_says_for_what(world: World, tmp_path: Path) -> None:
    """The same day, as more and more becomes known of it; the first hour after it is silent."""

    async def why(at: str) -> list[tuple[str, str, int]]:
        found = await waiting_days(world.site_id, local(at), limit=10)
        assert found == await waiting_days(None, local(at), limit=10)
        return [(one.day.isoformat(), one.why.value, one.days) for one in found]

    await silent_since_six(world, tmp_path)
    assert await why("2026-05-21 00:59") == []
    assert await why("2026-05-21 01:00") == [("2026-05-20", "no_later_reading", 1)]
    assert await why("2026-05-27 12:00") == [("2026-05-20", "no_later_reading", 7)]
    await put_aside(world.tenancy_id, world.now)
    assert await why("2026-05-27 12:00") == [("2026-05-20", "failed", 7)]
    await rows(pool(), "DELETE FROM settlement_due")
    await read(world, ("2026-05-22 12:00", 112_200))
    [waiting] = await waiting_days(None, world.now, limit=10)
    assert (waiting.why, waiting.closes_on) == (Why.GAP, date(2026, 5, 23))
    assert await world.close() == 2
    assert await why("2026-05-27 12:00") == [("2026-05-22", "no_later_reading", 5)]
    await close(world, "2026-05-22")
    assert await why("2026-05-27 12:00") == [("2026-05-23", "no_reading", 4)]
    await rows(pool(), "UPDATE meter_installation SET removed_at = $1", local("2026-05-22 23:00"))
    assert await why("2026-05-27 12:00") == [("2026-05-23", "no_meter", 4)]
    assert await waiting_days(None, world.now, limit=10, shop_id=0) == []
    await rows(pool(), "UPDATE tenancy SET closed_at = $1", local("2026-05-22 12:00"))
    assert await why("2026-05-27 12:00") == []


async def test_what_failed_of_days_that_are_over_is_told(world: World, tmp_path: Path) -> None:
    """Also of who moved out, and of days that are closed: nobody else would hear of it."""
    await silent_since_six(world, tmp_path)
    await rows(pool(), "UPDATE tenancy SET closed_at = $1", local("2026-05-20 17:00"))
    await settle_again(world.tenancy_id, world.now)
    await world.close()
    assert await waiting_days(None, world.now, limit=10) == []
    await mark_closed_days(pool(), {world.tenancy_id: date(2026, 5, 20)}, world.now)
    assert await waiting_days(None, world.now, limit=10) == []
    await corrections.put_aside(world.tenancy_id, world.now)
    await put_charging_aside(world.tenancy_id, world.now)
    assert len(await waiting_days(None, world.now, limit=10)) == 1  # no charge of that day is due
    await rows(pool(), "UPDATE tenancy SET fixed_open_day = fixed_open_day - 1")
    found = await waiting_days(world.site_id, world.now, limit=10)
    assert [(one.day, one.why) for one in found] == [
        (date(2026, 5, 19), Why.CHARGES_FAILED),
        (date(2026, 5, 20), Why.CORRECTION_FAILED),
    ]
    assert await waiting_days(None, world.now, limit=10, shop_id=0) == []


async def settle_again(tenancy_id: int, now: datetime) -> None:
    async with transaction() as connection:
        await project_within(connection, {tenancy_id: date.min}, now)


async def test_the_same_close_again_closes_nobody_elses_day(world: World, tmp_path: Path) -> None:
    """Two tenancies share a day; a second click on the one's is no click on the other's."""
    await silent_since_six(world, tmp_path)
    boss = Manager(1, "boss", Role.OWNER, None)
    noon = local("2026-05-20 12:00")
    await move_out(MoveOut(world.site_id, "A1", noon, "x"), boss, world.now)
    made = await move_in(MoveIn(world.site_id, "A1", noon, "x"), boss, world.now)
    first = await close(world, "2026-05-20", whose=made.tenancy_id)
    assert first.tenancy_id == made.tenancy_id
    with pytest.raises(ConflictError) as caught:
        await close(world, "2026-05-20", whose=made.tenancy_id)
    assert caught.value.code == "other_day_first"
    assert len(await days()) == 1
