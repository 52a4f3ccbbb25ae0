"""Projecting open days after readings, deciding what time alone changes, closing days."""

from server.services.announce import announce_tenancies
from server.services.settlement import close_days, settle_due
from server.services.supply import decide_due
from server.workers.context import WorkContext

BATCH = 200


async def settle_readings(context: WorkContext) -> int:
    """One batch of tenancies that have new readings."""
    settled = await settle_due(context.clock(), limit=BATCH)
    await announce_tenancies(context.wakeups, settled)
    return len(settled)


async def decide_supplies(context: WorkContext) -> int:
    """One batch of tenancies whose quiet hours end, whose notices mature, and the like."""
    decided = await decide_due(context.clock(), limit=BATCH)
    await announce_tenancies(context.wakeups, decided)
    return len(decided)


async def close_ready_days(context: WorkContext) -> int:
    """One day of every tenancy that is ready."""
    return await close_days(context.clock(), limit=BATCH)
