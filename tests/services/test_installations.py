"""A meter's place in the mall is dated: each shop pays for what was counted while it was there."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from server.models.database import pool, rows
from server.services.audit import audit
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from server.services.site_file import SiteFileError
from server.services.site_import import ImportReport, import_site
from tests.fakes.site_text import SECOND_SHOP, change, meter_text
from tests.services.conftest import NOW, PROFILES

PROFILE = "example/demo-relay"
TWO_HOURS = timedelta(hours=2)
LATE = NOW + timedelta(hours=40)


async def keep_at(*readings: tuple[datetime, int]) -> None:
    found = await rows(pool(), "SELECT id FROM meter WHERE code = 'M-1'")
    for at, register_wh in readings:
        report = await keep([NewReading(found[0]["id"], at, register_wh, 0)], LATE)
        assert (report.kept, report.quarantined) == (1, 0)


async def used() -> dict[tuple[str, str], int]:
    """Watt-hours by shop and day, closed or open."""
    found = await rows(
        pool(),
        "SELECT shop.code, day::text, used.energy_wh FROM (SELECT tenancy_id, day, energy_wh"
        " FROM open_day UNION ALL SELECT tenancy_id, day, energy_wh FROM statement) AS used"
        " JOIN tenancy ON tenancy.id = tenancy_id JOIN shop ON shop.id = shop_id"
        " ORDER BY code, day",
    )
    return {(one["code"], one["day"]): one["energy_wh"] for one in found}


async def move(path: Path, shop: str | None, at: datetime) -> None:
    """The meter measures another shop from now on, or none."""
    content = path.read_text(encoding="utf-8")
    start = content.index('profile = "example/demo-relay"')
    end = content.index("[[shop]]")
    place = 'role = "common_area"' if shop is None else f'shop = "{shop}"'
    head = 'profile = "example/demo-relay"'
    path.write_text(f"{content[:start]}{head}\n{place}\n\n{content[end:]}", encoding="utf-8")
    await import_site(path, PROFILES, at)


MOVES = [
    # (moved to, two hours after the import each), Wh of A1 and A2 at 1 kW over eight hours
    ([], 8_000, None),
    (["A2"], 2_000, 6_000),
    ([None], 2_000, None),
    (["A2", "A1"], 6_000, 2_000),  # back again: both its times count
    ([None, "A2"], 2_000, 4_000),
    (["A1"], 8_000, None),  # the same place again is no move
]


@pytest.mark.parametrize(("moves", "first_wh", "second_wh"), MOVES)
async def test_each_shop_pays_for_its_time(
    mall: ImportReport,
    site_path: Path,
    moves: list[str | None],
    first_wh: int,
    second_wh: int | None,
) -> None:
    """A move lies between two readings: each side has its part of the interval."""
    site_path.write_text(site_path.read_text(encoding="utf-8") + SECOND_SHOP, encoding="utf-8")
    await import_site(site_path, PROFILES, NOW)
    for number, shop in enumerate(moves, 1):
        await move(site_path, shop, NOW + TWO_HOURS * number)
    hours = [0, 1, 3, 5, 7, 8]
    await keep_at(*((NOW + timedelta(hours=hour), 5_000 + 1_000 * hour) for hour in hours))
    await settle_due(LATE)
    wanted = {"A1": first_wh} | ({} if second_wh is None else {"A2": second_wh})
    assert {shop: wh for (shop, _), wh in (await used()).items()} == wanted


async def test_a_day_with_a_move_closes_for_both_and_agrees_with_its_audit(
    mall: ImportReport, site_path: Path
) -> None:
    site_path.write_text(site_path.read_text(encoding="utf-8") + SECOND_SHOP, encoding="utf-8")
    await import_site(site_path, PROFILES, NOW)
    await keep_at(*((NOW + timedelta(hours=hour), 5_000 + 1_000 * hour) for hour in range(3)))
    await move(site_path, "A2", NOW + timedelta(hours=2, minutes=30))
    await keep_at(*((NOW + timedelta(hours=hour), 5_000 + 1_000 * hour) for hour in range(3, 39)))
    await settle_due(LATE)
    while await close_days(LATE):
        pass
    assert await used() == {
        ("A1", "2026-05-20"): 2_500,
        ("A2", "2026-05-20"): 11_500,
        ("A2", "2026-05-21"): 24_000,
        ("A2", "2026-05-22"): 0,
    }
    assert len(await rows(pool(), "SELECT 1 FROM statement")) == 3
    assert (await audit(lambda _: None)).violations == []


async def test_a_late_reading_reaches_the_shop_in_which_the_meter_was(
    mall: ImportReport, site_path: Path
) -> None:
    site_path.write_text(site_path.read_text(encoding="utf-8") + SECOND_SHOP, encoding="utf-8")
    await import_site(site_path, PROFILES, NOW)
    await keep_at((NOW, 5_000))
    await move(site_path, "A2", NOW + TWO_HOURS)
    await keep_at((NOW + TWO_HOURS * 2, 9_000))
    await settle_due(LATE)
    assert set((await used()).values()) == {2_000}
    await keep_at((NOW + TWO_HOURS, 8_500))
    await settle_due(LATE)
    assert list((await used()).values()) == [3_500, 500]


async def test_a_second_meter_touches_no_day_before_it_came(
    mall: ImportReport, site_path: Path
) -> None:
    """Its first reading ends the days before it, but none in which it was not there."""
    await keep_at(*((NOW + timedelta(hours=hour), 5_000 + 1_000 * hour) for hour in range(16)))
    await settle_due(LATE)
    assert await close_days(LATE) == 1
    change(site_path, ("[[shop]]", meter_text("M-2", 2, "A1") + "\n[[shop]]"))
    await import_site(site_path, PROFILES, NOW + timedelta(hours=16))
    [second] = await rows(pool(), "SELECT id FROM meter WHERE code = 'M-2'")
    await keep([NewReading(second["id"], NOW + timedelta(hours=17), 100, 0)], LATE)
    while await settle_due(LATE):
        pass
    assert await rows(pool(), "SELECT first_day FROM correction_due") == []
    assert await used() == {("A1", "2026-05-20"): 14_000, ("A1", "2026-05-21"): 1_000}


async def test_what_was_counted_keeps_its_ratio(mall: ImportReport, site_path: Path) -> None:
    change(site_path, ('shop = "A1"', 'shop = "A1"\ntransformer_ratio = 40'))
    await import_site(site_path, PROFILES, NOW)  # nothing was counted yet
    await keep_at((NOW, 5_000), (NOW + TWO_HOURS, 9_000))
    change(site_path, ("transformer_ratio = 40", "transformer_ratio = 60"))
    with pytest.raises(SiteFileError) as caught:
        await import_site(site_path, PROFILES, NOW)
    (fault,) = caught.value.faults
    assert fault.place == "meter[0].transformer_ratio"
    assert fault.message.startswith("is 40, and readings are counted with it; another device comes")
    assert "POST /api/admin/v1/meters/M-1/exchanges" in fault.message
    change(site_path, ("transformer_ratio = 60", "transformer_ratio = 40"))
    assert (await import_site(site_path, PROFILES, NOW)).unchanged["meter"] == 1


@pytest.mark.parametrize(
    ("register_wh", "rollover_wh", "fits"),
    [
        (9_000, 10_000, True),
        (9_000, 9_001, True),
        (9_000, 9_000, False),  # it showed what another register cannot show
        (1_000, 10_000, False),  # it rolled over: another rollover would count otherwise
        (9_000, 2_000_000_000, True),
    ],
)
async def test_what_was_counted_keeps_its_rollover(
    mall: ImportReport, site_path: Path, register_wh: int, rollover_wh: int, *, fits: bool
) -> None:
    first_wh = 5_000 if register_wh > 5_000 else 999_999_000
    await keep_at((NOW, first_wh), (NOW + TWO_HOURS, register_wh))
    other = {PROFILE: replace(PROFILES[PROFILE], rollover_wh=rollover_wh)}
    if fits:
        assert (await import_site(site_path, other, NOW)).updated == {"meter": 1}
        return
    with pytest.raises(SiteFileError, match=r"meter\[0\]\.profile: its register went beyond"):
        await import_site(site_path, other, NOW)
