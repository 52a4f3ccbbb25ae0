"""What happens by itself, later: notices that are posted until taken, and acts after a while."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import httpx

from payments.tls import trusted_roots

DELIVERIES_MAX = 10_000
DELIVERIES_AT_ONCE = 50
ACTS_MAX = 10_000
NOTICE_TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 64 * 1024

logger = logging.getLogger("mallwatt.sandbox")


@dataclass(frozen=True, slots=True)
class Posting:
    """One HTTP POST to a merchant."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notice to be delivered, signed afresh for each attempt.

    `build` gets the time of the attempt; `is_accepted` judges status and body of the answer;
    `delays_s` waits before each attempt, so its length is the number of attempts; `on_end` once
    it was taken or given up.
    """

    key: tuple[str, ...]
    build: Callable[[datetime], Posting]
    is_accepted: Callable[[int, bytes], bool]
    delays_s: Sequence[float]
    on_accepted: Callable[[datetime], Awaitable[None]]
    on_end: Callable[[], None] | None = None


class NotifierFullError(Exception):
    """Too much is under way."""


Post = Callable[[Posting], Awaitable[tuple[int, bytes] | None]]


class Notifier:
    """Posts notices as tasks: bounded in number, retried on schedule, cancelled by `aclose`.

    `post` gives status and body of the answer, or None where there was none: over HTTP unless a
    merchant in the same process hands in its own door.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        at_once: int = DELIVERIES_AT_ONCE,
        post: Post | None = None,
    ) -> None:
        self._now = now
        self._tasks: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(at_once)
        self._client = httpx.AsyncClient(
            verify=trusted_roots(), timeout=NOTICE_TIMEOUT_S, trust_env=False
        )
        self._post = post or self._post_http

    def send(self, delivery: Delivery) -> None:
        """Start delivering; the same key under way is not started twice."""
        if delivery.key in self._tasks:
            return
        if len(self._tasks) >= DELIVERIES_MAX:
            raise NotifierFullError(f"{DELIVERIES_MAX} notices are under way")
        task = asyncio.get_running_loop().create_task(self._deliver(delivery))
        self._tasks[delivery.key] = task
        task.add_done_callback(partial(self._done, delivery.key))

    @property
    def count(self) -> int:
        """How many are under way."""
        return len(self._tasks)

    async def quiet(self) -> None:
        """Wait until nothing that is under way now is any more."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def aclose(self) -> None:
        """Cancel what is under way and close connections."""
        await _end(tuple(self._tasks.values()))
        await self._client.aclose()

    async def _deliver(self, delivery: Delivery) -> None:
        await self._persist(delivery)
        if delivery.on_end is not None:
            delivery.on_end()

    async def _persist(self, delivery: Delivery) -> None:
        for delay_s in delivery.delays_s:
            await asyncio.sleep(delay_s)
            async with self._places:
                accepted = await self._attempt(delivery)
            if accepted:
                await delivery.on_accepted(self._now())
                return
        logger.warning("notice %s was never taken", "/".join(delivery.key))

    async def _attempt(self, delivery: Delivery) -> bool:
        posting = delivery.build(self._now())
        answer = await self._post(posting)
        if answer is None:
            return False
        accepted = delivery.is_accepted(*answer)
        if not accepted:
            logger.info("notice to %s was refused: %d", posting.url, answer[0])
        return accepted

    async def _post_http(self, posting: Posting) -> tuple[int, bytes] | None:
        try:
            async with self._client.stream(
                "POST", posting.url, headers=dict(posting.headers), content=posting.body
            ) as answer:
                body = b""
                async for chunk in answer.aiter_bytes():
                    body = (body + chunk)[:ANSWER_BYTES_MAX]
                    if len(body) == ANSWER_BYTES_MAX:
                        break
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            logger.info("notice to %s failed: %r", posting.url, error)
            return None
        return answer.status_code, body

    def _done(self, key: tuple[str, ...], task: asyncio.Task[None]) -> None:
        self._tasks.pop(key, None)
        _log_failure(task)


class Later:
    """Acts after a while, as tasks: bounded in number, cancelled by `aclose`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def after(self, delay_s: float, act: Callable[[], Awaitable[object]]) -> None:
        """Do something once, in so many seconds; raises NotifierFullError."""
        if self.is_full:
            raise NotifierFullError(f"{ACTS_MAX} acts are under way")
        task = asyncio.get_running_loop().create_task(_after(delay_s, act))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    @property
    def count(self) -> int:
        """How many are still to happen."""
        return len(self._tasks)

    @property
    def is_full(self) -> bool:
        """Whether no more can be taken on."""
        return len(self._tasks) >= ACTS_MAX

    async def quiet(self) -> None:
        """Wait until nothing that is under way now is any more."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """Cancel what has not happened yet."""
        await _end(tuple(self._tasks))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        _log_failure(task)


async def _after(delay_s: float, act: Callable[[], Awaitable[object]]) -> None:
    await asyncio.sleep(delay_s)
    await act()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a notice or an act failed", exc_info=error)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)  # bounded by who starts them, all ending
