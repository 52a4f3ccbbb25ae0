"""Loading a site file: everything or nothing, once or again (contract, `mallwatt import`).

Each table is one upsert that says whether it created, updated or left a row. What is absent from
the file stays.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from server.core.calendar import local_day
from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import opening_balance
from server.models.database import Connection, Row, row, rows, to_json, transaction
from server.services.journal import open_accounts, post
from server.services.locks import lock_tenancies
from server.services.site_file import (
    AlipayTable,
    CheckMerchant,
    Fault,
    GatewayTable,
    KnownCodes,
    MeterTable,
    ProfileFacts,
    ShopTable,
    SiteDocument,
    SiteFileError,
    WeChatTable,
    area_cm2,
    capacity_va,
    merchant_settings,
    parse_site_file,
    read_content,
    site_code_of,
)
from server.services.site_rules import site_rules
from server.services.supply import decide_within

LOCK = "SELECT pg_advisory_xact_lock(hashtext('mallwatt import ' || $1))"
KNOWN = """
SELECT 'supply_policies' AS kind, supply_policy.code FROM supply_policy
    JOIN site ON site.id = site_id WHERE site.code = $1
UNION ALL SELECT 'tariffs', tariff_version.code FROM tariff_version
    JOIN site ON site.id = site_id WHERE site.code = $1
UNION ALL SELECT 'fixed_charges', fixed_charge_version.code FROM fixed_charge_version
    JOIN site ON site.id = site_id WHERE site.code = $1
UNION ALL SELECT 'gateways', gateway.code FROM gateway
    JOIN site ON site.id = site_id WHERE site.code = $1
UNION ALL SELECT 'shops', shop.code FROM shop JOIN site ON site.id = site_id WHERE site.code = $1
"""
SITE = """
INSERT INTO site (code, name, timezone, poll_seconds, close_after_days, weixin_templates,
                  created_at)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7)
ON CONFLICT (code) DO UPDATE SET name = excluded.name, timezone = excluded.timezone,
    poll_seconds = excluded.poll_seconds, close_after_days = excluded.close_after_days,
    weixin_templates = excluded.weixin_templates
WHERE (site.name, site.timezone, site.poll_seconds, site.close_after_days, site.weixin_templates)
    IS DISTINCT FROM (excluded.name, excluded.timezone, excluded.poll_seconds,
                      excluded.close_after_days, excluded.weixin_templates)
RETURNING (xmax = 0) AS created
"""
MERCHANT = """
INSERT INTO merchant (site_id, platform, merchant_id, app_id, settings)
VALUES ($1, $2, $3, $4, $5::jsonb)
ON CONFLICT (site_id, platform) DO UPDATE SET merchant_id = excluded.merchant_id,
    app_id = excluded.app_id, settings = excluded.settings
WHERE (merchant.merchant_id, merchant.app_id, merchant.settings)
    IS DISTINCT FROM (excluded.merchant_id, excluded.app_id, excluded.settings)
RETURNING (xmax = 0) AS created
"""
POLICY = """
INSERT INTO supply_policy (site_id, code, rules) VALUES ($1, $2, $3::jsonb)
ON CONFLICT (site_id, code) DO UPDATE SET rules = excluded.rules
WHERE supply_policy.rules IS DISTINCT FROM excluded.rules
RETURNING (xmax = 0) AS created
"""
TARIFF = """
INSERT INTO tariff_version (site_id, code, valid_from, definition) VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT (site_id, code, valid_from) DO UPDATE SET definition = excluded.definition
WHERE tariff_version.definition IS DISTINCT FROM excluded.definition
RETURNING (xmax = 0) AS created
"""
FIXED_CHARGE = TARIFF.replace("tariff_version", "fixed_charge_version")
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
SHOP = """
INSERT INTO shop (site_id, code, name, area_cm2, capacity_va, tariff_code, supply_policy_code,
                  fixed_charges, supply_protection, token)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10)
