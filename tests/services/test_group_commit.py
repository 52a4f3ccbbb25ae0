"""Work done in groups: at once when idle, each by itself where a group fails, nobody forgotten."""

import asyncio
from collections.abc import Sequence

import pytest

from server.core.errors import UnavailableError
from server.services.group_commit import GroupCommit


class Disk:
    """Takes a group when it is let go on; refuses numbers below zero, and any while it is full."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.free = asyncio.Event()
        self.full = False

    async def write(self, items: Sequence[int]) -> Sequence[int]:
        self.groups.append(list(items))
        await self.free.wait()
        if self.full:
            raise UnavailableError("full")
        if min(items) < 0:
            raise ValueError(min(items))
        return [10 * item for item in items]

    def group(self, group_max: int = 100, waiting_max: int = 100) -> GroupCommit[int, int]:
        return GroupCommit(self.write, group_max=group_max, waiting_max=waiting_max)


async def ask(group: GroupCommit[int, int], *items: int) -> list["asyncio.Task[int]"]:
    tasks = [asyncio.create_task(group.done(item)) for item in items]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_who_comes_while_a_group_is_under_way_is_the_next_group() -> None:
    disk = Disk()
    group = disk.group(group_max=3)
    tasks = await ask(group, 1)
    tasks += await ask(group, 2, 3, 4, 5)
    assert disk.groups == [[1]]
    disk.free.set()
    assert await asyncio.gather(*tasks) == [10, 20, 30, 40, 50]
    assert disk.groups == [[1], [2, 3, 4], [5]]
    assert await group.done(6) == 60


async def test_a_bad_one_fails_alone() -> None:
    disk = Disk()
    group = disk.group()
    disk.free.set()
    tasks = await ask(group, 1, -2, 3)
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(one) for one in told] == ["10", "-2", "30"]
    assert disk.groups == [[1, -2, 3], [1], [-2], [3]]


async def test_an_absence_is_told_to_all_and_not_tried_for_each() -> None:
    disk = Disk()
    group = disk.group()
    disk.free.set()
    disk.full = True
    told = await asyncio.gather(*await ask(group, 1, 2, 3), return_exceptions=True)
    assert [type(one) for one in told] == [UnavailableError] * 3
    assert disk.groups == [[1, 2, 3]]
    disk.full = False
    assert await group.done(4) == 40


async def test_who_gives_up_takes_nobody_along() -> None:
    disk = Disk()
    group = disk.group()
    first, *others = [*await ask(group, 1), *await ask(group, 2, 3, 4)]
    first.cancel()  # under way: it may be done, and nobody waits for it
    others[1].cancel()  # not begun: it is left out
    await asyncio.sleep(0)
    disk.free.set()
    told = await asyncio.gather(first, *others, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in told] == [True, False, True, False]
    assert disk.groups == [[1], [2, 4]]


async def test_no_more_wait_than_may() -> None:
    disk = Disk()
    group = disk.group(waiting_max=2)
    tasks = [*await ask(group, 1), *await ask(group, 2, 3, 4)]
    with pytest.raises(UnavailableError, match="too many"):
        await tasks[-1]
    disk.free.set()
    assert await asyncio.gather(*tasks[:-1]) == [10, 20, 30]


async def test_an_end_under_way_leaves_nobody_waiting() -> None:
    disk = Disk()
    group = disk.group()
    tasks = [*await ask(group, 1), *await ask(group, 2)]
    assert group._working is not None
    group._working.cancel()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in told] == [UnavailableError] * 2
    disk.free.set()
    assert await group.done(3) == 30
