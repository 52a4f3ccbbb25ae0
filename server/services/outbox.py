"""Messages on their way out: claimed, sent outside any transaction, marked after.

A kill between sending and marking leaves a message in doubt; it is sent once more, and marked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.channels.contract import ChannelError, Message, MessageChannel, Sent
from server.models.database import from_json, pool, rows

ATTEMPTS_MAX = 8
CLAIM_FOR = timedelta(seconds=60)

# A claim that ran out was in flight at a kill: it comes back once, in doubt.
CLAIM = """
UPDATE outbox_message SET state = 'sending', attempts = attempts + 1, claimed_until = $2,
    in_doubt = in_doubt OR state = 'sending'
WHERE id = ANY(ARRAY(
    SELECT id FROM outbox_message
    WHERE (state = 'waiting' AND try_at <= $1)
       OR (state = 'sending' AND claimed_until < $1 AND NOT in_doubt)
    ORDER BY try_at, id LIMIT $3 FOR UPDATE SKIP LOCKED))
RETURNING id, channel, address, template_id, fields_json, attempts
"""
# Lost a second time, nobody knows whether it arrived: it is not repeated once more.
LOST_TWICE = """
UPDATE outbox_message SET state = 'failed', error = 'in doubt twice'
WHERE state = 'sending' AND claimed_until < $1 AND in_doubt
"""
SENT = """
UPDATE outbox_message SET state = 'sent', channel_id = $2, sent_at = $3, error = NULL
WHERE id = $1
"""
FAILED = """
UPDATE outbox_message SET state = $2, try_at = $3, error = $4 WHERE id = $1
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message to be sent now."""

    message_id: int
    channel: str
    message: Message
    attempts: int


async def claim_messages(now: datetime, limit: int) -> Sequence[Claimed]:
    """Messages whose turn it is, each for a minute."""
    await rows(pool(), LOST_TWICE, now)
    return [
        Claimed(
            one["id"],
            one["channel"],
            Message(one["address"], one["template_id"], from_json(one["fields_json"])),
            one["attempts"],
        )
        for one in await rows(pool(), CLAIM, now, now + CLAIM_FOR, limit)
    ]


async def send(claimed: Claimed, channel: MessageChannel, now: datetime) -> bool:
    """Send one message and mark how it went; whether the channel took it."""
    try:
        sent = await channel.send(claimed.message, now)
    except ChannelError as error:
        await _mark_failed(claimed, error, now)
        return False
    await _mark_sent(claimed, sent, now)
    return True


async def give_up(claimed: Claimed, reason: str, now: datetime) -> None:
    """A message that no channel can carry."""
    await rows(pool(), FAILED, claimed.message_id, "failed", now, reason[:200])


async def _mark_sent(claimed: Claimed, sent: Sent, now: datetime) -> None:
    await rows(pool(), SENT, claimed.message_id, sent.channel_id, now)


async def _mark_failed(claimed: Claimed, error: ChannelError, now: datetime) -> None:
    again = error.transient and claimed.attempts < ATTEMPTS_MAX
    state = "waiting" if again else "failed"
    pause = timedelta(seconds=min(2**claimed.attempts, 600))
    await rows(pool(), FAILED, claimed.message_id, state, now + pause, error.detail[:200])
