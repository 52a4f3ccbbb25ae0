"""Open days are projected as readings arrive; a closed day becomes a statement and a posting.

Gather by one SQL for the whole batch, rate in pure Python, apply by one SQL (decision 13). Locks
in this order: settlement_due, tenancy, meter_control, wallet (docs/locks.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from server.core.calendar import day_bounds, local_day
from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import energy_charged
from server.core.settlement.day import DaySettlement, settle_day
from server.core.settlement.document import statement_document
from server.core.settlement.interval import MeterPath, path_from_rows
from server.core.tariff.versions import BlockPeriod, TariffVersion, version_on
from server.models.database import Connection, Row, row, rows, to_json, transaction
from server.services.journal import post
from server.services.readings import ensure_months
from server.services.site_rules import SiteRules, site_rules
from server.services.supply import decide_within

BATCH_MAX = 500  # tenancies in one transaction
DAYS_MAX = 400  # days projected at once for one tenancy; the rest follows with the next readings

CLAIM = """
SELECT tenancy_id, first_day FROM settlement_due
ORDER BY tenancy_id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
DONE = "DELETE FROM settlement_due WHERE tenancy_id = ANY($1::bigint[])"

TENANCIES = """
SELECT tenancy.id, tenancy.site_id, tenancy.shop_id, tenancy.opened_at, tenancy.closed_at,
       tenancy.first_open_day, shop.tariff_code,
       (SELECT max(day) FROM open_day WHERE open_day.tenancy_id = tenancy.id) AS last_projected
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
WHERE tenancy.id = ANY($1::bigint[]) ORDER BY tenancy.id FOR NO KEY UPDATE OF tenancy
"""

# From the last trusted reading at or before `since` to the first at or after `until`.
PATHS = """
SELECT wanted.tenancy_id, meter.id, meter.code, meter.transformer_ratio, meter.rollover_wh,
       path.read_at, path.register_wh
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[])
    AS wanted (tenancy_id, shop_id, since, until)
JOIN meter ON meter.shop_id = wanted.shop_id AND meter.role = 'shop'
LEFT JOIN LATERAL (
    SELECT read_at, register_wh FROM reading
    WHERE site_id = meter.site_id AND meter_id = meter.id AND verdict = 'trusted'
      AND read_at <= coalesce((
        SELECT min(read_at) FROM reading
        WHERE site_id = meter.site_id AND meter_id = meter.id AND verdict = 'trusted'
          AND read_at >= wanted.until), 'infinity')
      AND read_at >= coalesce((
        SELECT max(read_at) FROM reading
        WHERE site_id = meter.site_id AND meter_id = meter.id AND verdict = 'trusted'
          AND read_at <= wanted.since), wanted.since)
) AS path ON true
"""

# What a tenancy used since its blocks began, on statements (newest version) and on open days.
BLOCKS = """
SELECT wanted.tenancy_id,
    coalesce((SELECT sum(energy_wh) FROM (
        SELECT DISTINCT ON (day) energy_wh FROM statement
        WHERE site_id = wanted.site_id AND tenancy_id = wanted.tenancy_id
          AND day >= wanted.since AND day < wanted.until
        ORDER BY day, version DESC) AS closed), 0)::bigint
  + coalesce((SELECT sum(energy_wh) FROM open_day
        WHERE tenancy_id = wanted.tenancy_id
          AND day >= wanted.since AND day < wanted.until), 0)::bigint AS energy_wh
FROM unnest($1::bigint[], $2::bigint[], $3::date[], $4::date[])
    AS wanted (site_id, tenancy_id, since, until)
"""

PROJECT = """
INSERT INTO open_day (site_id, tenancy_id, day, energy_wh, amount_fen, estimated, complete,
                      has_later_reading, document, computed_at)
SELECT site_id, tenancy_id, day, energy_wh, amount_fen, estimated, complete, later,
       document::jsonb, $10
FROM unnest($1::bigint[], $2::bigint[], $3::date[], $4::bigint[], $5::bigint[], $6::boolean[],
            $7::boolean[], $8::boolean[], $9::text[])
    AS one (site_id, tenancy_id, day, energy_wh, amount_fen, estimated, complete, later, document)
ON CONFLICT (tenancy_id, day) DO UPDATE SET energy_wh = excluded.energy_wh,
    amount_fen = excluded.amount_fen, estimated = excluded.estimated,
    complete = excluded.complete, has_later_reading = excluded.has_later_reading,
    document = excluded.document, computed_at = excluded.computed_at
"""

