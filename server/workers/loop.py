"""The outermost loop of every worker: the one place that may catch everything, and counts it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from prometheus_client import Counter

from server.services.wakeups import Wakeups

log = structlog.get_logger(__name__)

LOOK_S = 1.0  # without a wake-up the tables are looked at so often (design, decision 2)
FAILURE_PAUSE_S = (1.0, 2.0, 5.0, 10.0, 30.0)

STEPS = Counter("mallwatt_worker_items_total", "What worker loops have done", ["loop"])
FAILURES = Counter("mallwatt_worker_failures_total", "Worker steps that failed", ["loop"])

Step = Callable[[], Awaitable[int]]


async def keep_doing(
    name: str, step: Step, wakeups: Wakeups, topics: Sequence[str], *, look_s: float = LOOK_S
) -> None:
    """Do a step again and again: at once while it finds something, else when woken or in a while.

    Ends by cancellation alone.
    """
    failures = 0
    async with wakeups.listen(topics) as listener:
        while True:
            try:
                done = await step()
            except Exception:
                failures += 1
                FAILURES.labels(name).inc()
                log.exception("a step failed; it is tried again", loop=name, failures=failures)
                await asyncio.sleep(FAILURE_PAUSE_S[min(failures, len(FAILURE_PAUSE_S)) - 1])
                continue
            failures = 0
            STEPS.labels(name).inc(done)
            if done == 0:
                await listener.wait(look_s)
