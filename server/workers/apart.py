"""One bad item does not hold up the others: what fails in a batch is found and put aside."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from server.models.database import DatabaseAwayError
from server.workers.loop import FAILURES, LOOK_S

log = structlog.get_logger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class BatchWork:
    """Work on tenancies: all that wait in one transaction, or one alone; both tell whom it did."""

    name: str
    together: Callable[[], Awaitable[Sequence[int]]]
    waiting: Callable[[], Awaitable[Sequence[int]]]
    alone: Callable[[int], Awaitable[Sequence[int]]]
    put_aside: Callable[[int], Awaitable[None]]


async def do_batch(work: BatchWork) -> list[int]:
    """Do a batch; should it fail, do each by itself and put those aside that fail again.

    Raises DatabaseAwayError: nobody is to blame for an outage.
    """
    try:
        return list(await work.together())
    except DatabaseAwayError:
        raise
    except Exception:
        FAILURES.labels(work.name).inc()
        log.exception("a batch failed; each is tried by itself", loop=work.name)
    done: list[int] = []
    for one in await work.waiting():
        try:
            done += await work.alone(one)
        except DatabaseAwayError:
            raise
        except Exception:
            FAILURES.labels(work.name).inc()
            log.exception("put aside for later", loop=work.name, tenancy_id=one)
            await work.put_aside(one)
    return done


async def do_each(
    name: str, items: Mapping[int, Item], work: Callable[[Item], Awaitable[None]]
) -> int:
    """Work on claimed items, by their ids, at once; one that fails comes again by its claim."""

    async def guarded(item_id: int, item: Item) -> None:
        try:
            await work(item)
        except Exception:
            FAILURES.labels(name).inc()
            log.exception("one failed; it comes again", loop=name, item_id=item_id)

    await asyncio.gather(*(guarded(item_id, item) for item_id, item in items.items()))
    return len(items)


async def keep_full(
    name: str,
    take: Callable[[int], Awaitable[Mapping[int, Item]]],
    work: Callable[[Item], Awaitable[None]],
    *,
    at_once: int,
    most: int,
) -> int:
    """Work on what is due, `at_once` of it: each place that becomes free takes the next.

    So a slow item holds up no other. Ends when nothing is due, or after `most`, all of it done.
    """
    places: set[asyncio.Task[int]] = set()
    done = 0
    try:
        while True:
            free = min(at_once, most - done) - len(places)
            items = await take(free) if free > 0 else {}
            for item_id, item in items.items():
                places.add(asyncio.create_task(do_each(name, {item_id: item}, work)))
            if not places:
                return done
            ended, places = await asyncio.wait(
                places, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED
            )
            done += sum(one.result() for one in ended)
    finally:  # what was claimed and is left here comes again by its claim
        for one in places:
            one.cancel()
        await asyncio.gather(*places, return_exceptions=True)
