"""One owned gateway: its lease, its bus, its meters, and every task that may speak on it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from server.devices.bus import Bus
from server.devices.gateway import GatewayConfig, MeterTarget
from server.services.gateways import GatewayRow, MeterRow
from server.workers.collector.running import guard

POLLS_AT_ONCE = 4
CONTROLS_AT_ONCE = 4
JOBS_AT_ONCE = 8
HANG_UP_S = 3.0
RETRY_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)


def lease_clock() -> float:
    """Seconds that also count while the machine sleeps, where it can tell; never stepped."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(slots=True)
class Retry:
    """When a relay that could not be brought where it should be is tried again."""

    failures: int = 0
    until_s: float = 0.0
    silent: bool = False  # nothing was heard of the meter: any answer ends the pause

    def failed(self, now_s: float, *, silent: bool) -> None:
        """Pause, longer each time."""
        self.until_s = now_s + RETRY_PAUSES_S[min(self.failures, len(RETRY_PAUSES_S) - 1)]
        self.failures += 1
        self.silent = silent

    def reset(self) -> None:
        """At once, and gently from the beginning."""
        self.failures, self.until_s, self.silent = 0, 0.0, False


@dataclass(slots=True)
class OwnedMeter:
    """A meter on an owned gateway. `target` None: it cannot be spoken to as it is described.

    `kept` counts what was kept or moved: who asked before and answers after it comes too late.
    """

    row: MeterRow
    target: MeterTarget | None
    due_s: float
    fault: str | None = None
    polling: bool = False
    failed: bool = False
    pressing: bool = False
    pressing_until_s: float = 0.0
    polled_s: float = float("-inf")
    kept: int = 0
    controlling: bool = False
    retry: Retry = field(default_factory=Retry)
    reporting: asyncio.Lock = field(default_factory=asyncio.Lock)
    finding: str | None = None
    found_s: float = 0.0

    @property
    def meter_id(self) -> int:
        """The row's key."""
        return self.row.meter_id

    def name(self, identity: str) -> None:
        """From its first look on, only this one may answer here."""
        self.row = replace(self.row, identity=identity)
        if self.target is not None:
            self.target = replace(self.target, identity=identity)

    def presses(self, now_s: float) -> bool:
        """Whether it is to be read more often than others."""
        return self.pressing or now_s < self.pressing_until_s


class OwnedGateway:
    """A gateway between claim and loss. Only its tasks speak on its bus; losing it cancels them."""

    def __init__(
        self, gateway_id: int, epoch: int, renewed_at_s: float, close_after_s: float
    ) -> None:
        self.gateway_id = gateway_id
        self.epoch = epoch
        self.renewed_at_s = renewed_at_s
        self.lost = False
        self.row: GatewayRow | None = None
        self.signature: str | None = None
        self.config: GatewayConfig | None = None
        self.bus: Bus | None = None
        self.fault: str | None = None
        self.checked_s = 0.0
        self.meters: dict[int, OwnedMeter] = {}
        self.wake = asyncio.Event()
        self.control_rest_until_s = 0.0
        self.jobs = asyncio.Semaphore(JOBS_AT_ONCE)
        self.was_connected = False
        self._close_after_s = close_after_s
        self._tasks: set[asyncio.Task[bool]] = set()

    def still_mine(self) -> bool:
        """Whether the lease was renewed lately enough to speak."""
        return not self.lost and lease_clock() - self.renewed_at_s < self._close_after_s

    @property
    def polling(self) -> int:
        """How many meters are being read."""
        return sum(meter.polling for meter in self.meters.values())

    @property
    def controls(self) -> int:
        """How many relays are being driven."""
        return sum(meter.controlling for meter in self.meters.values())

    def start_meters_afresh(self) -> None:
        """What was under way on the bus before this one is none of the new one's business."""
        now_s = asyncio.get_running_loop().time()
        self.meters = {
            meter.meter_id: OwnedMeter(meter.row, meter.target, due_s=now_s, fault=meter.fault)
            for meter in self.meters.values()
        }

    def spawn(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Do something on this gateway's behalf until it ends or the bus is taken away."""
        task = asyncio.create_task(guard(name, work), name=f"{name} {self.gateway_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def silence(self) -> Callable[[], Awaitable[None]]:
        """Stop everybody who speaks here, in this very call; what is left is to hang up."""
        tasks, bus = list(self._tasks), self.bus
        self.bus = None
        for task in tasks:
            task.cancel()
        return partial(_hang_up, tasks, bus)

    @property
    def opened(self) -> bool:
        """Whether it can be asked, or is known why not."""
        return self.bus is not None or self.fault is not None

    @property
    def dials_in(self) -> bool:
        """Whether only the other side can bring the link up."""
        return self.row is not None and self.row.link == "dtu"

    async def sleep_until_due(self, most_s: float) -> None:
        """Wait for the next meter's turn, or for something that changes it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self.wake.wait()


async def _hang_up(tasks: list[asyncio.Task[bool]], bus: Bus | None) -> None:
    if bus is not None:
        await bus.aclose()
    if tasks:  # one that waits for a database that is away may need longer: it speaks no more
        await asyncio.wait(tasks, timeout=HANG_UP_S)
