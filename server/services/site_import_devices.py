"""An import's gateways and meters, with what hangs on each: leases, statuses, controls."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from server.models.database import Connection, Row, row, rows, to_json
from server.services.installations import date_installations, recounted_meters
from server.services.meter_controls import set_permit_only
from server.services.site_file import (
    Fault,
    GatewayTable,
    MeterTable,
    ProfileFacts,
    SiteDocument,
    SiteFileError,
)
from server.services.site_import_counts import Counts

GATEWAY = """
INSERT INTO gateway (site_id, code, link, address, settings, changed_at)
VALUES ($1, $2, $3, $4, $5::jsonb, $6)
ON CONFLICT (site_id, code) DO UPDATE SET link = excluded.link, address = excluded.address,
    settings = excluded.settings, changed_at = excluded.changed_at
WHERE (gateway.link, gateway.address, gateway.settings)
    IS DISTINCT FROM (excluded.link, excluded.address, excluded.settings)
RETURNING (xmax = 0) AS created
"""
LEASES = """
INSERT INTO gateway_lease (gateway_id, epoch)
SELECT id, 0 FROM gateway
WHERE site_id = $1 AND NOT EXISTS (SELECT 1 FROM gateway_lease WHERE gateway_id = gateway.id)
"""
METER = """
INSERT INTO meter (site_id, code, gateway_id, unit, address, profile, transformer_ratio, role,
                   shop_id, max_power_w, rollover_wh, has_relay)
SELECT $1, $2, gateway.id, $4, $5, $6, $7, $8,
       (SELECT id FROM shop WHERE site_id = $1 AND code = $9), $10, $11, $12
FROM gateway WHERE gateway.site_id = $1 AND gateway.code = $3
ON CONFLICT (site_id, code) DO UPDATE SET gateway_id = excluded.gateway_id, unit = excluded.unit,
    address = excluded.address, profile = excluded.profile,
    transformer_ratio = excluded.transformer_ratio, role = excluded.role,
    shop_id = excluded.shop_id, max_power_w = excluded.max_power_w,
    rollover_wh = excluded.rollover_wh, has_relay = excluded.has_relay
WHERE (meter.gateway_id, meter.unit, meter.address, meter.profile, meter.transformer_ratio,
       meter.role, meter.shop_id, meter.max_power_w, meter.rollover_wh, meter.has_relay)
    IS DISTINCT FROM (excluded.gateway_id, excluded.unit, excluded.address, excluded.profile,
       excluded.transformer_ratio, excluded.role, excluded.shop_id, excluded.max_power_w,
       excluded.rollover_wh, excluded.has_relay)
RETURNING (xmax = 0) AS created
"""
# Meters of the file that change their places leave the old ones first, for they may swap them.
UNSEAT = """
UPDATE meter SET unit = NULL, address = NULL
FROM unnest($2::text[], $3::text[], $4::int[], $5::text[])
    AS wanted (code, gateway, unit, address)
JOIN gateway ON gateway.site_id = $1 AND gateway.code = wanted.gateway
WHERE meter.site_id = $1 AND meter.code = wanted.code
  AND (meter.gateway_id, meter.unit, meter.address)
    IS DISTINCT FROM (gateway.id, wanted.unit, wanted.address)
"""
OTHER_SEAT = """
SELECT meter.code, gateway.code AS gateway FROM meter JOIN gateway ON gateway.id = meter.gateway_id
WHERE meter.site_id = $1 AND gateway.code = $2 AND meter.code <> $3
  AND (meter.unit = $4 OR meter.address = $5) AND NOT meter.code = ANY($6::text[])
"""
# NOT EXISTS, for an ON CONFLICT waits for a reading that is just being kept, which waits for us.
STATUSES = """
INSERT INTO meter_status (meter_id, points) SELECT id, '{}' FROM meter
WHERE site_id = $1 AND NOT EXISTS (SELECT 1 FROM meter_status WHERE meter_id = meter.id)
"""
CONTROLS = """
INSERT INTO meter_control (meter_id, policy_state, answered_writes, unanswered_writes,
    disconnected_by_us, permit_only, permitted, next_action_at)
