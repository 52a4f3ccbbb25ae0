"""A merchant's days and bills as they are kept, and our own lines beside them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from payments.contract import Bill, BillEntry, BillEntryKind, Platform
from server.core.reconciliation.compare import (
    Billed,
    BillLine,
    Comparison,
    OurLine,
    Way,
    compare,
)
from server.core.reconciliation.days import bill_day, edges
from server.core.refunds.parts import PartState
from server.models.database import Connection, Row, pool, row, rows, transaction

LINES_KEPT = timedelta(days=400)
NUMBER_MAX = 64

MERCHANTS = """
SELECT platform, merchant_id, array_agg(site_id ORDER BY site_id) AS site_ids,
    (SELECT placed.created_at FROM payment_order placed
     WHERE placed.platform = merchant.platform AND placed.merchant_id = merchant.merchant_id
     ORDER BY placed.id LIMIT 1) AS first_order_at
FROM merchant GROUP BY platform, merchant_id
HAVING $1::bigint IS NULL OR $1 = ANY(array_agg(site_id)) ORDER BY platform DESC, merchant_id
"""
# A difference is settled once it is cured or its case is closed.
MARKS = """
SELECT mark.id, mark.day, mark.fetched_at, mark.finished_at, EXISTS (
    SELECT 1 FROM reconciliation_difference found
    LEFT JOIN payment_case shown ON shown.id = found.case_id
    WHERE found.day_id = mark.id AND found.cured_at IS NULL AND shown.closed_at IS NULL
) AS differs
FROM reconciliation_day mark
WHERE mark.platform = $1 AND mark.merchant_id = $2 AND mark.day = ANY($3::date[])
"""
MARK = """
INSERT INTO reconciliation_day (platform, merchant_id, day, tried_at, problem, bill_payments,
    bill_payments_fen, bill_refunds, bill_refunds_fen, our_payments, our_payments_fen,
    our_refunds, our_refunds_fen)
VALUES ($1, $2, $3, $4, $5, 0, 0, 0, 0, 0, 0, 0, 0)
ON CONFLICT (platform, merchant_id, day) DO UPDATE
    SET tried_at = excluded.tried_at, problem = excluded.problem
RETURNING id, digest, fetched_at
"""
FETCHED = """
UPDATE reconciliation_day SET fetched_at = $2, digest = $3,
    changed_at = CASE WHEN $4 AND fetched_at IS NOT NULL THEN $2 ELSE changed_at END,
    finished_at = CASE WHEN $4 THEN NULL ELSE finished_at END
WHERE id = $1
"""
FORGET_LINES = "DELETE FROM bill_line WHERE day_id = $1"
KEEP_LINES = """
INSERT INTO bill_line (day_id, line, way, number, out_trade_no, transaction_id, amount_fen,
    fee_fen, at, status)
SELECT $1, told.* FROM unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::bigint[], $8::bigint[], $9::timestamptz[], $10::text[]) AS told
"""
FORGET_OLD = """
DELETE FROM bill_line USING reconciliation_day mark WHERE mark.id = bill_line.day_id
    AND mark.day < $1
"""
LINES = """
SELECT id, way, number, out_trade_no, amount_fen, status FROM bill_line
WHERE day_id = $1 ORDER BY line
"""
OUR_PAYMENTS = """
SELECT credit.transaction_id AS number, credit.out_trade_no, credit.amount_fen, posted.site_id,
    credit.paid_at >= $3 AND credit.paid_at < $4 AS is_due
FROM payment_credit credit
JOIN ledger_transaction posted ON posted.id = credit.ledger_transaction_id
WHERE credit.platform = $1 AND credit.merchant_id = $2
  AND (credit.paid_at >= $3 AND credit.paid_at < $4 OR credit.transaction_id = ANY($5::text[]))
ORDER BY credit.id
"""
# What was asked for stands on the bill of the day on which it was accepted; what a person wrote
# down (no attempt) was asked for by nobody here, so any bill may have it, one of them and once.
OUR_REFUNDS = """
SELECT part.out_refund_no AS number, part.out_trade_no, part.amount_fen, part.state, part.site_id,
    part.attempts = 0 AND part.state = 'done' AS is_recorded,
    part.attempts > 0 AND part.state IN ('done', 'processing', 'abnormal')
        AND coalesce(part.sent_at, part.finished_at) >= $3
        AND coalesce(part.sent_at, part.finished_at) < $4 AS is_due
FROM refund_part part
WHERE part.platform = $1 AND part.merchant_id = $2 AND (
    part.out_refund_no = ANY($5::text[])
    OR part.attempts > 0 AND coalesce(part.sent_at, part.finished_at) >= $3
        AND coalesce(part.sent_at, part.finished_at) < $4
    OR part.attempts = 0 AND part.state = 'done' AND part.out_trade_no = ANY($6::text[])
        AND NOT EXISTS (SELECT 1 FROM bill_line other
            WHERE other.our_number = part.out_refund_no AND other.day_id <> $7))
ORDER BY part.id
"""
ELSEWHERE = """
SELECT line.number, line.our_number FROM bill_line line
JOIN reconciliation_day mark ON mark.id = line.day_id
WHERE mark.platform = $1 AND mark.merchant_id = $2 AND mark.id <> $3
  AND (line.number = ANY($4::text[]) OR line.our_number = ANY($4::text[]))
