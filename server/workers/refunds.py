"""Refunds under way: their parts asked for, and reservations that nobody decided on ended."""

from server.services import refund_parts, refunds
from server.services.announce import announce_tenancies
from server.services.refund_parts import DuePart
from server.workers.apart import do_each
from server.workers.context import WorkContext

PARTS_AT_ONCE = 8


async def ask_for_refunds(context: WorkContext) -> int:
    """A few parts: claimed and committed, then asked for, then what was said is taken in."""

    async def ask(due: DuePart) -> None:
        platform = await context.platforms.of_site(due.site_id, due.platform)
        said = await refund_parts.ask_platform(due, platform, context.public_url, context.clock())
        now = context.clock()
        tenancy_id = await refund_parts.take_in(due.out_refund_no, said, now, asked_in=due.state)
        if tenancy_id is not None:
            await announce_tenancies(context.wakeups, [tenancy_id])

    async def expire(over: tuple[int, int]) -> None:
        refund_id, tenancy_id = over
        await refunds.expire(refund_id, tenancy_id, context.clock())
        await announce_tenancies(context.wakeups, [tenancy_id])

    over = await refunds.expired(context.clock())
    await do_each("refunds", {one[0]: one for one in over.items()}, expire)
    due = await refund_parts.take_due(context.clock(), PARTS_AT_ONCE)
    return await do_each("refunds", {one.part_id: one for one in due}, ask)
