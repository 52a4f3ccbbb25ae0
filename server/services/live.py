"""When a live page has to look again: after a wake-up, and every two seconds without one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from server.core.errors import UnavailableError
from server.services.wakeups import Wakeups

LOOK_S = 2.0  # without a wake-up
PACE_S = 0.5  # not more often than this
STREAMS_MAX = 200
STREAMS_PER_HOLDER = 24  # of one manager, kiosk or address: nobody takes the places of all others
LIFE_S = 900.0  # a stream ends then and the page opens another


class StreamSlots:
    """At most so many live pages a process, and a holder; the next one is told to come back."""

    def __init__(self, most: int = STREAMS_MAX, most_per_holder: int = STREAMS_PER_HOLDER) -> None:
        self._most = most
        self._most_per_holder = most_per_holder
        self._taken: Counter[str] = Counter()
        self.closed = False  # the process stops: nobody may come, and who is there goes

    @property
    def taken(self) -> int:
        """How many are open."""
        return self._taken.total()

    @contextmanager
    def take(self, holder: str) -> Iterator[None]:
        """Hold a slot; UnavailableError where none is free, or the holder has enough."""
        full = self.taken >= self._most or self._taken[holder] >= self._most_per_holder
        if self.closed or full:
            raise UnavailableError("too many live pages are open")
        self._taken[holder] += 1
        try:
            yield
        finally:
            self._taken[holder] -= 1
            self._taken += Counter()  # forgets who holds none


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
