"""Who may speak next on a bus: one at a time, by priority, then by who came first."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum

from server.devices.errors import BusBusyError, DeadlineError

WAITING_LIMIT = 1_000


class Priority(IntEnum):
    """Lower goes first."""

    CONTROL = 0
    COMMISSIONING = 1
    URGENT = 2
    ROUTINE = 3


class Turns:
    """A lock with a heap. A job that takes several turns keeps its number and so its place."""

    def __init__(self, limit: int = WAITING_LIMIT) -> None:
        self._limit = limit
        self._taken = False
        self._waiting: list[tuple[Priority, int, asyncio.Future[None]]] = []
        self._last_number = 0

    @property
    def waiting(self) -> int:
        """Length of the queue."""
        return len(self._waiting)

    def number(self) -> int:
        """A place in the queue, behind all given before."""
        self._last_number += 1
        return self._last_number

    @asynccontextmanager
    async def take(self, priority: Priority, number: int, ends_at: float) -> AsyncIterator[None]:
        """Hold the bus; raises BusBusyError or DeadlineError (loop time) instead of waiting on."""
        await self._acquire(priority, number, ends_at)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, priority: Priority, number: int, ends_at: float) -> None:
        if not self._taken:
            self._taken = True
            return
        # control may still queue where polls fill the line
        if len(self._waiting) >= self._limit * (2 if priority is Priority.CONTROL else 1):
            raise BusBusyError(f"{len(self._waiting)} jobs wait for this bus already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (priority, number, turn)
        heapq.heappush(self._waiting, entry)
        try:
            async with asyncio.timeout_at(ends_at):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._release()  # the turn came in the same moment: pass it on
            elif entry in self._waiting:
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)
            if isinstance(error, TimeoutError):
                raise DeadlineError("the bus was busy until the deadline") from error
            raise

    def _release(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False
