"""Crediting kept notices, and asking the platforms about orders that stay undecided."""

import asyncio

from server.services import payment_inbox, top_ups
from server.services.announce import announce_tenancies
from server.services.crediting import credit
from server.workers.context import WorkContext

BATCH = 50
QUERIES_AT_ONCE = 8


async def settle_notices(context: WorkContext) -> int:
    """One batch of kept notices."""
    claimed = await payment_inbox.claim_open(context.clock(), BATCH)
    for notice_id in claimed:
        credited = await payment_inbox.settle(notice_id, context.clock())
        if credited is not None and credited.tenancy_id is not None:
            await announce_tenancies(context.wakeups, [credited.tenancy_id])
    return len(claimed)


async def query_orders(context: WorkContext) -> int:
    """One batch of undecided orders, a few platforms' calls at once."""
    due = await top_ups.take_due_queries(context.clock(), QUERIES_AT_ONCE)
    await asyncio.gather(*(_query_order(context, one) for one in due))
    return len(due)


async def _query_order(context: WorkContext, due: top_ups.DueQuery) -> None:
    platform = await context.platforms.of_site(due.site_id, due.platform)
    if platform is None:
        return  # the merchant is gone for now; the claim runs out and the order comes again
    trade = await top_ups.ask_platform(due, platform, context.clock())
    if trade is not None:
        credited = await credit(due.site_id, due.platform, trade, context.clock())
        if credited.tenancy_id is not None:
            await announce_tenancies(context.wakeups, [credited.tenancy_id])
