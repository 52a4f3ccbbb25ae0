"""aiocron only rings: a slot's row says which process does it, and a missed one is caught up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import aiocron
import structlog

from server.services.jobs import claim_slot, finish_slot
from server.workers.loop import FAILURES

log = structlog.get_logger(__name__)

CLAIM_FOR = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class TimedJob:
    """A repeatable job; its newest slot is done at start-up too, if nobody has done it."""

    name: str
    crontab: str
    every: timedelta
    work: Callable[[], Awaitable[object]]


async def ring(jobs: Sequence[TimedJob], clock: Callable[[], datetime]) -> None:
    """Ring for these jobs until cancelled."""
    bells = []
    for job in jobs:
        await _do_slot(job, clock)
        bells.append(aiocron.crontab(job.crontab, func=_do_slot, args=(job, clock)))
    try:
        await asyncio.Event().wait()
    finally:
        for bell in bells:
            bell.stop()


def slot_of(job: TimedJob, now: datetime) -> str:
    """The slot that `now` falls into: the same for all processes, whatever their tick."""
    seconds = int(job.every.total_seconds())
    start = int(now.timestamp()) // seconds * seconds
    return datetime.fromtimestamp(start, tz=now.tzinfo).isoformat()


async def _do_slot(job: TimedJob, clock: Callable[[], datetime]) -> None:
    now = clock()
    slot = slot_of(job, now)
    try:
        if await claim_slot(job.name, slot, now, CLAIM_FOR):
            await job.work()
            await finish_slot(job.name, slot, clock())
    except Exception:
        FAILURES.labels(job.name).inc()
        log.exception("a timed job failed; its slot is taken again", job=job.name)
