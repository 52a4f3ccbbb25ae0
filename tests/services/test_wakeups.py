"""Wake-ups over a real Redis: heard, lost without harm, and over when they should be."""

import asyncio
import time

from redis.asyncio import Redis

from server.services.wakeups import Wakeups, gateway_topic


async def test_a_pattern_hears_every_gateway(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    wakeups = Wakeups(redis)
    async with wakeups.listen([gateway_topic("*")]) as listener:
        async with asyncio.timeout(3):
            heard: set[str] = set()
            while not heard:
                await wakeups.tell(gateway_topic(7))
                heard = await listener.wait(0.05)
        assert heard == {"gateway:7"}
        assert await listener.wait(0.05) <= heard
    await redis.aclose()


async def test_listening_ends_at_once_however_often(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    wakeups = Wakeups(redis)
    async with asyncio.timeout(10):
        for turn in range(150):
            async with wakeups.listen(["gateway:*"]) as listener:
                await listener.wait(turn % 10 / 1_000)
    await redis.aclose()


async def test_without_redis_nothing_is_heard_and_nothing_breaks() -> None:
    wakeups = Wakeups(None)
    async with wakeups.listen(["inbox"]) as listener:
        await wakeups.tell("inbox")
        assert await listener.wait(0.01) == set()


async def test_who_tells_can_be_stopped(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    wakeups = Wakeups(redis)

    async def tell_for_ever() -> None:
        while True:
            await wakeups.tell("a", "b")

    for turn in range(300):
        task = asyncio.create_task(tell_for_ever())
        await asyncio.sleep(turn % 10 * 0.0004)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        assert done
    await redis.aclose()


async def test_who_listens_to_nothing_keeps_no_connection_and_no_processor_busy(
    redis_url: str,
) -> None:
    redis = Redis.from_url(redis_url)
    before = len(await redis.client_list())
    used_s = time.process_time()
    async with Wakeups(redis).listen([]) as listener:
        assert await listener.wait(0.3) == set()
        assert len(await redis.client_list()) == before
    assert time.process_time() - used_s < 0.2
    await redis.aclose()
