"""A meter's own registers of the periods say when the energy of a gap was used."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from server.core.errors import InvalidInputError
from server.core.settlement.interval import PeriodRegisters
from server.models.database import pool, rows
from server.services.audit import audit
from server.services.corrections import correct_due
from server.services.manager_acts import Role
from server.services.managers import Manager
from server.services.moving_out import MoveOut, move_out
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from server.services.site_file import SiteFileError
from server.services.usage import usage
from tests.imported import imported
from tests.services.conftest import NOW, PROFILES, SITE

# the import is at 10:00 in Shanghai; the peak ends at 20:00
TOU = """
[[tariff]]
code = "tou"
valid_from = 2026-01-01
kind = "tou"
prices = {peak = "2", valley = "0.5"}
periods = [{valley = ["00:00-08:00", "20:00-24:00"], peak = ["08:00-20:00"]}]
"""
LATE = NOW + timedelta(days=6)


def registers(peak: int | None, valley: int | None) -> PeriodRegisters:
    return (None, peak, None, valley, None)


async def load(path: Path, tariff: str = "tou") -> None:
    content = SITE.replace("[[gateway]]", f"{TOU}\n[[gateway]]", 1)
    path.write_text(content.replace('tariff = "flat"', f'tariff = "{tariff}"'), encoding="utf-8")
    await imported(path, PROFILES, NOW)


async def keep_at(hour: float, register_wh: int, periods_wh: PeriodRegisters | None = None) -> None:
    (meter,) = await rows(pool(), "SELECT id FROM meter")
    at = NOW + timedelta(hours=hour)
    report = await keep([NewReading(meter["id"], at, register_wh, 0, periods_wh=periods_wh)], LATE)
    assert (report.kept, report.quarantined) == (1, 0)


async def amounts(day: str = "2026-05-20") -> list[tuple[str | None, int]]:
    """Period and watt-hours of the day's lines, closed or open, newest version."""
    await settle_due(LATE)
    while await correct_due(LATE):
        pass
    (tenancy,) = await rows(pool(), "SELECT id FROM tenancy")
    first = datetime.fromisoformat(day).date()
    (used,) = await usage(tenancy["id"], first, first + timedelta(days=1), "day", LATE)
    return sorted(used.by_period.items())


@pytest.mark.parametrize(
    "periods_wh",
    [None, (1, 2, 3, 4, 5), (None, 7_000, None, 0, None), (None, None, None, None, 2**62 - 1)],
)
async def test_registers_are_kept_as_they_were(
    database: None, site_path: Path, periods_wh: PeriodRegisters | None
) -> None:
    await load(site_path)
    await keep_at(0, 10_000, periods_wh)
    wanted = None if periods_wh is None else list(periods_wh)
    assert await rows(pool(), "SELECT periods_wh FROM reading") == [{"periods_wh": wanted}]


def test_a_meter_has_five_periods() -> None:
    with pytest.raises(InvalidInputError, match="5 periods, not 2"):
        NewReading(1, NOW, 1, 0, periods_wh=(1, 2))


async def test_a_gap_goes_by_registers_until_a_reading_fills_it(
    database: None, site_path: Path
) -> None:
    """Eight hours and 8 kWh, two of them after the peak's end."""
    await load(site_path)
    await keep_at(0, 10_000, registers(6_000, 4_000))
    await keep_at(4, 11_000, registers(7_000, 4_000))
    await keep_at(12, 19_000, registers(8_000, 11_000))
    assert await amounts() == [("peak", 2_000), ("valley", 7_000)]
    shown = await rows(pool(), "SELECT estimated FROM open_day")
    assert shown == [{"estimated": True}]
    await keep_at(10, 18_500)  # a frozen reading, without registers: time again, but shorter
    assert await amounts() == [("peak", 8_500), ("valley", 500)]


