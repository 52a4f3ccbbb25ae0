"""Giving money back: asked with a reason, reserved or out of the wallet at once, then in parts.

Here the money leaves the wallet and the parts are written; `refund_parts` speaks to the platforms.
"""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from server.core.errors import ConflictError, InvalidInputError
from server.core.ledger.accounts import AccountKind, AccountRef
from server.core.ledger.flows import refund_started
from server.core.refunds.cases import CaseDecision
from server.core.refunds.parts import PartState
from server.core.refunds.plan import Paid, PlannedPart, plan
from server.models.database import Connection, Row, pool, row, rows, transaction
from server.services import approvals
from server.services.adjustments import check_reason
from server.services.approvals import Approval, Ask
from server.services.balances import balances
from server.services.journal import post
from server.services.locks import lock_tenancies
from server.services.manager_acts import Deed, record_act
from server.services.managers import Manager
from server.services.payment_cases import NOBODY, mark_decided
from server.services.supply import decide_within
from server.services.top_ups import AMOUNT_FEN_MAX, WALLETS

REFUND = "refund"
CLICKS_WITHIN = timedelta(seconds=60)  # without a key, the same wish again is the same click
PAYMENTS_MAX = 500  # of one wallet, the newest; the rest is paid out by hand
EXPIRE_AT_ONCE = 20

SITE = "SELECT site_id FROM tenancy WHERE id = $1"
OF_KEY = "SELECT * FROM refund WHERE site_id = $1 AND idempotency_key = $2"
LAST_CLICK = """
SELECT idempotency_key FROM refund
WHERE site_id = $1 AND asked_by = $2 AND input_hash = $3 AND asked_at > $4
ORDER BY id DESC LIMIT 1
"""
NEW = """
INSERT INTO refund (no, site_id, tenancy_id, wallet, case_id, amount_fen, reason, asked_by,
    approval_no, idempotency_key, input_hash, status, asked_at, expires_at, started_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
RETURNING *
"""
OF_APPROVAL = """
SELECT * FROM refund WHERE approval_no = $1 AND status = 'waiting' FOR UPDATE
"""
START = "UPDATE refund SET status = 'in_progress', started_at = $2 WHERE id = $1"
END = "UPDATE refund SET status = $2, finished_at = $3 WHERE id = $1 AND status = 'waiting'"
EXPIRED = """
SELECT id, tenancy_id FROM refund WHERE status = 'waiting' AND expires_at <= $1
ORDER BY expires_at, id LIMIT $2
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
# A top-up tells how much of it went back; what was paid twice went back without it.
MARK_TOP_UPS = """
UPDATE top_up SET refunded_fen = sums.done_fen, status = CASE
    WHEN sums.under_way THEN 'refunding' WHEN sums.done_fen >= top_up.amount_fen THEN 'refunded'
    ELSE 'paid' END
FROM (
    SELECT payment_order.top_up_id AS id, bool_or(part.finished_at IS NULL) AS under_way,
        coalesce(sum(part.amount_fen) FILTER (WHERE part.state = 'done'), 0)::bigint AS done_fen
    FROM payment_order JOIN payment_credit credit ON credit.order_id = payment_order.id
    JOIN refund_part part ON part.credit_id = credit.id
    JOIN refund ON refund.id = part.refund_id AND refund.wallet IS NOT NULL
    WHERE payment_order.top_up_id IN (
        SELECT placed.top_up_id FROM payment_order placed
        JOIN payment_credit paid ON paid.order_id = placed.id WHERE paid.id = ANY($1::bigint[]))
    GROUP BY payment_order.top_up_id
) AS sums WHERE top_up.id = sums.id
"""


class AboveAvailableError(ConflictError):
    """More than the wallet has to give back."""

    code = "above_available"


class OtherRefundError(ConflictError):
    """The key was used for another refund; nothing was changed."""

    code = "idempotency_mismatch"


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


@dataclass(frozen=True, slots=True)
class Asked:
    """A refund that was asked for; with an approval's number it waits, or waited, for it."""

    refund_no: str
    approval_no: str | None = None


