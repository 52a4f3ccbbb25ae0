"""Bus jobs: what commands and pages ask of a meter, and the answer in plain words."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial

from server.devices.bus import Priority
from server.devices.errors import DeadlineError, DeviceError, LinkDownError, MisconfiguredError
from server.devices.samples import MeterSample
from server.services.bus_jobs import TakenJob, finish_job, take_jobs
from server.services.wakeups import Wakeups, job_topic
from server.workers.collector.gateway import OwnedGateway, OwnedMeter
from server.workers.collector.keeping import Keeper, points_of
from server.workers.collector.metrics import JOBS

KNOWN_IN_LOOKS, KNOWN_LOOK_S = 12, 0.25
ANSWER_IN_S = 0.3  # kept back from the deadline, so that the asker still hears why


class Clerk:
    """Takes the jobs of owned gateways and finishes them."""

    def __init__(self, clock: Callable[[], datetime], wakeups: Wakeups, keeper: Keeper) -> None:
        self._clock = clock
        self._wakeups = wakeups
        self._keeper = keeper

    async def look(self, gateways: dict[int, OwnedGateway]) -> None:
        """Take what waits; each job has a task of its own."""
        epochs = {
            one.gateway_id: one.epoch
            for one in gateways.values()
            if one.opened and one.still_mine()
        }
        if not epochs:
            return
        for job in await take_jobs(epochs, self._clock()):
            gateway = gateways.get(job.gateway_id)
            if gateway is not None:
                gateway.spawn("job", partial(self._do, gateway, job))

    async def _do(self, gateway: OwnedGateway, job: TakenJob) -> None:
        result, error = None, None
        try:
            async with gateway.jobs:
                result = await self._read(gateway, job)
        except DeviceError as failure:
            error = f"{failure.code}: {failure.detail}"
        await finish_job(job.job_id, self._clock(), result=result, error=error)
        JOBS.labels(job.kind.value, "failed" if error else "done").inc()
        await self._wakeups.tell(job_topic(job.job_id))

    async def _read(self, gateway: OwnedGateway, job: TakenJob) -> dict[str, object]:
        for _ in range(KNOWN_IN_LOOKS):  # one that was imported a moment ago is known soon
            if job.meter_id in gateway.meters:
                break
            await asyncio.sleep(KNOWN_LOOK_S)
        meter = gateway.meters.get(job.meter_id)
        if meter is None or meter.target is None or gateway.bus is None:
            known = meter and meter.fault
            raise MisconfiguredError(gateway.fault or known or "the meter is not known here")
        if not gateway.still_mine():
            raise LinkDownError("the collector has just lost this gateway")
        left_s = (job.deadline_at - self._clock()).total_seconds() - ANSWER_IN_S
        if left_s <= 0:
            raise DeadlineError("the bus was busy until the deadline")
        kept_before = meter.kept
        try:
            sample = await gateway.bus.read(
                meter.target, priority=Priority.COMMISSIONING, deadline_s=left_s
            )
            at = self._clock()
            if meter.kept == kept_before:
                self._keeper.take(gateway, meter, sample, at)
        except DeviceError as error:
            self._keeper.fail(gateway, meter, error)
            raise
        return _result(meter, sample, at)


def _result(meter: OwnedMeter, sample: MeterSample, at: datetime) -> dict[str, object]:
    """What `mallwatt meter read` prints."""
    return {
        "code": meter.row.code,
        "read_at": at.isoformat(),
        "control_state": sample.control_state and sample.control_state.value,
        "points": points_of(sample),
    }
