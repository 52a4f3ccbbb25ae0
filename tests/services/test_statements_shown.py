"""Closed days as they are shown: the newest version, and all that there were."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from server.core.errors import NotFoundError
from server.models.database import pool, rows
from server.services import statements
from tests.fakes.town import NOW, build_mall, tenancy_id_of, use

DAY = date(2026, 5, 20)


async def test_a_corrected_day_shows_its_newest_version_and_names_the_others(
    database: None, tmp_path: Path
) -> None:
    site_id = await build_mall(tmp_path)
    tenancy_id = await tenancy_id_of("A1", site_id)
    await use(site_id, "A1", NOW, [100] * 15)
    later = NOW + timedelta(days=3)
    await rows(
        pool(),
        "INSERT INTO statement (site_id, tenancy_id, day, version, energy_wh, amount_fen,"
        " estimated, document, ledger_transaction_id, closed_at)"
        " SELECT site_id, tenancy_id, day, 2, 1300, 111, true, document,"
        " ledger_transaction_id, $1 FROM statement",
        later,
    )
    one = await statements.statement_of_day(tenancy_id, DAY)
    assert (one.version, one.energy_wh, one.amount_fen, one.estimated) == (2, 1_300, 111, True)
    assert [(old.version, old.energy_wh) for old in one.versions] == [(1, 1_400), (2, 1_300)]
    month = await statements.month_of_statements(tenancy_id, DAY.replace(day=1))
    assert month == [one.versions[1]]


async def test_lines_add_up_and_name_their_block(database: None, tmp_path: Path) -> None:
    site_id = await build_mall(tmp_path)
    tenancy_id = await tenancy_id_of("A2", site_id)
    await use(site_id, "A2", NOW, [500] * 15)
    one = await statements.statement_of_day(tenancy_id, DAY)
    assert [
        (line.block, line.block_from_wh, line.block_up_to_wh, line.energy_wh, line.amount_fen)
        for line in one.lines
    ] == [(0, 0, 5_000, 5_000, 300), (1, 5_000, None, 2_000, 150)]
    assert sum(line.amount_fen for line in one.lines) == one.amount_fen == 450
    assert (one.tariff.block_period, one.block_start_wh, one.periods) == ("month", 0, ())


@pytest.mark.parametrize(
    ("month", "days"),
    [
        pytest.param(date(2026, 4, 1), [], id="before"),
        pytest.param(date(2026, 5, 1), [31], id="its last day"),
        pytest.param(date(2026, 6, 1), [1], id="and the first of the next"),
        pytest.param(date(2026, 12, 1), [], id="over the year's end"),
    ],
)
async def test_a_month_has_its_own_days(
    database: None, tmp_path: Path, month: date, days: list[int]
) -> None:
    since = NOW.replace(day=31)
    site_id = await build_mall(tmp_path, now=since)
    tenancy_id = await tenancy_id_of("A1", site_id)
    await use(site_id, "A1", since, [100] * 40)
    found = await statements.month_of_statements(tenancy_id, month)
    assert [one.day.day for one in found] == days


async def test_a_neighbours_day_is_not_found(database: None, tmp_path: Path) -> None:
    site_id = await build_mall(tmp_path)
    await use(site_id, "A1", NOW, [100] * 15)
    with pytest.raises(NotFoundError):
        await statements.statement_of_day(await tenancy_id_of("A2", site_id), DAY)
