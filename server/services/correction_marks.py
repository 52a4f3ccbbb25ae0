"""Marking closed days that are to be rated anew; services/corrections does it."""

from collections.abc import Mapping
from datetime import date, datetime

from server.models.database import Connection, rows

# A row that waits after a failure goes on waiting.
MARK = """
INSERT INTO correction_due (tenancy_id, first_day, try_at)
SELECT tenancy_id, first_day, $3
FROM unnest($1::bigint[], $2::date[]) AS touched (tenancy_id, first_day) ORDER BY tenancy_id
ON CONFLICT (tenancy_id) DO UPDATE
    SET first_day = least(correction_due.first_day, excluded.first_day)
"""


async def mark_closed_days(
    connection: Connection, first_days: Mapping[int, date], now: datetime
) -> None:
    """Have the closed days from these on corrected; to be called under the tenancies' locks."""
    if first_days:
        await rows(connection, MARK, list(first_days), list(first_days.values()), now)
