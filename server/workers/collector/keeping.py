"""What was heard of meters goes to the tables from here, five times a second in one batch."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from tortoise.exceptions import IntegrityError

from server.core.supply.control_state import ControlState
from server.devices.errors import DeviceError, IdentityChangedError, MeterValueError
from server.devices.samples import MeterSample
from server.services import controls
from server.services.announce import announce_tenancies
from server.services.gateways import record_identity
from server.services.readings import KeepReport, NewFinding, NewReading, keep, record_findings
from server.services.wakeups import SETTLE, Wakeups
from server.workers.collector.gateway import OwnedGateway, OwnedMeter
from server.workers.collector.metrics import DEVICE_FAILURES, DROPPED, READINGS
from server.workers.collector.running import undisturbed

log = structlog.get_logger(__name__)

FLUSH_S = 0.2
BATCH_MAX = 2_000  # readings in one transaction
WAITING_MAX = 20_000  # while the database is slow; links close long before it is full
REPORTS_MAX = 100  # relay states a flush; the rest follows with the next
FINDING_AGAIN_S = 600.0  # the same trouble of the same meter is written again after this
DATABASE_TURNS = 6  # for controls and reports, so that renewing leases finds a connection


@dataclass(frozen=True, slots=True)
class _Seen:
    """A relay's state as an ordinary poll found it."""

    gateway: OwnedGateway
    meter: OwnedMeter
    state: ControlState


