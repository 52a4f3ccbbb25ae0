"""Open days are projected as readings arrive; a closed day becomes a statement and a posting.

Gather by one SQL for the whole batch, rate in pure Python, apply by one SQL (decision 13). Locks
in this order: settlement_due, tenancy, wallet, meter_control (docs/locks.md).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from server.core.calendar import local_day
from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import energy_charged
from server.core.settlement.day import DaySettlement
from server.core.settlement.document import statement_document
from server.core.tariff.versions import version_on
from server.models.database import Connection, meanwhile, pool, rows, to_json, transaction
from server.services.back_billing import add_what_came_at_once, open_sums
from server.services.correction_marks import mark_closed_days
from server.services.day_inputs import Work, gather, gather_in_turn, last_day, settle
from server.services.journal import Entry, post_many
from server.services.locks import lock_tenancies
from server.services.open_days import NOTHING_BEFORE, OpenDay, go_on_within, keep_open_days
from server.services.readings import ensure_months
from server.services.supply import decide_within

BATCH_MAX = 1_000  # tenancies in one transaction
PROJECT_MAX = 200  # of them those whose days are projected from all their readings
CHUNK = 50  # tenancies whose readings are in memory at once
DAYS_MAX = 31  # days projected at once for one tenancy; the rest follows in the next batch

# What others settle is passed over. Whoever waits longest comes first, so that nobody starves.
CLAIM = """
SELECT tenancy_id, first_day FROM settlement_due
WHERE try_at <= $1 AND ($3::bigint IS NULL OR tenancy_id = $3)
ORDER BY try_at, tenancy_id LIMIT $2 FOR UPDATE SKIP LOCKED
"""
WAITING = """
SELECT tenancy_id FROM settlement_due WHERE try_at <= $1 ORDER BY try_at, tenancy_id LIMIT $2
"""
DONE = "DELETE FROM settlement_due WHERE tenancy_id = ANY($1::bigint[])"
GO_ON = "UPDATE settlement_due SET first_day = $2, failures = 0 WHERE tenancy_id = $1"
# Ten seconds later, then twice as long each time, at most two hours; a success ends it.
PUT_ASIDE = """
INSERT INTO settlement_due (tenancy_id, first_day, try_at, failures)
SELECT id, first_open_day, $2::timestamptz + interval '10 seconds', 1 FROM tenancy WHERE id = $1
ON CONFLICT (tenancy_id) DO UPDATE SET failures = settlement_due.failures + 1,
    try_at = $2::timestamptz
        + least(10 * power(2, least(settlement_due.failures, 20)), 7200) * interval '1 second'
"""

CLOSING_AGAIN = timedelta(hours=1)
PUT_CLOSING_ASIDE = "UPDATE tenancy SET closing_try_at = $2 WHERE id = $1"

# Days that no reading reaches any more: a meter was moved, or a manager held its readings apart.
UNREACHED = """
DELETE FROM open_day USING unnest($1::bigint[], $2::date[], $3::date[])
    AS computed (tenancy_id, first_day, last_day)
WHERE open_day.tenancy_id = computed.tenancy_id AND open_day.day >= computed.first_day
  AND open_day.day > computed.last_day
"""

# Days close in order, and only on a projection that is up to date. The last one of who has moved
# out is over when the tenancy is. An index has the days that were read beyond their end, in this
# order: no batch looks through all tenancies.
CLOSABLE = """
SELECT tenancy.id, tenancy.first_open_day FROM open_day
JOIN tenancy ON tenancy.id = open_day.tenancy_id AND tenancy.first_open_day = open_day.day
JOIN site ON site.id = tenancy.site_id
CROSS JOIN LATERAL (SELECT ($1::timestamptz AT TIME ZONE site.timezone)::date AS today) AS local
WHERE open_day.has_later_reading AND (open_day.day < local.today OR tenancy.closed_at <= $1)
  AND (open_day.complete OR open_day.day <= local.today - site.close_after_days)
  AND (tenancy.closing_try_at IS NULL OR tenancy.closing_try_at <= $1)
  AND NOT EXISTS (SELECT 1 FROM settlement_due WHERE settlement_due.tenancy_id = tenancy.id)