ON CONFLICT (site_id, code) DO UPDATE SET name = excluded.name, area_cm2 = excluded.area_cm2,
    capacity_va = excluded.capacity_va, tariff_code = excluded.tariff_code,
    supply_policy_code = excluded.supply_policy_code, fixed_charges = excluded.fixed_charges,
    supply_protection = excluded.supply_protection
WHERE (shop.name, shop.area_cm2, shop.capacity_va, shop.tariff_code, shop.supply_policy_code,
       shop.fixed_charges, shop.supply_protection)
    IS DISTINCT FROM (excluded.name, excluded.area_cm2, excluded.capacity_va,
       excluded.tariff_code, excluded.supply_policy_code, excluded.fixed_charges,
       excluded.supply_protection)
RETURNING (xmax = 0) AS created
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
# NOT EXISTS, for an ON CONFLICT waits for a reading that is just being kept, which waits for us.
STATUSES = """
INSERT INTO meter_status (meter_id, points) SELECT id, '{}' FROM meter
WHERE site_id = $1 AND NOT EXISTS (SELECT 1 FROM meter_status WHERE meter_id = meter.id)
"""
CONTROLS = """
INSERT INTO meter_control (meter_id, policy_state, answered_writes, unanswered_writes,
    disconnected_by_us, permit_only, permitted, decision_version, next_action_at)
SELECT id, 'connected', 0, 0, false, false, false, 0, $2 FROM meter
WHERE site_id = $1 AND has_relay
  AND NOT EXISTS (SELECT 1 FROM meter_control WHERE meter_id = meter.id)
"""
# A profile without a relay leaves nothing to control.
NO_CONTROLS = """
DELETE FROM meter_control USING meter
WHERE meter.id = meter_control.meter_id AND meter.site_id = $1 AND NOT meter.has_relay
"""
PERMIT_ONLY = """
WITH changed AS (
    SELECT control.meter_id, told.permit_only
    FROM unnest($2::text[], $3::boolean[]) AS told (code, permit_only)
    JOIN meter ON meter.site_id = $1 AND meter.code = told.code
    JOIN meter_control control ON control.meter_id = meter.id
    WHERE control.permit_only <> told.permit_only
    ORDER BY control.meter_id FOR NO KEY UPDATE OF control
)
UPDATE meter_control SET permit_only = changed.permit_only FROM changed
WHERE meter_control.meter_id = changed.meter_id
"""
TENANCY = """
INSERT INTO tenancy (site_id, shop_id, opened_at, binding_code, opening_balance_fen,
    first_open_day, supply_state, supply_reasons, emergency_credit_fen, notice_memory)
SELECT $1, shop.id, $3, $4, $5, $6, 'connected', '[]', 0, '{}' FROM shop
WHERE shop.site_id = $1 AND shop.code = $2
  AND NOT EXISTS (SELECT 1 FROM tenancy WHERE tenancy.shop_id = shop.id)
RETURNING id
"""
FIRST_TENANCY = """
SELECT tenancy.opening_balance_fen FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
WHERE shop.site_id = $1 AND shop.code = $2 ORDER BY tenancy.id LIMIT 1
"""
# A day on a statement was rated with the version that it names; that version may not change, nor
# another come between.
CLOSED_DAY = """
SELECT max(day) AS day FROM statement
WHERE site_id = $1 AND document -> 'tariff' ->> 'code' = $2 AND day >= $3
  AND day < coalesce((SELECT min(valid_from) FROM tariff_version
      WHERE site_id = $1 AND code = $2 AND valid_from > $3), 'infinity'::date)
"""
NO_TARIFF_YET = """
SELECT shop.code, shop.tariff_code, tenancy.first_open_day, min(version.valid_from) AS valid_from
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
JOIN tariff_version version ON version.site_id = shop.site_id AND version.code = shop.tariff_code
WHERE shop.site_id = $1 AND shop.code = ANY($2::text[]) AND tenancy.closed_at IS NULL
GROUP BY tenancy.id, shop.id HAVING min(version.valid_from) > tenancy.first_open_day
"""
OTHER_ZONE = """
SELECT site.timezone, (SELECT max(day) FROM statement WHERE statement.site_id = site.id) AS closed
FROM site WHERE site.code = $1 AND site.timezone <> $2
"""
KNOWN_ZONE = "SELECT 1 AS known FROM pg_timezone_names WHERE name = $1"
OTHER_SEAT = """
SELECT meter.code, gateway.code AS gateway FROM meter JOIN gateway ON gateway.id = meter.gateway_id
WHERE meter.site_id = $1 AND gateway.code = $2 AND meter.code <> $3
  AND (meter.unit = $4 OR meter.address = $5) AND NOT meter.code = ANY($6::text[])
"""
RESETTLE = """
INSERT INTO settlement_due (tenancy_id, first_day, try_at)
SELECT id, first_open_day, $2 FROM tenancy WHERE site_id = $1
  AND (closed_at IS NULL OR EXISTS (SELECT 1 FROM open_day WHERE tenancy_id = tenancy.id))
ORDER BY id
ON CONFLICT (tenancy_id) DO UPDATE
    SET first_day = least(settlement_due.first_day, excluded.first_day)
"""
NEW_RULES = "UPDATE site SET rules_version = nextval('rules_version') WHERE id = $1"
ALL_TENANCIES = "SELECT id FROM tenancy WHERE site_id = $1"
OPEN_TENANCIES = "SELECT id FROM tenancy WHERE site_id = $1 AND closed_at IS NULL ORDER BY id"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """How many rows of each table were created, updated, left unchanged."""

    site_id: int
    created: Mapping[str, int]
    updated: Mapping[str, int]
    unchanged: Mapping[str, int]


