"""Days that are over and not closed, or not corrected or charged for, and what each waits for."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from server.models.database import pool, rows

# Within it a day that is just over gets its last reading and closes: nobody need be told.
GRACE = timedelta(hours=1)


class Why(StrEnum):
    """What a day waits for."""

    FAILED = "failed"  # settling or closing it failed; it is tried again later
    CORRECTION_FAILED = "correction_failed"  # of closed days from this one on
    CHARGES_FAILED = "charges_failed"  # the fixed charges from this day on
    NO_METER = "no_meter"
    NO_READING = "no_reading"  # none reaches this day
    NO_LATER_READING = "no_later_reading"
    GAP = "gap"  # it closes estimated, by itself, after `close_after_days`


# The next day of each tenancy, of those whom no reading lets close by itself yet; and what failed
# of days that are over, for nobody else would hear of it.
WAITING = """
WITH waiting AS (
    SELECT tenancy.id AS tenancy_id, tenancy.first_open_day AS day,
           local.today - tenancy.first_open_day AS days, CASE
               WHEN due.failures > 0 OR tenancy.closing_try_at IS NOT NULL THEN 'failed'
               WHEN NOT EXISTS (
                   SELECT 1 FROM meter_installation installed
                   WHERE installed.shop_id = tenancy.shop_id
                   AND (installed.removed_at IS NULL OR tenancy.first_open_day
                       <= (installed.removed_at AT TIME ZONE site.timezone)::date)) THEN 'no_meter'
               WHEN open_day.id IS NULL THEN 'no_reading'
               WHEN NOT open_day.has_later_reading THEN 'no_later_reading'
               WHEN NOT open_day.complete THEN 'gap' END AS why
    FROM site
    CROSS JOIN LATERAL (SELECT ($1::timestamptz AT TIME ZONE site.timezone)::date AS today) AS local
    JOIN tenancy ON tenancy.site_id = site.id AND tenancy.first_open_day < local.today
        AND (tenancy.closed_at IS NULL
             OR tenancy.first_open_day <= (tenancy.closed_at AT TIME ZONE site.timezone)::date)
    LEFT JOIN open_day
        ON open_day.tenancy_id = tenancy.id AND open_day.day = tenancy.first_open_day
    LEFT JOIN settlement_due due ON due.tenancy_id = tenancy.id
    WHERE ($2::bigint IS NULL OR site.id = $2) AND ($3::bigint IS NULL OR tenancy.shop_id = $3)
      AND (open_day.complete IS NOT TRUE OR due.failures > 0 OR tenancy.closing_try_at IS NOT NULL)
    UNION ALL
    SELECT tenancy_id, first_day, 1, 'correction_failed' FROM correction_due WHERE failures > 0
    UNION ALL
    SELECT tenancy.id, fixed_open_day, 1, 'charges_failed'
    FROM tenancy JOIN site ON site.id = tenancy.site_id
    WHERE fixed_try_at IS NOT NULL AND fixed_open_day < least(
        ($1::timestamptz AT TIME ZONE site.timezone)::date,
        (closed_at AT TIME ZONE site.timezone)::date)
)
SELECT site.code AS site_code, shop.code AS shop_code, shop.name AS shop_name, waiting.day,
       tenancy.closed_at IS NOT NULL AS moved_out, waiting.days,
       waiting.day + site.close_after_days AS closes_on, waiting.why
FROM waiting JOIN tenancy ON tenancy.id = waiting.tenancy_id
JOIN shop ON shop.id = tenancy.shop_id JOIN site ON site.id = tenancy.site_id
WHERE ($2::bigint IS NULL OR site.id = $2) AND ($3::bigint IS NULL OR shop.id = $3)
ORDER BY waiting.day, site.code, shop.code, tenancy.id LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class WaitingDay:
    """A day of a tenancy that is not done; `days`: so many are over since it began.

    `closes_on` is when a day with a gap closes by itself.
    """

    site_code: str
    shop_code: str
    shop_name: str
    day: date
    moved_out: bool
    days: int
    closes_on: date
    why: Why


async def waiting_days(
    site_id: int | None, now: datetime, *, limit: int, shop_id: int | None = None
) -> list[WaitingDay]:
    """The days that wait in this mall (None: in all), the longest waiting first."""
    found = await rows(pool(), WAITING, now - GRACE, site_id, shop_id, limit)
    return [WaitingDay(**{**one, "why": Why(one["why"])}) for one in found]
