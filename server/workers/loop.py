"""The outermost loop of every worker: the one place that may catch everything, and counts it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from prometheus_client import Counter

from server.core.errors import UnavailableError
from server.services.wakeups import Wakeups

log = structlog.get_logger(__name__)

LOOK_S = 1.0  # without a wake-up the tables are looked at so often (design, decision 2)
FAILURE_PAUSE_S = (1.0, 2.0, 5.0, 10.0, 30.0)
AWAY_PAUSE_S_MAX = 2.0  # the database, mostly: once it is back, nobody shall wait

STEPS = Counter("mallwatt_worker_items_total", "What worker loops have done", ["loop"])
FAILURES = Counter("mallwatt_worker_failures_total", "Worker steps that failed", ["loop"])

Step = Callable[[], Awaitable[int]]
Sleep = Callable[[float], Awaitable[None]]


async def keep_doing(
    name: str,
    step: Step,
    wakeups: Wakeups,
    topics: Sequence[str],
    *,
    look_s: float = LOOK_S,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Do a step again and again: at once while it finds something, else when woken or in a while.

    Ends by cancellation alone.
    """
    failures = 0
    async with wakeups.listen(topics) as listener:
        while True:
            _heed_cancellation()
            try:
                done = await step()
            except Exception as error:
                failures += 1
                FAILURES.labels(name).inc()
                log.exception("a step failed; it is tried again", loop=name, failures=failures)
                await sleep(_pause_s(error, failures))
                continue
            failures = 0
            STEPS.labels(name).inc(done)
            if done == 0:
                await listener.wait(look_s)


def _heed_cancellation() -> None:
    """End here where a step, or a library under it, turned our cancellation into an error."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _pause_s(error: Exception, failures: int) -> float:
    pause_s = FAILURE_PAUSE_S[min(failures, len(FAILURE_PAUSE_S)) - 1]
    return min(pause_s, AWAY_PAUSE_S_MAX) if isinstance(error, UnavailableError) else pause_s