ORDER BY open_day.day, open_day.tenancy_id LIMIT $2
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
# What was projected of the days tells whose balance they change.
CLOSED = """
WITH closed AS (
    SELECT * FROM unnest($1::bigint[], $2::date[]) AS one (tenancy_id, day)
), gone AS (
    DELETE FROM open_day USING closed
    WHERE open_day.tenancy_id = closed.tenancy_id AND open_day.day = closed.day
    RETURNING open_day.tenancy_id, open_day.amount_fen
), done AS (
    UPDATE tenancy SET first_open_day = closed.day + 1, closing_try_at = NULL FROM closed
    WHERE tenancy.id = closed.tenancy_id
)
SELECT tenancy_id, amount_fen FROM gone
"""


@dataclass(frozen=True, slots=True)
class _Projected:
    """What came of one tenancy: its days, and the day from which the next batch goes on."""

    work: Work
    days: Sequence[DaySettlement]
    go_on: date | None


async def settle_due(
    now: datetime, *, limit: int = BATCH_MAX, only: int | None = None
) -> list[int]:
    """Project anew what readings have touched; the tenancies done, for waking their watchers."""
    async with transaction() as connection:
        due = await rows(connection, CLAIM, now, min(limit, BATCH_MAX), only)
        if not due:
            return []
        first_days = _bounded({one["tenancy_id"]: one["first_day"] for one in due})
        unfinished = await project_within(connection, first_days, now)
        await rows(connection, DONE, [one for one in first_days if one not in unfinished])
        for tenancy_id, day in unfinished.items():
            await rows(connection, GO_ON, tenancy_id, day)
        return list(first_days)


def _bounded(claimed: Mapping[int, date]) -> dict[int, date]:
    """As much of a claim as one transaction is to do; the rest waits for the next."""
    long = [one for one, first_day in claimed.items() if first_day != NOTHING_BEFORE]
    left = set(long[PROJECT_MAX:])
    return {one: first_day for one, first_day in claimed.items() if one not in left}


async def waiting_to_settle(now: datetime, limit: int) -> list[int]:
    """The tenancies whose turn it is, without taking them."""
    return [one["tenancy_id"] for one in await rows(pool(), WAITING, now, limit)]


async def put_aside(tenancy_id: int, now: datetime) -> None:
    """Settle this tenancy later, and ever later: it failed where others did not."""
    await rows(pool(), PUT_ASIDE, tenancy_id, now)


async def put_closing_aside(tenancy_id: int, now: datetime) -> None:
    """Close this tenancy's day in an hour: it failed where others did not. It is read on."""
    await rows(pool(), PUT_CLOSING_ASIDE, tenancy_id, now + CLOSING_AGAIN)


async def project_within(
    connection: Connection,
    first_days: Mapping[int, date],
    now: datetime,
    *,
    corrected: Collection[int] = (),
) -> dict[int, date]:
    """Project open days from these days on, and decide the supply, in the caller's transaction.

    Days before the first open one are marked for their correction: whoever marks a day to be
    settled need not know whether it is closed. `corrected`: whose closed days were other ones just
    now. The answer: the tenancies that have more days than a batch may hold, and the day to go on
    from.
    """
    await lock_tenancies(connection, first_days)
    at_end = [one for one, first_day in first_days.items() if first_day == NOTHING_BEFORE]
    gone = await go_on_within(connection, at_end, now)
    days = {one: first_day for one, first_day in first_days.items() if first_day != NOTHING_BEFORE}
    days |= gone.to_project
    unfinished = {}
    for tenancies in _chunks(sorted(days)):
        chunk = {one: days[one] for one in tenancies}
        work = await gather(connection, chunk, DAYS_MAX)
        projected = [_project(one, now) for one in work]
        unusual = [one for one in chunk if one in corrected] + _with_gaps(projected)
        before = await open_sums(connection, unusual)
        await _apply_projection(connection, projected, now)
        await add_what_came_at_once(connection, before, corrected, now)
        await mark_closed_days(connection, _touched_closed(work, chunk), now)
        for one in projected:
            if one.go_on is not None:
                unfinished[int(one.work.tenancy["id"])] = one.go_on
    await decide_within(connection, sorted([*days, *gone.to_decide]), now)
    return unfinished


