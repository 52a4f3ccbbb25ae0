"""Marking the tenancies whose days a meter's readings touch; services/settlement projects them."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from server.models.database import Connection, rows

# Whom a reading may touch: the tenancies of the shops in which the meter is or was installed then
# or later, those still open at it or opened after it. Where all that is new are readings behind
# the meter's newest one, and that is the shop's and of an open day, no day is named:
# services/open_days goes on from where it was.
DUE = """
INSERT INTO settlement_due (tenancy_id, first_day, try_at)
SELECT tenancy.id, min(CASE
    WHEN touched.at_end AND installed.removed_at IS NULL
        AND installed.installed_at <= touched.since AND day >= tenancy.first_open_day
    THEN 'infinity' ELSE day END), $4
FROM unnest($1::bigint[], $2::timestamptz[], $3::boolean[]) AS touched (meter_id, since, at_end)
JOIN meter_installation installed ON installed.meter_id = touched.meter_id
    AND (installed.removed_at IS NULL OR installed.removed_at >= touched.since)
JOIN tenancy ON tenancy.shop_id = installed.shop_id
    AND (tenancy.closed_at IS NULL OR tenancy.closed_at >= installed.installed_at)
    AND (tenancy.closed_at IS NULL OR tenancy.closed_at >= touched.since)
JOIN site ON site.id = tenancy.site_id
CROSS JOIN LATERAL (SELECT (touched.since AT TIME ZONE site.timezone)::date AS day) AS local
GROUP BY tenancy.id ORDER BY tenancy.id
ON CONFLICT (tenancy_id) DO UPDATE
    SET first_day = least(settlement_due.first_day, excluded.first_day)
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
