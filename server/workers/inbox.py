"""Crediting kept notices, and asking the platforms about orders that stay undecided."""

import structlog

from payments.contract import PaymentError, Platform
from server.services import order_queries, payment_inbox
from server.services.announce import announce_tenancies
from server.services.crediting import Credited, credit
from server.services.payment_inbox import Doubt
from server.workers.apart import do_each, keep_full
from server.workers.context import WorkContext

log = structlog.get_logger(__name__)

NOTICES_AT_ONCE = 8
QUERIES_AT_ONCE = 8  # of one platform
QUERIES_A_STEP = 200


async def settle_notices(context: WorkContext) -> int:
    """A few kept notices."""

    async def settle(notice_id: int) -> None:
        credited = await payment_inbox.settle(notice_id, context.clock())
        if isinstance(credited, Doubt):
            credited = await _ask_first(context, credited)
        if isinstance(credited, Credited) and credited.tenancy_id is not None:
            await announce_tenancies(context.wakeups, [credited.tenancy_id])

    claimed = await payment_inbox.claim_open(context.clock(), NOTICES_AT_ONCE)
    return await do_each("inbox", {one: one for one in claimed}, settle)


async def _ask_first(context: WorkContext, doubt: Doubt) -> Credited | Doubt | None:
    """Settle a notice by what its platform says now; without an answer it comes again."""
    platform, told = await context.platforms.of_site(doubt.site_id, doubt.platform), doubt.refund
    if platform is None or platform.merchant_id != told.merchant_id:
        return None
    try:
        asked = await platform.query_refund(told.out_trade_no, told.out_refund_no, context.clock())
    except PaymentError as error:
        log.info("refund query failed", out_refund_no=told.out_refund_no, code=error.code)
        return None
    return await payment_inbox.settle(doubt.notice_id, context.clock(), asked=(doubt, asked))


async def query_orders(context: WorkContext, platform: Platform) -> int:
    """Undecided orders of one platform that are due: a mute one holds up nobody of the other."""

    async def query(due: order_queries.DueQuery) -> None:
        merchant = await context.platforms.of_site(due.site_id, due.platform)
        trade = await order_queries.ask_platform(due, merchant, context.clock())
        if trade is not None:
            credited = await credit(due.site_id, due.platform, trade, context.clock())
            if credited.tenancy_id is not None:
                await announce_tenancies(context.wakeups, [credited.tenancy_id])

    async def take(limit: int) -> dict[int, order_queries.DueQuery]:
        due = await order_queries.take_due(platform, context.clock(), limit)
        return {one.order_id: one for one in due}

    return await keep_full("queries", take, query, at_once=QUERIES_AT_ONCE, most=QUERIES_A_STEP)


async def query_wechat(context: WorkContext) -> int:
    """Undecided orders of WeChat Pay that are due."""
    return await query_orders(context, Platform.WECHAT)


async def query_alipay(context: WorkContext) -> int:
    """Undecided orders of Alipay that are due."""
    return await query_orders(context, Platform.ALIPAY)