def _chunks(tenancy_ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(tenancy_ids), CHUNK):
        yield tenancy_ids[start : start + CHUNK]


def _with_gaps(projected: Sequence[_Projected]) -> list[int]:
    return [int(one.work.tenancy["id"]) for one in projected if any(d.estimated for d in one.days)]


def _touched_closed(work: Sequence[Work], touched: Mapping[int, date]) -> dict[int, date]:
    """The first closed day that was touched, where one was."""
    first_days = {}
    for one in work:
        tenancy_id, opened_at = one.tenancy["id"], one.tenancy["opened_at"]
        first = max(touched[tenancy_id], local_day(opened_at, one.rules.zone))
        if first < one.tenancy["first_open_day"]:
            first_days[tenancy_id] = first
    return first_days


def _project(work: Work, now: datetime) -> _Projected:
    """Every open day from the first one to that of the newest reading."""
    newest = max((path.curve.times[-1] for path in work.paths if path.readings), default=None)
    if newest is None:
        return _Projected(work, (), None)
    end = min(local_day(min(newest, now), work.rules.zone), last_day(work))
    settled: list[DaySettlement] = []
    day, used = work.first_day, work.used
    while day <= end and len(settled) < DAYS_MAX:
        version = version_on(work.versions, day)
        one = settle(work, day, version, used.before(day, version))
        settled.append(one)
        used = used.after(day, one.energy_wh)
        day += timedelta(days=1)
    return _Projected(work, settled, day if day <= end else None)


async def _apply_projection(
    connection: Connection, projected: Sequence[_Projected], now: datetime
) -> None:
    await keep_open_days(connection, [day for one in projected for day in _open_days(one)], now)
    ended = [one for one in projected if one.go_on is None]
    await rows(
        connection,
        UNREACHED,
        [one.work.tenancy["id"] for one in ended],
        [one.work.first_day for one in ended],
        [one.days[-1].day if one.days else date.min for one in ended],
    )


def _open_days(projected: _Projected) -> Iterator[OpenDay]:
    """The rows of a projection; the newest one says from where it goes on, if it may."""
    tenancy, rules_version = projected.work.tenancy, projected.work.rules.version
    for number, day in enumerate(projected.days, start=1):
        is_newest = projected.go_on is None and number == len(projected.days)
        paths = projected.work.paths if is_newest and _may_go_on(projected.work) else ()
        newest = [path.segments[-1].readings[-1] for path in paths]
        yield OpenDay(
            tenancy["site_id"],
            tenancy["id"],
            day.day,
            day.energy_wh,
            day.amount_fen,
            day.estimated,
            day.complete,
            day.has_later_reading,
            rules_version,
            day.block_start_wh,
            day.cells_wh,
            [path.meter_id for path in paths],
            [reading.read_at for reading in newest],
            [reading.register_wh for reading in newest],
        )


def _may_go_on(work: Work) -> bool:
    """Whether each meter has a reading to go on from, which is the shop's, and stays the shop's."""
    for path in work.paths:
        readings = path.segments[-1].readings
        if path.removed_at is not None or not readings:
            return False
        if path.installed_at is not None and path.installed_at > readings[-1].read_at:
            return False
    return True


def _document(work: Work, day: DaySettlement) -> str:
    return to_json(statement_document(day, version_on(work.versions, day.day)))


async def close_days(now: datetime, *, limit: int = BATCH_MAX) -> int:
    """Close the next day of each tenancy that is ready (call again until it answers 0)."""
    return len(await close_next_days(await closable(now, limit), now))


async def closable(now: datetime, limit: int) -> list[int]:
    """The tenancies whose next day is ready to be closed, the longest ready first."""
    found = await rows(pool(), CLOSABLE, now, min(limit, BATCH_MAX))
    days = {one["first_open_day"] for one in found}
    await ensure_months("statement", {_noon(day) for day in days})
    return [one["id"] for one in found]


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