async def ask(
    shop: tuple[int, str], wish: RefundWish, manager: Manager, now: datetime, *, key: str | None
) -> Asked:
    """A manager's refund from a wallet of `shop` (site, code), once a key of this manager's.

    Without a key: once a minute. Raises AboveAvailableError, OtherRefundError.
    """
    site_id, subject = shop[0], f"shop:{shop[1]}"
    async with transaction() as connection:
        await lock_tenancies(connection, [wish.tenancy_id])
        own = await _own_key(connection, site_id, wish, manager, now, key=key)
        before = await _asked_before(connection, site_id, wish, own)
        if before is not None:
            return before
        await _check_available(connection, wish)
        facts = {"shop": shop[1], **asdict(wish)}
        facts.pop("reason")
        asking = Ask(site_id, REFUND, wish.tenancy_id, subject, wish.reason, own, True, facts)  # noqa: FBT003  once a key
        alone = await approvals.may_alone(
            *(connection, site_id, REFUND),
            actor=manager.name,
            subject=subject,
            amount_fen=wish.amount_fen,
            now=now,
        )
        if not alone:
            approval = await approvals.ask_within(connection, asking, manager, now)
            refund = await _insert(connection, site_id, wish, manager.name, own, now, approval)
            await decide_within(connection, [wish.tenancy_id], now)
            return Asked(refund["no"], approval.no)
        refund = await _insert(connection, site_id, wish, manager.name, own, now)
        await _start(connection, refund, now)
        deed = Deed(site_id, manager.name, REFUND, subject, wish.reason, asking.act)
        await record_act(connection, deed, now)
        return Asked(refund["no"])


async def refund_within(
    connection: Connection, wish: RefundWish, *, asked_by: str, key: str, now: datetime
) -> str:
    """Give money back without asking anybody more, once a key of the site; the refund's number.

    In the caller's transaction; of a tenancy that has ended, too. Raises AboveAvailableError,
    OtherRefundError.
    """
    await lock_tenancies(connection, [wish.tenancy_id])
    site_id = int((await rows(connection, SITE, wish.tenancy_id))[0]["site_id"])
    before = await _asked_before(connection, site_id, wish, key)
    if before is not None:
        return before.refund_no
    await _check_available(connection, wish)
    refund = await _insert(connection, site_id, wish, asked_by, key, now)
    await _start(connection, refund, now)
    return str(refund["no"])


async def carry_out(connection: Connection, approval: Approval, now: datetime) -> None:
    """Start the refund that a second person agreed to; raises AboveAvailableError."""
    refund = await row(connection, OF_APPROVAL, approval.no)
    if refund is None:
        raise ConflictError(f"no refund waits for {approval.no}", code="approval_over")
    await rows(connection, START, refund["id"], now)
    names = {kind.value: name for name, kind in WALLETS.items()}
    wish = RefundWish(
        refund["tenancy_id"], refund["amount_fen"], refund["reason"], names[refund["wallet"]]
    )
    await _check_available(connection, wish)  # its own reservation has just ended
    await _start(connection, refund, now)


async def give_up(connection: Connection, approval: Approval, now: datetime) -> None:
    """A second person said no: nothing is reserved any more."""
    refund = await row(connection, OF_APPROVAL, approval.no)
    if refund is not None:
        await rows(connection, END, refund["id"], "rejected", now)
        await decide_within(connection, [refund["tenancy_id"]], now)


async def expire_due(now: datetime) -> Sequence[int]:
    """End reservations that nobody decided on in time; whose they were."""
    over = await rows(pool(), EXPIRED, now, EXPIRE_AT_ONCE)
    for refund in over:
        async with transaction() as connection:
            await lock_tenancies(connection, [refund["tenancy_id"]])
            await rows(connection, END, refund["id"], "expired", now)
            await decide_within(connection, [refund["tenancy_id"]], now)
    return [one["tenancy_id"] for one in over]


async def refund_by_itself(
    connection: Connection, case_id: int, reason: str, now: datetime
) -> None:
    """Give the money of a case that was just opened back to its payer without asking anybody."""
    await mark_decided(connection, case_id, CaseDecision.REFUND.value, NOBODY, reason, now)
    await case_refund_within(connection, case_id, asked_by=NOBODY, reason=reason, now=now)


