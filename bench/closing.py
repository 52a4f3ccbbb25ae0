"""How fast a day is closed, with statements and postings, for 1,000 and for 20,000 tenancies."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bench.database import new_database
from bench.measure import Figure, Measured
from bench.read_mall import make_read_mall
from server.services.settlement import closable, close_next_days
from server.workers.garbage import search_less

A_DAY = 97  # each quarter of an hour, both midnights
BATCH = 200  # as the worker has it
AT_MOST_S = 0.5  # what the issue asks for 1,000
SPREAD = 1.25


@dataclass(frozen=True, slots=True)
class Size:
    """How many tenancies' days are closed, in how many goes."""

    first: int = 1_000
    goes: int = 3
    all_others: int = 20_000


async def results(size: Size | None = None) -> AsyncIterator[Measured]:
    """A meter a tenancy, read each quarter of an hour; fsync on."""
    async with new_database() as url:
        search_less()  # as a worker does when it starts
        async for found in measured(url, size or Size()):
            yield found


async def measured(url: str, size: Size) -> AsyncIterator[Measured]:
    """As `results`, in an empty database that is open."""
    tenancies = size.first * size.goes + size.all_others
    last = await make_read_mall(url, meters=tenancies, readings=A_DAY, minutes=15)
    now = last + timedelta(minutes=1)
    first = min([await _close(size.first, now) for _ in range(size.goes)])
    rest = await _close(size.all_others, now)
    yield Figure(f"close a day of {size.first:,} tenancies", first, "s", AT_MOST_S)
    yield Figure(f"close a day of {size.all_others:,} tenancies", rest, "s")
    dearer = rest / size.all_others / (first / size.first)
    yield Figure(
        f"cost a tenancy at {size.all_others:,} by {size.first:,}", dearer, "times", SPREAD
    )


async def _close(tenancies: int, now: datetime) -> float:
    """Seconds, batch after batch as the worker closes them."""
    begun = time.perf_counter()
    while tenancies > 0:
        ready: Sequence[int] = await closable(now, min(BATCH, tenancies))
        tenancies -= len(await close_next_days(ready, now))
    return time.perf_counter() - begun