"""
PLACED = """
SELECT out_trade_no, placed.site_id, top_up.tenancy_id FROM payment_order placed
JOIN top_up ON top_up.id = placed.top_up_id
WHERE placed.platform = $1 AND placed.merchant_id = $2 AND out_trade_no = ANY($3::text[])
"""


@dataclass(frozen=True, slots=True)
class Merchant:
    """An account at a platform, and the malls that are paid by it, the first one first."""

    platform: Platform
    merchant_id: str
    site_ids: tuple[int, ...]
    first_order_at: datetime | None

    @property
    def names(self) -> tuple[str, str]:
        """What names it in every table."""
        return self.platform.value, self.merchant_id


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose an order is."""

    site_id: int
    tenancy_id: int | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A day as it is compared now, and whose its lines are, by their order."""

    comparison: Comparison
    owners: Mapping[str, Owner]
    line_ids: Mapping[BillLine, Sequence[int]]


async def merchants(site_id: int | None = None) -> list[Merchant]:
    """All merchants, or those of one mall."""
    return [
        Merchant(
            Platform(one["platform"]),
            one["merchant_id"],
            tuple(one["site_ids"]),
            one["first_order_at"],
        )
        for one in await rows(pool(), MERCHANTS, site_id)
    ]


async def marks(merchant: Merchant, days: Sequence[date]) -> Mapping[date, Row]:
    """What is known of these days."""
    found = await rows(pool(), MARKS, *merchant.names, list(days))
    return {one["day"]: one for one in found}


async def note_problem(merchant: Merchant, day: date, problem: str, now: datetime) -> None:
    """Why a day could not be compared; what is known of it stays."""
    await rows(pool(), MARK, *merchant.names, day, now, problem)


async def keep_bill(merchant: Merchant, bill: Bill, now: datetime) -> int:
    """Keep a bill in place of an older one; the number of its day."""
    async with transaction() as connection:
        mark = await row(connection, MARK, *merchant.names, bill.day, now, None)
        assert mark is not None  # noqa: S101  INSERT … RETURNING answers its row
        changed = mark["fetched_at"] is None or mark["digest"] != bill.digest
        if changed:
            await rows(connection, FORGET_LINES, mark["id"])
            await rows(connection, KEEP_LINES, mark["id"], *_columns(bill.entries))
        await rows(connection, FETCHED, mark["id"], now, bill.digest, changed)
        return int(mark["id"])


def _columns(entries: Sequence[BillEntry]) -> tuple[list[object], ...]:
    return (
        list(range(1, len(entries) + 1)),
        [one.kind.value for one in entries],
        [_kept(number_of(one)) for one in entries],
        [_kept(one.out_trade_no) for one in entries],
        [_kept(one.transaction_id) for one in entries],
        [one.amount_fen for one in entries],
        [one.fee_fen for one in entries],
        [one.at for one in entries],
        [one.status.value if one.status is not None else None for one in entries],
    )


def _kept(number: str) -> str:
    """Other tills choose theirs as they like; none of ours is longer, or has a NUL."""
    return number.replace("\0", "")[:NUMBER_MAX]


def number_of(entry: BillEntry) -> str:
    """What a line is matched by; a reversal at another till may have no number of a refund."""
    if entry.kind is BillEntryKind.PAYMENT:
        return entry.transaction_id
    return entry.out_refund_no or entry.refund_id or entry.transaction_id


async def forget_old_lines(now: datetime) -> None:
    """Drop lines of bills that nobody exports any more; days and differences stay."""
    await rows(pool(), FORGET_OLD, bill_day(now - LINES_KEPT))


async def look(connection: Connection, merchant: Merchant, day_id: int, day: date) -> Seen:
    """Compare a day whose bill is kept with what the books have now.

    A large bill is read and compared in threads: others are credited meanwhile.
    """
    found = await rows(connection, LINES, day_id)
    bill, line_ids = await asyncio.to_thread(_bill_lines, found)
    paid = [one.number for one in bill if one.way is Way.PAYMENT]
    back = [one for one in bill if one.way is Way.REFUND]
    numbers, trades = [one.number for one in back], [one.out_trade_no for one in back]
    during = (*merchant.names, *edges(day))
    payments = await rows(connection, OUR_PAYMENTS, *during, paid)
    refunds = await rows(connection, OUR_REFUNDS, *during, numbers, trades, day_id)
    ours = [_our_payment(one) for one in payments] + [_our_refund(one) for one in refunds]
    due = [one.number for one in ours if one.is_due]
    others = await rows(connection, ELSEWHERE, *merchant.names, day_id, due)
    elsewhere = {one["number"] for one in others} | {one["our_number"] for one in others}
    comparison = await asyncio.to_thread(compare, ours, bill, elsewhere)
    owners = {one["out_trade_no"]: Owner(one["site_id"], None) for one in (*payments, *refunds)}
    asked = [one.line.out_trade_no for one in comparison.differences]
    placed = await rows(connection, PLACED, *merchant.names, asked)
    owners |= {one["out_trade_no"]: Owner(one["site_id"], one["tenancy_id"]) for one in placed}
    return Seen(comparison, owners, line_ids)


def _bill_lines(found: Sequence[Row]) -> tuple[list[BillLine], dict[BillLine, list[int]]]:
    bill = [_bill_line(one) for one in found]
    line_ids: dict[BillLine, list[int]] = {}
    for line, one in zip(bill, found, strict=True):
        line_ids.setdefault(line, []).append(one["id"])
    return bill, line_ids


def _bill_line(found: Row) -> BillLine:
    return BillLine(
        Way(found["way"]),
        found["number"],
        found["out_trade_no"],
        found["amount_fen"],
        Billed(found["status"]) if found["status"] is not None else None,
    )


def _our_payment(found: Row) -> OurLine:
    names = (found["number"], found["out_trade_no"], found["amount_fen"])
    return OurLine(Way.PAYMENT, *names, is_due=found["is_due"])


def _our_refund(found: Row) -> OurLine:
    names = (found["number"], found["out_trade_no"], found["amount_fen"])
    state = PartState(found["state"])
    return OurLine(Way.REFUND, *names, state, found["is_due"], found["is_recorded"])
