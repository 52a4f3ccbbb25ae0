"""Crediting kept notices, and asking the platforms about orders that stay undecided."""

from payments.contract import Platform
from server.services import order_queries, payment_inbox
from server.services.announce import announce_tenancies
from server.services.crediting import credit
from server.workers.apart import do_each
from server.workers.context import WorkContext

NOTICES_AT_ONCE = 8
QUERIES_AT_ONCE = 8


async def settle_notices(context: WorkContext) -> int:
    """A few kept notices."""

    async def settle(notice_id: int) -> None:
        credited = await payment_inbox.settle(notice_id, context.clock())
        if credited is not None and credited.tenancy_id is not None:
            await announce_tenancies(context.wakeups, [credited.tenancy_id])

    claimed = await payment_inbox.claim_open(context.clock(), NOTICES_AT_ONCE)
    return await do_each("inbox", {one: one for one in claimed}, settle)


async def query_orders(context: WorkContext, platform: Platform) -> int:
    """A few undecided orders of one platform: a mute one holds up nobody of the other."""

    async def query(due: order_queries.DueQuery) -> None:
        merchant = await context.platforms.of_site(due.site_id, due.platform)
        trade = await order_queries.ask_platform(due, merchant, context.clock())
        if trade is not None:
            credited = await credit(due.site_id, due.platform, trade, context.clock())
            if credited.tenancy_id is not None:
                await announce_tenancies(context.wakeups, [credited.tenancy_id])

    due = await order_queries.take_due(platform, context.clock(), QUERIES_AT_ONCE)
    return await do_each("queries", {one.order_id: one for one in due}, query)


async def query_wechat(context: WorkContext) -> int:
    """A few undecided orders of WeChat Pay."""
    return await query_orders(context, Platform.WECHAT)


async def query_alipay(context: WorkContext) -> int:
    """A few undecided orders of Alipay."""
    return await query_orders(context, Platform.ALIPAY)
