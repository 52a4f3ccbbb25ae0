"""The daily job: every day that is due, caught up, each merchant for itself."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from payments.contract import Bill, Platform
from server.core.reconciliation.days import bill_day
from server.models.database import Row, pool, rows
from server.services.health import table_numbers
from server.services.wakeups import Wakeups
from server.workers.context import WorkContext
from server.workers.reconcile import reconcile
from tests.fakes.payment_platform import FakePlatform
from tests.fakes.reconciling import Reconciling
from tests.scenarios.world import World, local

MARKS = """
SELECT platform, day, problem, finished_at IS NOT NULL AS done FROM reconciliation_day
ORDER BY platform DESC, day
"""


@pytest_asyncio.fixture
async def books(database: None, tmp_path: Path) -> Reconciling:
    world = World(local("2026-05-20 10:00"))
    await world.open(tmp_path, balance_fen=0)
    made = Reconciling(world)
    await made.open()
    return made


async def work(books: Reconciling) -> None:
    world = books.world
    await reconcile(WorkContext(lambda: world.now, world.directory, {}, Wakeups(None)))


async def marks() -> list[Row]:
    return await rows(pool(), MARKS)


async def finished() -> list[str]:
    return [f"{one['day']:%m-%d}" for one in await marks() if one["done"]]


async def fetched(books: Reconciling) -> int:
    """How many bills one run asks for."""
    before = len(books.fetched)
    await work(books)
    return len(books.fetched) - before


async def test_missed_days_are_caught_up_from_the_first_order_on(books: Reconciling) -> None:
    await work(books)
    assert await marks() == [], "nobody has ordered yet"
    for key in ("a", "b", "c"):
        await books.world.pay(1_000, key)
        books.write_bill(bill_day(books.world.now))
        books.world.now += timedelta(days=1)
    books.world.now = local("2026-05-23 09:59")
    await work(books)
    assert await finished() == ["05-20", "05-21"]
    books.world.now = local("2026-05-23 10:00")
    await work(books)
    assert await finished() == ["05-20", "05-21", "05-22"]
    assert await books.clearing_fen() == 3_000
    assert await books.cases() == []


async def test_a_day_that_agreed_is_looked_at_once_more_and_then_left(books: Reconciling) -> None:
    await books.world.pay(1_000)
    entries = books.write_bill()
    seen = []
    for at in ("05-21 10:03", "05-21 10:33", "05-22 10:03", "05-22 10:33", "05-30 10:03"):
        books.world.now = local(f"2026-{at}")
        seen.append(await fetched(books))
    assert seen == [1, 0, 2, 0, 8 + 1]
    books.put([replace(entries[0], amount_fen=1_001)], version="2")
    assert await fetched(books) == 0
    assert [one["done"] for one in await marks()] == [True] * 10


async def test_a_merchant_that_fails_holds_up_no_other(
    books: Reconciling, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FakePlatform.fetch_bill
    await books.world.pay(1_000)
    await books.order_at_alipay()
    books.write_bill()
    books.next_morning()

    async def fails(self: FakePlatform, *arguments: object) -> Bill:
        if self.platform is Platform.WECHAT:
            raise RuntimeError("a bug")
        return await real(self, *arguments)  # type: ignore[arg-type]  # handed on as they came

    with monkeypatch.context() as patch:
        patch.setattr(FakePlatform, "fetch_bill", fails)
        await work(books)
    assert [(one["platform"], one["done"]) for one in await marks()] == [("alipay", True)]
    await work(books)
    assert [(one["platform"], one["done"]) for one in await marks()] == [
        ("wechat", True),
        ("alipay", True),
    ]
    assert (await table_numbers(books.world.now))["reconciliation_days_behind"] == 0


async def test_a_platform_that_is_away_is_asked_for_the_newest_days_alone(
    books: Reconciling,
) -> None:
    await books.world.pay(1_000)
    books.next_morning(5)
    books.wechat.down = True
    await work(books)
    found = [(f"{one['day']:%m-%d}", one["problem"]) for one in await marks()]
    assert found == [(day, "unavailable") for day in ("05-22", "05-23", "05-24")]
    books.wechat.down = False
    await work(books)
    assert await finished() == ["05-20", "05-21", "05-22", "05-23", "05-24"]


async def test_days_that_were_not_compared_are_counted(books: Reconciling) -> None:
    await books.world.pay(1_000)
    books.wechat.down = True
    books.next_morning()
    await work(books)
    assert (await marks())[0]["problem"] == "unavailable"
    assert (await table_numbers(books.world.now))["reconciliation_days_behind"] == 1
    books.wechat.down = False
    books.put([])
    await work(books)
    numbers = await table_numbers(books.world.now)
    assert (numbers["reconciliation_days_behind"], numbers["reconciliation_differences"]) == (0, 1)
