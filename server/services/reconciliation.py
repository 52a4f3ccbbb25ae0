"""A day against the platform's bill: fetched and kept, compared, cured, and what stays shown.

The platform is asked between transactions. Whoever dies in between leaves a day that is not
finished: the next one begins it anew, and each cure does nothing twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import structlog

from payments.contract import (
    BillNotReadyError,
    BillUnsoundError,
    PaymentError,
    PaymentPlatform,
    PlatformUnavailableError,
)
from server.core.reconciliation.compare import Difference, Finding
from server.core.reconciliation.cures import (
    CURES,
    OWN_CASES,
    Answer,
    case_of,
)
from server.core.reconciliation.days import bill_day, days_with_bills, is_due, made_by
from server.core.refunds.cases import CaseKind
from server.models.database import Connection, Row, pool, row, rows, transaction
from server.services.payment_cases import NewCase, close_agreed, show_case
from server.services.platforms import PlatformDirectory
from server.services.reconciliation_cures import cure, shown_by_trade
from server.services.reconciliation_days import (
    Merchant,
    Owner,
    Seen,
    keep_bill,
    look,
    marks,
    note_problem,
)

log = structlog.get_logger(__name__)

CURES_AT_ONCE = 500  # of one day; the rest when it is compared again
PROBLEM_MAX = 64

LOCK = "SELECT id FROM reconciliation_day WHERE id = $1 FOR UPDATE"
OPEN = """
SELECT found.*, shown.kind FROM reconciliation_difference found
LEFT JOIN payment_case shown ON shown.id = found.case_id
WHERE found.day_id = $1 AND found.cured_at IS NULL ORDER BY found.id
"""
FORGET_OPEN = "DELETE FROM reconciliation_difference WHERE day_id = $1 AND cured_at IS NULL"
KEEP = """
INSERT INTO reconciliation_difference (day_id, site_id, finding, number, out_trade_no, our_fen,
    our_state, bill_fen, bill_state, answer, case_id, found_at, cured_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
MATCHED = """
UPDATE bill_line SET our_number = told.our_number
FROM unnest($2::bigint[], $3::text[]) AS told (id, our_number)
WHERE bill_line.day_id = $1 AND bill_line.id = told.id
  AND bill_line.our_number IS DISTINCT FROM told.our_number
"""
UNMATCHED = """
UPDATE bill_line SET our_number = NULL
WHERE day_id = $1 AND our_number IS NOT NULL AND NOT id = ANY($2::bigint[])
"""
FINISH = """
UPDATE reconciliation_day SET finished_at = $2, problem = $3, bill_payments = $4,
    bill_payments_fen = $5, bill_refunds = $6, bill_refunds_fen = $7, our_payments = $8,
    our_payments_fen = $9, our_refunds = $10, our_refunds_fen = $11
WHERE id = $1
"""
CASE_OF = "SELECT id FROM payment_case WHERE site_id = $1 AND kind = $2 AND subject = $3"

Name = tuple[str, str]  # a difference's finding and number
Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Result:
    """How far a day got: `problem` is why it is not finished, and `tenancies` were changed."""

    problem: str | None = None
    tenancies: Sequence[int] = ()


@dataclass(slots=True)
class _Answers:
    """What was said about each difference, and what was done."""

    of: dict[Name, Answer] = field(default_factory=dict)
    found: dict[Name, Difference] = field(default_factory=dict)
    tenancies: set[int] = field(default_factory=set)


async def due_days(merchant: Merchant, now: datetime) -> list[date]:
    """The days of a merchant that are to be compared now, oldest first."""
    if merchant.first_order_at is None:
        return []
    days = days_with_bills(merchant.first_order_at, now)
    known = await marks(merchant, days)
    return [day for day in days if _is_due(day, known.get(day), now)]


def _is_due(day: date, mark: Row | None, now: datetime) -> bool:
    return mark is None or is_due(
        day,
        fetched_at=mark["fetched_at"],
        is_finished=mark["finished_at"] is not None,
        differs=mark["differs"],
        now=now,
    )


async def reconcile_day(
    merchant: Merchant, day: date, platforms: PlatformDirectory, clock: Clock
) -> Result:
    """Fetch, compare, cure and show one day; the same again changes nothing more.

    Never raises a platform's errors: the day is marked with them, and comes again.
    """
    platform = await platform_of(merchant, platforms)
    problem = await fetch(merchant, day, platform, clock)
    if problem is not None or platform is None:
        return Result(problem)
    day_id = (await marks(merchant, [day]))[day]["id"]
    seen = await look(pool(), merchant, day_id, day)
    if any(CURES[one.finding].patient for one in seen.comparison.differences):
        await _fetch_neighbours(merchant, day, platform, clock)
        seen = await look(pool(), merchant, day_id, day)
    answers = _Answers()
    for difference in seen.comparison.differences[:CURES_AT_ONCE]:
        site_id = _owner(seen.owners, merchant, difference).site_id
        cured = await cure(merchant, platform, difference, site_id, clock())
        answers.of[_name(difference)] = cured.answer
        answers.found[_name(difference)] = difference
        if cured.tenancy_id is not None:
            answers.tenancies.add(cured.tenancy_id)
    problem = await _finish(merchant, day_id, day, answers, clock())
    return Result(problem, sorted(answers.tenancies))


async def platform_of(merchant: Merchant, platforms: PlatformDirectory) -> PaymentPlatform | None:
    """The merchant at its platform, by the keys of the first mall that has usable ones."""
    for site_id in merchant.site_ids:
        platform = await platforms.of_site(site_id, merchant.platform)
        if platform is not None and platform.merchant_id == merchant.merchant_id:
            return platform
    return None


async def fetch(
    merchant: Merchant, day: date, platform: PaymentPlatform | None, clock: Clock
) -> str | None:
    """Fetch and keep a bill; why that could not be done, in a word that is kept with the day."""
    problem = "no_merchant"
    if platform is not None:
        try:
            bill = await platform.fetch_bill(day, clock())
        except PaymentError as error:
            problem = _problem(error)
            log.warning(
                "a bill could not be had",
                platform=merchant.platform.value,
                day=day.isoformat(),
                problem=problem,
                detail=error.detail,
            )
        else:
            await keep_bill(merchant, bill, clock())
            return None
    await note_problem(merchant, day, problem, clock())
    return problem


def _problem(error: PaymentError) -> str:
    if isinstance(error, BillNotReadyError):
        return "not_ready"
    if isinstance(error, BillUnsoundError):
        return "unsound"
    if isinstance(error, PlatformUnavailableError):
        return "unavailable"
    return f"refused {error.code}".strip()[:PROBLEM_MAX]


async def _fetch_neighbours(
    merchant: Merchant, day: date, platform: PaymentPlatform, clock: Clock
) -> None:
    """Seconds around midnight put a line on another day: what its bill says is known as well."""
    days = [day - timedelta(days=1), day + timedelta(days=1)]
    known = await marks(merchant, days)
    first_day = bill_day(merchant.first_order_at or clock())
    for other in days:
        is_kept = other in known and known[other]["fetched_at"] is not None
        if not is_kept and other >= first_day and made_by(other) <= clock():
            await fetch(merchant, other, platform, clock)


def _name(difference: Difference) -> Name:
    return difference.finding.value, difference.line.number


def _owner(owners: Mapping[str, Owner], merchant: Merchant, difference: Difference) -> Owner:
    """Whose it is; the first mall's where nobody knows the order."""
    return owners.get(difference.line.out_trade_no, Owner(merchant.site_ids[0], None))


async def _finish(
    merchant: Merchant, day_id: int, day: date, answers: _Answers, now: datetime
) -> str | None:
    """Write down what the cures left, and show it; why the day is not finished."""
    following = day + timedelta(days=1)
    mark = (await marks(merchant, [following])).get(following)
    next_bill_known = mark is not None and mark["fetched_at"] is not None
    async with transaction() as connection:
        await rows(connection, LOCK, day_id)
        seen = await look(connection, merchant, day_id, day)
        before = await rows(connection, OPEN, day_id)
        kept = {(one["finding"], one["number"]): one for one in before}
        await rows(connection, FORGET_OPEN, day_id)
        shown, missing = set(), 0
        for difference in seen.comparison.differences:
            answer = answers.of.get(_name(difference), Answer.UNANSWERED)
            missing += answer is Answer.UNANSWERED
            owner = _owner(seen.owners, merchant, difference)
            old = kept.get(_name(difference))
            kind = case_of(difference.finding, answer, next_bill_known=next_bill_known)
            case_id = old["case_id"] if old is not None and kind is None else None
            if kind is not None:
                case_id = await _show(connection, merchant, difference, (kind, answer), owner, now)
            shown.add(case_id)
            found_at = old["found_at"] if old is not None else now
            values = _values(difference, owner, answer)
            await rows(connection, KEEP, day_id, *values, case_id, found_at, None)
        await _keep_cured(connection, merchant, day_id, seen, before, answers, now)
        gone = [one for one in before if one["case_id"] not in {None, *shown}]
        await close_agreed(
            connection, [one["case_id"] for one in gone if one["kind"] in OWN_CASES], now
        )
        problem = "unanswered" if missing else None
        await _write_sums(connection, day_id, seen, problem, now)
        return problem


async def _show(
    connection: Connection,
    merchant: Merchant,
    difference: Difference,
    why: tuple[CaseKind, Answer],
    owner: Owner,
    now: datetime,
) -> int:
    """The case that shows a difference: one that a cure opened, or the comparison's own."""
    kind, answer = why
    line = difference.line
    by_number = f"{merchant.platform.value}:{line.number}"
    if kind is CaseKind.REFUNDED_OUTSIDE:
        found = await row(connection, CASE_OF, owner.site_id, kind.value, by_number)
        case_id = int(found["id"]) if found is not None else None
        case_id = case_id or await shown_by_trade(
            connection, merchant, line.out_trade_no, owner.site_id
        )
        if case_id is not None:
            return case_id
    facts = _facts(merchant, difference, answer)
    case = NewCase(owner.site_id, kind.value, by_number, facts, owner.tenancy_id)
    return await show_case(connection, case, now)


def _facts(merchant: Merchant, difference: Difference, answer: Answer) -> dict[str, object]:
    ours, bill = difference.ours, difference.bill
    facts: dict[str, object] = {
        "platform": merchant.platform.value,
        "merchant_id": merchant.merchant_id,
        "out_trade_no": difference.line.out_trade_no,
        "our_fen": ours.amount_fen if ours is not None else None,
        "bill_fen": bill.amount_fen if bill is not None else None,
        "answer": answer.value,
    }
    if difference.finding is Finding.REFUND_THERE_ONLY:  # may be recorded, by its amount
        facts["refund_fen"] = facts.pop("bill_fen")
    if difference.finding.value.startswith("refund_"):
        return facts | {"out_refund_no": difference.line.number}
    return facts | {"transaction_id": difference.line.number}


def _values(difference: Difference, owner: Owner, answer: Answer) -> tuple[object, ...]:
    ours, bill, line = difference.ours, difference.bill, difference.line
    return (
        *(owner.site_id, difference.finding.value, line.number, line.out_trade_no),
        ours.amount_fen if ours is not None else None,
        ours.state.value if ours is not None and ours.state is not None else None,
        bill.amount_fen if bill is not None else None,
        bill.state.value if bill is not None and bill.state is not None else None,
        answer.value,
    )


async def _keep_cured(
    connection: Connection,
    merchant: Merchant,
    day_id: int,
    seen: Seen,
    before: Sequence[Row],
    answers: _Answers,
    now: datetime,
) -> None:
    """What differed and agrees now, written down once."""
    left = {_name(one) for one in seen.comparison.differences}
    old = {(one["finding"], one["number"]): one for one in before}
    for name, one in old.items():
        if name not in left:
            keys = ("site_id", "finding", "number", "out_trade_no", "our_fen", "our_state")
            more = ("bill_fen", "bill_state", "answer", "case_id", "found_at")
            values = [one[key] for key in (*keys, *more)]
            await rows(connection, KEEP, day_id, *values, now)
    for name, difference in answers.found.items():
        if name not in left and name not in old:
            owner = _owner(seen.owners, merchant, difference)
            values = [*_values(difference, owner, answers.of[name]), None, now]
            await rows(connection, KEEP, day_id, *values, now)


async def _write_sums(
    connection: Connection, day_id: int, seen: Seen, problem: str | None, now: datetime
) -> None:
    line_ids = {line: list(ids) for line, ids in seen.line_ids.items()}
    matched = [(line_ids[one.bill].pop(), one.ours.number) for one in seen.comparison.agreed]
    ids, numbers = [one for one, _ in matched], [number for _, number in matched]
    await rows(connection, UNMATCHED, day_id, ids)
    await rows(connection, MATCHED, day_id, ids, numbers)
    bill, ours = seen.comparison.bill_sums, seen.comparison.our_sums
    sums = [
        *(bill.payments, bill.payments_fen, bill.refunds, bill.refunds_fen),
        *(ours.payments, ours.payments_fen, ours.refunds, ours.refunds_fen),
    ]
    await rows(connection, FINISH, day_id, None if problem else now, problem, *sums)
