"""Payments that need a person: kept once a kind and subject, and never lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from server.models.database import Connection, row, rows, to_json

OPEN = """
INSERT INTO payment_case (site_id, kind, subject, facts, tenancy_id, credit_id, opened_at)
VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7) ON CONFLICT (site_id, kind, subject) DO NOTHING
RETURNING id
"""
NOBODY = "mallwatt"  # who decides what is decided by itself; CLOSE writes the same
_CLOSE = """
UPDATE payment_case SET closed_at = $1, decided_at = coalesce(decided_at, $1),
    decision = coalesce(decision, 'seen'), decided_by = coalesce(decided_by, 'mallwatt')
WHERE closed_at IS NULL
"""
CLOSE = f"{_CLOSE} AND id = $2"
CLOSE_BY_SUBJECT = f"{_CLOSE} AND site_id = $2 AND kind = $3 AND subject = $4"
AGREED = "agreed"  # both sides of a reconciliation, before anybody decided
CLOSE_AGREED = """
UPDATE payment_case SET closed_at = $2, decided_at = $2, decision = 'agreed',
    decided_by = 'mallwatt'
WHERE id IN (SELECT id FROM payment_case WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE)
    AND closed_at IS NULL AND decided_at IS NULL AND credit_id IS NULL
"""
LAST_OF = """
SELECT id, decision, closed_at FROM payment_case
WHERE site_id = $1 AND kind = $2 AND (subject = $3 OR left(subject, $4) = $3 || '#')
ORDER BY id DESC LIMIT 1
"""
COUNT_OF = """
SELECT count(*) AS cases FROM payment_case
WHERE site_id = $1 AND kind = $2 AND (subject = $3 OR left(subject, $4) = $3 || '#')
"""
# A notice that said another amount, before the platform was asked: now its money has a case.
CLOSE_TOLD = f"""{_CLOSE} AND kind = 'other_amount' AND credit_id IS NULL
    AND facts ->> 'platform' = $2 AND facts ->> 'merchant_id' = $3 AND facts ->> 'out_trade_no' = $4
"""
REOPEN = """
UPDATE payment_case SET decision = NULL, decided_by = NULL, decided_at = NULL, reason = NULL
WHERE id = $1 AND closed_at IS NULL
"""
DECIDED = """
UPDATE payment_case SET decision = $2, decided_by = $3, decided_at = $4, reason = $5
WHERE id = $1 AND closed_at IS NULL AND decided_at IS NULL
"""
SUBJECT_MAX = 160


@dataclass(frozen=True, slots=True)
class NewCase:
    """What is shown to a manager; with a `credit_id` its money is in suspense."""

    site_id: int
    kind: str
    subject: str
    facts: Mapping[str, object]
    tenancy_id: int | None = None
    credit_id: int | None = None


async def open_case(connection: Connection, case: NewCase, now: datetime) -> int | None:
    """Show a payment to a manager; its number, None where it was shown before."""
    made = await row(
        connection,
        OPEN,
        *(case.site_id, case.kind, case.subject[:SUBJECT_MAX], to_json(case.facts)),
        *(case.tenancy_id, case.credit_id, now),
    )
    return int(made["id"]) if made else None


async def show_case(connection: Connection, case: NewCase, now: datetime) -> int:
    """The case of a subject, opened where there is none; anew where the last one ended as agreed.

    Its number.
    """
    names = (case.site_id, case.kind, case.subject, len(case.subject) + 1)
    last = await row(connection, LAST_OF, *names)
    if last is not None and (last["closed_at"] is None or last["decision"] != AGREED):
        return int(last["id"])
    if last is not None:
        count = (await rows(connection, COUNT_OF, *names))[0]["cases"]
        case = replace(case, subject=f"{case.subject}#{count + 1}")
    opened = await open_case(connection, case, now)
    if opened is None:  # somebody else did at this very moment
        opened = (await rows(connection, LAST_OF, *names))[0]["id"]
    return int(opened)


async def close_agreed(connection: Connection, case_ids: Sequence[int], now: datetime) -> None:
    """What these cases were about is gone, and nobody had decided yet."""
    await rows(connection, CLOSE_AGREED, list(case_ids), now)


async def mark_decided(
    connection: Connection, case_id: int, decision: str, by: str, reason: str, now: datetime
) -> None:
    """What is to become of an open case; it is closed once that is done."""
    await rows(connection, DECIDED, case_id, decision, by, now, reason)


async def close_case(connection: Connection, case_id: int, now: datetime) -> None:
    """What was decided is done."""
    await rows(connection, CLOSE, now, case_id)


async def close_by_subject(
    connection: Connection, subject: tuple[int, str, str], now: datetime
) -> None:
    """The same by site, kind and subject; nothing where there is no such case, or none open."""
    await rows(connection, CLOSE_BY_SUBJECT, now, *subject)


async def reopen_case(connection: Connection, case_id: int) -> None:
    """What was decided failed: it is to be decided again."""
    await rows(connection, REOPEN, case_id)


async def close_told(connection: Connection, names: tuple[str, str, str], now: datetime) -> None:
    """Close what notices about a platform's, a merchant's order only told of another amount."""
    await rows(connection, CLOSE_TOLD, now, *names)
