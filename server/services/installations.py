"""Which meter measured which shop and when: written by imports, read by whoever settles.

An installation is dated by the import that brought it. A meter that moves ends one and begins the
next at the same instant, so that no watt-hour is lost or counted twice.
"""

from collections.abc import Sequence
from datetime import datetime

from server.models.database import Connection, rows
from server.services.site_file import Fault, MeterTable, ProfileFacts

REMOVED = """
UPDATE meter_installation SET removed_at = greatest($2::timestamptz, installed_at)
FROM meter
WHERE meter.id = meter_installation.meter_id AND meter.site_id = $1 AND removed_at IS NULL
  AND (meter.role <> 'shop' OR meter.shop_id IS DISTINCT FROM meter_installation.shop_id)
"""
# Never before it was removed elsewhere, whatever the clock says.
INSTALLED = """
INSERT INTO meter_installation (meter_id, shop_id, installed_at)
SELECT meter.id, meter.shop_id, greatest($2::timestamptz, (
    SELECT max(removed_at) FROM meter_installation WHERE meter_id = meter.id))
FROM meter
WHERE meter.site_id = $1 AND meter.role = 'shop' AND meter.shop_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM meter_installation
                  WHERE meter_id = meter.id AND removed_at IS NULL)
ORDER BY meter.id
"""

# What has been counted with this device's ratio and rollover; what an exchange said of it is its
# first reading, and is there before it is read.
COUNTED = """
SELECT wanted.code, meter.transformer_ratio, meter.rollover_wh, exchanged.exchanged_at,
       exchanged.transformer_ratio = wanted.ratio AS is_old_ratio,
       counted.top_wh, counted.rolled_over, counted.is_read
FROM unnest($2::text[], $3::integer[], $4::bigint[]) AS wanted (code, ratio, rollover_wh)
JOIN meter ON meter.site_id = $1 AND meter.code = wanted.code
    AND (meter.transformer_ratio, meter.rollover_wh)
        IS DISTINCT FROM (wanted.ratio, wanted.rollover_wh)
LEFT JOIN LATERAL (
    SELECT exchanged_at, first_wh, transformer_ratio FROM meter_exchange
    WHERE meter_id = meter.id ORDER BY exchanged_at DESC LIMIT 1
) AS exchanged ON true
CROSS JOIN LATERAL (
    SELECT max(register_wh) AS top_wh, bool_or(register_wh < before_wh) AS rolled_over,
           bool_or(is_read) AS is_read
    FROM (
        SELECT register_wh, is_read, lag(register_wh) OVER (ORDER BY read_at) AS before_wh FROM (
            SELECT exchanged.exchanged_at AS read_at, exchanged.first_wh AS register_wh,
                   false AS is_read
            WHERE exchanged.exchanged_at IS NOT NULL
            UNION ALL
            SELECT read_at, register_wh, true FROM reading
            WHERE site_id = meter.site_id AND meter_id = meter.id AND verdict = 'trusted'
              AND read_at > coalesce(exchanged.exchanged_at, '-infinity')
        ) AS device
    ) AS shown
) AS counted
WHERE counted.top_wh IS NOT NULL
"""


async def date_installations(connection: Connection, site_id: int, now: datetime) -> None:
    """End what a site's meters do no longer measure, begin what they measure from now on."""
    await rows(connection, REMOVED, site_id, now)
    await rows(connection, INSTALLED, site_id, now)


async def recounted_meters(
    connection: Connection,
    site_id: int,
    meters: Sequence[MeterTable],
    facts: Sequence[ProfileFacts],
) -> list[Fault]:
    """Faults of meters whose readings would count otherwise from now on, in the past too."""
    places = {meter.code: index for index, meter in enumerate(meters)}
    found = await rows(
        connection,
        COUNTED,
        site_id,
        [meter.code for meter in meters],
        [meter.transformer_ratio for meter in meters],
        [fact.rollover_wh for fact in facts],
    )
    faults = []
    for one in found:
        place = places[one["code"]]
        ratio, rollover_wh = meters[place].transformer_ratio, facts[place].rollover_wh
        way = f"another device comes by POST /api/admin/v1/meters/{one['code']}/exchanges"
        if ratio != one["transformer_ratio"] and one["is_read"]:
            text = f"is {one['transformer_ratio']}, and readings are counted with it; {way}"
            faults.append(Fault(f"meter[{place}].transformer_ratio", text))
        elif ratio != one["transformer_ratio"] and one["is_old_ratio"]:
            since = f"since the exchange of {one['exchanged_at'].isoformat()}"
            text = f"is {one['transformer_ratio']} {since}; {ratio} was the old device's"
            faults.append(Fault(f"meter[{place}].transformer_ratio", text))
        too_high = one["rolled_over"] or one["top_wh"] >= rollover_wh
        if rollover_wh != one["rollover_wh"] and too_high:
            text = f"its register went beyond {rollover_wh} Wh already; {way}"
            faults.append(Fault(f"meter[{place}].profile", text))
    return faults
