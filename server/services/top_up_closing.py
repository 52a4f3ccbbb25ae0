"""Top-ups that nobody pays any more: of an ended tenancy, given up by their payer, or expired."""

from datetime import datetime

from server.core.top_ups.states import AttemptEvent, TopUpEvent, by_state
from server.models.database import Connection, rows, to_json, transaction

LOCK_TOP_UP = """
SELECT id FROM top_up WHERE id = (SELECT top_up_id FROM payment_order WHERE id = $1) FOR UPDATE
"""
END = """
UPDATE payment_order SET state = $2::jsonb ->> state, query_at = NULL WHERE id = $1
"""
CLOSE = """
UPDATE top_up SET status = $2::jsonb ->> status
WHERE id = (SELECT top_up_id FROM payment_order WHERE id = $1) AND status = 'pending'
  AND NOT EXISTS (SELECT 1 FROM payment_order other WHERE other.top_up_id = top_up.id
                  AND other.state IN ('waiting', 'closing'))
"""
# Whoever moves out orders nothing more. The platform is asked at once, and then told to close.
CLOSE_ALL = """
WITH held AS (
    SELECT id FROM top_up WHERE tenancy_id = $1 AND status = 'pending' ORDER BY id FOR UPDATE
)
UPDATE top_up SET status = $2::jsonb ->> status FROM held WHERE top_up.id = held.id
RETURNING top_up.id
"""
CLOSE_ONE = """
UPDATE top_up SET status = $2::jsonb ->> status WHERE no = $1 AND status = 'pending' RETURNING id
"""
GIVE_UP_ALL = """
UPDATE payment_order SET state = $2::jsonb ->> state, query_at = $3
WHERE top_up_id = ANY($1::bigint[]) AND state = 'waiting'
"""


async def close_all_within(connection: Connection, tenancy_id: int, now: datetime) -> int:
    """Close what a tenancy ordered and has not paid, under its lock; how many that were.

    The platforms' own orders are closed by whoever asks what became of them (`order_queries`).
    """
    closing = to_json(by_state(TopUpEvent.GIVEN_UP))
    closed = [one["id"] for one in await rows(connection, CLOSE_ALL, tenancy_id, closing)]
    giving_up = to_json(by_state(AttemptEvent.GIVEN_UP))
    await rows(connection, GIVE_UP_ALL, closed, giving_up, now)
    return len(closed)


async def give_up(no: str, now: datetime) -> None:
    """A payer will not pay this: closed if it was pending, else as it is; a late payment counts."""
    async with transaction() as connection:
        found = await rows(connection, CLOSE_ONE, no, to_json(by_state(TopUpEvent.GIVEN_UP)))
        giving_up = to_json(by_state(AttemptEvent.GIVEN_UP))
        await rows(connection, GIVE_UP_ALL, [one["id"] for one in found], giving_up, now)


async def end_attempt(order_id: int) -> None:
    """An attempt is over unpaid; so is its top-up, where no other attempt may still be paid."""
    async with transaction() as connection:
        await rows(connection, LOCK_TOP_UP, order_id)  # before the order, as crediting does
        await rows(connection, END, order_id, to_json(by_state(AttemptEvent.ENDED)))
        await rows(connection, CLOSE, order_id, to_json(by_state(TopUpEvent.GIVEN_UP)))
