"""What managers do to a wallet by hand: alone up to the site's limit, else with a second person.

Once a receipt, once an Idempotency-Key: a repeat answers what the first time came of it, be it
posted or asked for. Whatever is posted is in the audit log, in the posting's own transaction.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from server.models.database import Connection, row, to_json, transaction
from server.services import (
    adjustments,
    approvals,
    case_decisions,
    desk,
    move_out_money,
    move_out_payments,
    move_out_returns,
    refund_payouts,
    refunds,
)
from server.services.adjustments import Adjustment
from server.services.approvals import Approval, Ask, Decision, Kind, Outcome
from server.services.desk import DeskPayment
from server.services.locks import lock_open_tenancy, lock_tenancies
from server.services.manager_acts import Act, Deed, check_reason, record_act
from server.services.managers import Manager

DESK_PAYMENT, DESK_REVERSAL, ADJUSTMENT = "desk_payment", "desk_reversal", "adjustment"
CLICKS_WITHIN = timedelta(seconds=60)  # without a key, the same wish again is the same click

POSTED = "SELECT id FROM ledger_transaction WHERE site_id = $1 AND idempotency_key = $2"

# What this manager wished for a moment ago, word for word, be it posted or asked for.
LAST_CLICK = """
SELECT facts ->> 'key' AS key FROM manager_act
WHERE site_id = $1 AND subject = $2 AND actor = $3 AND at > $4
  AND act IN ('adjustment', 'approval_asked') AND facts @> $5::jsonb
ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class ShopRef:
    """The shop at which something is done by hand."""

    site_id: int
    code: str

    @property
    def subject(self) -> str:
        """How the audit log names it."""
        return f"shop:{self.code}"


async def take_payment(
    shop: ShopRef, payment: DeskPayment, manager: Manager, now: datetime
) -> Outcome:
    """Take money at the desk; raises ReceiptUsedError and, for who moved out, TenancyEndedError."""
    ask = _ask(shop, DESK_PAYMENT, payment, f"desk:{payment.receipt_no}", once=False)
    async with transaction() as connection:
        await lock_open_tenancy(connection, payment.tenancy_id)
        before = await desk.taken_before(connection, shop.site_id, payment)
        if before is not None:
            return Outcome(before.transaction_id)
        try:
            asked = await approvals.asked_before(connection, ask, now)
        except approvals.OtherAskError as error:
            raise desk.ReceiptUsedError(f"receipt {payment.receipt_no!r}") from error
        if asked is not None:
            return Outcome(approval_no=asked.no)
        if not await _alone(connection, ask, payment.amount_fen, manager, now):
            asked = await approvals.ask_within(connection, ask, manager, now)
            return Outcome(approval_no=asked.no)
        posted = await desk.take_within(
            connection, payment, paid_at=now, now=now, taken_by=manager.name
        )
        await _record(connection, ask, manager, now)
        return Outcome(posted.transaction_id)


async def reverse_payment(
    shop: ShopRef, receipt_no: str, reason: str, manager: Manager, now: datetime
) -> Outcome:
    """Ask a second person to take a desk payment back; NotFoundError, ReversedError."""
    check_reason(reason)
    async with transaction() as connection:
        payment = await desk.payment_of_receipt(connection, shop.site_id, shop.code, receipt_no)
        await lock_tenancies(connection, [payment.tenancy_id])
        payment = await desk.payment_of_receipt(connection, shop.site_id, shop.code, receipt_no)
        key = f"desk-reversal:{receipt_no}"
        ask = _ask(shop, DESK_REVERSAL, payment, key, once=False, reason=reason)
        asked = await approvals.asked_before(connection, ask, now)
        if asked is None:
            asked = await approvals.ask_within(connection, ask, manager, now)
        return Outcome(approval_no=asked.no)


async def adjust(
    shop: ShopRef, wish: Adjustment, manager: Manager, now: datetime, *, key: str | None
) -> Outcome:
    """Change a wallet, once an Idempotency-Key of this manager's (None: once a minute).

    Raises IdempotencyMismatchError or OtherAskError where the key came with another wish.
    """
    async with transaction() as connection:
        await lock_open_tenancy(connection, wish.tenancy_id)
        own = await _adjustment_key(connection, shop, wish, manager, now, key=key)
        ask = _ask(shop, ADJUSTMENT, wish, own, once=True)
        asked = await approvals.asked_before(connection, ask, now)
        if asked is not None:
            return Outcome(approval_no=asked.no)
        seen = await row(connection, POSTED, shop.site_id, own)
        if seen is None and not await _alone(connection, ask, wish.amount_fen, manager, now):
            asked = await approvals.ask_within(connection, ask, manager, now)
            return Outcome(approval_no=asked.no)
        posted = await adjustments.adjust_within(connection, wish, key=own, now=now)
        if not posted.repeated:
            await _record(connection, ask, manager, now)
        return Outcome(posted.transaction_id)


