"""A refund's parts at the platforms: claimed and committed, asked, and what was said of them.

Asking happens between two transactions. A part's number never changes, so whoever dies in between
leaves a part that the next one asks about first. Each word is taken in by `_take_in`, be it an
answer, a notice or a manager's: the table of `core/refunds/parts` says what follows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

import structlog

from payments.contract import (
    PaymentError,
    PaymentPlatform,
    Platform,
    PlatformRefusedError,
    Refund,
    RefundRequest,
    RefundStatus,
)
from server.core.ledger.accounts import AccountKind, AccountRef
from server.core.ledger.flows import refund_done, refund_failed, suspense_refunded
from server.core.refunds.parts import (
    ABNORMAL_PAUSE,
    NO_MERCHANT_CALLS,
    PAUSES_S,
    Money,
    PartEvent,
    PartState,
    Step,
    attention_of,
    refund_status,
    step,
)
from server.core.refunds.plan import LIMITS
from server.models.database import Connection, Row, pool, row, rows, transaction
from server.services.emergency_credit import end_within
from server.services.journal import post
from server.services.locks import lock_tenancies
from server.services.payment_cases import close_case, reopen_case
from server.services.refund_cases import close_waits, lock_cases, show_outside, show_part
from server.services.refund_starts import mark_top_ups
from server.services.supply import decide_within

log = structlog.get_logger(__name__)

CODE_MAX = 64

# `sent_before`: an answer may be on its way or lost, so it is asked about before it is asked again.
# So is what a person decides on meanwhile: what is given back by hand must not be asked for, too.
CLAIM = """
WITH due AS (
    SELECT part.id, part.sent_at IS NOT NULL OR part.state = 'abnormal' AS sent_before
    FROM refund_part part
    WHERE part.try_at <= $1 AND part.finished_at IS NULL ORDER BY part.try_at, part.id LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE refund_part part SET attempts = part.attempts + 1, sent_at = coalesce(part.sent_at, $1),
    try_at = $1::timestamptz + CASE part.state WHEN 'abnormal' THEN $3::interval
        ELSE ($4::int[])[least(part.attempts + 1, cardinality($4::int[]))] * interval '1 second' END
FROM due, refund, payment_credit credit, site
WHERE part.id = due.id AND refund.id = part.refund_id AND credit.id = part.credit_id
  AND site.id = part.site_id
RETURNING part.id, part.site_id, site.code AS site_code, part.platform, part.merchant_id,
    part.out_trade_no, part.out_refund_no, part.amount_fen, part.state, part.attempts,
    credit.amount_fen AS total_fen, refund.reason, due.sent_before
"""
FIND = """
SELECT part.id, part.site_id, part.refund_id, part.out_refund_no, refund.tenancy_id,
    refund.case_id
FROM refund_part part
JOIN refund ON refund.id = part.refund_id
"""
BY_NUMBER = f"{FIND} WHERE part.out_refund_no = $1"
LOCK_REFUND = "SELECT id FROM refund WHERE id = $1 FOR UPDATE"
LOCK_PART = """
SELECT part.*, refund.no, refund.wallet, refund.tenancy_id, refund.case_id, refund.reason,
    refund.amount_fen AS whole_fen
FROM refund_part part JOIN refund ON refund.id = part.refund_id
WHERE part.id = $1 FOR UPDATE OF part
"""
MOVE = """
UPDATE refund_part SET state = $2, finished_at = $3, try_at = $4, code = $5, sent_at = $6,
    platform_refund_id = coalesce($7, platform_refund_id)
WHERE id = $1
"""
PARTS = """
SELECT state, sum(amount_fen)::bigint AS fen FROM refund_part WHERE refund_id = $1 GROUP BY state
"""
END_REFUND = "UPDATE refund SET status = $2, finished_at = $3 WHERE id = $1"

SAID: Mapping[RefundStatus, PartEvent] = MappingProxyType(
    {
        RefundStatus.UNKNOWN: PartEvent.NOT_KNOWN,
        RefundStatus.PROCESSING: PartEvent.ACCEPTED,
        RefundStatus.SUCCEEDED: PartEvent.SUCCEEDED,
        RefundStatus.CLOSED: PartEvent.CLOSED,
        RefundStatus.ABNORMAL: PartEvent.TURNED_ABNORMAL,
    }
)

LAST_WORDS: Mapping[str, RefundStatus] = MappingProxyType(
    {
        PartState.DONE.value: RefundStatus.SUCCEEDED,
        PartState.ABNORMAL.value: RefundStatus.ABNORMAL,
    }
)


@dataclass(frozen=True, slots=True)
class DuePart:
    """A part to ask the platform about, or for; `sent_before`: it may know the number already.

    `state` is that in which it is asked.
    """

    part_id: int
    site_id: int
    site_code: str
    platform: Platform
    merchant_id: str
    out_trade_no: str
    out_refund_no: str
    amount_fen: int
    total_fen: int
    reason: str
    state: PartState
    attempts: int
    sent_before: bool


@dataclass(frozen=True, slots=True)
class Said:
    """A word about a part: what happened, the platform's own answer, and its code."""

    event: PartEvent
    refund: Refund | None = None
    code: str | None = None


async def take_due(now: datetime, limit: int) -> Sequence[DuePart]:
    """Parts whose turn it is; each comes again, later and later, until it has ended."""
    found = await rows(pool(), CLAIM, now, limit, ABNORMAL_PAUSE, list(PAUSES_S))
    return [
        DuePart(
            part_id=one["id"],
            site_id=one["site_id"],
            site_code=one["site_code"],
            platform=Platform(one["platform"]),
            merchant_id=one["merchant_id"],
            out_trade_no=one["out_trade_no"],
            out_refund_no=one["out_refund_no"],
            amount_fen=one["amount_fen"],
            total_fen=one["total_fen"],
            reason=one["reason"],
            state=PartState(one["state"]),
            attempts=one["attempts"],
            sent_before=one["sent_before"],
        )
        for one in found
    ]


async def ask_platform(
    due: DuePart, platform: PaymentPlatform | None, public_url: str, now: datetime
) -> Said:
    """Ask for a part, or what became of it where that is not certain; never raises its errors."""
    if platform is None or platform.merchant_id != due.merchant_id:
        gone = due.attempts >= NO_MERCHANT_CALLS
        event = PartEvent.NO_MERCHANT if gone else PartEvent.UNANSWERED
        return Said(event, code="NO_MERCHANT")
    try:
        if due.sent_before:
            answer = await platform.query_refund(due.out_trade_no, due.out_refund_no, now)
        else:
            answer = await platform.refund(_request(due, public_url), now)
    except PaymentError as error:
        refused = isinstance(error, PlatformRefusedError) and not due.sent_before
        log.warning(
            "a refund was not taken",
            out_refund_no=due.out_refund_no,
            code=error.code,
            refused=refused,
        )
        return Said(
            PartEvent.REFUSED if refused else PartEvent.UNANSWERED, code=error.code[:CODE_MAX]
        )
    return Said(SAID[answer.status], answer)


def _request(due: DuePart, public_url: str) -> RefundRequest:
    return RefundRequest(
        out_trade_no=due.out_trade_no,
        out_refund_no=due.out_refund_no,
        refund_fen=due.amount_fen,
        total_fen=due.total_fen,
        reason=due.reason,
        notify_url=f"{public_url}/payments/{due.platform.value}/{due.site_code}/notify",
    )


async def take_in(
    out_refund_no: str, said: Said, now: datetime, *, asked_in: PartState | None = None
) -> int | None:
    """Do what follows from a word about a part; whose pages should hear of it.

    An answer is dropped where the part is not any more in the state in which it was asked about: a
    notice that overtook it may be newer. What has not ended is asked about again.
    """
    async with transaction() as connection:
        part = await lock_part(connection, out_refund_no)
        if asked_in is not None and part is not None and part["state"] != asked_in.value:
            return None
        return await take_in_within(connection, out_refund_no, said, now)


async def doubted_in(connection: Connection, refund: Refund) -> PartState | None:
    """The state of a part of which a notice says something else than its platform said at last.

    None: there is no doubt. The notice may be older than that, and have been on its way or in the
    inbox since: the platform is to be asked before it is believed that money came back, or arrived
    after all; also of one that is due, which may be so again since. The part is locked: two notices
    that are settled at once are told one after the other.
    """
    known = await lock_part(connection, refund.out_refund_no)
    state: str = known["state"] if known is not None else ""
    known_better = state in LAST_WORDS and refund.status is not LAST_WORDS[state]
    return PartState(state) if known_better or state == PartState.DUE else None


async def told_within(
    connection: Connection, site_id: int, platform: Platform, refund: Refund, now: datetime
) -> int | None:
    """Look at the refund that a notice names; one that nobody here asked for is a case.

    The case is the payer's mall's, wherever the notice came in: several may share a merchant.
    Whose pages should hear of it; None: nobody's.
    """
    if await row(connection, BY_NUMBER, refund.out_refund_no) is not None:
        return await take_in_within(
            connection, refund.out_refund_no, Said(SAID[refund.status], refund), now
        )
    if refund.status not in (RefundStatus.UNKNOWN, RefundStatus.CLOSED):  # else nothing went back
        await show_outside(connection, site_id, platform, refund, now)
    return None


async def take_in_within(
    connection: Connection, out_refund_no: str, said: Said, now: datetime
) -> int | None:
    """As `take_in`, inside the caller's transaction; ConflictError where a manager may not."""
    part = await lock_part(connection, out_refund_no)
    if part is None:
        return None
    if said.refund is not None and _contradicts(part, said.refund):
        said = Said(PartEvent.CONTRADICTED, said.refund)
    taken = step(PartState(part["state"]), said.event)
    ended = taken.state in (PartState.DONE, PartState.FAILED, PartState.REPLACED)
    if part["finished_at"] is None:
        await _move(connection, part, taken, said, now, ended=ended)
        await _move_money(connection, part, taken, said, now)
    attention = attention_of(PartState(part["state"]), taken, part["created_at"], now)
    if attention is not None:
        await show_part(connection, part, attention, said.refund, said.code, now)
    if ended and part["finished_at"] is None:
        await _end(connection, part, now)
    return int(part["tenancy_id"]) if part["tenancy_id"] is not None else None


async def lock_part(connection: Connection, out_refund_no: str) -> Row | None:
    """A part with its refund, under all locks that its end needs (docs/locks.md)."""
    found = await row(connection, BY_NUMBER, out_refund_no)
    if found is None:
        return None
    if found["tenancy_id"] is not None:
        await lock_tenancies(connection, [found["tenancy_id"]])
    await lock_cases(connection, found)
    await rows(connection, LOCK_REFUND, found["refund_id"])
    return await row(connection, LOCK_PART, found["id"])


def _contradicts(part: Row, refund: Refund) -> bool:
    """Whether a platform speaks of something else than what was asked for."""
    if refund.status is RefundStatus.UNKNOWN:
        return False
    same = (part["merchant_id"], part["out_trade_no"]) == (refund.merchant_id, refund.out_trade_no)
    return not same or refund.refund_fen not in (None, part["amount_fen"])


async def _move(
    connection: Connection, part: Row, taken: Step, said: Said, now: datetime, *, ended: bool
) -> None:
    try_at: datetime | None = part["try_at"]
    sent_at: datetime | None = part["sent_at"]
    if ended:
        try_at = None
    elif said.event in (PartEvent.NOT_KNOWN, PartEvent.NO_MERCHANT):
        apart = LIMITS[part["platform"]].apart  # a call that was lost may have counted there
        try_at = max(now, part["try_at"] if sent_at is None else sent_at + apart)
        sent_at = None  # nobody has the number: it is asked for, not about
    elif said.event is PartEvent.ASKED_AGAIN:
        try_at = now
    if taken.state is PartState.ABNORMAL:
        try_at = now + ABNORMAL_PAUSE
    refund_id = said.refund.refund_id if said.refund is not None else None
    code = said.code or (None if ended else part["code"])
    finished_at = now if ended else None
    values = (taken.state.value, finished_at, try_at, code, sent_at, refund_id)
    await rows(connection, MOVE, part["id"], *values)


async def _move_money(
    connection: Connection, part: Row, taken: Step, said: Said, now: datetime
) -> None:
    """Each posting once a part: its number is in the key."""
    if taken.money is Money.STAYS:
        return
    site_id, amount_fen, number = part["site_id"], part["amount_fen"], part["out_refund_no"]
    details = {"refund_no": part["no"], "out_refund_no": number, "reason": part["reason"]}
    wallet = None
    if part["wallet"] is not None:
        wallet = AccountRef(AccountKind(part["wallet"]), part["tenancy_id"])
    if taken.money is Money.GONE:
        source = part["platform"] or part["method"]
        make = refund_done if wallet is not None else suspense_refunded
        at = said.refund.finished_at if said.refund is not None else None
        key = f"refund-part:{number}:done"
        await post(
            connection, site_id, make(source, amount_fen, details), key=key, booked_at=at or now
        )
    elif wallet is not None:
        posting = refund_failed(wallet, amount_fen, details)
        key = f"refund-part:{number}:back"
        await post(connection, site_id, posting, key=key, booked_at=now)
        await end_within(connection, [part["tenancy_id"]])
        await decide_within(connection, [part["tenancy_id"]], now)


async def _end(connection: Connection, part: Row, now: datetime) -> None:
    """A part has ended: so has its case, maybe its refund, and its top-up tells it."""
    await close_waits(connection, part, now)
    if part["credit_id"] is not None:
        await mark_top_ups(connection, [part["credit_id"]])
    found = await rows(connection, PARTS, part["refund_id"])
    status = refund_status({PartState(one["state"]): one["fen"] for one in found})
    if status == "in_progress":
        return
    await rows(connection, END_REFUND, part["refund_id"], status, now)
    if part["case_id"] is not None and status == "done":
        await close_case(connection, part["case_id"], now)
    elif part["case_id"] is not None:
        await reopen_case(connection, part["case_id"])
