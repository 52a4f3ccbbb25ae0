"""The gateways of this process: claimed, renewed, given up in time, looked after.

Who could not renew for `close_after_s` speaks no more, whatever the database says later: another
collector may take a gateway only after `held_s` (design, decision 10).
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from server.services.gateways import GatewayRow, gateway_signatures, load_gateways, pressing_meters
from server.services.leases import claim_leases, release_leases, renew_leases
from server.workers.collector.boundaries import BoundaryBook
from server.workers.collector.context import CollectContext
from server.workers.collector.gateway import OwnedGateway, lease_clock
from server.workers.collector.metrics import GATEWAYS, LOST
from server.workers.collector.opening import Opener
from server.workers.collector.polling import Poller, poll_soon
from server.workers.collector.running import guard

log = structlog.get_logger(__name__)

CLAIM_AT_ONCE = 50  # a second: those who start together share
REFRESH_S = 2.0
WATCHES = 20  # looks at the leases' age in the time after which they are given up
FAULT_AGAIN_S = 10.0  # a missing file may have come, a doubled registration may be gone
FILES_AGAIN_S = 30.0  # a password file's content is in no row
CLOCK_STEP_S = 1.0
END_S = 3.0


class Fleet:
    """Owned gateways by id."""

    def __init__(
        self, context: CollectContext, opener: Opener, poller: Poller, book: BoundaryBook
    ) -> None:
        self.owned: dict[int, OwnedGateway] = {}
        self.without_links: Sequence[str] = ()
        self._context = context
        self._opener = opener
        self._poller = poller
        self._book = book
        self._closing: dict[int, asyncio.Task[None]] = {}
        self._watch_handle: asyncio.TimerHandle | None = None
        self._clock_offset_s: float | None = None
        self._describing = asyncio.Lock()

    # Leases

    async def renew(self) -> None:
        """Renew every lease; one that is no longer ours is given up at once."""
        started_s = lease_clock()
        epochs = {one.gateway_id: one.epoch for one in self.owned.values()}
        if not epochs:
            return
        times = self._context.leases
        async with asyncio.timeout(times.close_after_s):
            kept = await renew_leases(self._context.owner, epochs, held_s=times.held_s)
        for gateway_id, epoch in epochs.items():
            gateway = self.owned.get(gateway_id)
            if gateway is None or gateway.epoch != epoch:
                continue
            if gateway_id in kept:
                gateway.renewed_at_s = started_s
            else:
                self._lose(gateway, "another collector has it")

    def watch(self) -> None:
        """Give up what could not be renewed; a timer, so that it comes before any waiting task."""
        loop = asyncio.get_running_loop()
        every_s = self._context.leases.close_after_s / WATCHES
        self._watch_handle = loop.call_later(every_s, self.watch)
        for gateway in [*self.owned.values()]:
            if not gateway.still_mine():
                self._lose(gateway, "the lease could not be renewed in time")

    def _lose(self, gateway: OwnedGateway, reason: str) -> None:
        LOST.inc()
        log.warning("gateway lost", gateway_id=gateway.gateway_id, reason=reason)
        self._drop(gateway)

    def _drop(self, gateway: OwnedGateway) -> None:
        """Nobody speaks on it from this call on; hanging up takes a moment longer."""
        gateway.lost = True
        self.owned.pop(gateway.gateway_id, None)
        GATEWAYS.set(len(self.owned))
        closing = asyncio.ensure_future(gateway.silence()())
        self._closing[gateway.gateway_id] = closing
        closing.add_done_callback(lambda _: self._closed(gateway.gateway_id, closing))

    def _closed(self, gateway_id: int, closing: "asyncio.Task[None]") -> None:
        if self._closing.get(gateway_id) is closing:
            del self._closing[gateway_id]
        if not closing.cancelled() and (error := closing.exception()) is not None:
            log.error("hanging up failed", gateway_id=gateway_id, exc_info=error)

    async def claim(self) -> None:
        """Take gateways that nobody holds."""
        room = min(CLAIM_AT_ONCE, self._context.gateways_max - len(self.owned))
        if room <= 0:
            return
        started_s = lease_clock()
        times = self._context.leases
        async with asyncio.timeout(times.close_after_s / 2):  # a claim that old would be void
            epochs = await claim_leases(
                self._context.owner, room, held_s=times.held_s, without_links=self.without_links
            )
        for gateway_id, epoch in epochs.items():
            if gateway_id in self.owned:
                self._lose(self.owned[gateway_id], "the lease ran out")
            gateway = OwnedGateway(gateway_id, epoch, started_s, times.close_after_s)
            self.owned[gateway_id] = gateway
        GATEWAYS.set(len(self.owned))
        if epochs:
            log.info("gateways claimed", claimed=len(epochs), owned=len(self.owned))
            await self.refresh()

    # Descriptions

    async def refresh(self) -> None:
        """Bring gateways and meters in line with what an import has changed."""
        async with self._describing:
            self._notice_clock_step()
            signatures = await gateway_signatures([*self.owned])
            stale = [
                one
                for one in self.owned.values()
                if one.signature != signatures.get(one.gateway_id) or _is_due_again(one)
            ]
            found = await load_gateways([one.gateway_id for one in stale])
            rows = {row.gateway_id: row for row in found}
            await self._refresh_book(rows)
            for gateway in stale:
                row, signature = rows.get(gateway.gateway_id), signatures.get(gateway.gateway_id)
                await guard("describe", partial(self._describe, gateway, row, signature))

    async def _describe(
        self, gateway: OwnedGateway, row: GatewayRow | None, signature: str | None
    ) -> None:
        if row is None:
            self._lose(gateway, "it is no longer described")
            return
        if (closing := self._closing.get(gateway.gateway_id)) is not None:
            await asyncio.wait([closing])
        if gateway.lost:
            return
        gateway.checked_s = lease_clock()
        await self._opener.describe(gateway, row)
        gateway.signature = signature
        self._poller.plan_all(gateway)

    async def _refresh_book(self, fresh: Mapping[int, GatewayRow]) -> None:
        described = [one.row for one in self.owned.values() if one.row is not None]
        places = {
            (row.site_id, meter.tariff_code)
            for row in [*fresh.values(), *described]
            for meter in row.meters
        }
        if await self._book.refresh(places, self._context.clock()):
            for gateway in self.owned.values():
                self._poller.plan_all(gateway)

    def _notice_clock_step(self) -> None:
        """The turns were planned by the wall clock: where it was set they begin anew."""
        offset_s = self._context.clock().timestamp() - lease_clock()
        known_s, self._clock_offset_s = self._clock_offset_s, offset_s
        if known_s is not None and abs(offset_s - known_s) > CLOCK_STEP_S:
            log.warning("the clock was set", by_s=round(offset_s - known_s, 3))
            for gateway in self.owned.values():
                poll_soon(gateway)

    async def press(self) -> None:
        """Look which meters are to be read more often."""
        pressing = await pressing_meters([*self.owned])
        for gateway in self.owned.values():
            for meter in gateway.meters.values():
                if meter.pressing != (meter.meter_id in pressing):
                    meter.pressing = not meter.pressing
                    self._poller.plan(gateway, meter)
                    gateway.wake.set()

    def notice_connections(self) -> None:
        """A gateway that is back has its meters read and its relays driven at once."""
        for gateway in self.owned.values():
            connected = gateway.bus is not None and gateway.bus.connected
            if connected and not gateway.was_connected:
                for meter in gateway.meters.values():
                    meter.retry.reset()
                poll_soon(gateway, failed_only=True)
            gateway.was_connected = connected

    # The end

    async def silence(self) -> None:
        """Nobody speaks any more, and every link is closed."""
        if self._watch_handle is not None:
            self._watch_handle.cancel()
        for gateway in [*self.owned.values()]:
            self._drop(gateway)
        if self._closing:
            await asyncio.wait([*self._closing.values()], timeout=END_S)

    async def release(self, gateway_ids: Sequence[int]) -> None:
        """Give the leases up, so that the next owner need not wait."""
        async with asyncio.timeout(END_S):
            await release_leases(self._context.owner, gateway_ids)


def _is_due_again(gateway: OwnedGateway) -> bool:
    """Whether something outside the tables may have changed what was found."""
    faulty = gateway.fault is not None or any(meter.fault for meter in gateway.meters.values())
    has_file = gateway.row is not None and gateway.row.settings.get("password_file") is not None
    since_s = lease_clock() - gateway.checked_s
    return (faulty and since_s > FAULT_AGAIN_S) or (has_file and since_s > FILES_AGAIN_S)
