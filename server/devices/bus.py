"""One bus: its meters are read and controlled in turns, the urgent before the routine.

A reading takes the bus for one request at a time, so that a control never waits for more than
that. A control is one job: identity, fresh sample, the caller's decision, write, read-back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace

from server.core.supply.control_state import ControlState
from server.devices.errors import (
    ControlRefusedError,
    DeadlineError,
    DeviceError,
    FrameError,
    IdentityChangedError,
    MeterExceptionError,
    MeterMuteError,
)
from server.devices.line import Line, LineStats
from server.devices.links.dtu import DtuLink
from server.devices.patience import Patience
from server.devices.profiles.decoding import decode_sample, split_answer
from server.devices.profiles.profile import ENERGY_TOTAL, IDENTITY, STATE, ReadStep, Supply
from server.devices.protocols.exchange import Answered, Refused
from server.devices.protocols.requests import ReadRequest, Request
from server.devices.samples import MeterSample
from server.devices.targets import GatewayConfig, MeterTarget, Speaker, speaker_for
from server.devices.turns import Priority, Turns

__all__ = ["Bus", "ControlOutcome", "Priority"]

log = logging.getLogger(__name__)

METER_LIMIT = 512  # remembered; a Modbus bus has 247 at most, and meters are exchanged
ABSENT_S = 600.0  # a value that the meter refused is asked for again after this
FIRST_LOOK_PAUSE_S, LONGEST_LOOK_PAUSE_S = 0.1, 1.0

Authorise = Callable[[MeterSample], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class ControlOutcome:
    """What became of a control.

    `answered` is None when nothing was written, else whether the meter acknowledged the write.
    Only `control_state`, the last read-back, says what the relay is. `sample` was taken before.
    """

    answered: bool | None
    control_state: ControlState | None
    sample: MeterSample
    authorised: bool


@dataclass(slots=True)
class _Meter:
    """What this bus has learned of one meter."""

    speaker: Speaker
    patience: Patience = field(default_factory=Patience)
    alone: bool = False  # it refused a block, so each value is asked for alone
    absent_until: dict[ReadRequest, float] = field(default_factory=dict)
    permitted: bool = False  # closing was permitted and has not happened yet
    controlling: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class _Job:
    """One caller's place in the queue and how long it has."""

    priority: Priority
    number: int
    ends_at: float


