"""A day of the pages' mall, compared: what agrees, what was cured, and what needs a person."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

from payments.contract import Bill, BillEntry, BillEntryKind, Method, Platform, Trade
from server.core.reconciliation.days import CHINA, bill_day, made_by
from server.models import database as db
from server.services.crediting import credit
from server.services.reconciliation import reconcile_day
from server.services.reconciliation_days import Merchant, merchants
from server.services.top_ups import TopUpOrder, order
from tests.pages.mall import Mall

MERCHANT = """
INSERT INTO merchant (site_id, platform, merchant_id, app_id, settings)
VALUES ($1, $2, $3, $4, '{}'::jsonb)
"""
TENANCY = """
SELECT tenancy.id FROM tenancy JOIN shop ON shop.id = shop_id WHERE shop.code = 'A101'
"""
EVIL = "=HYPERLINK(A1)"


async def reconciled(mall: Mall) -> date:
    """The day before yesterday: one payment agrees, one was credited late, two are strange."""
    for one in mall.platforms.platforms.values():
        names = (one.platform.value, one.merchant_id, one.app_id)
        await db.rows(db.pool(), MERCHANT, mall.site_id, *names)
    at = datetime.now(CHINA).replace(hour=12, minute=0, second=0, microsecond=0)
    at -= timedelta(days=2)
    told = await _paid(mall, 5_000, "k1", at)
    await credit(mall.site_id, Platform.WECHAT, told, at)
    await _paid(mall, 3_005, "k2", at)
    wechat, day = mall.platforms.wechat, bill_day(at)
    entries = [_entry(one, at) for one in wechat.trades.values()]
    strange = replace(entries[0], amount_fen=777, transaction_id="4200000001")
    entries += [
        replace(strange, out_trade_no=number, transaction_id=f"420000000{nth}")
        for nth, number in enumerate((EVIL, "@SUM(1)"))
    ]
    wechat.bills[day] = Bill(Platform.WECHAT, wechat.merchant_id, day, entries, "1")
    later = made_by(day) + timedelta(minutes=30)
    merchant = await known_merchant()
    await reconcile_day(merchant, day, mall.platforms, lambda: later)
    return day


async def known_merchant() -> Merchant:
    """WeChat's."""
    return next(one for one in await merchants() if one.platform is Platform.WECHAT)


async def _paid(mall: Mall, amount_fen: int, key: str, at: datetime) -> Trade:
    found: Sequence[db.Row] = await db.rows(db.pool(), TENANCY)
    wish = TopUpOrder(
        tenancy_id=found[0]["id"],
        amount_fen=amount_fen,
        method=Method.WECHAT_NATIVE,
        wallet="electricity",
        idempotency_key=key,
        user_id=None,
        payer_id=None,
        client_ip=None,
        public_url="http://mall.test",
    )
    view = await order(wish, mall.platforms, at)
    assert view.payment is not None
    return mall.platforms.wechat.pay(view.payment["out_trade_no"], at)


def _entry(trade: Trade, at: datetime) -> BillEntry:
    assert trade.transaction_id is not None
    assert trade.paid_fen is not None
    numbers = (trade.out_trade_no, trade.transaction_id)
    return BillEntry(BillEntryKind.PAYMENT, *numbers, trade.paid_fen, at, fee_fen=30)
