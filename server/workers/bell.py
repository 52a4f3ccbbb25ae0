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
EVERY_MINUTE = "* * * * *"


@dataclass(frozen=True, slots=True)
class TimedJob:
    """A repeatable job; its newest slot is done at start-up too, if nobody has done it."""

    name: str
    crontab: str
    every: timedelta
    work: Callable[[], Awaitable[object]]


class Bell:
    """Does jobs' slots, each once over all processes, and never one job twice at a time here."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._rung: dict[str, tuple[TimedJob, str]] = {}
        self._busy: set[str] = set()

    async def ring(self, job: TimedJob) -> None:
        """Do the slot that is now."""
        self._rung[job.name] = (job, slot_of(job, self._clock()))
        await self._do(job)

    async def catch_up(self) -> None:
        """Do what was rung for and failed, here or where somebody died over it."""
        for job, _ in list(self._rung.values()):
            await self._do(job)

    async def _do(self, job: TimedJob) -> None:
        if job.name in self._busy:
            return
        self._busy.add(job.name)
        slot = self._rung[job.name][1]
        try:
            if await claim_slot(job.name, slot, self._clock(), CLAIM_FOR):
                await job.work()
                await finish_slot(job.name, slot, self._clock())
        except Exception:
            FAILURES.labels(job.name).inc()
            log.exception("a timed job failed; its slot is taken again", job=job.name)
        finally:
            self._busy.discard(job.name)


async def ring(jobs: Sequence[TimedJob], clock: Callable[[], datetime]) -> None:
    """Ring for these jobs until cancelled."""
    bell = Bell(clock)
    crons = [aiocron.crontab(one.crontab, func=bell.ring, args=(one,)) for one in jobs]
    crons.append(aiocron.crontab(EVERY_MINUTE, func=bell.catch_up))
    try:
        for job in jobs:  # one that takes long at the start holds up no other's next slot
            await bell.ring(job)
        await asyncio.Event().wait()
    finally:
        for cron in crons:
            cron.stop()


def slot_of(job: TimedJob, now: datetime) -> str:
    """The slot that `now` falls into: the same for all processes, whatever their tick."""
    seconds = int(job.every.total_seconds())
    start = int(now.timestamp()) // seconds * seconds
    return datetime.fromtimestamp(start, tz=now.tzinfo).isoformat()
