"""Payments that need a person: kept once a kind and subject, and never lost."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from server.models.database import Connection, row, to_json

OPEN = """
INSERT INTO payment_case (site_id, kind, subject, facts, tenancy_id, credit_id, opened_at)
VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7) ON CONFLICT (site_id, kind, subject) DO NOTHING
RETURNING id
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