class _Counts:
    """Counts upserts by what their RETURNING says."""

    def __init__(self) -> None:
        self.created: Counter[str] = Counter()
        self.updated: Counter[str] = Counter()
        self.unchanged: Counter[str] = Counter()

    def note(self, table: str, found: Row | None) -> None:
        """No row: unchanged; else whether it was created."""
        which = self.unchanged
        if found is not None:
            which = self.created if found["created"] else self.updated
        which[table] += 1


def _accept(_platform: str, _settings: Mapping[str, object]) -> Sequence[tuple[str, str]]:
    return ()


async def import_site(
    path: Path,
    profiles: Mapping[str, ProfileFacts],
    now: datetime,
    *,
    check_merchant: CheckMerchant = _accept,
) -> ImportReport:
    """Load or update the site of the file at an absolute path.

    `check_merchant` tells which settings of a merchant cannot be used; it may read files. Raises
    SiteFileError with every fault, and then nothing has changed.
    """
    content = await asyncio.to_thread(read_content, path)
    code = site_code_of(content)
    async with transaction() as connection:
        await rows(connection, LOCK, code or "")
        known = await _known_codes(connection, code or "")
        document = await asyncio.to_thread(
            parse_site_file, content, path.parent, profiles, known, check_merchant
        )
        return await _import(connection, document, profiles, now)


async def _known_codes(connection: Connection, site_code: str) -> KnownCodes:
    found: dict[str, set[str]] = {}
    for one in await rows(connection, KNOWN, site_code):
        found.setdefault(one["kind"], set()).add(one["code"])
    return KnownCodes(**{kind: frozenset(codes) for kind, codes in found.items()})


async def _import(
    connection: Connection,
    document: SiteDocument,
    profiles: Mapping[str, ProfileFacts],
    now: datetime,
) -> ImportReport:
    counts = _Counts()
    await _hold_tenancies(connection, document.tables.site.code, now)
    site_id = await _import_site_table(connection, document, counts, now)
    await open_accounts(connection, site_id, None)
    await _import_merchants(connection, site_id, document, counts)
    await _import_rules(connection, site_id, document, counts)
    await _import_gateways(connection, site_id, document, counts, now)
    for shop in document.tables.shop:
        counts.note("shop", await _import_shop(connection, site_id, shop))
    await _import_meters(connection, site_id, document.tables.meter, profiles, counts)
    await _import_controls(connection, site_id, document.tables.meter, profiles, now)
    await _open_tenancies(connection, site_id, document.tables.shop, counts, now)
    await rows(connection, RESETTLE, site_id, now)
    open_now = [one["id"] for one in await rows(connection, OPEN_TENANCIES, site_id)]
    await decide_within(connection, open_now, now)
    return ImportReport(site_id, counts.created, counts.updated, counts.unchanged)


