import asyncio

import pytest

from server.devices.errors import BusBusyError, DeadlineError
from server.devices.turns import Priority, Turns


def in_s(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_the_urgent_go_first_then_who_came_first() -> None:
    turns, order = Turns(), list[str]()

    async def job(name: str, priority: Priority) -> None:
        async with turns.take(priority, turns.number(), in_s(5)):
            order.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group, turns.take(Priority.ROUTINE, 0, in_s(5)):
        for name, priority in [
            ("poll 1", Priority.ROUTINE),
            ("poll 2", Priority.ROUTINE),
            ("low", Priority.URGENT),
            ("engineer", Priority.COMMISSIONING),
            ("control", Priority.CONTROL),
        ]:
            group.create_task(job(name, priority))
        await asyncio.sleep(0)
    assert order == ["control", "engineer", "low", "poll 1", "poll 2"]


async def test_a_job_of_several_turns_keeps_its_place() -> None:
    turns, order = Turns(), list[str]()

    async def job(name: str) -> None:
        number = turns.number()
        for _ in range(3):
            async with turns.take(Priority.ROUTINE, number, in_s(5)):
                order.append(name)
                await asyncio.sleep(0)

    await asyncio.gather(job("a"), job("b"))
    assert order[-1] == "b"
    assert order.index("b") <= 1  # b may speak while a is between two turns, not before its end
    assert sorted(order) == ["a", "a", "a", "b", "b", "b"]


async def test_waiting_ends_at_the_deadline() -> None:
    turns = Turns()
    async with turns.take(Priority.ROUTINE, 1, in_s(5)):
        with pytest.raises(DeadlineError):
            async with turns.take(Priority.CONTROL, 2, in_s(0.01)):
                pytest.fail("the turn was taken already")
        assert turns.waiting == 0
    async with turns.take(Priority.ROUTINE, 3, in_s(0.01)):
        assert turns.waiting == 0


async def test_a_full_queue_refuses_polls_but_not_controls() -> None:
    turns = Turns(limit=2)

    async def wait(priority: Priority) -> None:
        async with turns.take(priority, turns.number(), in_s(5)):
            await asyncio.sleep(0)

    async with turns.take(Priority.ROUTINE, 0, in_s(5)):
        waiting = [asyncio.create_task(wait(Priority.ROUTINE)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusBusyError):
            await wait(Priority.URGENT)
        waiting.append(asyncio.create_task(wait(Priority.CONTROL)))
        await asyncio.sleep(0)
        assert turns.waiting == 3
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("moment", ["while waiting", "when its turn comes"])
async def test_a_cancelled_job_loses_nobody_the_bus(moment: str) -> None:
    turns = Turns()

    async def wait() -> None:
        async with turns.take(Priority.ROUTINE, turns.number(), in_s(5)):
            pass

    async with turns.take(Priority.CONTROL, 0, in_s(5)):
        first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0)
        if moment == "while waiting":
            first.cancel()
    if moment == "when its turn comes":
        first.cancel()
    await asyncio.wait_for(second, 1)
    assert first.cancelled() or first.done()
    async with turns.take(Priority.ROUTINE, turns.number(), in_s(0.1)):
        assert turns.waiting == 0
