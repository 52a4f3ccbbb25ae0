"""Carrying the outbox out, a few messages at once."""

import asyncio

from server.services.outbox import Claimed, claim_messages, give_up, send
from server.workers.context import WorkContext

SENDS_AT_ONCE = 8


async def send_messages(context: WorkContext) -> int:
    """One batch of messages."""
    claimed = await claim_messages(context.clock(), SENDS_AT_ONCE)
    await asyncio.gather(*(_send(context, one) for one in claimed))
    return len(claimed)


async def _send(context: WorkContext, claimed: Claimed) -> None:
    channel = context.channels.get(claimed.channel)
    if channel is None:
        await give_up(claimed, f"no channel {claimed.channel} here", context.clock())
        return
    await send(claimed, channel, context.clock())
