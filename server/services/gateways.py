"""What a collector has to know of the gateways that it owns, and of the meters behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.models.database import Row, from_json, pool, row, rows
from server.services.balances import balances
from server.services.site_rules import site_rules

# One figure a gateway that changes with anything that a collector was told of it.
SIGNATURES = """
SELECT gateway.id, md5(concat_ws('|', gateway.code, gateway.link, gateway.address,
        gateway.settings::text, site.code, site.poll_seconds, site.timezone,
        (SELECT string_agg(concat_ws(',', meter.id, meter.code, meter.unit, meter.address,
                meter.profile, coalesce(meter.identity, '-'), meter.has_relay, shop.tariff_code),
            ';' ORDER BY meter.id)
         FROM meter LEFT JOIN shop ON shop.id = meter.shop_id
         WHERE meter.gateway_id = gateway.id))) AS signature
FROM gateway JOIN site ON site.id = gateway.site_id WHERE gateway.id = ANY($1::bigint[])
"""
GATEWAYS = """
SELECT gateway.id, gateway.code, gateway.link, gateway.address, gateway.settings, gateway.site_id,
       site.code AS site_code, site.poll_seconds
FROM gateway JOIN site ON site.id = gateway.site_id
WHERE gateway.id = ANY($1::bigint[]) ORDER BY gateway.id
"""
METERS = """
SELECT meter.id, meter.gateway_id, meter.code, meter.unit, meter.address, meter.profile,
       meter.identity, meter.has_relay, shop.tariff_code
FROM meter LEFT JOIN shop ON shop.id = meter.shop_id
WHERE meter.gateway_id = ANY($1::bigint[]) ORDER BY meter.id
"""
# The first look tells who it is; from then on another one there is an exchange.
IDENTITY = """
UPDATE meter SET identity = $3 FROM gateway_lease lease
WHERE meter.id = $1 AND meter.identity IS NULL
  AND lease.gateway_id = meter.gateway_id AND lease.epoch = $2
RETURNING meter.id
"""
# A relay that was read back open, as it should be, draws nothing: it needs no hurry.
INHABITED = """
SELECT meter.id, tenancy.id AS tenancy_id, tenancy.site_id, shop.supply_policy_code,
       coalesce(control.next_action_at IS NOT NULL, false) AS pending,
       coalesce(control.confirmed = 'disconnected', false) AS disconnected
FROM meter JOIN shop ON shop.id = meter.shop_id
JOIN tenancy ON tenancy.shop_id = shop.id AND tenancy.closed_at IS NULL
LEFT JOIN meter_control control ON control.meter_id = meter.id
WHERE meter.gateway_id = ANY($1::bigint[]) AND meter.role = 'shop'
"""


@dataclass(frozen=True, slots=True)
class MeterRow:
    """A meter as the site file describes it; `tariff_code` is its shop's, None without a shop."""

    meter_id: int
    code: str
    unit: int | None
    address: str | None
    profile: str
    identity: str | None
    has_relay: bool
    tariff_code: str | None


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """A gateway as the site file describes it, with its meters."""

    gateway_id: int
    site_id: int
    site_code: str
    code: str
    link: str
    address: str | None
    settings: Mapping[str, object]
    poll_seconds: int
    meters: tuple[MeterRow, ...]


async def gateway_signatures(gateway_ids: Sequence[int]) -> dict[int, str]:
    """What changes with a gateway's description; a gateway that is gone is missing."""
    found = await rows(pool(), SIGNATURES, list(gateway_ids))
    return {one["id"]: one["signature"] for one in found}


async def load_gateways(gateway_ids: Sequence[int]) -> list[GatewayRow]:
    """These gateways with their meters."""
    meters: dict[int, list[MeterRow]] = {}
    for one in await rows(pool(), METERS, list(gateway_ids)):
        meters.setdefault(one["gateway_id"], []).append(_meter_row(one))
    return [
        GatewayRow(
            gateway_id=one["id"],
            site_id=one["site_id"],
            site_code=one["site_code"],
            code=one["code"],
            link=one["link"],
            address=one["address"],
            settings=from_json(one["settings"]),
            poll_seconds=one["poll_seconds"],
            meters=tuple(meters.get(one["id"], ())),
        )
        for one in await rows(pool(), GATEWAYS, list(gateway_ids))
    ]


def _meter_row(found: Row) -> MeterRow:
    return MeterRow(
        meter_id=found["id"],
        code=found["code"],
        unit=found["unit"],
        address=found["address"],
        profile=found["profile"],
        identity=found["identity"],
        has_relay=found["has_relay"],
        tariff_code=found["tariff_code"],
    )


async def record_identity(meter_id: int, epoch: int, identity: str) -> bool:
    """Note who was found at a meter's first look; False: somebody is known already, or stale."""
    return await row(pool(), IDENTITY, meter_id, epoch, identity[:64]) is not None


async def pressing_meters(gateway_ids: Sequence[int]) -> set[int]:
    """Meters to be read more often: something is pending, or the money is almost gone."""
    inhabited = await rows(pool(), INHABITED, list(gateway_ids))
    pressing = {one["id"] for one in inhabited if one["pending"]}
    drawing = [one for one in inhabited if not one["pending"] and not one["disconnected"]]
    owned = await balances(pool(), sorted({one["tenancy_id"] for one in drawing}))
    for one in drawing:
        rules = await site_rules(pool(), one["site_id"])
        limits = rules.policies[one["supply_policy_code"]].low_balance_fen
        if owned[one["tenancy_id"]].available_fen < (limits[-1] if limits else 0):
            pressing.add(one["id"])
    return pressing
