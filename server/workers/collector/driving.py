"""Bringing relays where they should be: one job at a time a meter, several buses side by side.

The wish is in the tables, the proof is a read-back; between them nothing here is remembered but
when to try again.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial

import structlog

from server.core.supply.control_state import ControlState
from server.core.supply.state import ActionKind
from server.devices.bus import Bus, ControlOutcome, Priority
from server.devices.errors import (
    ControlRefusedError,
    DeviceError,
    FrameError,
    LinkDownError,
    MeterMuteError,
    MeterValueError,
)
from server.devices.gateway import MeterTarget
from server.devices.samples import MeterSample
from server.services import controls
from server.services.announce import announce_tenancies
from server.services.wakeups import Wakeups
from server.workers.collector.gateway import CONTROLS_AT_ONCE, OwnedGateway, OwnedMeter
from server.workers.collector.keeping import Keeper, new_reading
from server.workers.collector.metrics import CONTROLS
from server.workers.collector.running import undisturbed

log = structlog.get_logger(__name__)

DEADLINE_S = 10.0
DOWN_PAUSE_S = 1.0  # a gateway that is down is asked for again after this: who paid waits for it
PRESSING_AFTER_S = 60.0  # a relay that opens itself after a reconnection shall be seen
LOOK_AGAIN_S = 5.0
NOTHING_PAUSE_S = 0.1  # somebody else did it, and the next look will not find it

_WANTED = {
    ActionKind.RECONNECT: ControlState.CONNECTED,
    ActionKind.DISCONNECT: ControlState.DISCONNECTED,
}


class Driver:
    """Looks for relays that are not as they should be, and drives them there."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        wakeups: Wakeups,
        keeper: Keeper,
        on_room: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._wakeups = wakeups
        self._keeper = keeper
        self._on_room = on_room

    async def look(self, gateways: dict[int, OwnedGateway]) -> None:
        """Start what is due on every gateway that has room for it."""
        now_s = _now_s()
        room = {one.gateway_id: free for one in gateways.values() if (free := _room(one, now_s))}
        if not room:
            return
        resting = [
            meter.meter_id
            for gateway_id in room
            for meter in gateways[gateway_id].meters.values()
            if meter.controlling or meter.target is None or meter.retry.until_s > now_s
        ]
        for one in await controls.pending_controls(list(room), self._clock(), but=resting):
            gateway = gateways.get(one.gateway_id)
            meter = None if gateway is None else gateway.meters.get(one.meter_id)
            if gateway is None or meter is None or room[one.gateway_id] == 0:
                continue
            if meter.target is None or meter.controlling or gateway.bus is None:
                continue
            room[one.gateway_id] -= 1
            meter.controlling = True
            gateway.spawn("control", partial(self._drive, gateway, meter))

    async def _drive(self, gateway: OwnedGateway, meter: OwnedMeter) -> None:
        arrived = silent = down = False
        try:
            async with meter.reporting:
                self._keeper.forget_state(meter)
            if gateway.bus is not None and meter.target is not None and gateway.still_mine():
                arrived = await self._act(gateway, meter, gateway.bus, meter.target)
        except DeviceError as error:
            down = isinstance(error, LinkDownError)
            silent = isinstance(error, MeterMuteError | FrameError)
            self._keeper.fail(gateway, meter, error)
        finally:
            self._rest(gateway, meter, arrived=arrived, silent=silent, down=down)

    def _rest(
        self, gateway: OwnedGateway, meter: OwnedMeter, *, arrived: bool, silent: bool, down: bool
    ) -> None:
        """What ended is over; what failed waits."""
        now_s = _now_s()
        if arrived:
            meter.retry.reset()
            meter.pressing_until_s = now_s + PRESSING_AFTER_S
            meter.due_s = min(meter.due_s, now_s + LOOK_AGAIN_S)
            gateway.wake.set()
        elif down:
            gateway.control_rest_until_s = now_s + DOWN_PAUSE_S
        else:
            meter.retry.failed(now_s, silent=silent)
        meter.kept += 1  # a poll that began before may have seen the relay as it was
        meter.controlling = False
        self._on_room()

    async def _act(
        self, gateway: OwnedGateway, meter: OwnedMeter, bus: Bus, target: MeterTarget
    ) -> bool:
        """One step; whether the relay is known to be as wished now."""
        action = await controls.wished_action(meter.meter_id, self._clock())
        wanted = _WANTED.get(action)
        if wanted is not None:
            arrived = await self._move(gateway, meter, bus, target, wanted)
        elif action is ActionKind.READ_BACK:
            arrived = await self._look_at(gateway, meter, bus, target)
        else:
            await asyncio.sleep(NOTHING_PAUSE_S)
            return True
        CONTROLS.labels(action.value, "arrived" if arrived else "under_way").inc()
        return arrived

    async def _look_at(
        self, gateway: OwnedGateway, meter: OwnedMeter, bus: Bus, target: MeterTarget
    ) -> bool:
        """Read the relay back. A meter that was mute waits for its turn like the others."""
        priority = Priority.URGENT if meter.retry.silent else Priority.CONTROL
        kept_before = meter.kept
        sample = await bus.read(target, priority=priority, deadline_s=DEADLINE_S)
        if meter.kept == kept_before:
            self._keeper.take(gateway, meter, sample, self._clock())
        self._keeper.check(gateway, meter, sample)
        if sample.control_state is None:
            raise MeterValueError("the relay's state is neither of those that the profile knows")
        return await self._record(gateway, meter, written=None, found=sample.control_state)

    async def _move(
        self,
        gateway: OwnedGateway,
        meter: OwnedMeter,
        bus: Bus,
        target: MeterTarget,
        wanted: ControlState,
    ) -> bool:
        """One write at most, if it still may be, and its read-back."""
        try:
            outcome = await bus.control(
                target,
                wanted,
                authorise=partial(self._authorise, gateway, meter, wanted),
                deadline_s=DEADLINE_S,
            )
        except ControlRefusedError:  # an answer too: it counts, and the read-back follows
            CONTROLS.labels(wanted.value, "refused").inc()
            await self._record(gateway, meter, written=wanted, found=None)
            raise
        self._keeper.heard(meter)
        written = wanted if outcome.answered else None
        recorded = await self._record(gateway, meter, written=written, found=outcome.control_state)
        log.info(
            "relay driven",
            meter=meter.row.code,
            wanted=wanted.value,
            authorised=outcome.authorised,
            answered=outcome.answered,
            found=outcome.control_state and outcome.control_state.value,
        )
        return recorded and _arrived(outcome, wanted)

    async def _authorise(
        self, gateway: OwnedGateway, meter: OwnedMeter, wanted: ControlState, sample: MeterSample
    ) -> bool:
        """The last decision, on the fresh sample, committed before the write."""
        now = self._clock()
        self._keeper.check(gateway, meter, sample)
        if sample.control_state is None:
            raise MeterValueError("the relay's state is neither of those that the profile knows")
        meter.kept += 1
        reading = new_reading(gateway, meter, sample, now)
        async with self._keeper.turns:
            allowed = await undisturbed(
                controls.authorise(meter.meter_id, wanted, reading, sample.control_state, now)
            )
        return allowed and gateway.still_mine()

    async def _record(
        self,
        gateway: OwnedGateway,
        meter: OwnedMeter,
        *,
        written: ControlState | None,
        found: ControlState | None,
    ) -> bool:
        """Report to the tables; False: the lease is lost, and the report with it."""
        async with self._keeper.turns:
            recorded = await undisturbed(
                controls.record(
                    meter.meter_id, gateway.epoch, self._clock(), written=written, found=found
                )
            )
        if recorded is None:
            log.warning("a relay's report came too late", meter=meter.row.code)
            return False
        if recorded.tenancy_id is not None:
            await announce_tenancies(self._wakeups, [recorded.tenancy_id])
        return True


def _room(gateway: OwnedGateway, now_s: float) -> int:
    """How many relay jobs may start here now; a gateway that is down gets one to wake it."""
    if gateway.bus is None or not gateway.still_mine():
        return 0
    if gateway.bus.connected:
        return CONTROLS_AT_ONCE - gateway.controls
    if gateway.dials_in or now_s < gateway.control_rest_until_s:
        return 0
    return max(0, 1 - gateway.controls)


def _arrived(outcome: ControlOutcome, wanted: ControlState) -> bool:
    """Permission to close is all that some meters give."""
    if wanted is ControlState.CONNECTED:
        return outcome.control_state in {wanted, ControlState.READY_FOR_RECONNECTION}
    return outcome.control_state is wanted


def _now_s() -> float:
    return asyncio.get_running_loop().time()
