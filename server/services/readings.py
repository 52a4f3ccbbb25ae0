"""Keeping what meters said: append-only, judged once, marked for settlement.

Gather the neighbours of each reading, let core judge, write once. A reading that no rule trusts
is kept apart with its reason and charges nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from server.core.errors import InvalidInputError
from server.core.settlement.interval import Exchange, PeriodRegisters, TrustedReading
from server.core.settlement.judging import MeterJudge
from server.core.settlement.quarantine import MeterLimits, Verdict
from server.core.tariff.periods import TouPeriod
from server.models.database import Connection, Row, pool, rows, to_json, transaction
from server.services.settlement_marks import Touched, mark_due

READINGS_MAX = 50_000  # a batch; a month of one mall's history comes in several
SINCE_EVER = datetime(2000, 1, 1, tzinfo=UTC)

_months_made: set[tuple[str, date]] = set()

# Locked in the order of their ids, so that two batches never wait on each other in a ring.
METERS = """
SELECT meter.id, meter.site_id, meter.max_power_w, meter.rollover_wh,
       lease.epoch, status.read_at, status.register_wh
FROM meter_status status JOIN meter ON meter.id = status.meter_id
JOIN gateway_lease lease ON lease.gateway_id = meter.gateway_id
WHERE meter.id = ANY($1::bigint[]) ORDER BY meter.id FOR NO KEY UPDATE OF status
"""

# What lies around the batch: a day is enough for the neighbours in all but the longest outages,
# and the lateral joins find the nearest reading on each side however far it is. With all exchanges:
# a reading is judged beside those of its own device.
AROUND = """
SELECT wanted.meter_id, near.*
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[])
    AS wanted (site_id, meter_id, first_at, last_at)
CROSS JOIN LATERAL (
    (SELECT read_at, register_wh, verdict,
            NULL::bigint AS first_wh, NULL::integer AS ratio, NULL::bigint AS rollover_wh
     FROM reading
     WHERE site_id = wanted.site_id AND meter_id = wanted.meter_id
       AND read_at < wanted.first_at AND verdict = 'trusted'
     ORDER BY read_at DESC LIMIT 2)
    UNION ALL
    (SELECT read_at, register_wh, verdict, NULL, NULL, NULL FROM reading
     WHERE site_id = wanted.site_id AND meter_id = wanted.meter_id
       AND read_at < wanted.first_at AND verdict = 'quarantined'
     ORDER BY read_at DESC LIMIT 1)
    UNION ALL
    (SELECT read_at, register_wh, verdict, NULL, NULL, NULL FROM reading
     WHERE site_id = wanted.site_id AND meter_id = wanted.meter_id
       AND read_at BETWEEN wanted.first_at AND wanted.last_at)
    UNION ALL
    (SELECT read_at, register_wh, verdict, NULL, NULL, NULL FROM reading
     WHERE site_id = wanted.site_id AND meter_id = wanted.meter_id
       AND read_at > wanted.last_at AND verdict = 'trusted'
     ORDER BY read_at LIMIT 1)
    UNION ALL
    (SELECT exchanged_at, final_wh, 'exchanged', first_wh, transformer_ratio, rollover_wh
     FROM meter_exchange WHERE meter_id = wanted.meter_id)
) AS near
"""

KEEP = """
INSERT INTO reading (site_id, meter_id, read_at, register_wh, verdict, reason, epoch, kept_at,
                     periods_wh)
SELECT site_id, meter_id, read_at, register_wh, verdict, reason, epoch, $8::timestamptz,
       periods_wh::bigint[]
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::bigint[], $5::text[], $6::text[],
            $7::bigint[], $9::text[])
    AS one (site_id, meter_id, read_at, register_wh, verdict, reason, epoch, periods_wh)
ON CONFLICT (site_id, meter_id, read_at) DO NOTHING
"""

REVERSE = """
UPDATE reading SET verdict = change.verdict, reason = change.reason
FROM unnest($3::timestamptz[], $4::text[], $5::text[]) AS change (read_at, verdict, reason)
WHERE reading.site_id = $1 AND reading.meter_id = $2 AND reading.read_at = change.read_at
"""

STATUS = """
UPDATE meter_status SET read_at = newest.read_at, register_wh = newest.register_wh,
    points = newest.points::jsonb, tried_at = greatest(tried_at, newest.read_at), finding = NULL
FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::text[])
    AS newest (meter_id, read_at, register_wh, points)
WHERE meter_status.meter_id = newest.meter_id
"""

FINDINGS = """
UPDATE meter_status SET tried_at = $4, finding = found.finding
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS found (meter_id, epoch, finding)
JOIN meter ON meter.id = found.meter_id
JOIN gateway_lease lease ON lease.gateway_id = meter.gateway_id AND lease.epoch = found.epoch
WHERE meter_status.meter_id = found.meter_id
"""
APART = """
UPDATE meter_status SET tried_at = apart.read_at, finding = 'quarantined: ' || apart.reason
FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) AS apart (meter_id, read_at, reason)
WHERE meter_status.meter_id = apart.meter_id
  AND (meter_status.read_at IS NULL OR meter_status.read_at < apart.read_at)
