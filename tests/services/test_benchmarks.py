"""Each benchmark of the books, in miniature: what it is measured on is what the product has."""

import pytest

from bench import audit as audit_bench
from bench import closing, open_days, posting, reads
from bench.mall import make_mall, write
from server.models.database import close_database, pool, rows
from server.services.audit import audit
from tests.services.money import wallet_fen


@pytest.fixture(autouse=True)
def search_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benches tell Python to search for garbage less, as a worker does; other tests want it."""
    for bench in (open_days, closing):
        monkeypatch.setattr(bench, "search_less", lambda: None)


async def test_books_made_by_sql_are_good_books(database: None, database_url: str) -> None:
    size = audit_bench.Size(transfers=30, shops=3, days=2)
    await audit_bench.make_books(database_url, size)
    report = await audit(lambda _: None)
    assert report.violations == []
    assert (report.checked["transfers"], report.checked["statements"]) == (30, 6)
    assert report.checked["top_ups"] == 24
    assert (await audit_bench._rating(size)).per_s > 0


async def test_pgbench_posts_what_we_post(database: None, database_url: str) -> None:
    await make_mall(database_url, shops=2)
    *_, statement = posting.script(2, "{}").splitlines()
    sql = statement.replace(":number", "7").replace(":tenancy", "2")
    written = await rows(pool(), sql)
    assert [(one["put"], one["moved"]) for one in written] == [(1, 1)]
    assert await wallet_fen(2) == 500


async def test_a_shop_is_asked_for_beside_others(database: None, database_url: str) -> None:
    size = reads.Size(few=10, many=20, a_meter=10, days=2, rounds=1, round_s=0.01)
    await make_mall(database_url, shops=3, days=size.days)
    await write(database_url, reads.others(size, 2, 3))
    count = await rows(pool(), "SELECT count(*) AS others FROM reading WHERE meter_id > 1")
    assert count == [{"others": 20}]
    await close_database()
    found = [one async for one in reads.compare(database_url, database_url, size)]
    assert [one.per_s > 0 and one.limit_per_s > 0 for one in found] == [True, True]


ALL_ALIKE = """
SELECT count(*) AS days, min(energy_wh) AS least_wh, max(energy_wh) AS most_wh FROM open_day
"""


async def test_days_that_go_on_are_measured_on_good_days(database: None, database_url: str) -> None:
    """Nine hours at 1 kW, five quarters of an hour by us; the others are peers and keep only."""
    size = open_days.Size(rounds=((2, 1), (3, 4)), unrated=1, orm_loop=1, kept=1)
    found = [one async for one in open_days.measured(database_url, size)]
    assert len(found) == 6
    days = await rows(pool(), ALL_ALIKE + " WHERE tenancy_id = 2")
    assert days == [{"days": 1, "least_wh": 10_250, "most_wh": 10_250}]


async def test_a_day_of_all_is_closed(database: None, database_url: str) -> None:
    size = closing.Size(first=2, goes=2, all_others=3)
    found = [one async for one in closing.measured(database_url, size)]
    assert len(found) == 3
    closed = await rows(pool(), "SELECT count(*) AS n, sum(energy_wh) AS wh FROM statement")
    assert closed == [{"n": 7, "wh": 7 * 24_000}]
    assert await wallet_fen(7) < 500_000