class Bus:
    """The meters behind one gateway. Made by gateway.open_bus."""

    def __init__(self, config: GatewayConfig, line: Line) -> None:
        self.config = config
        self._line = line
        self._turns = Turns()
        self._meters: dict[Hashable, _Meter] = {}
        self._outages_seen = 0
        if isinstance(line.link, DtuLink):
            line.link.prober = self._probe

    @property
    def connected(self) -> bool:
        """Whether the link is up."""
        return self._line.link.up

    @property
    def stats(self) -> LineStats:
        """What was asked, answered, missed and dropped since the start."""
        return self._line.stats

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._turns.waiting

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        await self._line.link.start()

    async def aclose(self) -> None:
        """Close the link; what waits fails with LinkDownError."""
        await self._line.link.aclose()

    async def read(
        self, target: MeterTarget, *, priority: Priority = Priority.ROUTINE, deadline_s: float
    ) -> MeterSample:
        """A sample of every point; raises DeviceError. A mute meter rests between polls.

        Another identity than expected is no error here: the caller keeps the reading apart.
        """
        meter = self._meter(target)
        job = self._job(priority, deadline_s)
        rest_s = meter.patience.rest_s(_now())
        if priority >= Priority.URGENT and rest_s > 0:
            raise MeterMuteError(f"{target.code} is left alone for another {rest_s:.0f} s")
        values = await self._read_all(target, meter, job)
        return self._sample(target, meter, values)

    async def control(
        self,
        target: MeterTarget,
        wanted: ControlState,
        *,
        authorise: Authorise,
        deadline_s: float,
    ) -> ControlOutcome:
        """Bring the relay into a state, as one job at the head of the queue.

        Raises DeviceError as long as nothing was written, and ControlRefusedError when the meter
        said no. One write at most: whoever wants another decides by the read-back.
        """
        meter = self._meter(target)
        job = self._job(Priority.CONTROL, deadline_s)
        supply = _supply(target, wanted)
        try:
            async with asyncio.timeout_at(job.ends_at):
                await meter.controlling.acquire()
        except TimeoutError:
            raise DeadlineError("another control of this meter took until the deadline") from None
        try:
            return await self._control(target, meter, supply, wanted, authorise, job)
        finally:
            meter.controlling.release()

    async def _control(
        self,
        target: MeterTarget,
        meter: _Meter,
        supply: Supply,
        wanted: ControlState,
        authorise: Authorise,
        job: _Job,
    ) -> ControlOutcome:
        async with self._turns.take(job.priority, job.number, job.ends_at):
            sample = await self._sample_for_control(target, meter, job)
            if not await _ask_caller(authorise, sample, job):
                return ControlOutcome(None, sample.control_state, sample, authorised=False)
            if _reached(sample.control_state, wanted):
                return ControlOutcome(None, sample.control_state, sample, authorised=True)
            answered = await self._write(meter, supply, wanted, job)
            state = await self._look(target, meter, job)
        pause_s = FIRST_LOOK_PAUSE_S
        while not _reached(state, wanted) and _now() + pause_s < job.ends_at:
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_LOOK_PAUSE_S, pause_s * 2)
            try:
                async with self._turns.take(job.priority, job.number, job.ends_at):
                    state = await self._look(target, meter, job)
            except DeadlineError:
                break
        return ControlOutcome(answered, state, sample, authorised=True)

    async def _sample_for_control(
        self, target: MeterTarget, meter: _Meter, job: _Job
    ) -> MeterSample:
        """Energy, state and identity, read while the bus is held; raises IdentityChangedError."""
        values: dict[str, bytes] = {}
        for step in _steps(target, meter, ENERGY_TOTAL, STATE, IDENTITY):
            answer = await self._ask_patiently(meter, step.request, job)
            if isinstance(answer, Refused):
                raise _refused_error(answer)
            values |= split_answer(step, answer.data)
        sample = self._sample(target, meter, values)
        known = target.identity if target.profile.identity is not None else None
        if known is not None and sample.identity != known:
            raise IdentityChangedError(known, sample.identity)
        return sample

    async def _write(self, meter: _Meter, supply: Supply, wanted: ControlState, job: _Job) -> bool:
        """Write once; whether the meter acknowledged. Raises ControlRefusedError."""
        disconnecting = wanted is ControlState.DISCONNECTED
        request = supply.disconnect if disconnecting else supply.reconnect
        meter.permitted = False
        try:
            answer = await self._ask(meter, request, job)
        except DeviceError as error:
            if not self._line.sent:
                raise
            log.info("a relay command was not acknowledged: %s", error)
            return False
        if isinstance(answer, Answered):
            meter.permitted = supply.permits_only and not disconnecting
            return True
        raise ControlRefusedError(f"the meter refused: {answer.meaning}")

    async def _look(self, target: MeterTarget, meter: _Meter, job: _Job) -> ControlState | None:
        """The relay's state now; None when it cannot be read."""
        (step,) = (step for step in target.profile.single_steps if step.holds(STATE))
        try:
            answer = await self._ask(meter, step.request, job)
        except DeviceError as error:
            log.info("a read-back failed: %s", error)
            return None
        if isinstance(answer, Refused) or target.profile.supply is None:
            return None
        data = split_answer(step, answer.data)[STATE]
        return _with_permission(meter, target.profile.supply.state.decode(data))

    async def _read_all(self, target: MeterTarget, meter: _Meter, job: _Job) -> dict[str, bytes]:
        """Every value that the meter has, by name."""
        values: dict[str, bytes] = {}
        for step in _steps(target, meter):
            if meter.absent_until.get(step.request, 0.0) > _now():
                continue
            answer = await self._read_step(meter, step, job)
            if isinstance(answer, Answered):
                values |= split_answer(step, answer.data)
            elif len(step.parts) > 1 and answer.permanent and not meter.alone:
                log.info("%s refuses a block: %s", target.code, answer.meaning)
                meter.alone = True
                return await self._read_all(target, meter, job)
            elif step.holds(ENERGY_TOTAL):
                raise _refused_error(answer)
            elif answer.permanent:
                meter.absent_until[step.request] = _now() + ABSENT_S
        return values

    async def _read_step(self, meter: _Meter, step: ReadStep, job: _Job) -> Answered | Refused:
        """One request in a turn of its own; a meter known to answer is asked once more."""
        try:
            return await self._read_once(meter, step, job)
        except (MeterMuteError, FrameError):
            if meter.patience.misses > 1:
                raise
        return await self._read_once(meter, step, job)

    async def _read_once(self, meter: _Meter, step: ReadStep, job: _Job) -> Answered | Refused:
        if self._line.suspicious:
            try:
                async with asyncio.timeout_at(job.ends_at):
                    await self._line.until_trusted(meter.speaker.ask(step.request))
            except TimeoutError:
                raise MeterMuteError("a late answer may still come") from None
        async with self._turns.take(job.priority, job.number, job.ends_at):
            return await self._ask(meter, step.request, job)

    async def _ask_patiently(
        self, meter: _Meter, request: Request, job: _Job
    ) -> Answered | Refused:
        """A read within a held turn, once more when it was damaged or missed."""
        try:
            return await self._ask(meter, request, job)
        except (MeterMuteError, FrameError):
            return await self._ask(meter, request, job)

    async def _ask(self, meter: _Meter, request: Request, job: _Job) -> Answered | Refused:
        """One exchange, which teaches how long this meter takes."""
        exchange = meter.speaker.ask(request)
        urgent = job.priority <= Priority.COMMISSIONING
        try:
            answer = _heard_from_meter(
                await self._line.ask(exchange, meter.patience.timeout_s, job.ends_at, urgent=urgent)
            )
        except (MeterMuteError, FrameError):
            meter.patience.missed(_now())
            raise
        meter.patience.answered(self._line.last_elapsed_s)
        return answer

    def _sample(self, target: MeterTarget, meter: _Meter, values: dict[str, bytes]) -> MeterSample:
        sample = decode_sample(target.profile, values)
        state = _with_permission(meter, sample.control_state)
        return replace(sample, control_state=state)

    def _meter(self, target: MeterTarget) -> _Meter:
        """What is known of this meter; raises MisconfiguredError."""
        if self._line.outages != self._outages_seen:
            self._outages_seen = self._line.outages
            for known in self._meters.values():
                known.patience.forgive()
        key = (target.profile.name, target.unit, target.address)
        meter = self._meters.get(key)
        if meter is None:
            if len(self._meters) >= METER_LIMIT:
                self._meters.pop(next(iter(self._meters)))
            meter = self._meters[key] = _Meter(speaker_for(self.config, target))
        return meter

    def _job(self, priority: Priority, deadline_s: float) -> _Job:
        return _Job(priority, self._turns.number(), _now() + deadline_s)

    async def _probe(self, deadline_s: float) -> None:
        """Make some meter talk, so that a DTU's connection shows whether it lives."""
        exchange = self._line.last_good
        job = self._job(Priority.CONTROL, deadline_s)
        if exchange is None:
            return
        async with self._turns.take(job.priority, job.number, job.ends_at):
            await self._line.ask(exchange, deadline_s, job.ends_at)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _supply(target: MeterTarget, wanted: ControlState) -> Supply:
    supply = target.profile.supply
    if supply is None:
        raise ControlRefusedError(f"{target.profile.name} has no relay")
    if wanted is ControlState.READY_FOR_RECONNECTION and not supply.permits_only:
        raise ControlRefusedError(f"{target.profile.name} closes its relay at once")
    return supply


