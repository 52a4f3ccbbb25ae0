"""A closed day that other readings have touched since: given back and charged anew (decision 5).

Every closed day from the first touched one on is rated afresh, in order, because blocks count on.
Where that makes another document, the statement gets a new version, and its amount a posting that
gives the old version back and charges the new one; a version that costs the same posts nothing and
names the posting before it. All that is asked of a day besides its readings is what its statement
says: tariff, and what counts as a gap. Locks: tenancy, correction_due, then as in settlement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import energy_corrected
from server.core.settlement.day import DaySettlement
from server.core.settlement.document import (
    document_differences,
    read_inputs,
    statement_document,
)
from server.core.tariff.versions import version_on
from server.models.database import Connection, Row, from_json, pool, rows, to_json, transaction
from server.services import settlement
from server.services.back_billing import add_back_billing
from server.services.day_inputs import Work, gather_closed, settle
from server.services.journal import Entry, post_many

BATCH_MAX = 50  # tenancies in one transaction, with the readings of their days in memory
DAYS_MAX = 31  # days of each; the rest follows in the next batch

# Tenancies that somebody else works on are passed over, so that nobody waits.
CLAIM = """
SELECT tenancy.id FROM correction_due JOIN tenancy ON tenancy.id = correction_due.tenancy_id
WHERE correction_due.try_at <= $1 AND ($3::bigint IS NULL OR tenancy.id = $3)
ORDER BY correction_due.try_at, tenancy.id LIMIT $2 FOR NO KEY UPDATE OF tenancy SKIP LOCKED
"""
DUE = """
SELECT tenancy_id, first_day FROM correction_due
WHERE tenancy_id = ANY($1::bigint[]) AND try_at <= $2
"""
WAITING = settlement.WAITING.replace("settlement_due", "correction_due")
DONE = settlement.DONE.replace("settlement_due", "correction_due")
GO_ON = settlement.GO_ON.replace("settlement_due", "correction_due")
PUT_ASIDE = settlement.PUT_ASIDE.replace("settlement_due", "correction_due")

NEWEST = """
SELECT newest.* FROM unnest($1::bigint[], $2::bigint[], $3::date[], $4::date[])
    AS wanted (site_id, tenancy_id, first_day, last_day)
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (day) tenancy_id, day, version, amount_fen, document, ledger_transaction_id
    FROM statement
    WHERE site_id = wanted.site_id AND tenancy_id = wanted.tenancy_id
      AND day BETWEEN wanted.first_day AND wanted.last_day
    ORDER BY day, version DESC
) AS newest
ORDER BY newest.tenancy_id, newest.day
"""
STATEMENT = """
INSERT INTO statement (site_id, tenancy_id, day, version, energy_wh, amount_fen, estimated,
                       document, ledger_transaction_id, closed_at)
SELECT site_id, tenancy_id, day, version, energy_wh, amount_fen, estimated, document::jsonb,
       nullif(ledger_transaction_id, 0), $10
FROM unnest($1::bigint[], $2::bigint[], $3::date[], $4::integer[], $5::bigint[], $6::bigint[],
            $7::boolean[], $8::text[], $9::bigint[])
    AS one (site_id, tenancy_id, day, version, energy_wh, amount_fen, estimated, document,
            ledger_transaction_id)
