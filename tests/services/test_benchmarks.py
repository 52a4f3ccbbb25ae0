"""Each benchmark of the books, in miniature: what it is measured on is what the product has."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from sanic import Sanic

from bench import audit as audit_bench
from bench import closing, open_days, posting, reads
from bench.callers import post_all
from bench.mall import make_mall, write
from bench.notices import FEN, Payers
from server.app import wall_clock
from server.handlers import payment_callbacks
from server.http.context import WebContext
from server.merchants import Merchants
from server.models.database import close_database, pool, rows
from server.services.audit import audit
from server.services.wakeups import Wakeups
from server.settings import load_settings
from server.workers import inbox
from server.workers.context import WorkContext
from tests.fakes.keys import keys_in
from tests.fakes.town import serving
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


async def test_the_notices_that_are_sent_are_true(
    database: None, database_url: str, tmp_path: Path
) -> None:
    """Each is answered with success and credited once, sent twice or not."""
    await make_mall(database_url, shops=3)
    keys_in(tmp_path / "keys")
    payers = Payers(database_url, tmp_path, shops=3)
    await payers.sign_up()
    _, requests = await payers.pay(6)
    app_settings = load_settings({"MALLWATT_DATA_DIR": str(tmp_path)})
    merchants = Merchants(app_settings)
    context = WebContext(app_settings, wall_clock, merchants, None, Wakeups(None))
    app: Sanic[Any, Any] = Sanic("notices_of_the_bench", configure_logging=False)
    app.config.update(TOUCHUP=False, MOTD=False, ACCESS_LOG=False, GRACEFUL_SHUTDOWN_TIMEOUT=0.2)
    app.blueprint(payment_callbacks.blueprint(context))
    async with serving(app) as url:
        seen = await post_all([*requests, *requests], httpx.URL(url).port or 0, 4, 0)
    await merchants.aclose()
    assert seen.statuses == {200: 6, 204: 6}
    while await inbox.settle_notices(WorkContext(wall_clock, merchants, {}, context.wakeups)):
        pass
    assert await wallet_fen(1) + await wallet_fen(2) + await wallet_fen(3) == 6 * FEN
