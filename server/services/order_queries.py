"""Asking a platform what became of orders that stay undecided, and closing those that are over."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from payments.contract import PaymentError, PaymentPlatform, Platform, Trade, TradeStatus
from server.core.top_ups.pace import FIRST, is_forgotten, pause
from server.models.database import pool, rows
from server.services.payment_attempts import close_and_ask
from server.services.top_up_closing import end_attempt

log = structlog.get_logger(__name__)

ANSWER_S = 20.0  # of all that is asked about one order; its claim lives a minute
# The longest due first, whatever their age: when a platform is slow everybody waits alike.
TAKE = """
UPDATE payment_order SET queries = queries + 1, query_at = $2::timestamptz + interval '1 minute'
WHERE id = ANY(ARRAY(
    SELECT id FROM payment_order WHERE platform = $1 AND query_at <= $2
    ORDER BY query_at, id LIMIT $3 FOR UPDATE SKIP LOCKED))
RETURNING id, site_id, platform, merchant_id, out_trade_no, queries, created_at,
          state = 'closing' AS is_closing,
          (SELECT expires_at FROM top_up WHERE top_up.id = top_up_id) AS expires_at
"""
AGAIN = """
UPDATE payment_order SET query_at = $2 WHERE id = $1 AND state IN ('waiting', 'closing')
"""

SOON = """
UPDATE payment_order SET query_at = $2
WHERE top_up_id = (SELECT id FROM top_up WHERE no = $1) AND query_at > $2
"""


@dataclass(frozen=True, slots=True)
class DueQuery:
    """An order whose platform is to be asked what became of it.

    `is_closing`: it was given up, so that the platform's order has to end, too.
    """

    order_id: int
    site_id: int
    platform: Platform
    merchant_id: str
    out_trade_no: str
    queries: int
    created_at: datetime
    expires_at: datetime
    is_closing: bool = False


async def take_due(platform: Platform, now: datetime, limit: int) -> Sequence[DueQuery]:
    """Orders to ask one platform about now, each claimed for a minute: a crash costs no more."""
    return [
        DueQuery(
            order_id=one["id"],
            site_id=one["site_id"],
            platform=Platform(one["platform"]),
            merchant_id=one["merchant_id"],
            out_trade_no=one["out_trade_no"],
            queries=one["queries"],
            created_at=one["created_at"],
            expires_at=one["expires_at"],
            is_closing=one["is_closing"],
        )
        for one in await rows(pool(), TAKE, platform.value, now, limit)
    ]


async def ask_soon(no: str, now: datetime) -> None:
    """The payer says that a top-up is paid: its platforms are asked as for a fresh code."""
    await rows(pool(), SOON, no, now + FIRST)


async def ask_platform(
    due: DueQuery, merchant: PaymentPlatform | None, now: datetime
) -> Trade | None:
    """Ask what became of an order; a trade to be credited, or None: ask later, or it is over.

    Without its merchant (gone, or another one by now) or an answer it is asked for ever more
    rarely, and over when it long should have been: later money is credited all the same.
    """
    if merchant is None or merchant.merchant_id != due.merchant_id:
        await _ask_later(due, now)
        return None
    is_over = due.is_closing or now >= due.expires_at
    try:
        async with asyncio.timeout(ANSWER_S):
            trade = await merchant.query(due.out_trade_no, now)
            if is_over and trade.status in {TradeStatus.WAITING, TradeStatus.UNKNOWN}:
                trade = await close_and_ask(merchant, due.out_trade_no, now)
    except (PaymentError, TimeoutError) as error:
        code = getattr(error, "code", "") or type(error).__name__
        log.info("order query failed", out_trade_no=due.out_trade_no, code=code)
        await _ask_later(due, now)
        return None
    if trade.status in {TradeStatus.PAID, TradeStatus.REFUNDED}:
        return trade  # should crediting fail, the claim's minute runs out
    if trade.status is TradeStatus.CLOSED or (is_over and trade.status is TradeStatus.UNKNOWN):
        await end_attempt(due.order_id)
    else:
        await _ask_later(due, now)
    return None


async def _ask_later(due: DueQuery, now: datetime) -> None:
    if is_forgotten(due.expires_at, now):
        await end_attempt(due.order_id)
    else:
        age = now - due.created_at
        await rows(pool(), AGAIN, due.order_id, now + pause(age, due.order_id + due.queries))