async def test_without_registers_a_gap_goes_by_time(database: None, site_path: Path) -> None:
    await load(site_path)
    await keep_at(0, 10_000, registers(6_000, None))
    await keep_at(12, 22_000, registers(8_000, 14_000))
    assert await amounts() == [("peak", 10_000), ("valley", 2_000)]


async def night(path: Path) -> None:
    """From eight in the evening of the first day to noon of the third: 30 kWh, 6 of them peak."""
    await load(path)
    await keep_at(0, 10_000, registers(6_000, 4_000))
    await keep_at(10, 11_000, registers(7_000, 4_000))
    await keep_at(50, 41_000, registers(13_000, 28_000))


async def test_a_gap_over_days_closes_and_agrees_with_its_audit(
    database: None, site_path: Path
) -> None:
    """16 hours of peak are in it, 24 of valley: each day has its share of both."""
    await night(site_path)
    await settle_due(LATE)
    assert await close_days(LATE) == 1
    assert (await audit(lambda _: None)).violations == []
    while await close_days(LATE):
        pass
    assert await amounts("2026-05-20") == [("peak", 1_000), ("valley", 4_000)]
    assert await amounts("2026-05-21") == [("peak", 4_500), ("valley", 12_000)]
    assert await amounts("2026-05-22") == [("peak", 1_500), ("valley", 8_000)]
    report = await audit(lambda _: None)
    assert (report.violations, report.awaiting_correction) == ([], 0)
    await keep_at(30, 31_000)
    assert await amounts("2026-05-21") != [("peak", 4_500), ("valley", 12_000)]
    assert (await audit(lambda _: None)).violations == []


async def test_who_leaves_within_a_gap_pays_for_all_of_it_by_time(
    database: None, site_path: Path
) -> None:
    """Of 40 hours and 30 kWh, until ten in the morning of the third day; two days are closed."""
    await night(site_path)
    await settle_due(LATE)
    assert await close_days(LATE) + await close_days(LATE) == 2
    assert await amounts("2026-05-21") == [("peak", 4_500), ("valley", 12_000)]
    (site,) = await rows(pool(), "SELECT id FROM site")
    boss = Manager(1, "boss", Role.OWNER, None)
    await move_out(MoveOut(site["id"], "A1", NOW + timedelta(hours=48), "left"), boss, LATE)
    assert (await audit(lambda _: None)).awaiting_correction == 2
    assert await amounts("2026-05-20") == [("peak", 1_000), ("valley", 3_000)]
    assert await amounts("2026-05-21") == [("peak", 9_000), ("valley", 9_000)]
    assert await close_days(LATE) == 1
    assert await amounts("2026-05-22") == [("peak", 1_500), ("valley", 6_000)]
    report = await audit(lambda _: None)
    assert (report.violations, report.awaiting_correction) == ([], 0)


async def test_forged_registers_are_found(database: None, site_path: Path) -> None:
    await night(site_path)
    await settle_due(LATE)
    await close_days(LATE)
    await rows(pool(), "ALTER TABLE reading DISABLE TRIGGER USER")
    await rows(
        pool(),
        "UPDATE reading SET periods_wh[2] = 12500, periods_wh[4] = 28500 WHERE register_wh = 41000",
    )
    await rows(pool(), "ALTER TABLE reading ENABLE TRIGGER USER")  # the next test's, too
    assert [one.rule for one in (await audit(lambda _: None)).violations] == ["statement_rated"]


async def test_half_a_gap_keeps_its_clock(database: None, site_path: Path) -> None:
    await night(site_path)
    await settle_due(LATE)
    await close_days(LATE)
    with pytest.raises(SiteFileError) as caught:
        await load(site_path, "flat")
    (fault,) = caught.value.faults
    assert fault.place == "shop[0].tariff"
    assert fault.message.startswith("2026-05-20 is closed with a gap until 2026-05-22 12:00")
    await keep_at(62, 45_000)  # at midnight
    await settle_due(LATE)
    while await close_days(LATE):
        pass
    await load(site_path, "flat")