class Keeper:
    """Takes samples and troubles from all gateways without waiting, and writes them in batches."""

    def __init__(self, clock: Callable[[], datetime], wakeups: Wakeups) -> None:
        self.turns = asyncio.Semaphore(DATABASE_TURNS)
        self._clock = clock
        self._wakeups = wakeups
        self._readings: list[NewReading] = []
        self._seen: dict[int, _Seen] = {}
        self._findings: dict[int, NewFinding] = {}
        self._identities: dict[int, tuple[OwnedGateway, OwnedMeter, str]] = {}

    def take(
        self, gateway: OwnedGateway, meter: OwnedMeter, sample: MeterSample, at: datetime
    ) -> None:
        """Keep a sample: its reading, and what it shows of the relay; raises DeviceError."""
        self.check(gateway, meter, sample)
        self._readings.append(new_reading(gateway, meter, sample, at))
        if len(self._readings) > WAITING_MAX:
            DROPPED.inc()
            del self._readings[0]
        if sample.control_state is not None and not meter.controlling:
            self._seen[meter.meter_id] = _Seen(gateway, meter, sample.control_state)
        self.heard(meter)

    def check(self, gateway: OwnedGateway, meter: OwnedMeter, sample: MeterSample) -> None:
        """Refuse what must never be charged; raises DeviceError. The first look tells who it is."""
        if meter.target is not None and meter.target.profile.identity is not None:
            known = meter.row.identity
            if known is not None and sample.identity != known:
                raise IdentityChangedError(known, sample.identity)
            if known is None and sample.identity is not None:
                self._identities[meter.meter_id] = (gateway, meter, sample.identity)
                meter.name(sample.identity)
        if sample.register_wh < 0:
            raise MeterValueError(f"energy_total below zero: {sample.register_wh} Wh")

    def heard(self, meter: OwnedMeter) -> None:
        """A meter answered as it should."""
        meter.kept += 1
        meter.failed = False
        meter.finding = None
        self._findings.pop(meter.meter_id, None)
        if meter.retry.silent:
            meter.retry.reset()

    def forget_state(self, meter: OwnedMeter) -> None:
        """What was seen of a relay that is about to be moved is old."""
        self._seen.pop(meter.meter_id, None)

    def fail(self, gateway: OwnedGateway, meter: OwnedMeter, error: DeviceError) -> None:
        """Tell managers what is wrong with a meter."""
        meter.failed = True
        DEVICE_FAILURES.labels(error.code).inc()
        self.find(gateway, meter, error.code, error.detail)

    def find(self, gateway: OwnedGateway, meter: OwnedMeter, code: str, detail: str) -> None:
        """Write a finding, once in a while for the same trouble."""
        now_s = asyncio.get_running_loop().time()
        if meter.finding == code and now_s - meter.found_s < FINDING_AGAIN_S:
            return
        meter.finding, meter.found_s = code, now_s
        text = f"{code}: {detail}"
        self._findings[meter.meter_id] = NewFinding(meter.meter_id, gateway.epoch, text)

    async def flush(self) -> None:
        """Write everything that waits."""
        await undisturbed(self._flush())

    async def _flush(self) -> None:
        await self._keep_readings()
        await self._name_meters()
        await self._report_states()
        await self._write_findings()

    async def _write_findings(self) -> None:
        found = dict(self._findings)
        if found:
            await record_findings(list(found.values()), self._clock())
        for meter_id, written in found.items():
            if self._findings.get(meter_id) is written:
                del self._findings[meter_id]

    async def _keep_readings(self) -> None:
        while batch := self._readings[:BATCH_MAX]:
            try:
                report = await keep(batch, self._clock())
            except IntegrityError:
                report = await self._keep_one_by_one(batch)
            del self._readings[: len(batch)]
            _count(report)
            if report.kept:
                await self._wakeups.tell(SETTLE)

    async def _keep_one_by_one(self, batch: list[NewReading]) -> KeepReport:
        """One row that the tables refuse must not keep the others out."""
        reports = []
        for reading in batch:
            try:
                reports.append(await keep([reading], self._clock()))
            except IntegrityError:
                DROPPED.inc()
                log.exception("a reading cannot be kept", meter_id=reading.meter_id)
        return KeepReport(
            kept=sum(one.kept for one in reports),
            repeated=sum(one.repeated for one in reports),
            quarantined=sum(one.quarantined for one in reports),
            stale=sum(one.stale for one in reports),
        )

    async def _name_meters(self) -> None:
        for meter_id, (gateway, meter, identity) in [*self._identities.items()]:
            if await record_identity(meter_id, gateway.epoch, identity):
                log.debug("meter named itself", meter=meter.row.code, identity=identity)
            del self._identities[meter_id]

    async def _report_states(self) -> None:
        """Record the relay states that tell something new."""
        seen = {meter_id: self._seen.pop(meter_id) for meter_id in [*self._seen][:REPORTS_MAX]}
        if not seen:
            return
        states = {meter_id: one.state for meter_id, one in seen.items()}
        touched = set()
        for meter_id in await controls.news(states, self._clock()):
            tenancy_id = await self._report(seen[meter_id])
            if tenancy_id is not None:
                touched.add(tenancy_id)
        await announce_tenancies(self._wakeups, touched)

    async def _report(self, seen: _Seen) -> int | None:
        """Never while the relay is being moved: what a poll saw before would contradict it."""
        async with seen.meter.reporting, self.turns:
            if seen.meter.controlling:
                return None
            recorded = await controls.record(
                seen.meter.meter_id,
                seen.gateway.epoch,
                self._clock(),
                written=None,
                found=seen.state,
            )
        return None if recorded is None else recorded.tenancy_id


def new_reading(
    gateway: OwnedGateway, meter: OwnedMeter, sample: MeterSample, at: datetime
) -> NewReading:
    """A sample as services keep it."""
    return NewReading(
        meter.meter_id,
        at,
        sample.register_wh,
        gateway.epoch,
        points=points_of(sample),
        periods_wh=sample.periods_wh,
    )


def points_of(sample: MeterSample) -> dict[str, object]:
    """The points as exact text with their units."""
    return {
        name: {"value": format(quantity.value, "f"), "unit": quantity.unit}
        for name, quantity in sample.points.items()
    }


def _count(report: KeepReport) -> None:
    READINGS.labels("trusted").inc(report.kept - report.quarantined)
    READINGS.labels("quarantined").inc(report.quarantined)
    READINGS.labels("repeated").inc(report.repeated)
    READINGS.labels("stale").inc(report.stale)
    if report.stale:
        log.warning("readings came too late: the lease was lost", readings=report.stale)
