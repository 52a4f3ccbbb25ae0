"""The inbox of payment notices: kept and committed before they are answered, settled once."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from payments.contract import (
    Notice,
    PaymentPlatform,
    Platform,
    Refund,
    RefundNotice,
    RefundStatus,
    Trade,
    TradeStatus,
)
from server.models.database import Connection, Row, from_json, row, rows, to_json, transaction
from server.services.crediting import Credited, Outcome, credit_within
from server.services.payment_cases import NewCase, open_case
from server.services.refund_parts import told_within

NUMBER_MAX = 64
KEEP = """
INSERT INTO payment_notice (site_id, platform, merchant_id, digest, out_trade_no, out_refund_no,
                            trade, content, received_at, attempts, try_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8, $9, 0, $9)
ON CONFLICT (platform, merchant_id, digest) DO NOTHING RETURNING id
"""
KEPT = """
SELECT id FROM payment_notice WHERE platform = $1 AND merchant_id = $2 AND digest = $3
"""
CLAIM = """
UPDATE payment_notice SET attempts = attempts + 1,
    try_at = $1::timestamptz + power(2, least(attempts, 12)) * interval '1 second'
WHERE id IN (SELECT id FROM payment_notice WHERE settled_at IS NULL AND try_at <= $1
             ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id
"""
OPEN = "SELECT * FROM payment_notice WHERE id = $1 AND settled_at IS NULL FOR UPDATE"
SETTLED = "UPDATE payment_notice SET settled_at = $2, outcome = $3 WHERE id = $1"
ORDERED = """
SELECT top_up.amount_fen FROM payment_order JOIN top_up ON top_up.id = payment_order.top_up_id
WHERE payment_order.platform = $1 AND payment_order.merchant_id = $2
  AND payment_order.out_trade_no = $3
"""


class Kept(StrEnum):
    """Whether a notice may be answered with success."""

    ACCEPTED = "accepted"
    CONTRADICTED = "contradicted"


async def keep(
    site_id: int, platform: PaymentPlatform, notice: Notice | RefundNotice, now: datetime
) -> tuple[Kept, int | None]:
    """Keep a verified notice; one that contradicts its merchant or order becomes a case."""
    async with transaction() as connection:
        contradiction = await _contradiction(connection, platform, notice)
        if contradiction is not None:
            subject = f"notice:{platform.platform.value}:{notice.digest}"
            case = NewCase(site_id, contradiction, subject, _facts(platform, notice))
            await open_case(connection, case, now)
            return Kept.CONTRADICTED, None
        names = (platform.platform.value, notice.merchant_id, notice.digest)
        about = _about(notice)
        out_refund_no = about["out_refund_no"][:NUMBER_MAX] if "out_refund_no" in about else None
        kept = await row(
            connection,
            KEEP,
            site_id,
            *names,
            *(about["out_trade_no"][:NUMBER_MAX], out_refund_no),
            *(to_json(about), notice.raw, now),
        )
        kept = kept or await row(connection, KEPT, *names)
        return Kept.ACCEPTED, kept["id"] if kept else None


async def _contradiction(
    connection: Connection, platform: PaymentPlatform, notice: Notice | RefundNotice
) -> str | None:
    if notice.merchant_id != platform.merchant_id:
        return "other_merchant"
    if isinstance(notice, RefundNotice):
        return None
    if notice.app_id != platform.app_id:
        return "other_app"
    if notice.trade.currency != "CNY":
        return "other_currency"
    if notice.trade.status is not TradeStatus.PAID:
        return None
    names = (platform.platform.value, notice.merchant_id, notice.trade.out_trade_no)
    ordered = await row(connection, ORDERED, *names)
    other = ordered is not None and ordered["amount_fen"] != notice.trade.paid_fen
    return "other_amount" if other else None


async def claim_open(now: datetime, limit: int) -> Sequence[int]:
    """Unsettled notices whose turn it is; each comes again, later and later, until settled."""
    async with transaction() as connection:
        return [one["id"] for one in await rows(connection, CLAIM, now, limit)]


async def settle(notice_id: int, now: datetime) -> Credited | None:
    """Do what a kept notice says, credit or refund; None where that is done already."""
    async with transaction() as connection:
        notice = await row(connection, OPEN, notice_id)
        if notice is None:
            return None
        site_id, platform = notice["site_id"], Platform(notice["platform"])
        if notice["out_refund_no"] is None:
            credited = await credit_within(connection, site_id, platform, _trade(notice), now)
        else:
            tenancy_id = await told_within(connection, site_id, platform, _refund(notice), now)
            credited = Credited(Outcome.REFUND_TOLD, tenancy_id)
        await rows(connection, SETTLED, notice_id, now, credited.outcome.value)
        return credited


def _facts(platform: PaymentPlatform, notice: Notice | RefundNotice) -> dict[str, object]:
    of_app = {"app_id": notice.app_id} if isinstance(notice, Notice) else {}
    return {
        "platform": platform.platform.value,
        "merchant_id": notice.merchant_id,
        **of_app,
        "digest": notice.digest,
        **_about(notice),
    }


def _about(notice: Notice | RefundNotice) -> dict[str, Any]:
    if isinstance(notice, Notice):
        return _trade_facts(notice.trade)
    return {
        "out_trade_no": notice.refund.out_trade_no,
        "out_refund_no": notice.refund.out_refund_no,
        "status": notice.refund.status.value,
        "merchant_id": notice.refund.merchant_id,
        "refund_fen": notice.refund.refund_fen,
        "refund_id": notice.refund.refund_id,
        "finished_at": _iso(notice.refund.finished_at),
    }


def _trade_facts(trade: Trade) -> dict[str, Any]:
    return {
        "out_trade_no": trade.out_trade_no,
        "status": trade.status.value,
        "merchant_id": trade.merchant_id,
        "paid_fen": trade.paid_fen,
        "currency": trade.currency,
        "transaction_id": trade.transaction_id,
        "paid_at": _iso(trade.paid_at),
    }


def _trade(notice: Row) -> Trade:
    facts = from_json(notice["trade"])
    return Trade(
        out_trade_no=facts["out_trade_no"],
        status=TradeStatus(facts["status"]),
        merchant_id=facts["merchant_id"],
        paid_fen=facts["paid_fen"],
        currency=facts["currency"],
        transaction_id=facts["transaction_id"],
        paid_at=_time(facts["paid_at"]),
    )


def _refund(notice: Row) -> Refund:
    facts = from_json(notice["trade"])
    return Refund(
        out_refund_no=facts["out_refund_no"],
        out_trade_no=facts["out_trade_no"],
        status=RefundStatus(facts["status"]),
        merchant_id=facts["merchant_id"],
        refund_fen=facts["refund_fen"],
        refund_id=facts["refund_id"],
        finished_at=_time(facts["finished_at"]),
    )


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