async def close_next_days(tenancy_ids: Sequence[int], now: datetime) -> list[int]:
    """Close one day of each of these tenancies, if it is ready; the ones closed.

    From the readings themselves, under the tenancies' locks, never from a projection.
    """
    if not tenancy_ids:
        return []
    async with transaction() as connection:
        await lock_tenancies(connection, tenancy_ids)
        closing: list[tuple[Work, DaySettlement]] = []
        chunks = list(_chunks(sorted(tenancy_ids)))
        async with aclosing(gather_in_turn(connection, chunks, 1)) as gathered:
            async for work in gathered:
                days = [(one, _ready_day(one, now)) for one in work]
                closing += [(replace(one, paths=()), day) for one, day in days if day is not None]
        return await close_within(connection, closing, now)


async def close_within(
    connection: Connection, closing: Sequence[tuple[Work, DaySettlement]], now: datetime
) -> list[int]:
    """Charge and close these tenancies' first open days, under their locks.

    A day that costs what was projected of it moves no balance, so that nothing need be decided.
    """
    async with meanwhile(_charge(connection, closing)) as charging:
        documents = [_document(work, day) for work, day in closing]
        transactions = await charging
    projected_fen = await _apply_closing(connection, closing, documents, transactions, now)
    amounts_fen = {int(work.tenancy["id"]): day.amount_fen for work, day in closing}
    moved = [one for one, fen in amounts_fen.items() if fen != projected_fen.get(one)]
    await decide_within(connection, moved, now)
    return list(amounts_fen)


def _ready_day(work: Work, now: datetime) -> DaySettlement | None:
    """The first open day, if it may be closed."""
    day = work.first_day
    today = local_day(now, work.rules.zone)
    closed_at = work.tenancy["closed_at"]
    is_over = day < today or (closed_at is not None and closed_at <= now)
    if not is_over or day > last_day(work):
        return None
    version = version_on(work.versions, day)
    settled = settle(work, day, version, work.used.before(day, version))
    overdue = day <= today - timedelta(days=work.rules.close_after_days)
    return settled if settled.complete or (settled.has_later_reading and overdue) else None


async def _charge(
    connection: Connection, closing: Sequence[tuple[Work, DaySettlement]]
) -> list[int]:
    """Post the days' energy; 0 where it cost nothing."""
    entries: dict[int, dict[int, Entry]] = {}
    for work, day in closing:
        tenancy_id = work.tenancy["id"]
        posting = energy_charged(
            electricity_wallet(tenancy_id),
            day.amount_fen,
            {"day": day.day.isoformat(), "version": 1, "energy_wh": day.energy_wh},
        )
        if posting is not None:
            key = f"statement:{tenancy_id}:{day.day}:1"
            of_site = entries.setdefault(work.tenancy["site_id"], {})
            of_site[tenancy_id] = Entry(posting, key, day.ends_at)
    posted: dict[int, int] = {}
    for site_id, of_site in sorted(entries.items()):
        written = await post_many(connection, site_id, list(of_site.values()))
        ids = [one.transaction_id for one in written]
        posted.update(zip(of_site, ids, strict=True))
    return [posted.get(work.tenancy["id"], 0) for work, _ in closing]


async def _apply_closing(
    connection: Connection,
    closing: Sequence[tuple[Work, DaySettlement]],
    documents: Sequence[str],
    transactions: Sequence[int],
    now: datetime,
) -> dict[int, int]:
    """Write the statements; what was projected of each day."""
    if not closing:
        return {}
    await rows(
        connection,
        STATEMENT,
        [work.tenancy["site_id"] for work, _ in closing],
        [work.tenancy["id"] for work, _ in closing],
        [day.day for _, day in closing],
        [day.energy_wh for _, day in closing],
        [day.amount_fen for _, day in closing],
        [not day.complete for _, day in closing],
        list(documents),
        list(transactions),
        now,
    )
    tenancy_ids, days = [work.tenancy["id"] for work, _ in closing], [day.day for _, day in closing]
    projected = await rows(connection, CLOSED, tenancy_ids, days)
    return {one["tenancy_id"]: one["amount_fen"] for one in projected}
