"""Crediting kept notices, and asking the platforms about orders that stay undecided."""

from payments.contract import Platform
from server.services import order_queries, payment_inbox
from server.services.announce import announce_tenancies
from server.services.crediting import credit
from server.workers.apart import do_each, keep_full
from server.workers.context import WorkContext

NOTICES_AT_ONCE = 8
QUERIES_AT_ONCE = 8  # of one platform
QUERIES_A_STEP = 200


async def settle_notices(context: WorkContext) -> int:
    """A few kept notices."""

    async def settle(notice_id: int) -> None:
        credited = await payment_inbox.settle(notice_id, context.clock())
        if credited is not None and credited.tenancy_id is not None:
            await announce_tenancies(context.wakeups, [credited.tenancy_id])

    claimed = await payment_inbox.claim_open(context.clock(), NOTICES_AT_ONCE)
    return await do_each("inbox", {one: one for one in claimed}, settle)


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
