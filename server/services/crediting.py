"""From a paid trade to the wallet: once a merchant and transaction id, by rule or as a case.

The same function whether a notice, a query or a reconciliation brought the trade (decision 9).
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from payments.contract import Platform, Trade, TradeStatus
from server.core.ledger.accounts import AccountKind, AccountRef
from server.core.ledger.flows import payment_to_suspense, top_up_settled
from server.core.top_ups.states import (
    AttemptEvent,
    TopUpEvent,
    by_state,
)
from server.models.database import Connection, Row, row, rows, to_json, transaction
from server.services.emergency_credit import end_within
from server.services.journal import post
from server.services.locks import lock_tenancies
from server.services.payment_attempts import give_up_within
from server.services.payment_cases import NewCase, close_told, open_case
from server.services.refund_starts import refund_by_itself
from server.services.supply import decide_within

ORDER = """
SELECT payment_order.id, payment_order.site_id, payment_order.state, payment_order.top_up_id,
       top_up.tenancy_id
FROM payment_order JOIN top_up ON top_up.id = payment_order.top_up_id
WHERE payment_order.platform = $1 AND payment_order.out_trade_no = $2
  AND payment_order.merchant_id = $3
"""
LOCK = """
SELECT top_up.id, top_up.no, top_up.tenancy_id, top_up.wallet, top_up.amount_fen,
       top_up.status, top_up.credited_at, tenancy.closed_at AS tenancy_closed_at
