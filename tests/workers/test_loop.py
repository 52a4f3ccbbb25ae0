"""The outermost loop and the batches below it when the database is away, or a step fails."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from server.core.errors import UnavailableError
from server.models.database import DatabaseAwayError
from server.services.wakeups import Wakeups
from server.workers.apart import BatchWork, do_batch
from server.workers.loop import keep_doing

AWAY = DatabaseAwayError("the database cannot be used")
BUG = RuntimeError("a bug")


@pytest.mark.parametrize(
    ("failure", "pauses_s"),
    [
        (BUG, [1.0, 2.0, 5.0, 10.0, 30.0, 30.0]),
        (AWAY, [1.0, 2.0, 2.0, 2.0, 2.0, 2.0]),
        (UnavailableError("Redis"), [1.0, 2.0, 2.0, 2.0, 2.0, 2.0]),
    ],
)
async def test_an_outage_is_over_soon_after_its_end(
    failure: Exception, pauses_s: list[float]
) -> None:
    paused: list[float] = []

    async def sleep(pause_s: float) -> None:
        paused.append(pause_s)
        if len(paused) == len(pauses_s):
            raise asyncio.CancelledError

    async def step() -> int:
        raise failure

    with pytest.raises(asyncio.CancelledError):
        await keep_doing("test", step, deaf(), [], sleep=sleep)
    assert paused == pauses_s


def deaf() -> Wakeups:
    """Wake-ups that never come."""
    return cast("Wakeups", Deaf())


class Deaf:
    """Listens to nothing, without Redis."""

    @asynccontextmanager
    async def listen(self, _topics: Sequence[str]) -> AsyncIterator[None]:
        yield


async def test_a_cancellation_that_a_step_swallowed_still_ends_the_loop() -> None:
    rounds = 0
    begun = asyncio.Event()

    async def step() -> int:
        nonlocal rounds
        rounds += 1
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return 1  # as a library does that takes it for a time-out
        return 0

    task = asyncio.create_task(keep_doing("test", step, deaf(), []))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert rounds == 1


class Batch:
    """Three tenancies; what fails is told at the start."""

    def __init__(self, together: Exception, alone: Exception | None = None) -> None:
        self.together_fails, self.alone_fails = together, alone
        self.aside: list[int] = []
        self.work = BatchWork("test", self.together, self.waiting, self.alone, self.put_aside)

    async def together(self) -> Sequence[int]:
        raise self.together_fails

    async def waiting(self) -> Sequence[int]:
        return [1, 2, 3]

    async def alone(self, one: int) -> Sequence[int]:
        if one == 2 and self.alone_fails is not None:
            raise self.alone_fails
        return [one]

    async def put_aside(self, one: int) -> None:
        self.aside.append(one)


@pytest.mark.parametrize("batch", [Batch(AWAY), Batch(BUG, AWAY)], ids=["batch", "alone"])
async def test_an_outage_puts_nobody_aside(batch: Batch) -> None:
    with pytest.raises(DatabaseAwayError):
        await do_batch(batch.work)
    assert batch.aside == []


async def test_who_fails_alone_is_put_aside() -> None:
    batch = Batch(BUG, BUG)
    assert await do_batch(batch.work) == [1, 3]
    assert batch.aside == [2]