"""


@dataclass(frozen=True, slots=True)
class NewReading:
    """One reading as a collector made it; `epoch` is its lease's; points are for showing.

    `periods_wh` are the meter's sharp, peak, flat, valley and deep valley registers, if any.
    """

    meter_id: int
    read_at: datetime
    register_wh: int
    epoch: int
    points: Mapping[str, object] | None = None
    periods_wh: PeriodRegisters | None = None

    def __post_init__(self) -> None:
        if self.register_wh < 0:  # no register runs below zero, and the table refuses such a row
            raise InvalidInputError(f"a register cannot show {self.register_wh} Wh")
        if self.periods_wh is not None and len(self.periods_wh) != len(TouPeriod):
            raise InvalidInputError(f"{len(TouPeriod)} periods, not {len(self.periods_wh)}")


@dataclass(frozen=True, slots=True)
class NewFinding:
    """What is wrong with a meter: a stable code, a colon, and plain words."""

    meter_id: int
    epoch: int
    text: str


@dataclass(frozen=True, slots=True)
class KeepReport:
    """How a batch ended, reading by reading; `stale` came from a collector that lost its lease."""

    kept: int
    repeated: int
    quarantined: int
    stale: int


@dataclass(slots=True)
class _Judged:
    """One meter's part of a batch, judged in the order of time.

    `at_end`: each new trusted reading is behind all trusted ones, of which there was one before.
    """

    meter: Row
    new: list[tuple[NewReading, Verdict]]
    touches_from: list[datetime]
    outvoted: list[tuple[datetime, str, str | None]]
    repeated: int
    at_end: bool


async def keep(readings: Sequence[NewReading], now: datetime) -> KeepReport:
    """Judge and keep a batch; the same reading again is nothing."""
    if len(readings) > READINGS_MAX:
        raise ValueError(f"more than {READINGS_MAX} readings in one batch")
    await ensure_months("reading", {reading.read_at for reading in readings})
    async with transaction() as connection:
        return await keep_within(connection, readings, now)


async def keep_within(
    connection: Connection, readings: Sequence[NewReading], now: datetime
) -> KeepReport:
    """As `keep`, inside the caller's transaction (the months' partitions must exist)."""
    by_meter: dict[int, list[NewReading]] = {}
    for reading in readings:
        by_meter.setdefault(reading.meter_id, []).append(reading)
    meters = await rows(connection, METERS, sorted(by_meter))
    stale = len(readings)
    fresh: dict[int, list[NewReading]] = {}
    for meter in meters:
        mine = [one for one in by_meter[meter["id"]] if one.epoch == meter["epoch"]]
        stale -= len(mine)
        if mine:
            fresh[meter["id"]] = sorted(mine, key=lambda one: one.read_at)
    around = await _gather_around(connection, meters, fresh)
    judged = [
        _judge_meter(meter, fresh[meter["id"]], around.get(meter["id"], []), now)
        for meter in meters
        if meter["id"] in fresh
    ]
    await _apply(connection, judged, now)
    verdicts = [verdict for part in judged for _, verdict in part.new]
    return KeepReport(
        kept=len(verdicts),
        repeated=sum(part.repeated for part in judged),
        quarantined=sum(not verdict.trusted for verdict in verdicts),
        stale=stale,
    )


async def _gather_around(
    connection: Connection, meters: Sequence[Row], fresh: Mapping[int, Sequence[NewReading]]
) -> dict[int, list[Row]]:
    wanted = [meter for meter in meters if meter["id"] in fresh]
    found = await rows(
        connection,
        AROUND,
        [meter["site_id"] for meter in wanted],
        [meter["id"] for meter in wanted],
        [fresh[meter["id"]][0].read_at for meter in wanted],
        [fresh[meter["id"]][-1].read_at for meter in wanted],
    )
    around: dict[int, list[Row]] = {}
    for near in found:
        around.setdefault(near["meter_id"], []).append(near)
    return around


def _judge_meter(
    meter: Row, readings: Sequence[NewReading], around: Sequence[Row], now: datetime
) -> _Judged:
    """Judge one meter's readings, ascending, each between the trusted ones next to it."""
    judge = MeterJudge(
        MeterLimits(max_power_w=meter["max_power_w"], rollover_wh=meter["rollover_wh"]),
        [_exchange(near) for near in around if near["verdict"] == "exchanged"],
        [_shown(near) for near in around if near["verdict"] == "trusted"],
        [_shown(near) for near in around if near["verdict"] == "quarantined"],
    )
    known = {near["read_at"] for near in around if near["verdict"] != "exchanged"}
    newest = max(
        (near["read_at"] for near in around if near["verdict"] != "quarantined"), default=None
    )
    judged = _Judged(meter, [], [], [], 0, at_end=newest is not None)
    for reading in readings:
        if reading.read_at in known:
            judged.repeated += 1
            continue
        known.add(reading.read_at)
        candidate = TrustedReading(reading.read_at, reading.register_wh)
        verdict, before, witness = judge.judge(candidate, now)
        if witness is not None and before is not None:
            judged.outvoted += [
                (before.read_at, "quarantined", "outvoted"),
                (witness.read_at, "trusted", None),
            ]
            judged.touches_from.append(SINCE_EVER)
            judged.at_end = False
        judged.new.append((reading, verdict))
        if verdict.trusted:
            # energy is spread over the time since the reading before; days before a first one
            # end with it
            judged.touches_from.append(before.read_at if before else SINCE_EVER)
            judged.at_end &= newest is not None and newest < candidate.read_at
    return judged


