"""Usage where days are not alike: the clock is set, a version replaces another."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from server.core.errors import NotFoundError
from server.models.database import pool, rows
from server.services.usage import UsagePoint, usage
from tests.fakes.town import NOW, build_mall, tenancy_id_of, use


def total_wh(points: Sequence[UsagePoint]) -> int:
    return sum(point.energy_wh for point in points)


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        pytest.param(date(2026, 3, 29), 23, id="the clock is put forward"),
        pytest.param(date(2026, 10, 25), 25, id="the clock is put back"),
        pytest.param(date(2026, 6, 1), 24, id="any other day"),
    ],
)
async def test_a_day_has_as_many_hours_as_it_has(
    database: None, tmp_path: Path, day: date, hours: int
) -> None:
    since = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=3)
    site_id = await build_mall(tmp_path, timezone="Europe/Berlin", now=since)
    tenancy_id = await tenancy_id_of("A1", site_id)
    following = day + timedelta(days=1)
    before = await usage(tenancy_id, day, following, "hour", NOW)
    await use(site_id, "A1", since, [100] * 30)
    after = await usage(tenancy_id, day, following, "hour", NOW)
    assert [point.start for point in before] == [point.start for point in after]
    assert [point.energy_wh for point in before] == [0] * hours
    assert [point.energy_wh for point in after] == [100] * hours
    assert len({point.start.isoformat() for point in after}) == hours
    assert (await usage(tenancy_id, day, following, "day", NOW))[0].energy_wh == 100 * hours


async def test_closed_and_open_days_are_shown_alike(database: None, tmp_path: Path) -> None:
    site_id = await build_mall(tmp_path)
    tenancy_id = await tenancy_id_of("A1", site_id)
    await use(site_id, "A1", NOW, [100] * 20)
    first, last = date(2026, 5, 19), date(2026, 5, 23)
    days = await usage(tenancy_id, first, last, "day", NOW)
    assert [point.energy_wh for point in days] == [0, 1_400, 600, 0]
    assert [point.start.isoformat() for point in days] == [
        f"2026-05-{number}T00:00:00+08:00" for number in (19, 20, 21, 22)
    ]
    assert total_wh(await usage(tenancy_id, first, last, "hour", NOW)) == 2_000


async def test_months_that_the_range_cuts_show_their_part(database: None, tmp_path: Path) -> None:
    site_id = await build_mall(tmp_path, now=datetime(2026, 5, 31, 2, 0, tzinfo=UTC))
    tenancy_id = await tenancy_id_of("A1", site_id)
    await use(site_id, "A1", datetime(2026, 5, 31, 2, 0, tzinfo=UTC), [100] * 20)
    months = await usage(tenancy_id, date(2026, 5, 31), date(2026, 7, 2), "month", NOW)
    assert [(point.start.date(), point.energy_wh) for point in months] == [
        (date(2026, 5, 31), 1_400),
        (date(2026, 6, 1), 600),
        (date(2026, 7, 1), 0),
    ]
    assert months[0].by_period == {"peak": 1_000, "valley": 400}


async def test_the_newest_version_of_a_day_counts(database: None, tmp_path: Path) -> None:
    site_id = await build_mall(tmp_path)
    tenancy_id = await tenancy_id_of("A1", site_id)
    await use(site_id, "A1", NOW, [100] * 15)
    await rows(
        pool(),
        "INSERT INTO statement (site_id, tenancy_id, day, version, energy_wh, amount_fen,"
        " estimated, document, ledger_transaction_id, closed_at)"
        " SELECT site_id, tenancy_id, day, 2, 1300, amount_fen, true, document,"
        " ledger_transaction_id, closed_at FROM statement",
    )
    day = await usage(tenancy_id, date(2026, 5, 20), date(2026, 5, 21), "day", NOW)
    assert [(point.energy_wh, point.estimated) for point in day] == [(1_300, True)]


async def test_nobodys_usage_is_not_found(database: None) -> None:
    with pytest.raises(NotFoundError):
        await usage(1, date(2026, 5, 20), date(2026, 5, 21), "day", NOW)
