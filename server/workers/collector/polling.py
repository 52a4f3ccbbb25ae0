"""Reading meters: each at its own moment of the interval, and right after each boundary."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial

from server.devices.bus import Bus, Priority
from server.devices.errors import DeviceError
from server.devices.gateway import MeterTarget
from server.workers.collector.boundaries import BoundaryBook
from server.workers.collector.gateway import POLLS_AT_ONCE, OwnedGateway, OwnedMeter
from server.workers.collector.keeping import Keeper
from server.workers.collector.metrics import POLLS

PRESSING_INTERVAL_S = 15.0
POLL_DEADLINE_S = 30.0
AFTER_BOUNDARY_S = 0.05
LONGEST_SLEEP_S = 60.0
FIRST_POLLS_APART_S = 0.02
GOLDEN = 0.6180339887498949  # neighbours' phases lie as far apart as can be


def poll_delay_s(
    meter_id: int, interval_s: float, now: datetime, boundary: datetime | None, since_s: float
) -> float:
    """Seconds until a meter's next turn; `since_s` after its last.

    Its phase in the interval is its own and stable. A turn right after another is left out, but
    never the one right after a boundary.
    """
    phase_s = meter_id * GOLDEN % 1.0 * interval_s
    delay_s = interval_s - (now.timestamp() - phase_s) % interval_s
    if since_s + delay_s < interval_s / 4:
        delay_s += interval_s
    if boundary is not None:
        until_s = (boundary - now).total_seconds() + AFTER_BOUNDARY_S
        delay_s = min(delay_s, max(0.0, until_s))
    return delay_s


class Poller:
    """Reads the meters of owned gateways at their moments."""

    def __init__(self, clock: Callable[[], datetime], keeper: Keeper, book: BoundaryBook) -> None:
        self._clock = clock
        self._keeper = keeper
        self._book = book

    async def poll(self, gateway: OwnedGateway) -> None:
        """Read this gateway's meters for as long as its bus is ours."""
        while True:
            gateway.wake.clear()
            now_s = _now_s()
            due = [
                meter
                for meter in gateway.meters.values()
                if meter.target is not None and not meter.polling and meter.due_s <= now_s
            ]
            room = POLLS_AT_ONCE - gateway.polling
            for meter in sorted(due, key=lambda one: one.due_s)[:room]:
                meter.polling = True
                gateway.spawn("poll", partial(self._read, gateway, meter))
            await gateway.sleep_until_due(_sleep_s(gateway, now_s, full=len(due) > room))

    async def _read(self, gateway: OwnedGateway, meter: OwnedMeter) -> None:
        try:
            if gateway.bus is not None and meter.target is not None and gateway.still_mine():
                meter.polled_s = _now_s()
                await self._read_meter(gateway, meter, gateway.bus, meter.target)
        finally:
            meter.polling = False
            self.plan(gateway, meter)
            gateway.wake.set()

    async def _read_meter(
        self, gateway: OwnedGateway, meter: OwnedMeter, bus: Bus, target: MeterTarget
    ) -> None:
        kept_before = meter.kept
        try:
            sample = await bus.read(
                target, priority=self._priority(meter), deadline_s=POLL_DEADLINE_S
            )
            # Somebody else's reading of this meter came in between: ours may be the older one.
            if meter.kept != kept_before:
                POLLS.labels("overtaken").inc()
                return
            self._keeper.take(gateway, meter, sample, self._clock())
            POLLS.labels("kept").inc()
        except DeviceError as error:
            POLLS.labels("failed").inc()
            self._keeper.fail(gateway, meter, error)

    def _priority(self, meter: OwnedMeter) -> Priority:
        return Priority.URGENT if meter.presses(_now_s()) else Priority.ROUTINE

    def plan(self, gateway: OwnedGateway, meter: OwnedMeter) -> None:
        """Set a meter's next turn by what is known now."""
        if gateway.row is None:
            return
        now, now_s = self._clock(), _now_s()
        interval_s = float(gateway.row.poll_seconds)
        if meter.presses(now_s):
            interval_s = min(interval_s, PRESSING_INTERVAL_S)
        boundary = self._book.next_after((gateway.row.site_id, meter.row.tariff_code), now)
        since_s = now_s - meter.polled_s
        meter.due_s = now_s + poll_delay_s(meter.meter_id, interval_s, now, boundary, since_s)

    def plan_all(self, gateway: OwnedGateway) -> None:
        """Bring turns forward: there is another interval, or another boundary."""
        for meter in gateway.meters.values():
            planned_s = meter.due_s
            self.plan(gateway, meter)
            meter.due_s = min(planned_s, meter.due_s)
        gateway.wake.set()


def poll_soon(gateway: OwnedGateway, *, failed_only: bool = False) -> None:
    """Read the meters one after another now."""
    now_s = _now_s()
    chosen = [meter for meter in gateway.meters.values() if meter.failed or not failed_only]
    for place, meter in enumerate(chosen):
        meter.due_s = min(meter.due_s, now_s + place * FIRST_POLLS_APART_S)
    gateway.wake.set()


def _sleep_s(gateway: OwnedGateway, now_s: float, *, full: bool) -> float:
    """Until the next turn of a meter that is not being read; a full bus wakes us when it is not."""
    if full:
        return LONGEST_SLEEP_S
    waiting = [
        meter.due_s
        for meter in gateway.meters.values()
        if meter.target is not None and not meter.polling
    ]
    return min(LONGEST_SLEEP_S, max(0.0, min(waiting, default=now_s + LONGEST_SLEEP_S) - now_s))


def _now_s() -> float:
    return asyncio.get_running_loop().time()