# Days close in order, and only on a projection that is up to date.
CLOSABLE = """
SELECT tenancy.id FROM tenancy
JOIN open_day ON open_day.tenancy_id = tenancy.id AND open_day.day = tenancy.first_open_day
WHERE tenancy.site_id = $1 AND tenancy.first_open_day < $2
  AND (open_day.complete OR (open_day.has_later_reading AND open_day.day <= $3))
  AND NOT EXISTS (SELECT 1 FROM settlement_due WHERE settlement_due.tenancy_id = tenancy.id)
ORDER BY tenancy.first_open_day, tenancy.id LIMIT $4
"""

STATEMENT = """
INSERT INTO statement (site_id, tenancy_id, day, version, energy_wh, amount_fen, estimated,
                       document, ledger_transaction_id, closed_at)
SELECT site_id, tenancy_id, day, 1, energy_wh, amount_fen, estimated, document::jsonb,
       nullif(ledger_transaction_id, 0), $9
FROM unnest($1::bigint[], $2::bigint[], $3::date[], $4::bigint[], $5::bigint[], $6::boolean[],
            $7::text[], $8::bigint[])
    AS one (site_id, tenancy_id, day, energy_wh, amount_fen, estimated, document,
            ledger_transaction_id)
"""
CLOSED = """
WITH closed AS (
    SELECT * FROM unnest($1::bigint[], $2::date[]) AS one (tenancy_id, day)
), gone AS (
    DELETE FROM open_day USING closed
    WHERE open_day.tenancy_id = closed.tenancy_id AND open_day.day = closed.day
)
UPDATE tenancy SET first_open_day = closed.day + 1 FROM closed
WHERE tenancy.id = closed.tenancy_id
"""
SITES = "SELECT id FROM site ORDER BY id"


@dataclass(frozen=True, slots=True)
class _Work:
    """One tenancy with all that its days depend on."""

    tenancy: Row
    rules: SiteRules
    versions: tuple[TariffVersion, ...]
    first_day: date
    paths: tuple[MeterPath, ...] = ()
    used: "_Used" = field(default_factory=lambda: _Used(0, 0))


@dataclass(frozen=True, slots=True)
class _Used:
    """Energy since the month's and since the year's begin, in which blocks count."""

    month_wh: int
    year_wh: int

    def before(self, day: date, version: TariffVersion) -> int:
        """The figure from which this day's blocks go on."""
        match version.block_period:
            case BlockPeriod.MONTH:
                return 0 if day.day == 1 else self.month_wh
            case BlockPeriod.YEAR:
                return 0 if (day.month, day.day) == (1, 1) else self.year_wh
            case None:
                return 0

    def after(self, day: date, energy_wh: int) -> "_Used":
        """With a day's energy added, begun anew where a month or a year begins."""
        new_month, new_year = day.day == 1, (day.month, day.day) == (1, 1)
        return _Used(
            energy_wh + (0 if new_month else self.month_wh),
            energy_wh + (0 if new_year else self.year_wh),
        )


async def settle_due(now: datetime, *, limit: int = BATCH_MAX) -> list[int]:
    """Project anew what readings have touched; the tenancies done, for waking their watchers."""
    async with transaction() as connection:
        due = await rows(connection, CLAIM, min(limit, BATCH_MAX))
        if not due:
            return []
        first_days = {one["tenancy_id"]: one["first_day"] for one in due}
        await project_within(connection, first_days, now)
        await rows(connection, DONE, list(first_days))
        return list(first_days)


async def project_within(
    connection: Connection, first_days: Mapping[int, date], now: datetime
) -> None:
    """Project open days from these days on, and decide the supply, in the caller's transaction."""
    work = await _gather(connection, first_days, now + timedelta(days=1))
    projected = [(one, day) for one in work for day in _settle_open_days(one, now)]
    if projected:
        await _apply_projection(connection, projected, now)
    await decide_within(connection, list(first_days), now)


