"""What a tenant asks for, beside many readings of others, against the same beside few."""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import date, timedelta
from urllib.parse import urlsplit

import asyncpg

from bench.database import new_database
from bench.mall import OPENED, make_mall, write
from bench.measure import Figure, Measured, Result
from server.models.database import close_database, open_database
from server.services.site_rules import forget_site_rules
from server.services.tenancies import overview
from server.services.usage import usage

SLOWER_MAX = 1.3
READINGS_A_METER = 10_000
# Of each other meter, as many over the whole time; and a statement for each of its days.
OTHERS = """
INSERT INTO reading (site_id, meter_id, read_at, register_wh, verdict, epoch, kept_at)
SELECT 1, meter, timestamptz '{opened}' + n * interval '{days} days' / {count}, n * 700,
       'trusted', 1, timestamptz '{opened}'
FROM generate_series({first}, {last}) AS meter, generate_series(0, {count} - 1) AS n;
INSERT INTO statement (site_id, tenancy_id, day, version, energy_wh, amount_fen, estimated,
                       document, closed_at)
SELECT 1, tenancy, statement.day, 1, 700, 0, false, '{{}}', statement.closed_at
FROM generate_series({first}, {last}) AS tenancy, statement WHERE statement.tenancy_id = 1;
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How many readings of others there are in the small mall and in the large one."""

    few: int = 1_000_000
    many: int = 10_000_000
    a_meter: int = READINGS_A_METER
    days: int = 365
    rounds: int = 5
    round_s: float = 0.4


Ask = Callable[[], Awaitable[object]]


async def results(size: Size | None = None) -> AsyncIterator[Measured]:
    """A shop's overview, and its year by day, in the large mall and in the small one in turn."""
    size = size or (Size(many=100_000_000) if os.environ.get("FULL") else Size())
    async with new_database() as url:
        meters = size.many // size.a_meter + 1
        few = size.few // size.a_meter + 1
        await make_mall(url, shops=meters, days=size.days)
        await write(url, others(size, 2, few), "VACUUM ANALYZE")
        large = await _copy(url)
        begun = time.perf_counter()
        await write(large, others(size, few + 1, meters), "VACUUM ANALYZE")
        made_s = time.perf_counter() - begun
        yield Figure(f"making {size.many - size.few:,} readings by SQL", made_s, "s")
        async for one in compare(url, large, size):
            yield one


async def compare(small: str, large: str, size: Size) -> AsyncIterator[Result]:
    """The same questions to both databases, in turn."""
    for name, ask in _questions(size.days).items():
        beside_many = beside_few = 0.0
        for _ in range(size.rounds):
            beside_many = max(beside_many, await _rate(large, ask, size.round_s))
            beside_few = max(beside_few, await _rate(small, ask, size.round_s))
        what = f"{name}, beside {size.many:,} readings of others"
        peer = f"beside {size.few:,}"
        yield Result(what, "answers", beside_many, peer, beside_few, 1 / SLOWER_MAX)


def others(size: Size, first: int, last: int) -> str:
    """Readings and statements of the tenancies `first` to `last`."""
    opened = OPENED.isoformat()
    return OTHERS.format(first=first, last=last, count=size.a_meter, days=size.days, opened=opened)


def _questions(days: int) -> dict[str, Ask]:
    now = OPENED + timedelta(days=days)
    last: date = (now + timedelta(days=1)).date()
    return {
        "a shop's overview": lambda: overview(1, now),
        f"its use of {days} days by day": lambda: usage(
            1, last - timedelta(days=days), last, "day", now
        ),
    }


async def _copy(url: str) -> str:
    """Another database with the same in it; the product's pool is closed for that."""
    await close_database()
    owner = await asyncpg.connect(urlsplit(url)._replace(path="/postgres").geturl())
    try:
        await owner.execute(f"CREATE DATABASE large TEMPLATE {urlsplit(url).path[1:]}")
    finally:
        await owner.close()
    return urlsplit(url)._replace(path="/large").geturl()


async def _rate(url: str, ask: Ask, round_s: float) -> float:
    """Answers a second, one after the other, once the caches are warm."""
    await open_database(url)
    forget_site_rules()
    try:
        await ask()
        calls = 0
        begun = time.perf_counter()
        while (spent := time.perf_counter() - begun) < round_s:
            await ask()
            calls += 1
        return calls / spent
    finally:
        await close_database()
