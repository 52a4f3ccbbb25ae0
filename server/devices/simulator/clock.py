"""The simulator is a process of its own, a door: it may hold a clock. Tests hand in theirs."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time for the shape of a day, monotonic time for how long something flowed."""

    def now(self) -> datetime:
        """The wall's time, aware."""
        ...

    def monotonic_us(self) -> int:
        """Microseconds since some moment; never steps."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The wall's time in UTC."""
        return datetime.now(UTC)

    def monotonic_us(self) -> int:
        """Microseconds of the monotonic clock."""
        return time.monotonic_ns() // 1000


class HandClock:
    """A clock that a test moves."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._monotonic_us = 0

    def now(self) -> datetime:
        """Where the test left it."""
        return self._now

    def monotonic_us(self) -> int:
        """The sum of all advances."""
        return self._monotonic_us

    def advance(self, by: timedelta) -> None:
        """Lets time pass."""
        self._now += by
        self._monotonic_us += by // timedelta(microseconds=1)

    def step_wall(self, by: timedelta) -> None:
        """Sets the wall clock without time passing."""
        self._now += by