SELECT id, 'connected', 0, 0, false, false, false, $2 FROM meter
WHERE site_id = $1 AND has_relay
  AND NOT EXISTS (SELECT 1 FROM meter_control WHERE meter_id = meter.id)
"""
# A profile without a relay leaves nothing to control.
NO_CONTROLS = """
DELETE FROM meter_control USING meter
WHERE meter.id = meter_control.meter_id AND meter.site_id = $1 AND NOT meter.has_relay
"""
IDS = "SELECT id, code FROM meter WHERE site_id = $1 AND code = ANY($2::text[])"


async def import_gateways(
    connection: Connection, site_id: int, document: SiteDocument, counts: Counts, now: datetime
) -> None:
    """Each gateway, and a lease that somebody can take."""
    for gateway in document.tables.gateway:
        found = await row(
            connection,
            GATEWAY,
            site_id,
            gateway.code,
            gateway.link,
            gateway.address,
            to_json(_gateway_settings(gateway, document.folder)),
            now,
        )
        counts.note("gateway", found)
    await rows(connection, LEASES, site_id)


def _gateway_settings(gateway: GatewayTable, folder: Path) -> dict[str, object]:
    settings = gateway.model_dump(exclude={"code", "link", "address"})
    if gateway.password_file is not None:
        settings["password_file"] = str(folder / gateway.password_file)
    return settings


async def import_meters(
    connection: Connection,
    site_id: int,
    meters: Sequence[MeterTable],
    profiles: Mapping[str, ProfileFacts],
    counts: Counts,
    now: datetime,
) -> None:
    """Each meter to its place; refuses a place that is taken by a meter outside the file.

    Another ratio or rollover is refused where readings are counted with the present one.
    """
    codes = [meter.code for meter in meters]
    gateways = [meter.gateway for meter in meters]
    units, addresses = [meter.unit for meter in meters], [meter.address for meter in meters]
    await rows(connection, UNSEAT, site_id, codes, gateways, units, addresses)
    facts = [profiles[meter.profile] for meter in meters]
    faults = await recounted_meters(connection, site_id, meters, facts)
    for index, meter in enumerate(meters):
        seat = (meter.gateway, meter.code, meter.unit, meter.address)
        taken = await row(connection, OTHER_SEAT, site_id, *seat, codes)
        if taken is None:
            found = await _import_meter(connection, site_id, meter, facts[index])
            counts.note("meter", found)
        else:
            text = f"meter {taken['code']} is already there on gateway {taken['gateway']}"
            faults.append(Fault(f"meter[{index}]", text))
    if faults:
        raise SiteFileError(faults)
    await date_installations(connection, site_id, now)


async def _import_meter(
    connection: Connection, site_id: int, meter: MeterTable, facts: ProfileFacts
) -> Row | None:
    return await row(
        connection,
        METER,
        site_id,
        meter.code,
        meter.gateway,
        meter.unit,
        meter.address,
        meter.profile,
        meter.transformer_ratio,
        meter.role,
        meter.shop,
        facts.max_power_w,
        facts.rollover_wh,
        facts.has_relay,
    )


async def import_controls(
    connection: Connection,
    site_id: int,
    meters: Sequence[MeterTable],
    profiles: Mapping[str, ProfileFacts],
    now: datetime,
) -> None:
    """What hangs on each meter: a status always, a control where there is a relay."""
    await rows(connection, STATUSES, site_id)
    await rows(connection, CONTROLS, site_id, now)
    await rows(connection, NO_CONTROLS, site_id)
    permit_only = {meter.code: profiles[meter.profile].permit_only for meter in meters}
    found = await rows(connection, IDS, site_id, list(permit_only))
    await set_permit_only(connection, {one["id"]: permit_only[one["code"]] for one in found})
