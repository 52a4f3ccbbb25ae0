"""Marking the tenancies whose days a meter's readings touch; services/settlement projects them."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from server.models.database import Connection, rows

# Whom a reading may touch: the tenancies of the shops in which the meter is or was installed then
# or later, those still open at it or opened after it; no day before it was installed. Where all
# that is new are readings behind the meter's newest one, and that is the shop's and of an open day,
# no day is named: services/open_days goes on from where it was.
# One mark cannot say both: where it is to say so of some readings and a day of others, the day is
# that of all, or the first open one, where nobody knows any more which days were touched.
DUE = """
INSERT INTO settlement_due (tenancy_id, first_day, try_at)
SELECT touching.tenancy_id, CASE
    WHEN touching.at_end AND NOT EXISTS (
        SELECT 1 FROM settlement_due other
        WHERE other.tenancy_id = touching.tenancy_id AND other.first_day < 'infinity')
    THEN 'infinity' ELSE touching.first_day END, $4
FROM (
    SELECT tenancy.id AS tenancy_id, min(day) AS first_day,
           bool_and(touched.at_end AND installed.removed_at IS NULL
                    AND installed.installed_at <= touched.since
                    AND day >= tenancy.first_open_day) AS at_end
    FROM unnest($1::bigint[], $2::timestamptz[], $3::boolean[])
        AS touched (meter_id, since, at_end)
    JOIN meter_installation installed ON installed.meter_id = touched.meter_id
        AND (installed.removed_at IS NULL OR installed.removed_at >= touched.since)
    JOIN tenancy ON tenancy.shop_id = installed.shop_id
        AND (tenancy.closed_at IS NULL OR tenancy.closed_at >= installed.installed_at)
        AND (tenancy.closed_at IS NULL OR tenancy.closed_at >= touched.since)
    JOIN site ON site.id = tenancy.site_id
    CROSS JOIN LATERAL (
        SELECT (greatest(touched.since, installed.installed_at) AT TIME ZONE site.timezone)::date
            AS day
    ) AS local
    GROUP BY tenancy.id
) AS touching ORDER BY touching.tenancy_id
ON CONFLICT (tenancy_id) DO UPDATE SET first_day = CASE
    WHEN (settlement_due.first_day = 'infinity') = (excluded.first_day = 'infinity')
    THEN least(settlement_due.first_day, excluded.first_day)
    ELSE least(settlement_due.first_day, excluded.first_day, (
        SELECT first_open_day FROM tenancy WHERE tenancy.id = excluded.tenancy_id)) END
"""


class Touched(NamedTuple):
    """A meter whose readings say something new of the time from `since` on.

    `at_end`: they are all behind its newest one, which is that of `since`, and nothing else is new.
    """

    meter_id: int
    since: datetime
    at_end: bool = False


async def mark_due(connection: Connection, touched: Sequence[Touched], now: datetime) -> None:
    """Have the days from these instants on settled anew, those that are closed corrected."""
    if touched:
        meter_ids, since, at_end = map(list, zip(*touched, strict=True))
        await rows(connection, DUE, meter_ids, since, at_end, now)
