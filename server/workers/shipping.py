"""Telling WeChat what was delivered, a few payments at once."""

from server.services.shipping import DueShipment, take_due, tell
from server.workers.apart import do_each
from server.workers.context import WorkContext

TELLS_AT_ONCE = 4


async def tell_shipments(context: WorkContext) -> int:
    """A few; none in a process without a mini-program, where they wait."""
    desk = context.shipping
    if desk is None:
        return 0

    async def carry(due: DueShipment) -> None:
        await tell(due, desk, context.clock())

    due = await take_due(context.clock(), TELLS_AT_ONCE)
    return await do_each("shipping", {one.order_id: one for one in due}, carry)