async def _adjustment_key(
    connection: Connection,
    shop: ShopRef,
    wish: Adjustment,
    manager: Manager,
    now: datetime,
    *,
    key: str | None,
) -> str:
    """The caller's key made the manager's own; without one, that of the same wish just before."""
    if key is not None:
        return f"adjust:{manager.id}:{hashlib.sha256(key.encode()).hexdigest()}"
    facts = to_json(_ask(shop, ADJUSTMENT, wish, "", once=True).act_without_key)
    since = now - CLICKS_WITHIN
    last = await row(connection, LAST_CLICK, shop.site_id, shop.subject, manager.name, since, facts)
    return str(last["key"]) if last else f"adjust:{manager.id}:{secrets.token_hex(32)}"


async def decide(
    no: str, manager: Manager, decision: Decision, *, reason: str, now: datetime
) -> Approval:
    """Decide what waits for a second person, and do it; `approvals.decide` tells the rest."""
    return await approvals.decide(KINDS, no, manager, decision, reason=reason, now=now)


def _ask(
    shop: ShopRef,
    kind: str,
    wish: DeskPayment | Adjustment,
    key: str,
    *,
    once: bool,
    reason: str | None = None,
) -> Ask:
    facts = {"shop": shop.code, **asdict(wish)}
    told = reason if reason is not None else str(facts.pop("reason", ""))
    return Ask(shop.site_id, kind, wish.tenancy_id, shop.subject, told, key, once, facts)


async def _alone(
    connection: Connection, ask: Ask, amount_fen: int, manager: Manager, now: datetime
) -> bool:
    return await approvals.may_alone(
        connection,
        ask.site_id,
        ask.kind,
        actor=manager.name,
        subject=ask.subject,
        amount_fen=amount_fen,
        now=now,
    )


async def _record(connection: Connection, ask: Ask, manager: Manager, now: datetime) -> None:
    deed = Deed(ask.site_id, manager.name, ask.kind, ask.subject, ask.reason, ask.act)
    await record_act(connection, deed, now)


async def _take_approved(connection: Connection, approval: Approval, now: datetime) -> None:
    payment = _payment(approval)
    posted = await desk.take_within(
        connection, payment, paid_at=approval.asked_at, now=now, taken_by=approval.asked_by
    )
    if posted.repeated:
        raise desk.ReceiptUsedError(f"receipt {payment.receipt_no!r}")


async def _reverse_approved(connection: Connection, approval: Approval, now: datetime) -> None:
    reason = str(approval.act["reason"])
    await desk.reverse_within(connection, approval.site_id, _payment(approval), reason, now)


async def _adjust_approved(connection: Connection, approval: Approval, now: datetime) -> None:
    act = approval.act
    wish = Adjustment(
        tenancy_id=int(act["tenancy_id"]),
        amount_fen=int(act["amount_fen"]),
        reason=str(act["reason"]),
        wallet=str(act["wallet"]),
    )
    await adjustments.adjust_within(connection, wish, key=str(act["key"]), now=now)


def _payment(approval: Approval) -> DeskPayment:
    act = approval.act
    return DeskPayment(
        tenancy_id=int(act["tenancy_id"]),
        amount_fen=int(act["amount_fen"]),
        method=str(act["method"]),
        receipt_no=str(act["receipt_no"]),
        wallet=str(act["wallet"]),
    )


KINDS: Mapping[str, Kind] = {
    DESK_PAYMENT: Kind(Act.MONEY, _take_approved),
    DESK_REVERSAL: Kind(Act.MONEY, _reverse_approved),
    ADJUSTMENT: Kind(Act.MONEY, _adjust_approved),
    refunds.REFUND: Kind(Act.MONEY, refunds.carry_out, refunds.give_up),
    refund_payouts.PAYOUT: Kind(Act.MONEY, refund_payouts.carry_out),
    case_decisions.CASE_CREDIT: Kind(Act.MONEY, case_decisions.carry_out),
    move_out_money.PAYOUT: Kind(Act.MONEY, move_out_money.pay_approved),
    move_out_money.WRITE_OFF: Kind(Act.MONEY, move_out_money.forgive_approved),
    move_out_payments.DEBT_PAYMENT: Kind(Act.MONEY, move_out_payments.carry_out),
    move_out_returns.PAYOUT_RETURN: Kind(Act.MONEY, move_out_returns.carry_out),
}
