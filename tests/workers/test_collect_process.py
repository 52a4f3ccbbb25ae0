"""A collector that is stopped in its tracks, and one that is killed: the bus has one speaker."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from server.services.leases import claim_leases
from tests.workers.collected_mall import QUICK, Mall, until

ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def collector(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    times = (str(one) for one in (QUICK.held_s, QUICK.close_after_s, QUICK.renew_every_s))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.workers.collector_process", url, *times),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_one_that_was_stopped_says_nothing_when_it_wakes(
    mall: Mall, database_url: str
) -> None:
    gateway = mall.bank.gateways["gw-01"]
    async with collector(database_url) as process:
        await until(lambda: mall.has_readings("M-1", 1), within_s=20)
        process.send_signal(signal.SIGSTOP)
        # it may have been stopped in a transaction, which the claim ends
        await until(lambda: claim_leases("other", 1), within_s=QUICK.held_s + 2)
        asked = gateway.request_count
        process.send_signal(signal.SIGCONT)

        async def hung_up() -> bool:
            return gateway.link_count == 0

        await until(hung_up, within_s=5)
        assert gateway.request_count == asked


async def test_another_takes_over_from_one_that_was_killed(mall: Mall, database_url: str) -> None:
    async with collector(database_url) as process:
        await until(lambda: mall.has_readings("M-1", 1), within_s=20)
        process.kill()
        await process.wait()
        mall.collect("heir")
        await until(lambda: mall.owned_by("heir"), within_s=QUICK.held_s + 2)
        known = len(await mall.readings("M-1"))
        await until(lambda: mall.has_readings("M-1", known + 2))
    assert {one["epoch"] for one in await mall.readings("M-1")} == {1, 2}
