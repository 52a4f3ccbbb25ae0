"""A collector in a process of its own, for tests that stop and kill one."""

import sys
from datetime import UTC, datetime

import uvloop

from server.devices.profiles import load_catalogue
from server.models.database import close_database, open_database
from server.services.wakeups import Wakeups
from server.workers.collect import CollectContext, LeaseTimes, run_collector


async def collect(url: str, held_s: float, close_after_s: float, renew_every_s: float) -> None:
    """Own what is there until killed."""
    await open_database(url, name="process")
    try:
        await run_collector(
            CollectContext(
                clock=lambda: datetime.now(UTC),
                wakeups=Wakeups(None),
                catalogue=load_catalogue(),
                dtu_listen=None,
                owner="process",
                leases=LeaseTimes(held_s, close_after_s, renew_every_s),
            )
        )
    finally:
        await close_database()


if __name__ == "__main__":
    uvloop.run(collect(sys.argv[1], *(float(text) for text in sys.argv[2:5])))