async def _gather(
    connection: Connection, first_days: Mapping[int, date], until: datetime | None
) -> list[_Work]:
    """What these tenancies' days depend on; `until` None: only that of the first day itself."""
    tenancies = await rows(connection, TENANCIES, list(first_days))
    work = []
    for tenancy in tenancies:
        rules = await site_rules(connection, tenancy["site_id"])
        first = _first_day(tenancy, first_days[tenancy["id"]])
        work.append(_Work(tenancy, rules, rules.tariffs[tenancy["tariff_code"]], first))
    work = await _with_paths(connection, work, until)
    return await _with_blocks(connection, work)


def _first_day(tenancy: Row, touched: date) -> date:
    """The first open day to compute: from what was touched, without leaving a hole before it."""
    first_open: date = tenancy["first_open_day"]
    last: date | None = tenancy["last_projected"]
    unprojected = first_open if last is None else last + timedelta(days=1)
    return max(first_open, min(touched, unprojected))


async def _with_paths(
    connection: Connection, work: Sequence[_Work], until: datetime | None
) -> list[_Work]:
    days = [day_bounds(one.first_day, one.rules.zone) for one in work]
    found = await rows(
        connection,
        PATHS,
        [one.tenancy["id"] for one in work],
        [one.tenancy["shop_id"] for one in work],
        [start for start, _ in days],
        [
            until or min(end, one.tenancy["closed_at"] or end)
            for one, (_, end) in zip(work, days, strict=True)
        ],
    )
    points: dict[int, dict[int, tuple[Row, list[tuple[datetime, int]]]]] = {}
    for one in found:
        meters = points.setdefault(one["tenancy_id"], {})
        path = meters.setdefault(one["id"], (one, []))[1]
        if one["read_at"] is not None:
            path.append((one["read_at"], one["register_wh"]))
    return [
        replace(
            one,
            paths=tuple(
                path_from_rows(
                    meter["id"],
                    meter["code"],
                    meter["transformer_ratio"],
                    meter["rollover_wh"],
                    path,
                )
                for _, (meter, path) in sorted(points.get(one.tenancy["id"], {}).items())
            ),
        )
        for one in work
    ]


async def _with_blocks(connection: Connection, work: Sequence[_Work]) -> list[_Work]:
    """The energy used since the month's and the year's begin, where a tariff has blocks."""
    wanted = [one for one in work if any(version.block_period for version in one.versions)]
    if not wanted:
        return list(work)
    used: list[dict[int, int]] = []
    for start in (_month_start, _year_start):
        found = await rows(
            connection,
            BLOCKS,
            [one.tenancy["site_id"] for one in wanted],
            [one.tenancy["id"] for one in wanted],
            [start(one.first_day) for one in wanted],
            [one.first_day for one in wanted],
        )
        used.append({one["tenancy_id"]: one["energy_wh"] for one in found})
    month, year = used
    return [
        replace(one, used=_Used(month.get(one.tenancy["id"], 0), year.get(one.tenancy["id"], 0)))
        for one in work
    ]


def _month_start(day: date) -> date:
    return day.replace(day=1)


def _year_start(day: date) -> date:
    return day.replace(month=1, day=1)


def _settle_open_days(work: _Work, now: datetime) -> list[DaySettlement]:
    """Every open day from the first one to that of the newest reading."""
    newest = max((path.readings[-1].read_at for path in work.paths if path.readings), default=None)
    if newest is None:
        return []
    last_day = min(local_day(min(newest, now), work.rules.zone), _last_day(work))
    settled: list[DaySettlement] = []
    day, used = work.first_day, work.used
    while day <= last_day and len(settled) < DAYS_MAX:
        version = version_on(work.versions, day)
        one = _settle(work, day, version, used.before(day, version))
        settled.append(one)
        used = used.after(day, one.energy_wh)
        day += timedelta(days=1)
    return settled


def _last_day(work: _Work) -> date:
    closed_at = work.tenancy["closed_at"]
    return date.max if closed_at is None else local_day(closed_at, work.rules.zone)


def _settle(work: _Work, day: date, version: TariffVersion, block_start_wh: int) -> DaySettlement:
    return settle_day(
        day,
        work.rules.zone,
        work.paths,
        version,
        work.rules.calendar,
        block_start_wh=block_start_wh,
        gap_s=work.rules.gap_s,
        opened_at=work.tenancy["opened_at"],
        closed_at=work.tenancy["closed_at"],
    )


