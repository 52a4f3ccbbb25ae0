"""The collector role: the only one that talks to meters (server/workers/README.md)."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from server.devices.links.dtu import DtuListener
from server.services.wakeups import gateway_topic
from server.workers.collector.asking import Clerk
from server.workers.collector.boundaries import BoundaryBook
from server.workers.collector.context import CollectContext, LeaseTimes
from server.workers.collector.driving import Driver
from server.workers.collector.fleet import END_S, REFRESH_S, Fleet
from server.workers.collector.keeping import FLUSH_S, Keeper
from server.workers.collector.opening import Opener
from server.workers.collector.polling import Poller
from server.workers.collector.running import guard, repeat

__all__ = ["CollectContext", "LeaseTimes", "run_collector"]

log = structlog.get_logger(__name__)

CLAIM_S = 1.0
PRESS_S = 10.0
LOOK_S = 1.0  # without a wake-up the tables are looked at so often (design, decision 2)
GATHER_S = 0.01  # wake-ups come in bunches
LISTEN_AGAIN_S = 2.0


async def run_collector(context: CollectContext) -> None:
    """Own gateways, read their meters, drive their relays, do their jobs; until cancelled."""
    await _Collector(context).run()


class _Collector:
    """The parts put together."""

    def __init__(self, context: CollectContext) -> None:
        self._context = context
        self._look_now = asyncio.Event()
        self._listener = None if context.dtu_listen is None else DtuListener(*context.dtu_listen)
        book = BoundaryBook()
        self._keeper = Keeper(context.clock, context.wakeups)
        poller = Poller(context.clock, self._keeper, book)
        opener = Opener(context.catalogue, self._listener, self._keeper, poller)
        self._fleet = Fleet(context, opener, poller, book)
        self._driver = Driver(context.clock, context.wakeups, self._keeper, self._look_now.set)
        self._clerk = Clerk(context.clock, context.wakeups, self._keeper)

    async def run(self) -> None:
        """Every loop until cancelled; then silence, and the leases are free."""
        fleet, renew_s = self._fleet, self._context.leases.renew_every_s
        loops: list[tuple[str, float, Callable[[], Awaitable[object]]]] = [
            ("renew", renew_s, fleet.renew),
            ("claim", min(CLAIM_S, renew_s), fleet.claim),
            ("refresh", REFRESH_S, fleet.refresh),
            ("press", PRESS_S, fleet.press),
            ("keep", FLUSH_S, self._keeper.flush),
            ("look", GATHER_S, self._look),
        ]
        try:
            fleet.watch()
            async with asyncio.TaskGroup() as group:
                if self._listener is not None:
                    fleet.without_links = ("dtu",)  # until their port is open
                    group.create_task(self._listen(self._listener))
                for name, every_s, step in loops:
                    group.create_task(repeat(name, every_s, step), name=name)
                group.create_task(self._hear())
        finally:
            await self._end()

    async def _look(self) -> None:
        """One look at what is to be done on the buses, now or in a second."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._look_now.wait()
        self._look_now.clear()
        self._fleet.notice_connections()
        await self._driver.look(self._fleet.owned)
        await self._clerk.look(self._fleet.owned)

    async def _hear(self) -> None:
        """Pass on wake-ups that concern our gateways."""
        async with self._context.wakeups.listen([gateway_topic("*")]) as listener:
            while True:
                heard = await listener.wait(LOOK_S)
                if any(gateway_topic(one) in heard for one in self._fleet.owned):
                    self._look_now.set()

    async def _listen(self, listener: DtuListener) -> None:
        """Open the DTUs' port, as soon as whoever has it lets go; until then others own DTUs."""
        while True:
            try:
                await listener.start()
            except OSError as error:
                log.warning("the DTUs' port cannot be opened yet", error=str(error))
                await asyncio.sleep(LISTEN_AGAIN_S)
                continue
            log.info("DTUs may dial in", port=listener.port)
            self._fleet.without_links = ()
            return

    async def _end(self) -> None:
        """Silence first, then what was heard is kept, then others may speak."""
        owned = [*self._fleet.owned]
        await guard("silence", self._fleet.silence)
        await guard("last_flush", self._flush_last)
        if owned:
            await guard("release", lambda: self._fleet.release(owned))
        if self._listener is not None:
            await self._listener.aclose()

    async def _flush_last(self) -> None:
        async with asyncio.timeout(END_S):
            await self._keeper.flush()