async def case_refund_within(
    connection: Connection, case_id: int, *, asked_by: str, reason: str, now: datetime
) -> Row:
    """Give a payment that is in suspense back to its payer, whole; the refund's row.

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
    await insert_parts(connection, refund, [part], {case["credit_id"]: case}, now)
    return refund


async def insert_parts(
    connection: Connection,
    refund: Row,
    parts: Iterable[PlannedPart],
    credits_: Mapping[int, Row],
    now: datetime,
    *,
    number: str | None = None,
) -> None:
    """Write parts of a refund, each with a number of its own for ever (or the one given)."""
    for part in parts:
        credit = credits_[part.credit_id] if part.credit_id is not None else None
        names = ("platform", "merchant_id", "out_trade_no")
        state = PartState.TO_PAY if credit is None else PartState.DUE
        await rows(
            connection,
            NEW_PART,
            *(refund["id"], refund["site_id"], part.credit_id),
            *(credit[name] if credit is not None else None for name in names),
            *(number or new_number(now), part.amount_fen, state.value, now),
            None if credit is None else part.try_at,
        )
    await rows(connection, MARK_TOP_UPS, list(credits_))


def new_number(now: datetime) -> str:
    """The time for people, randomness for uniqueness; letters and digits alone."""
    return f"R{now:%Y%m%d%H%M%S}{secrets.randbelow(10**14):014d}"


async def _own_key(
    connection: Connection,
    site_id: int,
    wish: RefundWish,
    manager: Manager,
    now: datetime,
    *,
    key: str | None,
) -> str:
    """The caller's key made the manager's own; without one, that of the same wish just before."""
    if key is not None:
        return f"refund:{manager.id}:{hashlib.sha256(key.encode()).hexdigest()}"
    since = now - CLICKS_WITHIN
    last = await row(connection, LAST_CLICK, site_id, manager.name, wish.digest, since)
    return str(last["idempotency_key"]) if last else f"refund:{manager.id}:{secrets.token_hex(32)}"


async def _asked_before(
    connection: Connection, site_id: int, wish: RefundWish, key: str
) -> Asked | None:
    before = await row(connection, OF_KEY, site_id, key)
    if before is None:
        return None
    if before["input_hash"] != wish.digest:
        raise OtherRefundError(f"asked for otherwise as {before['no']}")
    return Asked(before["no"], before["approval_no"])


async def _check_available(connection: Connection, wish: RefundWish) -> None:
    """Under the tenancy's lock: what is used but not billed yet, and reserved, cannot go back."""
    owned = (await balances(connection, [wish.tenancy_id]))[wish.tenancy_id]
    electricity = WALLETS[wish.wallet] is AccountKind.ELECTRICITY_WALLET
    available_fen = owned.available_fen if electricity else owned.fixed_available_fen
    if wish.amount_fen > available_fen:
        raise AboveAvailableError(f"{max(available_fen, 0)} fen can be given back")


async def _insert(
    connection: Connection,
    site_id: int,
    wish: RefundWish,
    asked_by: str,
    key: str,
    now: datetime,
    approval: Approval | None = None,
) -> Row:
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


async def _start(connection: Connection, refund: Row, now: datetime) -> None:
    """The money leaves the wallet, and the parts are written: nothing has been asked yet."""
    wallet = AccountRef(AccountKind(refund["wallet"]), refund["tenancy_id"])
    details = {"refund_no": refund["no"], "reason": refund["reason"]}
    posting = refund_started(wallet, refund["amount_fen"], details)
    await post(connection, refund["site_id"], posting, key=f"refund:{refund['no']}", booked_at=now)
    found = await rows(connection, PAYMENTS, refund["tenancy_id"], refund["wallet"], PAYMENTS_MAX)
    parts = plan(refund["amount_fen"], [_paid(one) for one in found], now)
    used = {part.credit_id for part in parts}
    credits_ = {one["credit_id"]: one for one in found if one["credit_id"] in used}
    await insert_parts(connection, refund, parts, credits_, now)
    await decide_within(connection, [refund["tenancy_id"]], now)


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