async def _apply_projection(
    connection: Connection, projected: Sequence[tuple[_Work, DaySettlement]], now: datetime
) -> None:
    await rows(
        connection,
        PROJECT,
        [work.tenancy["site_id"] for work, _ in projected],
        [work.tenancy["id"] for work, _ in projected],
        [day.day for _, day in projected],
        [day.energy_wh for _, day in projected],
        [day.amount_fen for _, day in projected],
        [day.estimated for _, day in projected],
        [day.complete for _, day in projected],
        [day.has_later_reading for _, day in projected],
        [_document(work, day) for work, day in projected],
        now,
    )


def _document(work: _Work, day: DaySettlement) -> str:
    return to_json(statement_document(day, version_on(work.versions, day.day)))


async def close_days(now: datetime, *, limit: int = BATCH_MAX) -> int:
    """Close the next day of each tenancy that is ready, at every site; how many were closed."""
    closed = 0
    async with transaction() as connection:
        sites = [one["id"] for one in await rows(connection, SITES)]
    for site_id in sites:
        closed += await close_days_of_site(site_id, now, limit=limit)
    return closed


async def close_days_of_site(site_id: int, now: datetime, *, limit: int = BATCH_MAX) -> int:
    """Close one day of each ready tenancy of a site (call again until it answers 0)."""
    async with transaction() as connection:
        rules = await site_rules(connection, site_id)
        today = local_day(now, rules.zone)
        overdue = today - timedelta(days=rules.close_after_days)
        ready = await rows(connection, CLOSABLE, site_id, today, overdue, min(limit, BATCH_MAX))
        tenancies = [one["id"] for one in ready]
        first = await row(
            connection,
            "SELECT min(first_open_day) AS day, max(first_open_day) AS last FROM tenancy"
            " WHERE id = ANY($1::bigint[])",
            tenancies,
        )
    if not tenancies or first is None:
        return 0
    await ensure_months("statement", {_noon(first["day"]), _noon(first["last"])})
    async with transaction() as connection:
        return await _close(connection, tenancies, now, today, overdue)


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12)  # noqa: DTZ001  only its month is used


async def _close(
    connection: Connection, tenancies: Sequence[int], now: datetime, today: date, overdue: date
) -> int:
    """Close from the readings themselves, under the tenancies' locks, never from a projection."""
    work = await _gather(connection, dict.fromkeys(tenancies, date.min), None)
    closing: list[tuple[_Work, DaySettlement]] = []
    for one in work:
        day = one.first_day
        if day != one.tenancy["first_open_day"] or day >= today:
            continue
        version = version_on(one.versions, day)
        settled = _settle(one, day, version, one.used.before(day, version))
        if settled.complete or (settled.has_later_reading and day <= overdue):
            closing.append((one, settled))
    transactions = [await _charge(connection, one, day) for one, day in closing]
    await _apply_closing(connection, closing, transactions, now)
    await decide_within(connection, [one.tenancy["id"] for one, _ in closing], now)
    return len(closing)


async def _charge(connection: Connection, work: _Work, day: DaySettlement) -> int:
    """Post a day's energy; 0 where it cost nothing."""
    tenancy_id = work.tenancy["id"]
    posting = energy_charged(
        electricity_wallet(tenancy_id),
        day.amount_fen,
        {"day": day.day.isoformat(), "version": 1, "energy_wh": day.energy_wh},
    )
    if posting is None:
        return 0
    posted = await post(
        connection,
        work.tenancy["site_id"],
        posting,
        key=f"statement:{tenancy_id}:{day.day}:1",
        booked_at=day.ends_at,
    )
    return posted.transaction_id


async def _apply_closing(
    connection: Connection,
    closing: Sequence[tuple[_Work, DaySettlement]],
    transactions: Sequence[int],
    now: datetime,
) -> None:
    if not closing:
        return
    await rows(
        connection,
        STATEMENT,
        [work.tenancy["site_id"] for work, _ in closing],
        [work.tenancy["id"] for work, _ in closing],
        [day.day for _, day in closing],
        [day.energy_wh for _, day in closing],
        [day.amount_fen for _, day in closing],
        [day.estimated for _, day in closing],
        [_document(work, day) for work, day in closing],
        list(transactions),
        now,
    )
    await rows(
        connection,
        CLOSED,
        [work.tenancy["id"] for work, _ in closing],
        [day.day for _, day in closing],
    )
