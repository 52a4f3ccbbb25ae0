"""Asking a meter something from anywhere: a row that the gateway's owner takes and finishes."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from server.core.errors import NotFoundError, UnavailableError
from server.models.database import Row, from_json, pool, row, rows, to_json
from server.services.wakeups import Wakeups, gateway_topic, job_topic

JOBS_OPEN_MAX = 100  # a gateway
TAKEN_MAX = 500  # at once; the rest a moment later
LOOK_S = 1.0

# A gateway that nobody owns answers no job: say so at once rather than let the asker wait.
ASK = """
INSERT INTO bus_job (gateway_id, meter_id, kind, requested_by, created_at, deadline_at)
SELECT meter.gateway_id, meter.id, $2, $3, $4, $5 FROM meter
JOIN gateway_lease lease ON lease.gateway_id = meter.gateway_id
WHERE meter.id = $1 AND lease.owner IS NOT NULL AND lease.held_until > clock_timestamp()
  AND (SELECT count(*) FROM bus_job open WHERE open.gateway_id = meter.gateway_id
       AND open.finished_at IS NULL AND open.deadline_at > $4) < $6
RETURNING id, gateway_id
"""
METERS_OF_SHOP = "SELECT id FROM meter WHERE shop_id = $1 AND role = 'shop' ORDER BY id LIMIT 100"
# A kind that only newer collectors know is left to them, or to its deadline.
TAKE = """
WITH open AS MATERIALIZED (
    SELECT bus_job.id, mine.epoch
    FROM unnest($1::bigint[], $2::bigint[]) AS mine (gateway_id, epoch)
    JOIN bus_job ON bus_job.gateway_id = mine.gateway_id AND bus_job.finished_at IS NULL
        AND bus_job.taken_epoch IS DISTINCT FROM mine.epoch AND bus_job.deadline_at > $3
        AND bus_job.kind = ANY($4::text[])
    ORDER BY bus_job.id LIMIT $5)
UPDATE bus_job SET taken_epoch = open.epoch FROM open
WHERE bus_job.id = open.id AND bus_job.finished_at IS NULL
RETURNING bus_job.id, bus_job.gateway_id, bus_job.meter_id, bus_job.kind, bus_job.deadline_at
"""
FINISH = """
UPDATE bus_job SET finished_at = $2, result = $3::jsonb, error = $4
WHERE id = $1 AND finished_at IS NULL
"""
RESULT = "SELECT finished_at, result, error FROM bus_job WHERE id = $1"
METER = """
SELECT meter.id, site.id AS site_id FROM meter JOIN site ON site.id = meter.site_id
WHERE meter.code = $1 AND ($2::text IS NULL OR site.code = $2)
"""


class JobKind(StrEnum):
    """What may be asked of a meter."""

    READ = "read"


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A job for a gateway's owner."""

    job_id: int
    gateway_id: int
    meter_id: int
    kind: JobKind
    deadline_at: datetime


class NoCollectorError(UnavailableError):
    """No collector owns the meter's gateway, or its queue is full."""

    code = "no_collector"


class JobFailedError(UnavailableError):
    """The meter did not do what it was asked; the detail says why in plain words."""

    code = "job_failed"


class AmbiguousCodeError(NotFoundError):
    """Several sites have this code."""

    code = "site_needed"


async def find_meter(code: str, site: str | None) -> tuple[int, int]:
    """A meter's id and its site's; raises NotFoundError, or AmbiguousCodeError without a site."""
    found = await rows(pool(), METER, code, site)
    if not found:
        raise NotFoundError(f"no meter {code}")
    if len(found) > 1:
        raise AmbiguousCodeError(f"several sites have a meter {code}: name one with --site")
    return found[0]["id"], found[0]["site_id"]


async def ask_meter(
    meter_id: int, kind: JobKind, *, requested_by: str, now: datetime, timeout_s: int
) -> tuple[int, int]:
    """Write a job; its id and its gateway's; raises NoCollectorError."""
    deadline = now + timedelta(seconds=timeout_s)
    made = await row(
        pool(), ASK, meter_id, kind.value, requested_by[:64], now, deadline, JOBS_OPEN_MAX
    )
    if made is None:
        raise NoCollectorError("no collector owns the meter's gateway")
    return made["id"], made["gateway_id"]


async def ask_shop(
    shop_id: int, kind: JobKind, *, requested_by: str, now: datetime, timeout_s: int
) -> list[int]:
    """Ask all meters of a shop without waiting for them; the gateways of those that can be asked.

    One without a collector is left out: whoever needs its answer sees that it does not come.
    """
    asked = []
    for one in await rows(pool(), METERS_OF_SHOP, shop_id):
        with suppress(NoCollectorError):
            _, gateway_id = await ask_meter(
                one["id"], kind, requested_by=requested_by, now=now, timeout_s=timeout_s
            )
            asked.append(gateway_id)
    return asked


async def wait_for_job(
    job_id: int, gateway_id: int, wakeups: Wakeups, timeout_s: int
) -> Mapping[str, object]:
    """The job's result; raises JobFailedError, also when nobody finished it in time."""
    async with wakeups.listen([job_topic(job_id)]) as listener:
        await wakeups.tell(gateway_topic(gateway_id))
        for _ in range(int(timeout_s / LOOK_S) + 1):
            found = await row(pool(), RESULT, job_id)
            if found is not None and found["finished_at"] is not None:
                return _result(found)
            await listener.wait(LOOK_S)
    raise JobFailedError("no answer in time")


def _result(found: Row) -> Mapping[str, object]:
    if found["error"] is not None:
        raise JobFailedError(found["error"])
    result: Mapping[str, object] = from_json(found["result"])
    return result


async def take_jobs(epochs: Mapping[int, int], now: datetime) -> Sequence[TakenJob]:
    """Jobs of these gateways that this epoch has not taken yet."""
    kinds = [kind.value for kind in JobKind]
    found = await rows(pool(), TAKE, list(epochs), list(epochs.values()), now, kinds, TAKEN_MAX)
    return [
        TakenJob(
            one["id"],
            one["gateway_id"],
            one["meter_id"],
            JobKind(one["kind"]),
            one["deadline_at"],
        )
        for one in found
    ]


async def finish_job(
    job_id: int, now: datetime, *, result: Mapping[str, object] | None, error: str | None
) -> None:
    """Write how a job ended; the first end stays."""
    text = None if result is None else to_json(result)
    await rows(pool(), FINISH, job_id, now, text, None if error is None else error[:200])