"""


@dataclass(frozen=True, slots=True)
class _Correction:
    """A closed day whose newest version `kept` is not what it is now."""

    work: Work
    kept: Row
    day: DaySettlement
    document: Mapping[str, object]

    @property
    def version(self) -> int:
        """The number of the version to come."""
        return int(self.kept["version"]) + 1

    @property
    def taken_fen(self) -> int:
        """By how much the day costs more than it did."""
        return self.day.amount_fen - int(self.kept["amount_fen"])

    @property
    def key(self) -> str:
        """Of the posting."""
        return f"statement:{self.work.tenancy['id']}:{self.day.day}:{self.version}"


async def correct_due(
    now: datetime, *, limit: int = BATCH_MAX, only: int | None = None
) -> list[int]:
    """Correct the closed days of tenancies that wait for it; the tenancies looked at.

    Call again until it answers none: a tenancy with more days goes on from where it is.
    """
    async with transaction() as connection:
        held = await rows(connection, CLAIM, now, min(limit, BATCH_MAX), only)
        if not held:
            return []
        due = await rows(connection, DUE, [one["id"] for one in held], now)
        first_days = {one["tenancy_id"]: one["first_day"] for one in due}
        work = await gather_closed(connection, first_days, DAYS_MAX)
        corrections = await _find_corrections(connection, work)
        await _apply(connection, corrections, now)
        await _decide_anew(connection, corrections, now)
        done = []
        for one in work:
            following = one.first_day + timedelta(days=DAYS_MAX)
            if following < one.tenancy["first_open_day"]:
                await rows(connection, GO_ON, one.tenancy["id"], following)
            else:
                done.append(one.tenancy["id"])
        await rows(connection, DONE, done)
        return list(first_days)


async def waiting_to_correct(now: datetime, limit: int) -> list[int]:
    """The tenancies whose turn it is, without taking them."""
    return [one["tenancy_id"] for one in await rows(pool(), WAITING, now, limit)]


async def put_aside(tenancy_id: int, now: datetime) -> None:
    """Correct this tenancy later, and ever later: it failed where others did not."""
    await rows(pool(), PUT_ASIDE, tenancy_id, now)


async def _find_corrections(connection: Connection, work: Sequence[Work]) -> list[_Correction]:
    found = await rows(
        connection,
        NEWEST,
        [one.tenancy["site_id"] for one in work],
        [one.tenancy["id"] for one in work],
        [one.first_day for one in work],
        [one.first_day + timedelta(days=DAYS_MAX - 1) for one in work],
    )
    kept: dict[int, list[Row]] = {}
    for one in found:
        kept.setdefault(one["tenancy_id"], []).append(one)
    return [
        correction for one in work for correction in _rate(one, kept.get(one.tenancy["id"], []))
    ]


def _rate(work: Work, kept: Sequence[Row]) -> list[_Correction]:
    """Rate these days afresh, in order; the ones that came out otherwise."""
    corrections, used = [], work.used
    for one in kept:
        day: date = one["day"]
        document = from_json(one["document"])
        inputs = read_inputs(document)
        version = version_on(work.rules.tariffs.get(inputs.tariff_code, ()), day)
        fresh = settle(work, day, version, used.before(day, version), gap_s=inputs.gap_s)
        used = used.after(day, fresh.energy_wh)
        rated = statement_document(fresh, version)
        if document_differences(document, rated):
            corrections.append(_Correction(work, one, fresh, rated))
    return corrections


async def _apply(connection: Connection, corrections: Sequence[_Correction], now: datetime) -> None:
    if not corrections:
        return
    posted = await _post(connection, corrections, now)
    await rows(
        connection,
        STATEMENT,
        [one.work.tenancy["site_id"] for one in corrections],
        [one.work.tenancy["id"] for one in corrections],
        [one.day.day for one in corrections],
        [one.version for one in corrections],
        [one.day.energy_wh for one in corrections],
        [one.day.amount_fen for one in corrections],
        [not one.day.complete for one in corrections],
        [to_json(one.document) for one in corrections],
        [posted.get(one.key, one.kept["ledger_transaction_id"] or 0) for one in corrections],
        now,
    )


async def _post(
    connection: Connection, corrections: Sequence[_Correction], now: datetime
) -> dict[str, int]:
    """Post what other amounts there are; the transactions by key.

    Booked now, not on the day: what was told of the days since then stays true.
    """
    entries: dict[int, list[Entry]] = {}
    for one in corrections:
        posting = energy_corrected(
            electricity_wallet(one.work.tenancy["id"]),
            reversed_fen=one.kept["amount_fen"],
            charged_fen=one.day.amount_fen,
            details={
                "day": one.day.day.isoformat(),
                "version": one.version,
                "energy_wh": one.day.energy_wh,
            },
        )
        if posting is not None and one.taken_fen:
            of_site = entries.setdefault(one.work.tenancy["site_id"], [])
            of_site.append(Entry(posting, one.key, now))
    posted = {}
    for site_id, of_site in sorted(entries.items()):
        written = await post_many(connection, site_id, of_site)
        for entry, one_posted in zip(of_site, written, strict=True):
            posted[entry.key] = one_posted.transaction_id
    return posted


async def _decide_anew(
    connection: Connection, corrections: Sequence[_Correction], now: datetime
) -> None:
    """Project the open days, in which blocks go on, and decide by what is left now."""
    taken: dict[int, int] = {}
    for one in corrections:
        tenancy_id = int(one.work.tenancy["id"])
        taken[tenancy_id] = taken.get(tenancy_id, 0) + one.taken_fen
    if not taken:
        return
    await add_back_billing(connection, taken, now)
    open_days = {
        int(one.work.tenancy["id"]): one.work.tenancy["first_open_day"] for one in corrections
    }
    while open_days:
        open_days = await settlement.project_within(connection, open_days, now, corrected=taken)
