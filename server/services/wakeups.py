"""Wake-ups and live updates over Redis; without it everybody looks at the tables each second.

Nothing here is a truth: a lost wake-up only costs the second (decision 2).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

TIMEOUT_S = 1.0
RETRY_S = 5.0
CANCEL_AGAIN_S = 0.1
PREFIX = "mallwatt:"

INBOX = "inbox"
SETTLE = "settle"
OUTBOX = "outbox"


def gateway_topic(gateway_id: int | str) -> str:
    """The topic on which a gateway's owner listens for jobs and wishes; "*" for all of them."""
    return f"gateway:{gateway_id}"


def tenancy_topic(tenancy_id: int) -> str:
    """The topic of everything a page about a tenancy shows."""
    return f"tenancy:{tenancy_id}"


def job_topic(job_id: int) -> str:
    """The topic on which a bus job's end is told."""
    return f"job:{job_id}"


class Wakeups:
    """Tells and hears topics; `redis` None, away or slow: telling is dropped, hearing times out."""

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._quiet_until = 0.0

    async def tell(self, *topics: str) -> None:
        """Wake whoever listens; never raises, never waits longer than a second."""
        loop = asyncio.get_running_loop()
        if self._redis is None or loop.time() < self._quiet_until:
            return
        try:
            async with asyncio.timeout(TIMEOUT_S):
                pipeline = self._redis.pipeline(transaction=False)
                for topic in topics:
                    pipeline.publish(PREFIX + topic, b"1")
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._quiet_until = loop.time() + RETRY_S
            log.warning("redis is away; falling back to looking", error=type(error).__name__)
        _heed_cancellation()

    @asynccontextmanager
    async def listen(self, topics: Sequence[str]) -> AsyncIterator["Listener"]:
        """Hear these topics (patterns with `*` too) for as long as the block lasts."""
        listener = Listener(self._redis, [PREFIX + topic for topic in topics])
        task = asyncio.create_task(listener.run())
        try:
            yield listener
        finally:
            await _end(task)


def _heed_cancellation() -> None:
    """Raise the cancellation that redis' client may have lost on its way to us."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _end(task: "asyncio.Task[None]") -> None:
    """Cancel until it has heard: redis' client loses a cancellation now and then."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_S)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a listener had failed", exc_info=error)


class Listener:
    """One subscription; `wait` returns after a wake-up or the given time, whichever is first."""

    def __init__(self, redis: Redis | None, patterns: Sequence[str]) -> None:
        self._redis = redis
        self._patterns = patterns
        self._woken = asyncio.Event()
        self.heard: set[str] = set()

    async def wait(self, timeout_s: float) -> set[str]:
        """The topics heard since the last call; empty after `timeout_s` of silence."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        self._woken.clear()
        heard, self.heard = self.heard, set()
        return heard

    async def run(self) -> None:
        """Keep the subscription alive; reconnects after a pause. Nothing to hear: ends at once."""
        if self._redis is None or not self._patterns:
            return
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.psubscribe(*self._patterns)
                    async for message in pubsub.listen():
                        if message["type"] == "pmessage":
                            self.heard.add(message["channel"].decode().removeprefix(PREFIX))
                            self._woken.set()
            except (RedisError, OSError) as error:
                log.warning("redis is away; falling back to looking", error=type(error).__name__)
            await asyncio.sleep(RETRY_S)  # whatever ended it: never in a tight ring
