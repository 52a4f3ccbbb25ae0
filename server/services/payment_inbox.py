"""The inbox of payment notices: kept and committed before they are answered, settled once."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from payments.contract import Notice, PaymentPlatform, Platform, Trade, TradeStatus
from server.models.database import Row, from_json, row, rows, to_json, transaction
from server.services.crediting import Credited, credit_within, open_case

KEEP = """
INSERT INTO payment_notice (site_id, platform, merchant_id, digest, out_trade_no, trade, content,
                            received_at, attempts, try_at)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, 0, $8)
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
    site_id: int, platform: PaymentPlatform, notice: Notice, now: datetime
) -> tuple[Kept, int | None]:
    """Keep a verified notice; one that contradicts its merchant or order becomes a case."""
    async with transaction() as connection:
        contradiction = _contradiction(platform, notice)
        if contradiction is None and notice.trade.status is TradeStatus.PAID:
            names = (platform.platform.value, notice.merchant_id, notice.trade.out_trade_no)
            ordered = await row(connection, ORDERED, *names)
            if ordered is not None and ordered["amount_fen"] != notice.trade.paid_fen:
                contradiction = "other_amount"
        if contradiction is not None:
            facts = _facts(notice)
            subject = f"notice:{platform.platform.value}:{notice.digest}"
            await open_case(connection, site_id, contradiction, subject, facts, now)
            return Kept.CONTRADICTED, None
        names = (platform.platform.value, notice.merchant_id, notice.digest)
        kept = await row(
            connection,
            KEEP,
            site_id,
            *names,
            notice.trade.out_trade_no[:64],
            to_json(_trade_facts(notice.trade)),
            notice.raw,
            now,
        )
        kept = kept or await row(connection, KEPT, *names)
        return Kept.ACCEPTED, kept["id"] if kept else None


def _contradiction(platform: PaymentPlatform, notice: Notice) -> str | None:
    if notice.merchant_id != platform.merchant_id:
        return "other_merchant"
    if notice.app_id != platform.app_id:
        return "other_app"
    if notice.trade.currency != "CNY":
        return "other_currency"
    return None


async def claim_open(now: datetime, limit: int) -> Sequence[int]:
    """Unsettled notices whose turn it is; each comes again, later and later, until settled."""
    async with transaction() as connection:
        return [one["id"] for one in await rows(connection, CLAIM, now, limit)]


async def settle(notice_id: int, now: datetime) -> Credited | None:
    """Credit what a kept notice says; None where that is done already."""
    async with transaction() as connection:
        notice = await row(connection, OPEN, notice_id)
        if notice is None:
            return None
        platform = Platform(notice["platform"])
        credited = await credit_within(connection, notice["site_id"], platform, _trade(notice), now)
        await rows(connection, SETTLED, notice_id, now, credited.outcome.value)
        return credited


def _facts(notice: Notice) -> dict[str, object]:
    return {
        "merchant_id": notice.merchant_id,
        "app_id": notice.app_id,
        "digest": notice.digest,
        **_trade_facts(notice.trade),
    }


def _trade_facts(trade: Trade) -> dict[str, object]:
    return {
        "out_trade_no": trade.out_trade_no,
        "status": trade.status.value,
        "merchant_id": trade.merchant_id,
        "paid_fen": trade.paid_fen,
        "currency": trade.currency,
        "transaction_id": trade.transaction_id,
        "paid_at": trade.paid_at.isoformat() if trade.paid_at else None,
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
        paid_at=datetime.fromisoformat(facts["paid_at"]) if facts["paid_at"] else None,
    )