FROM payment_order JOIN top_up ON top_up.id = payment_order.top_up_id
JOIN tenancy ON tenancy.id = top_up.tenancy_id
WHERE payment_order.id = $1 FOR UPDATE OF top_up
"""
SEEN = """
SELECT id FROM payment_credit WHERE platform = $1 AND merchant_id = $2 AND transaction_id = $3
"""
CREDIT = """
INSERT INTO payment_credit (platform, merchant_id, transaction_id, out_trade_no, order_id,
                            amount_fen, paid_at, ledger_transaction_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id
"""
PAID = """
UPDATE top_up SET status = $4::jsonb ->> status, paid_at = $2, credited_at = $3 WHERE id = $1
"""
ORDER_ENDED = """
UPDATE payment_order SET state = $2::jsonb ->> state, query_at = NULL WHERE id = $1
"""
# Its money is here and not in its wallet: nothing will be credited by itself, so the order is over,
# and the time of the payment tells this end from one that nobody paid.
TOP_UP_SUSPENDED = """
UPDATE top_up SET status = $3::jsonb ->> status, paid_at = $2
WHERE id = (SELECT top_up_id FROM payment_order WHERE id = $1) AND credited_at IS NULL
"""
PAID_TWICE = "重复支付，自动退款 (paid twice)"
OUTSIDE = "refunded_outside"
OWN_REFUND = """
SELECT 1 AS some FROM refund_part part JOIN payment_credit credit ON credit.id = part.credit_id
WHERE credit.order_id = $1 AND part.state <> 'failed' LIMIT 1
"""
# What was credited is delivered: WeChat is told (services/shipping) where the site says so.
ORDER_CREDITED = """
UPDATE payment_order SET transaction_id = $2, ship_at = (
    SELECT $3::timestamptz FROM site
    WHERE site.id = payment_order.site_id AND site.shipping_information
      AND payment_order.method = 'wechat_jsapi'
) WHERE id = $1
"""


class Outcome(StrEnum):
    """What became of a trade, in the order in which the rules are tried."""

    NOT_PAID = "not_paid"
    REPEATED = "repeated"
    UNKNOWN_ORDER = "unknown_order"
    OTHER_AMOUNT = "other_amount"
    SECOND_PAYMENT = "second_payment"
    AFTER_MOVE_OUT = "after_move_out"
    CREDITED = "credited"
    REFUNDED_BEFORE_CREDIT = "refunded_before_credit"
    REFUND_TOLD = "refund_told"  # it was a notice about a refund


@dataclass(frozen=True, slots=True)
class Credited:
    """The outcome, and whose pages and gateways should hear of it."""

    outcome: Outcome
    tenancy_id: int | None = None


async def credit(site_id: int, platform: Platform, trade: Trade, now: datetime) -> Credited:
    """Credit a trade once, or put its money in suspense with a case that names why.

    An order is paid wherever its notice came in: several sites may share a merchant. `site_id` is
    whose the money is where nobody knows the order.
    """
    async with transaction() as connection:
        return await credit_within(connection, site_id, platform, trade, now)


async def credit_within(
    connection: Connection, site_id: int, platform: Platform, trade: Trade, now: datetime
) -> Credited:
    """As `credit`, inside the caller's transaction."""
    was_paid = trade.status in {TradeStatus.PAID, TradeStatus.REFUNDED}
    if not was_paid or not trade.transaction_id or not trade.paid_fen:
        return Credited(Outcome.NOT_PAID)
    if trade.status is TradeStatus.REFUNDED:
        return await _given_back(connection, site_id, platform, trade, now)
    order, top_up = await _lock_order(connection, platform, trade)
    seen = await row(connection, SEEN, platform.value, trade.merchant_id, trade.transaction_id)
    outcome = _judge(trade, top_up, repeated=seen is not None)
    tenancy_id = top_up["tenancy_id"] if top_up else None
    if outcome is Outcome.REPEATED:
        if order is not None:  # it was suspended before, maybe
            await _end_attempt(connection, order["id"], AttemptEvent.PAID)
    elif outcome is Outcome.CREDITED and top_up is not None and order is not None:
        await _credit_wallet(connection, order["site_id"], platform, trade, order, top_up, now)
        await end_within(connection, [top_up["tenancy_id"]])
        await decide_within(connection, [top_up["tenancy_id"]], now)
    elif not await _suspend(connection, site_id, platform, trade, order, outcome, now):
        outcome = Outcome.REPEATED
    return Credited(outcome, tenancy_id)


async def _lock_order(
    connection: Connection, platform: Platform, trade: Trade
) -> tuple[Row | None, Row | None]:
    """The order and its top-up, locked after the tenancy (docs/locks.md)."""
    found = await row(connection, ORDER, platform.value, trade.out_trade_no, trade.merchant_id)
    if found is None:
        return None, None
    await lock_tenancies(connection, [found["tenancy_id"]])
    top_up = await row(connection, LOCK, found["id"])
    return await row(
        connection, ORDER, platform.value, trade.out_trade_no, trade.merchant_id
    ), top_up


async def _given_back(
    connection: Connection, site_id: int, platform: Platform, trade: Trade, now: datetime
) -> Credited:
    """Paid, and wholly or partly given back at the platform, which does not say how much.

    So nothing is credited by itself: what did not come in yet waits in suspense.
    """
    order, top_up = await _lock_order(connection, platform, trade)
    if order is None or top_up is None:
        return Credited(Outcome.NOT_PAID)
    outcome = Outcome.NOT_PAID
    seen = await row(connection, SEEN, platform.value, trade.merchant_id, trade.transaction_id)
    if seen is None:
        outcome = Outcome.REFUNDED_BEFORE_CREDIT
        await _suspend(connection, site_id, platform, trade, order, outcome, now)
    if await row(connection, OWN_REFUND, order["id"]) is None:
        subject = f"{platform.value}:{trade.out_trade_no}"
        facts = _case_facts(platform, trade)
        case = NewCase(order["site_id"], OUTSIDE, subject, facts, top_up["tenancy_id"])
        await open_case(connection, case, now)
    return Credited(outcome, top_up["tenancy_id"])


def _judge(trade: Trade, top_up: Row | None, *, repeated: bool) -> Outcome:
    if repeated:
        return Outcome.REPEATED
    if top_up is None:
        return Outcome.UNKNOWN_ORDER
    if trade.paid_fen != top_up["amount_fen"]:
        return Outcome.OTHER_AMOUNT
    if top_up["credited_at"] is not None:
        return Outcome.SECOND_PAYMENT
    if top_up["tenancy_closed_at"] is not None:
        return Outcome.AFTER_MOVE_OUT
    return Outcome.CREDITED


async def _credit_wallet(
    connection: Connection,
    site_id: int,
    platform: Platform,
    trade: Trade,
    order: Row,
    top_up: Row,
    now: datetime,
) -> None:
    wallet = AccountRef(AccountKind(top_up["wallet"]), top_up["tenancy_id"])
    posted = await post(
        connection,
        site_id,
        top_up_settled(platform.value, wallet, top_up["amount_fen"], _details(trade, top_up)),
        key=_key(platform, trade),
        booked_at=trade.paid_at or now,
    )
    await _record(connection, platform, trade, order["id"], posted.transaction_id, now)
    paid_at = trade.paid_at or now
    await rows(connection, PAID, top_up["id"], paid_at, now, _moves(TopUpEvent.CREDITED))
    await _end_attempt(connection, order["id"], AttemptEvent.PAID)
    await rows(connection, ORDER_CREDITED, order["id"], trade.transaction_id, now)
    await give_up_within(connection, top_up["id"], now)


async def _suspend(
    connection: Connection,
    site_id: int,
    platform: Platform,
    trade: Trade,
    order: Row | None,
    outcome: Outcome,
    now: datetime,
) -> bool:
    """Money that came and belongs to nobody yet: in suspense, with a case for a manager.

    False where another did that at this very moment: without an order there is nothing to lock.
    """
    if order is not None:
        site_id = order["site_id"]
    posted = await post(
        connection,
        site_id,
        payment_to_suspense(platform.value, trade.paid_fen or 0, _details(trade, None)),
        key=_key(platform, trade),
        booked_at=trade.paid_at or now,
    )
    if posted.repeated:
        return False
    order_id = order["id"] if order is not None else None
    credit_id = await _record(connection, platform, trade, order_id, posted.transaction_id, now)
    if order is not None and order_id is not None:
        await _end_attempt(connection, order_id, AttemptEvent.PAID)
        moves = _moves(TopUpEvent.SUSPENDED)
        await rows(connection, TOP_UP_SUSPENDED, order_id, trade.paid_at or now, moves)
        await give_up_within(connection, order["top_up_id"], now)
    subject = f"{platform.value}:{trade.transaction_id}"
    tenancy_id = order["tenancy_id"] if order is not None else None
    facts = _case_facts(platform, trade)
    case = NewCase(site_id, outcome.value, subject, facts, tenancy_id, credit_id)
    case_id = await open_case(connection, case, now)
    if outcome in {Outcome.OTHER_AMOUNT, Outcome.REFUNDED_BEFORE_CREDIT}:
        names = (platform.value, trade.merchant_id, trade.out_trade_no)
        await close_told(connection, names, now)
    if outcome is Outcome.SECOND_PAYMENT and case_id is not None:
        await refund_by_itself(connection, case_id, PAID_TWICE, now)
    return True


async def _end_attempt(connection: Connection, order_id: int, event: AttemptEvent) -> None:
    await rows(connection, ORDER_ENDED, order_id, _moves(event))


def _moves(event: TopUpEvent | AttemptEvent) -> str:
    return to_json(by_state(event))


def _case_facts(platform: Platform, trade: Trade) -> dict[str, object]:
    return {
        "platform": platform.value,
        "merchant_id": trade.merchant_id,
        "out_trade_no": trade.out_trade_no,
        "transaction_id": trade.transaction_id,
        "paid_fen": trade.paid_fen,
    }


async def _record(
    connection: Connection,
    platform: Platform,
    trade: Trade,
    order_id: int | None,
    ledger_transaction_id: int,
    now: datetime,
) -> int:
    made = await row(
        connection,
        CREDIT,
        *(platform.value, trade.merchant_id, trade.transaction_id, trade.out_trade_no[:64]),
        *(order_id, trade.paid_fen, trade.paid_at or now, ledger_transaction_id),
    )
    assert made is not None  # noqa: S101  INSERT … RETURNING answers its row
    return int(made["id"])


def _key(platform: Platform, trade: Trade) -> str:
    return f"payment:{platform.value}:{trade.merchant_id}:{trade.transaction_id}"


def _details(trade: Trade, top_up: Row | None) -> dict[str, str | int]:
    details: dict[str, str | int] = {
        "out_trade_no": trade.out_trade_no[:64],
        "transaction_id": trade.transaction_id or "",
    }
    return details | ({"top_up_no": top_up["no"]} if top_up else {})
