"""Asking a platform about a difference, and curing it by what does that on every other day."""

from dataclasses import dataclass
from datetime import datetime

import structlog

from payments.contract import (
    PaymentError,
    PaymentPlatform,
    PlatformRefusedError,
    Refund,
    RefundStatus,
    Trade,
    TradeStatus,
)
from server.core.reconciliation.compare import BillLine, Difference
from server.core.reconciliation.cures import CURES, Act, Answer, Question, Told, answer_of
from server.core.refunds.cases import CaseKind
from server.models.database import Connection, row, transaction
from server.services.crediting import credit
from server.services.reconciliation_days import Merchant
from server.services.refund_parts import SAID, Said, take_in, told_within

log = structlog.get_logger(__name__)

# A refund that a query of the payment had shown before: it named the payment, and no refund.
SHOWN_BY_TRADE = """
SELECT id FROM payment_case WHERE site_id = $1 AND kind = $2 AND subject = $3
    AND closed_at IS NULL
"""
IN_VAIN = frozenset({RefundStatus.UNKNOWN, RefundStatus.CLOSED})


@dataclass(frozen=True, slots=True)
class Cured:
    """Whom the platform bore out, and whose pages should hear of what was done."""

    answer: Answer
    tenancy_id: int | None = None


async def cure(
    merchant: Merchant,
    platform: PaymentPlatform,
    difference: Difference,
    site_id: int,
    now: datetime,
) -> Cured:
    """Ask, then do what the table says; the same again changes nothing more.

    Never raises the platform's errors: who gave no answer is asked again another time.
    """
    rule = CURES[difference.finding]
    line = difference.line
    try:
        if rule.question is Question.TRADE:
            trade = await platform.query(line.out_trade_no, now)
            return await _with_trade(merchant, difference, trade, site_id, now)
        if rule.question is Question.REFUND:
            number = difference.ours.number if difference.ours is not None else line.number
            refund = await platform.query_refund(line.out_trade_no, number, now)
            return await _with_refund(difference, refund, now)
    except PaymentError as error:
        refused = isinstance(error, PlatformRefusedError)
        log.warning(
            "no answer about a difference", number=line.number, code=error.code, refused=refused
        )
        return Cured(Answer.REFUSED if refused else Answer.UNANSWERED)
    if rule.act is Act.TELL and difference.bill is not None:
        return await _tell(merchant, difference.bill, site_id, now)
    return Cured(Answer.NOT_ASKED)


async def _with_trade(
    merchant: Merchant, difference: Difference, trade: Trade, site_id: int, now: datetime
) -> Cured:
    is_there = trade.status in {TradeStatus.PAID, TradeStatus.REFUNDED}
    told = Told(is_there, trade.transaction_id, trade.paid_fen)
    answer = answer_of(difference, told)
    if is_there and (trade.merchant_id, trade.currency) != (merchant.merchant_id, "CNY"):
        answer = Answer.NEITHER
    rule = CURES[difference.finding]
    if rule.act is not Act.CREDIT or answer not in rule.act_on:
        return Cured(answer)
    credited = await credit(site_id, merchant.platform, trade, now)
    return Cured(answer, credited.tenancy_id)


async def _with_refund(difference: Difference, refund: Refund, now: datetime) -> Cured:
    is_there = refund.status not in IN_VAIN
    answer = answer_of(difference, Told(is_there, refund.out_refund_no, refund.refund_fen))
    rule = CURES[difference.finding]
    if rule.act is not Act.SETTLE or answer not in rule.act_on:
        return Cured(answer)
    said = Said(SAID[refund.status], refund)
    asked_in = difference.ours.state if difference.ours is not None else None
    tenancy_id = await take_in(refund.out_refund_no, said, now, asked_in=asked_in)
    return Cured(answer, tenancy_id)


async def _tell(merchant: Merchant, line: BillLine, site_id: int, now: datetime) -> Cured:
    """The bill is word enough: what was done in the platform's console answers to no question."""
    status = RefundStatus(line.state.value) if line.state is not None else RefundStatus.SUCCEEDED
    refund = Refund(line.number, line.out_trade_no, status, merchant.merchant_id, line.amount_fen)
    async with transaction() as connection:
        if await shown_by_trade(connection, merchant, line.out_trade_no, site_id) is None:
            await told_within(connection, site_id, merchant.platform, refund, now)
    return Cured(Answer.NOT_ASKED)


async def shown_by_trade(
    connection: Connection, merchant: Merchant, out_trade_no: str, site_id: int
) -> int | None:
    """The open case of a refund outside that names only its payment."""
    subject = f"{merchant.platform.value}:{out_trade_no}"
    kind = CaseKind.REFUNDED_OUTSIDE.value
    found = await row(connection, SHOWN_BY_TRADE, site_id, kind, subject)
    return int(found["id"]) if found is not None else None
