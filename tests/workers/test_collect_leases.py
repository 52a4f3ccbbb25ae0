"""One speaker a bus: who loses the lease hangs up before anything else, and another goes on."""

import asyncio

import asyncpg

from server.models.database import pool, rows
from server.services.leases import claim_leases
from server.services.readings import NewReading, keep
from tests.workers.collected_mall import QUICK, Mall, one, until, wall_clock


async def lease() -> tuple[str | None, int]:
    found = await one("SELECT owner, epoch FROM gateway_lease")
    return found["owner"], found["epoch"]


def speaks(mall: Mall) -> int:
    return mall.bank.gateways["gw-01"].link_count


async def hung_up(mall: Mall) -> bool:
    return speaks(mall) == 0


async def test_a_clean_end_gives_the_gateway_up_at_once(mall: Mall) -> None:
    first = mall.collect("first")
    await until(lambda: mall.read("M-1"))
    await mall.stop(first)
    assert (await lease(), speaks(mall)) == ((None, 1), 0)
    mall.collect("second")
    await until(lambda: mall.owned_by("second"), within_s=1.0)
    assert await lease() == ("second", 2)


async def test_a_stolen_lease_closes_the_links_and_old_readings_are_refused(mall: Mall) -> None:
    mall.collect("first")
    await until(lambda: mall.read("M-1"))
    await rows(
        pool(),
        "UPDATE gateway_lease SET owner = 'thief', epoch = epoch + 1,"
        " held_until = clock_timestamp() + interval '1 minute'",
    )
    await until(lambda: hung_up(mall), within_s=1.0)
    late = NewReading(await mall.meter_id("M-1"), wall_clock(), 60_000, epoch=1)
    assert (await keep([late], wall_clock())).stale == 1


async def test_a_collector_that_cannot_renew_hangs_up_and_recovers_by_itself(
    mall: Mall, database_url: str
) -> None:
    mall.collect("first")
    await until(lambda: mall.read("M-1"))
    blocker = await asyncpg.connect(database_url)
    try:
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE gateway_lease IN ACCESS EXCLUSIVE MODE")
            await until(lambda: hung_up(mall), within_s=QUICK.close_after_s + 1)
            asked = mall.bank.gateways["gw-01"].request_count
            await asyncio.sleep(0.5)
            assert mall.bank.gateways["gw-01"].request_count == asked
    finally:
        await blocker.close()

    async def speaks_again() -> bool:
        return speaks(mall) == 1

    await until(speaks_again, within_s=5.0)
    assert await lease() == ("first", 2)


async def test_another_takes_over_from_one_that_died(mall: Mall) -> None:
    assert len(await claim_leases("dead", 10, held_s=QUICK.held_s)) == 1
    mall.collect("heir")
    await asyncio.sleep(QUICK.held_s / 2)
    assert await lease() == ("dead", 1)
    await until(lambda: mall.owned_by("heir"), within_s=QUICK.held_s + 1.5)
    await until(lambda: mall.read("M-1"))
    assert (await mall.readings("M-1"))[0]["epoch"] == 2


async def test_two_collectors_never_speak_on_one_bus(mall: Mall) -> None:
    mall.collect("first")
    mall.collect("second")
    await until(lambda: mall.read("M-1"))
    await asyncio.sleep(0.5)
    assert speaks(mall) == 1
    assert (await lease())[1] == 1
