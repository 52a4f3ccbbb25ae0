"""Wrong guesses of a secret are counted by subject, in PostgreSQL: Redis may be wiped (decision 2).

A block holds for right guesses too, and ends by itself after at most fifteen minutes.
"""

from datetime import datetime, timedelta

from server.core.errors import LimitedError
from server.models.database import Connection, pool, row, rows

BLOCK_S_MAX = 900
KEPT = timedelta(days=1)  # how long a counter that has run out is kept
SWEPT_MAX = 20  # old counters removed with each new failure

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
BLOCKED = "SELECT blocked_until FROM guess_counter WHERE scope = $1 AND subject = $2"

# A block starts the count anew at its end; a failure during a block neither counts nor prolongs it.
FAILED = """
INSERT INTO guess_counter AS kept (scope, subject, failures, window_ends_at, blocked_until)
VALUES ($1, $2, 1, CASE WHEN $4::integer <= 1 THEN $6::timestamptz ELSE $5::timestamptz END,
        CASE WHEN $4::integer <= 1 THEN $6::timestamptz END)
ON CONFLICT (scope, subject) DO UPDATE SET
    failures = CASE WHEN kept.window_ends_at <= $3 THEN 1 ELSE kept.failures + 1 END,
    window_ends_at = CASE
        WHEN kept.window_ends_at <= $3 THEN excluded.window_ends_at
        WHEN kept.failures + 1 >= $4 THEN $6::timestamptz
        ELSE kept.window_ends_at END,
    blocked_until = CASE
        WHEN kept.window_ends_at <= $3 THEN excluded.blocked_until
        WHEN kept.failures + 1 >= $4 THEN $6::timestamptz END
WHERE kept.blocked_until IS NULL OR kept.blocked_until <= $3
"""
SWEEP = """
DELETE FROM guess_counter WHERE id = ANY(ARRAY(
    SELECT id FROM guess_counter WHERE window_ends_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))
"""
FORGET = "DELETE FROM guess_counter WHERE scope = $1 AND subject = $2"


async def check(scope: str, subject: str, now: datetime) -> None:
    """Nothing, or LimitedError while the subject is blocked: then no guess may even be tried."""
    await check_within(pool(), scope, subject, now)


async def record_failure(
    scope: str, subject: str, now: datetime, *, limit: int, window_s: int
) -> None:
    """Count a wrong guess; the `limit`-th within `window_s` blocks the subject."""
    await record_failure_within(pool(), scope, subject, now, limit=limit, window_s=window_s)
    await rows(pool(), SWEEP, now - KEPT, SWEPT_MAX)


async def forget(scope: str, subject: str) -> None:
    """A right guess, or a manager's word: the count starts anew."""
    await rows(pool(), FORGET, scope, subject)


async def lock_within(connection: Connection, scope: str, subject: str) -> None:
    """One guess at a time for this subject, until the transaction ends: no burst slips through."""
    await rows(connection, LOCK, f"guess:{scope}:{subject}")


async def check_within(connection: Connection, scope: str, subject: str, now: datetime) -> None:
    """`check` in the caller's transaction."""
    found = await row(connection, BLOCKED, scope, subject)
    if found is None or found["blocked_until"] is None or found["blocked_until"] <= now:
        return
    left = found["blocked_until"] - now
    raise LimitedError(retry_after_s=-(-left // timedelta(seconds=1)))


async def record_failure_within(
    connection: Connection, scope: str, subject: str, now: datetime, *, limit: int, window_s: int
) -> None:
    """`record_failure` in the caller's transaction, which must not be rolled back afterwards."""
    window_ends_at = now + timedelta(seconds=window_s)
    blocked_until = now + timedelta(seconds=min(window_s, BLOCK_S_MAX))
    await rows(connection, FAILED, scope, subject, now, limit, window_ends_at, blocked_until)
