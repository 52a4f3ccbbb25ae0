"""The outermost frames of the collector: what fails here is logged, counted and goes on."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from server.workers.loop import FAILURES

FAILURE_PAUSE_S = 1.0

log = structlog.get_logger(__name__)


async def repeat(name: str, every_s: float, step: Callable[[], Awaitable[object]]) -> None:
    """Do a step again and again, this long after the last; ends by cancellation alone."""
    while True:
        well = await guard(name, step)
        await asyncio.sleep(every_s if well else max(every_s, FAILURE_PAUSE_S))


async def guard(name: str, work: Callable[[], Awaitable[object]]) -> bool:
    """Whether the work ended without an error, which is logged and counted otherwise."""
    try:
        await work()
    except Exception:
        FAILURES.labels(f"collect_{name}").inc()
        log.exception("a part of the collector failed; the others go on", part=name)
        return False
    return True