async def _hold_tenancies(connection: Connection, site_code: str, now: datetime) -> None:
    """Let nobody settle, close or decide by the old rules while the new ones come."""
    site = await row(connection, "SELECT id FROM site WHERE code = $1", site_code)
    if site is not None:
        await rows(connection, RESETTLE, site["id"], now)
        tenancies = await rows(connection, ALL_TENANCIES, site["id"])
        await lock_tenancies(connection, [one["id"] for one in tenancies])


async def _import_gateways(
    connection: Connection, site_id: int, document: SiteDocument, counts: _Counts, now: datetime
) -> None:
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


async def _import_controls(
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
    codes = [meter.code for meter in meters]
    permit_only = [profiles[meter.profile].permit_only for meter in meters]
    await rows(connection, PERMIT_ONLY, site_id, codes, permit_only)


async def _import_site_table(
    connection: Connection, document: SiteDocument, counts: _Counts, now: datetime
) -> int:
    site = document.tables.site
    await _check_zone(connection, site.code, site.timezone)
    templates = {
        kind: template.model_dump() for kind, template in document.tables.weixin.templates.items()
    }
    found = await row(
        connection,
        SITE,
        site.code,
        site.name,
        site.timezone,
        site.poll_seconds,
        site.close_after_days,
        to_json(templates),
        now,
    )
    counts.note("site", found)
    kept = await row(connection, "SELECT id FROM site WHERE code = $1", site.code)
    assert kept is not None  # noqa: S101  inserted above or before
    return int(kept["id"])


async def _check_zone(connection: Connection, site_code: str, zone: str) -> None:
    """Days are closed at the midnights of one timezone: another would charge hours twice."""
    other = await row(connection, OTHER_ZONE, site_code, zone)
    if other is not None and other["closed"] is not None:
        text = f"is {other['timezone']}, and days up to {other['closed']} are closed by it"
        raise SiteFileError([Fault("site.timezone", text)])
    if await row(connection, KNOWN_ZONE, zone) is None:
        raise SiteFileError([Fault("site.timezone", f"the database knows no {zone}")])


async def _import_merchants(
    connection: Connection, site_id: int, document: SiteDocument, counts: _Counts
) -> None:
    wechat, alipay = document.tables.merchant.wechat, document.tables.merchant.alipay
    merchants: list[tuple[str, str, str, WeChatTable | AlipayTable]] = []
    if wechat is not None:
        merchants.append(("wechat", wechat.mchid, wechat.appid, wechat))
    if alipay is not None:
        merchants.append(("alipay", alipay.seller_id, alipay.app_id, alipay))
    for platform, merchant_id, app_id, merchant in merchants:
        paths = merchant_settings(merchant, document.folder)
        found = await row(
            connection, MERCHANT, site_id, platform, merchant_id, app_id, to_json(paths)
        )
        counts.note("merchant", found)


async def _import_rules(
    connection: Connection, site_id: int, document: SiteDocument, counts: _Counts
) -> None:
    """Policies, tariffs and fixed charges; refuses a version that touches closed days."""
    for code, rules in document.policies.items():
        found = await row(connection, POLICY, site_id, code, to_json(rules))
        counts.note("supply_policy", found)
    faults = []
    for index, table in enumerate(document.tariffs):
        code, valid_from = str(table["code"]), date.fromisoformat(str(table["valid_from"]))
        found = await row(connection, TARIFF, site_id, code, valid_from, to_json(table))
        counts.note("tariff", found)
        closed = await row(connection, CLOSED_DAY, site_id, code, valid_from) if found else None
        if closed is not None and closed["day"] is not None:
            text = f"{code}: days up to {closed['day']} are closed; a version from {valid_from} "
            faults.append(Fault(f"tariff[{index}]", text + "would change them"))
    for table in document.fixed_charges:
        code, valid_from = str(table["code"]), date.fromisoformat(str(table["valid_from"]))
        found = await row(connection, FIXED_CHARGE, site_id, code, valid_from, to_json(table))
        counts.note("fixed_charge", found)
    if faults:
        raise SiteFileError(faults)
    await rows(connection, NEW_RULES, site_id)  # after all that a site's rules are made of


def _gateway_settings(gateway: GatewayTable, folder: Path) -> dict[str, object]:
    settings = gateway.model_dump(exclude={"code", "link", "address"})
    if gateway.password_file is not None:
        settings["password_file"] = str(folder / gateway.password_file)
    return settings


async def _import_shop(connection: Connection, site_id: int, shop: ShopTable) -> Row | None:
    return await row(
        connection,
        SHOP,
        site_id,
        shop.code,
        shop.name,
        area_cm2(shop.area_m2),
        capacity_va(shop.kva),
        shop.tariff,
        shop.supply_policy,
        to_json(list(shop.fixed_charges)),
        shop.supply_protection,
        secrets.token_urlsafe(16),
    )


async def _import_meters(
    connection: Connection,
    site_id: int,
    meters: Sequence[MeterTable],
    profiles: Mapping[str, ProfileFacts],
    counts: _Counts,
) -> None:
    codes = [meter.code for meter in meters]
    await rows(
        connection,
        UNSEAT,
        site_id,
        codes,
        [meter.gateway for meter in meters],
        [meter.unit for meter in meters],
        [meter.address for meter in meters],
    )
    faults = []
    for index, meter in enumerate(meters):
        taken = await row(
            connection,
            OTHER_SEAT,
            site_id,
            meter.gateway,
            meter.code,
            meter.unit,
            meter.address,
            codes,
        )
        if taken is not None:
            text = f"meter {taken['code']} is already there on gateway {taken['gateway']}"
            faults.append(Fault(f"meter[{index}]", text))
            continue
        facts = profiles[meter.profile]
        found = await row(
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
        counts.note("meter", found)
    if faults:
        raise SiteFileError(faults)


async def _open_tenancies(
    connection: Connection,
    site_id: int,
    shops: Sequence[ShopTable],
    counts: _Counts,
    now: datetime,
) -> None:
    """Each shop's first import opens its first tenancy, with its opening balance; once."""
    rules = await site_rules(connection, site_id)
    faults = []
    for index, shop in enumerate(shops):
        made = await row(
            connection,
            TENANCY,
            site_id,
            shop.code,
            now,
            shop.binding_code,
            shop.opening_balance_fen or 0,
            local_day(now, rules.zone),
        )
        if made is not None:
            await _open_wallets(connection, site_id, made["id"], shop, now)
            counts.note("tenancy", {"created": True})
            continue
        first = await row(connection, FIRST_TENANCY, site_id, shop.code)
        counts.note("tenancy", None)
        if first is None or shop.opening_balance_fen is None:
            continue
        if first["opening_balance_fen"] != shop.opening_balance_fen:
            text = f"was {first['opening_balance_fen']} and posts once"
            faults.append(Fault(f"shop[{index}].opening_balance_fen", text))
    codes = [shop.code for shop in shops]
    for one in await rows(connection, NO_TARIFF_YET, site_id, codes):
        place = f"shop[{codes.index(one['code'])}].tariff"
        since = f"{one['tariff_code']} is valid from {one['valid_from']} on, "
        faults.append(Fault(place, since + f"but {one['first_open_day']} is to be charged"))
    if faults:
        raise SiteFileError(faults)


async def _open_wallets(
    connection: Connection, site_id: int, tenancy_id: int, shop: ShopTable, now: datetime
) -> None:
    await open_accounts(connection, site_id, tenancy_id)
    posting = opening_balance(
        electricity_wallet(tenancy_id), shop.opening_balance_fen or 0, {"shop": shop.code}
    )
    if posting is not None:
        key = f"opening_balance:{tenancy_id}"
        await post(connection, site_id, posting, key=key, booked_at=now)
