"""Carrying the outbox out, a few messages at once."""

from server.services.outbox import Claimed, claim_messages, give_up, send
from server.workers.apart import do_each
from server.workers.context import WorkContext

SENDS_AT_ONCE = 8


async def send_messages(context: WorkContext) -> int:
    """A few messages."""

    async def carry(claimed: Claimed) -> None:
        channel = context.channels.get(claimed.channel)
        if channel is None:
            reason = f"no channel {claimed.channel} here"
            await give_up(claimed, reason, context.clock())
        else:
            await send(claimed, channel, context.clock())

    claimed = await claim_messages(context.clock(), SENDS_AT_ONCE)
    return await do_each("outbox", {one.message_id: one for one in claimed}, carry)
