"""Marking the tenancies whose days a meter's readings touch; services/settlement projects them."""

from collections.abc import Sequence
from datetime import datetime

from server.models.database import Connection, rows

# Whom a reading may touch: the tenancies of the shops in which the meter is or was installed then
# or later, those still open at it or opened after it.
DUE = """
INSERT INTO settlement_due (tenancy_id, first_day, try_at)
SELECT tenancy.id, min((touched.read_at AT TIME ZONE site.timezone)::date), $3
FROM unnest($1::bigint[], $2::timestamptz[]) AS touched (meter_id, read_at)
JOIN meter_installation installed ON installed.meter_id = touched.meter_id
    AND (installed.removed_at IS NULL OR installed.removed_at >= touched.read_at)
JOIN tenancy ON tenancy.shop_id = installed.shop_id
    AND (tenancy.closed_at IS NULL OR tenancy.closed_at >= installed.installed_at)
    AND (tenancy.closed_at IS NULL OR tenancy.closed_at >= touched.read_at)
JOIN site ON site.id = tenancy.site_id
GROUP BY tenancy.id ORDER BY tenancy.id
ON CONFLICT (tenancy_id) DO UPDATE
    SET first_day = least(settlement_due.first_day, excluded.first_day)
"""


async def mark_due(
    connection: Connection, meter_ids: Sequence[int], since: Sequence[datetime], now: datetime
) -> None:
    """Have the days from these instants on settled anew, those that are closed corrected."""
    if meter_ids:
        await rows(connection, DUE, list(meter_ids), list(since), now)
