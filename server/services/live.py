"""When a live page has to look again: after a wake-up, and every two seconds without one."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from server.core.errors import UnavailableError
from server.services.wakeups import Wakeups

LOOK_S = 2.0  # without a wake-up
PACE_S = 0.5  # not more often than this
STREAMS_MAX = 200
LIFE_S = 900.0  # a stream ends then and the page opens another


class StreamSlots:
    """At most so many live pages a process; the next one is told to come back."""

    def __init__(self, most: int = STREAMS_MAX) -> None:
        self._most = most
        self.taken = 0
        self.closed = False  # the process stops: nobody may come, and who is there goes

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a slot; UnavailableError where none is free."""
        if self.closed or self.taken >= self._most:
            raise UnavailableError("too many live pages are open")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


async def looks(wakeups: Wakeups, topics: Sequence[str]) -> AsyncIterator[int]:
    """A number each time that the page should look at the tables: at once, then as told."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + LIFE_S
    number = 0
    async with wakeups.listen(topics) as listener:
        while loop.time() < ends_at:
            number += 1
            yield number
            await asyncio.sleep(PACE_S)
            await listener.wait(max(LOOK_S - PACE_S, 0))
