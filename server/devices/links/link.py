"""What every link offers, and the loop of those that we open ourselves."""

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from server.devices.errors import LinkDownError

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0  # who paid waits for nothing longer once the gateway is back
SHORTEST_KICK_S = 0.5
SETTLED_S = 5.0  # a connection that lasted this long was a good one: dial again at once


class Link(ABC):
    """One connection at a time to one gateway. `on_bytes` and `on_lost` are set by its line."""

    redialable = True  # whether we can bring it up again ourselves
    late_s = 0.0  # how long after a timeout an answer may still come

    def __init__(self) -> None:
        self.on_bytes: Callable[[bytes], None] = lambda _: None
        self.on_lost: Callable[[str], None] = lambda _: None
        self.up = False
        self.connections = 0

    @abstractmethod
    async def start(self) -> None:
        """Begin to be available; does not wait until the link is up."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close for good."""

    @abstractmethod
    async def ready(self, *, urgent: bool = False) -> None:
        """Return when up; raises LinkDownError when it is not and is not just coming up."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send; what cannot be sent shows as a lost link."""

    @abstractmethod
    def restart(self, reason: str) -> None:
        """Drop the connection; a redialable link comes back by itself."""


class Channel(Protocol):
    """An open connection. `ended`: why it is over, for one that ended while it was opened."""

    ended: str | None

    def write(self, data: bytes) -> None:
        """Send without waiting."""
        ...

    def close(self) -> None:
        """Close at once; nothing is heard from it any more."""
        ...


class RedialingLink(Link):
    """Opens its connection, and again whenever it is lost, with back-off and jitter."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._channel: Channel | None = None
        self._task: asyncio.Task[None] | None = None
        self._attempt: asyncio.Future[None] | None = None
        self._kick = asyncio.Event()
        self._lost = asyncio.Event()
        self._failures = 0
        self._opened_at = 0.0
        self._heard_something = False
        self._why_down = "not started"

    @abstractmethod
    async def open(self) -> Channel:
        """A new connection whose bytes go to `heard` and whose end goes to `lost`."""

    async def start(self) -> None:
        """Begin to connect."""
        if self._task is None:
            self._attempt = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._keep_open(), name=f"link {self.name}")

    async def aclose(self) -> None:
        """Stop connecting and close."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._drop("closed")
        self._finish_attempt()

    async def ready(self, *, urgent: bool = False) -> None:
        """Wait for the attempt under way; an urgent caller has one made now."""
        if self.up:
            return
        if urgent and self._task is not None and self._attempt is None:
            self._attempt = asyncio.get_running_loop().create_future()
            self._kick.set()
        if self._attempt is not None:
            await asyncio.shield(self._attempt)
        if not self.up:
            raise LinkDownError(f"{self.name}: {self._why_down}")

    def write(self, data: bytes) -> None:
        """Send on the open connection."""
        if self._channel is None:
            raise LinkDownError(f"{self.name}: {self._why_down}")
        self._channel.write(data)

    def restart(self, reason: str) -> None:
        """Drop the connection and dial again."""
        self._drop(reason)

    def heard(self, channel: object, data: bytes) -> None:
        """Bytes from a connection; an old one's are nobody's."""
        if channel is self._channel:
            self._heard_something = True
            self.on_bytes(data)

    def lost(self, channel: object, reason: str) -> None:
        """A connection has ended."""
        if channel is self._channel:
            self._drop(reason)

    def _drop(self, reason: str) -> None:
        channel, self._channel = self._channel, None
        if channel is None:
            return
        self.up = False
        self._why_down = reason
        if self._now() - self._opened_at >= SETTLED_S:
            self._failures = 0
        else:
            self._failures = 1 if self._heard_something else self._failures + 1
        if self._task is not None and self._attempt is None and self._failures <= 1:
            self._attempt = asyncio.get_running_loop().create_future()  # back in a moment
        channel.close()
        self._lost.set()
        self.on_lost(reason)

    async def _keep_open(self) -> None:
        while True:
            await self._connect()
            if self.up:
                await self._lost.wait()
            await self._pause()

    async def _connect(self) -> None:
        if self._attempt is None:
            self._attempt = asyncio.get_running_loop().create_future()
        self._kick.clear()
        self._lost.clear()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                self._channel = await self.open()
        except (OSError, TimeoutError) as error:
            self._failures += 1
            self._why_down = str(error) or type(error).__name__
            log.info("gateway %s cannot be reached: %s", self.name, self._why_down)
        else:
            self.up = True
            self.connections += 1
            self._opened_at = self._now()
            self._heard_something = False
            if self._channel.ended is not None:
                self._drop(self._channel.ended)
        finally:
            self._finish_attempt()

    async def _pause(self) -> None:
        """Wait before the next attempt: not at all after a good connection, else ever longer."""
        if self._failures == 0:
            return
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10))
        pause *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        started = self._now()
        try:
            async with asyncio.timeout(pause):
                await self._kick.wait()
            await asyncio.sleep(max(0.0, min(pause, SHORTEST_KICK_S) - (self._now() - started)))
        except TimeoutError:
            pass  # nobody was in a hurry

    def _finish_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.done():
            attempt.set_result(None)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
