"""The outermost frames of the collector: what fails here is logged, counted and goes on."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from server.workers.loop import FAILURES

FAILURE_PAUSE_S = 1.0
UNDISTURBED_S = 3.0

T = TypeVar("T")

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


async def undisturbed(work: Coroutine[Any, Any, T]) -> T:
    """Let a transaction come to its end where its caller is cancelled, who is so a little later.

    Tortoise loses the pool's connection of a transaction that is cancelled while it begins.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=UNDISTURBED_S)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a transaction failed while its caller ended", error=str(error))
        raise
