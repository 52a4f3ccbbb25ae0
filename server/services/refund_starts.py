"""Where a refund's money leaves its wallet and its parts are written, before anybody is asked."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import AccountKind, AccountRef
from server.core.ledger.flows import refund_returned, refund_started
from server.core.refunds.cases import CaseDecision
from server.core.refunds.parts import PartState
from server.core.refunds.plan import Paid, PlannedPart, plan
from server.core.top_ups.states import TopUpEvent, by_state
from server.models.database import Connection, Row, row, rows, to_json
from server.services.approvals import Approval
from server.services.journal import post
from server.services.manager_acts import check_reason
from server.services.payment_cases import NOBODY, mark_decided
from server.services.supply import decide_within
from server.services.wallets import AMOUNT_FEN_MAX, WALLETS

RETURNED = "returned:"  # begins the key of what came back; the audit asks for it
PAYMENTS_MAX = 500  # of one wallet, the newest; the rest is paid out by hand

SITE = "SELECT site_id FROM tenancy WHERE id = $1"
NEW = """
INSERT INTO refund (no, site_id, tenancy_id, wallet, case_id, amount_fen, reason, asked_by,
    approval_no, idempotency_key, input_hash, status, asked_at, expires_at, started_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
RETURNING *
"""
# What this wallet was credited with; `refused`: a part on it failed, so it is passed over.
PAYMENTS = """
SELECT credit.id AS credit_id, credit.platform, credit.merchant_id, credit.out_trade_no,
    credit.amount_fen, credit.paid_at,
    coalesce(sum(part.amount_fen) FILTER (WHERE part.state <> 'failed'), 0)::bigint AS taken_fen,
    count(part.id) AS refunds, max(coalesce(part.sent_at, part.try_at)) AS asked_at,
    coalesce(bool_or(part.state = 'failed'), false) AS refused
FROM payment_credit credit
JOIN ledger_transaction posted ON posted.id = credit.ledger_transaction_id
    AND posted.flow = 'top_up.settled'
JOIN payment_order ON payment_order.id = credit.order_id
JOIN top_up ON top_up.id = payment_order.top_up_id
LEFT JOIN refund_part part ON part.credit_id = credit.id
WHERE top_up.tenancy_id = $1 AND top_up.wallet = $2
GROUP BY credit.id ORDER BY credit.paid_at DESC, credit.id DESC LIMIT $3
"""
OF_CASE = """
SELECT asked.site_id, asked.tenancy_id, credit.id AS credit_id, credit.amount_fen,
    credit.platform, credit.merchant_id, credit.out_trade_no
FROM payment_case asked JOIN payment_credit credit ON credit.id = asked.credit_id
WHERE asked.id = $1
"""
NEW_PART = """
INSERT INTO refund_part (refund_id, site_id, credit_id, platform, merchant_id, out_trade_no,
    out_refund_no, amount_fen, state, created_at, try_at, attempts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0)
"""
# A top-up tells how much of it went back; what was in suspense first did so without it.
MARK_TOP_UPS = """
UPDATE top_up SET refunded_fen = sums.done_fen, status = CASE
    WHEN sums.under_way THEN $2::jsonb ->> status
    WHEN sums.done_fen >= top_up.amount_fen THEN $3::jsonb ->> status
    ELSE $4::jsonb ->> status END
FROM (
    SELECT payment_order.top_up_id AS id, bool_or(part.finished_at IS NULL) AS under_way,
        coalesce(sum(part.amount_fen) FILTER (WHERE part.state = 'done'), 0)::bigint AS done_fen
    FROM payment_order JOIN payment_credit credit ON credit.order_id = payment_order.id
    JOIN ledger_transaction posted ON posted.id = credit.ledger_transaction_id
        AND posted.flow = 'top_up.settled'
    JOIN refund_part part ON part.credit_id = credit.id
    JOIN refund ON refund.id = part.refund_id AND refund.wallet IS NOT NULL
    WHERE payment_order.top_up_id IN (
        SELECT placed.top_up_id FROM payment_order placed
        JOIN payment_credit paid ON paid.order_id = placed.id WHERE paid.id = ANY($1::bigint[]))
    GROUP BY payment_order.top_up_id
) AS sums WHERE top_up.id = sums.id
"""


@dataclass(frozen=True, slots=True)
class RefundWish:
    """How much of which wallet is to go back, and why; raises InvalidInputError."""

    tenancy_id: int
    amount_fen: int
    reason: str
    wallet: str = "electricity"

    def __post_init__(self) -> None:
        if self.wallet not in WALLETS:
            raise InvalidInputError(f"wallet is one of {', '.join(WALLETS)}")
        if not 1 <= self.amount_fen <= AMOUNT_FEN_MAX:
            raise InvalidInputError(f"a refund has 1 to {AMOUNT_FEN_MAX} fen")
        check_reason(self.reason)

    @property
    def digest(self) -> str:
        """What tells a repeat from another wish under the same key."""
        text = f"{self.tenancy_id}|{self.amount_fen}|{self.wallet}|{self.reason}"
        return hashlib.sha256(text.encode()).hexdigest()


async def site_of(connection: Connection, tenancy_id: int) -> int:
    """The mall of a tenancy."""
    return int((await rows(connection, SITE, tenancy_id))[0]["site_id"])


async def insert_refund(
    connection: Connection,
    site_id: int,
    wish: RefundWish,
    asked_by: str,
    key: str,
    now: datetime,
    approval: Approval | None = None,
) -> Row:
    """Write down what is asked for; with an approval it waits."""
    made = await row(
        connection,
        NEW,
        *(new_number(now), site_id, wish.tenancy_id, WALLETS[wish.wallet].value, None),
        *(wish.amount_fen, wish.reason, asked_by, approval.no if approval else None, key),
        *(wish.digest, "waiting" if approval else "in_progress", now),
        *(approval.expires_at if approval else None, None if approval else now),
    )
    assert made is not None  # noqa: S101  INSERT … RETURNING answers its row
    return made


async def start_within(connection: Connection, refund: Row, now: datetime) -> None:
    """The money leaves the wallet, and the parts are written: nothing has been asked yet."""
    await _take_from_wallet(connection, refund, now)
    found = await rows(connection, PAYMENTS, refund["tenancy_id"], refund["wallet"], PAYMENTS_MAX)
    parts = plan(refund["amount_fen"], [_paid(one) for one in found], now)
    used = {part.credit_id for part in parts}
    credits_ = {one["credit_id"]: one for one in found if one["credit_id"] in used}
    await insert_parts(connection, refund, parts, credits_, now)
    await decide_within(connection, [refund["tenancy_id"]], now)


async def refund_by_itself(
    connection: Connection, case_id: int, reason: str, now: datetime
) -> None:
    """Give the money of a case that was just opened back to its payer without asking anybody."""
    await mark_decided(connection, case_id, CaseDecision.REFUND.value, NOBODY, reason, now)
    await case_refund_within(connection, case_id, asked_by=NOBODY, reason=reason, now=now)


async def case_refund_within(
    connection: Connection,
    case_id: int,
    *,
    asked_by: str,
    reason: str,
    now: datetime,
    number: str | None = None,
) -> str:
    """Give a payment that is in suspense back to its payer, whole; its part's number.

    Under the case's lock, once it was decided so: nothing else gives it back.
    """
    case = (await rows(connection, OF_CASE, case_id))[0]
    no = new_number(now)
    refund = await row(
        connection,
        NEW,
        *(no, case["site_id"], case["tenancy_id"], None, case_id, case["amount_fen"], reason),
        *(asked_by, None, f"case:{case_id}:{no}", "", "in_progress", now, None, now),
    )
    assert refund is not None  # noqa: S101  INSERT … RETURNING answers its row
    part = PlannedPart(case["credit_id"], case["amount_fen"], now)
    own = {case["credit_id"]: case}
    return (await insert_parts(connection, refund, [part], own, now, number=number))[0]


async def outside_refund_within(
    connection: Connection,
    wish: RefundWish,
    credit: Row,
    *,
    asked_by: str,
    key: str,
    now: datetime,
    number: str | None = None,
) -> str:
    """Record what went back of a payment without us, whatever is left in its wallet.

    The number of its part, for which the platform's word is still to be taken in.
    """
    site_id = await site_of(connection, wish.tenancy_id)
    refund = await insert_refund(connection, site_id, wish, asked_by, key, now)
    await _take_from_wallet(connection, refund, now)
    part = PlannedPart(credit["credit_id"], wish.amount_fen, now)
    own = {credit["credit_id"]: credit}
    numbers = await insert_parts(connection, refund, [part], own, now, number=number)
    await decide_within(connection, [wish.tenancy_id], now)
    return numbers[0]


async def returned_refund_within(
    connection: Connection, part: Row, reason: str, *, asked_by: str, now: datetime
) -> str:
    """Hold back what a done part's bank sent back, to be paid out by hand; its part's number.

    `part` is as `refund_parts.lock_part` has it. Once a part: its number is in the key.
    """
    names = {kind.value: name for name, kind in WALLETS.items()}
    wish = RefundWish(part["tenancy_id"], part["amount_fen"], reason, names[part["wallet"]])
    key = f"{RETURNED}{part['out_refund_no']}"
    refund = await insert_refund(connection, part["site_id"], wish, asked_by, key, now)
    details = {"refund_no": refund["no"], "out_refund_no": part["out_refund_no"], "reason": reason}
    posting = refund_returned(part["platform"], part["amount_fen"], details)
    key = f"refund:{refund['no']}"
    await post(connection, part["site_id"], posting, key=key, booked_at=now)
    by_hand = PlannedPart(None, part["amount_fen"], now)
    return (await insert_parts(connection, refund, [by_hand], {}, now))[0]


async def insert_parts(
    connection: Connection,
    refund: Mapping[str, Any],
    parts: Iterable[PlannedPart],
    credits_: Mapping[int, Row],
    now: datetime,
    *,
    number: str | None = None,
) -> list[str]:
    """Write parts of a refund, each with a number of its own for ever (or the one given)."""
    numbers = []
    for part in parts:
        numbers.append(number or new_number(now))
        credit = credits_[part.credit_id] if part.credit_id is not None else None
        names = ("platform", "merchant_id", "out_trade_no")
        state = PartState.TO_PAY if credit is None else PartState.DUE
        await rows(
            connection,
            NEW_PART,
            *(refund["id"], refund["site_id"], part.credit_id),
            *(credit[name] if credit is not None else None for name in names),
            *(numbers[-1], part.amount_fen, state.value, now),
            None if credit is None else part.try_at,
        )
    await mark_top_ups(connection, list(credits_))
    return numbers


def new_number(now: datetime) -> str:
    """The time for people, randomness for uniqueness; letters and digits alone."""
    return f"R{now:%Y%m%d%H%M%S}{secrets.randbelow(10**14):014d}"


async def mark_top_ups(connection: Connection, credit_ids: list[int]) -> None:
    """Let the top-ups of these payments tell how much of them went back, and is on its way."""
    events = (TopUpEvent.REFUND_BEGUN, TopUpEvent.REFUNDED_WHOLE, TopUpEvent.REFUND_ENDED)
    moves = [to_json(by_state(event)) for event in events]
    await rows(connection, MARK_TOP_UPS, credit_ids, *moves)


async def _take_from_wallet(connection: Connection, refund: Row, now: datetime) -> None:
    wallet = AccountRef(AccountKind(refund["wallet"]), refund["tenancy_id"])
    details = {"refund_no": refund["no"], "reason": refund["reason"]}
    posting = refund_started(wallet, refund["amount_fen"], details)
    key = f"refund:{refund['no']}"
    await post(connection, refund["site_id"], posting, key=key, booked_at=now)


def _paid(found: Row) -> Paid:
    return Paid(
        credit_id=found["credit_id"],
        platform=found["platform"],
        amount_fen=found["amount_fen"],
        paid_at=found["paid_at"],
        taken_fen=found["taken_fen"],
        refunds=found["refunds"],
        asked_at=found["asked_at"],
        refused=found["refused"],
    )