def _shown(near: Row) -> TrustedReading:
    return TrustedReading(near["read_at"], near["register_wh"])


def _exchange(near: Row) -> Exchange:
    return Exchange(
        near["read_at"], near["register_wh"], near["first_wh"], near["ratio"], near["rollover_wh"]
    )


async def _apply(connection: Connection, judged: Sequence[_Judged], now: datetime) -> None:
    new = [(part.meter, reading, verdict) for part in judged for reading, verdict in part.new]
    if not new:
        return
    await rows(
        connection,
        KEEP,
        [meter["site_id"] for meter, _, _ in new],
        [meter["id"] for meter, _, _ in new],
        [reading.read_at for _, reading, _ in new],
        [reading.register_wh for _, reading, _ in new],
        ["trusted" if verdict.trusted else "quarantined" for _, _, verdict in new],
        [verdict.reason.value if verdict.reason else None for _, _, verdict in new],
        [reading.epoch for _, reading, _ in new],
        now,
        [_array(reading.periods_wh) for _, reading, _ in new],
    )
    for part in judged:
        await reverse_verdicts(connection, part.meter, part.outvoted)
    await _update_status(connection, judged)
    touched = [
        Touched(part.meter["id"], min(part.touches_from), at_end=part.at_end)
        for part in judged
        if part.touches_from
    ]
    await mark_due(connection, touched, now)


def _array(registers_wh: PeriodRegisters | None) -> str | None:
    """As PostgreSQL writes an array: an array of arrays may have no gaps."""
    if registers_wh is None:
        return None
    return "{" + ",".join("NULL" if wh is None else str(wh) for wh in registers_wh) + "}"


async def reverse_verdicts(
    connection: Connection, meter: Row, changes: Sequence[tuple[datetime, str, str | None]]
) -> None:
    """Judge readings of a meter otherwise from now on: when each was read, verdict, reason."""
    if changes:
        await rows(
            connection,
            REVERSE,
            meter["site_id"],
            meter["id"],
            [at for at, _, _ in changes],
            [verdict for _, verdict, _ in changes],
            [reason for *_, reason in changes],
        )


async def _update_status(connection: Connection, judged: Sequence[_Judged]) -> None:
    newest = []
    for part in judged:
        good = [reading for reading, verdict in part.new if verdict.trusted]
        last = good[-1] if good else None
        if last and (part.meter["read_at"] is None or last.read_at > part.meter["read_at"]):
            newest.append(last)
    if newest:
        await rows(
            connection,
            STATUS,
            [reading.meter_id for reading in newest],
            [reading.read_at for reading in newest],
            [reading.register_wh for reading in newest],
            [to_json(reading.points or {}) for reading in newest],
        )
    apart = [
        (reading.meter_id, reading.read_at, verdict.reason)
        for reading, verdict in (part.new[-1] for part in judged if part.new)
        if verdict.reason is not None
    ]
    if apart:
        await rows(
            connection,
            APART,
            [meter_id for meter_id, _, _ in apart],
            [at for _, at, _ in apart],
            [reason.value for _, _, reason in apart],
        )


async def record_findings(findings: Sequence[NewFinding], now: datetime) -> None:
    """What is wrong with meters that did not answer as they should; a good reading ends it."""
    await rows(
        pool(),
        FINDINGS,
        [one.meter_id for one in findings],
        [one.epoch for one in findings],
        [one.text[:200] for one in findings],
        now,
    )


async def ensure_months(parent: str, instants: Iterable[datetime]) -> None:
    """Make the partitions that these instants fall into (months of UTC), once a process."""
    months = {(parent, at.astimezone(UTC).date().replace(day=1)) for at in instants}
    for _, month in sorted(months - _months_made):
        await rows(pool(), "SELECT ensure_month_partition($1, $2)", parent, month)
    _months_made.update(months)


async def make_months_ahead(now: datetime) -> None:
    """Make this and the next two months' partitions, so that nobody waits for one at midnight."""
    for parent in ("reading", "statement", "fixed_charge_statement"):
        await ensure_months(parent, [now + timedelta(days=days) for days in (0, 31, 62)])


def forget_months() -> None:
    """Make sure of the partitions anew (after a change of database in this process)."""
    _months_made.clear()
