"""Each benchmark of the books, in miniature: what it is measured on is what the product has."""

from bench import audit as audit_bench
from bench import posting, reads
from bench.mall import make_mall, write
from server.models.database import close_database, pool, rows
from server.services.audit import audit
from tests.services.money import wallet_fen


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
    *_, statement = posting.script(2).strip().splitlines()
    sql = statement.rstrip(";").replace(":number", "7").replace(":tenancy", "2")
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