def _reached(state: ControlState | None, wanted: ControlState) -> bool:
    """Permission to close is all that we can do: then it is up to the person at the meter."""
    ready = ControlState.READY_FOR_RECONNECTION
    if wanted is ControlState.DISCONNECTED:
        return state is ControlState.DISCONNECTED
    return state in {ready, ControlState.CONNECTED}


def _with_permission(meter: _Meter, state: ControlState | None) -> ControlState | None:
    """Disconnected, but permitted to close: ready for reconnection."""
    if state is ControlState.CONNECTED:
        meter.permitted = False
    if meter.permitted and state is ControlState.DISCONNECTED:
        return ControlState.READY_FOR_RECONNECTION
    return state


def _steps(target: MeterTarget, meter: _Meter, *names: str) -> Iterator[ReadStep]:
    """The requests that read these values, or all."""
    steps = target.profile.single_steps if meter.alone else target.profile.steps
    return (step for step in steps if not names or step.holds(*names))


def _heard_from_meter(answer: Answered | Refused) -> Answered | Refused:
    """A gateway that answers in the meter's place says that the meter is mute."""
    if isinstance(answer, Refused) and answer.beyond:
        raise MeterMuteError(answer.meaning)
    return answer


def _refused_error(answer: Refused) -> MeterExceptionError:
    return MeterExceptionError(
        f"the meter refused: {answer.meaning}",
        exception_code=answer.code,
        transient=not answer.permanent,
    )


async def _ask_caller(authorise: Authorise, sample: MeterSample, job: _Job) -> bool:
    """The caller's decision on the fresh sample; too late is no."""
    try:
        async with asyncio.timeout_at(job.ends_at):
            return await authorise(sample)
    except TimeoutError:
        raise DeadlineError("the decision took until the deadline") from None
