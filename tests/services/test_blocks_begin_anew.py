"""From where each day's blocks go on, through readings, closing and statements: a line a case."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.models.database import pool, rows
from server.services.audit import audit
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from tests.imported import imported
from tests.services.conftest import PROFILES, SITE

FLAT = 'valid_from = 2026-01-01\nkind = "flat"\nprice = "1.00"'
BLOCKS = """valid_from = {since}
blocks = [{{up_to_kwh = 1, price = "0.50"}}, {{up_to_kwh = 3, price = "0.60"}}, {{price = "0.90"}}]
period = "{period}"
"""
LATER = '[[tariff]]\ncode = "flat"\n'


def blocks(period: str, since: str = "2026-01-01") -> str:
    return BLOCKS.format(period=period, since=since)


# 100 Wh each hour from the first day's midnight on: 2.4 kWh a day
CASES: list[tuple[str, str, str, list[tuple[str, int, int]]]] = [
    (
        "a month ends",
        "2026-05-30",
        blocks("month"),
        [("05-30", 0, 134), ("05-31", 2_400, 198), ("06-01", 0, 134), ("06-02", 2_400, 198)],
    ),
    (
        "a year does not end with a month",
        "2026-05-30",
        blocks("year"),
        [("05-30", 0, 134), ("05-31", 2_400, 198), ("06-01", 4_800, 216), ("06-02", 7_200, 216)],
    ),
    (
        "New Year, by month",
        "2026-12-30",
        blocks("month"),
        [("12-30", 0, 134), ("12-31", 2_400, 198), ("01-01", 0, 134), ("01-02", 2_400, 198)],
    ),
    (
        "New Year, by year",
        "2026-12-30",
        blocks("year"),
        [("12-30", 0, 134), ("12-31", 2_400, 198), ("01-01", 0, 134), ("01-02", 2_400, 198)],
    ),
    (
        "29 February",
        "2028-02-28",
        blocks("month"),
        [("02-28", 0, 134), ("02-29", 2_400, 198), ("03-01", 0, 134), ("03-02", 2_400, 198)],
    ),
    (
        "a version of the year after one of the month",
        "2026-05-30",
        blocks("month") + LATER + blocks("year", "2026-06-01"),
        [("05-30", 0, 134), ("05-31", 2_400, 198), ("06-01", 4_800, 216), ("06-02", 7_200, 216)],
    ),
    (
        "blocks in the middle of a month",
        "2026-05-10",
        FLAT + "\n" + LATER + blocks("month", "2026-05-12"),
        [("05-10", 0, 240), ("05-11", 0, 240), ("05-12", 4_800, 216), ("05-13", 7_200, 216)],
    ),
]
DAYS = """
SELECT to_char(day, 'MM-DD') AS day, start, amount_fen
FROM (SELECT day, (document ->> 'block_start_wh')::int AS start, amount_fen FROM statement
      UNION ALL SELECT day, block_start_wh, amount_fen FROM open_day) AS days
WHERE amount_fen > 0 ORDER BY days.day
"""


@pytest.mark.parametrize(
    ("first_day", "tariff", "days"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_blocks_go_on_from_where_their_period_is(
    database: None,
    site_path: Path,
    first_day: str,
    tariff: str,
    days: list[tuple[str, int, int]],
) -> None:
    start = datetime.fromisoformat(f"{first_day}T00:00+08:00").astimezone(UTC)
    assert FLAT in SITE
    site_path.write_text(SITE.replace(FLAT, tariff), encoding="utf-8")
    await imported(site_path, PROFILES, start)
    meter = (await rows(pool(), "SELECT id FROM meter"))[0]["id"]
    hours = [start + timedelta(hours=hour) for hour in range(97)]
    readings = [NewReading(meter, at, 5_000 + 100 * n, 0) for n, at in enumerate(hours)]
    await keep(readings, hours[-1])
    await settle_due(hours[-1])
    found = await rows(pool(), DAYS)  # open, all of them
    assert [tuple(one.values()) for one in found] == days
    assert [await close_days(hours[-1]) for _ in range(5)] == [1, 1, 1, 1, 0]
    found = await rows(pool(), DAYS)
    assert [tuple(one.values()) for one in found] == days
    assert (await audit(lambda _: None)).violations == []
