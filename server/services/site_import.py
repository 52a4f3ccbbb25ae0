"""Loading a site file: everything or nothing, once or again (contract, `mallwatt import`).

Each table is one upsert that says whether it created, updated or left a row. What is absent from
the file stays.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tortoise.exceptions import OperationalError

from server.models.database import Connection, row, rows, to_json, transaction
from server.services.fixed_charges import charge_within, make_charged_months
from server.services.holidays import holiday_warnings
from server.services.journal import open_accounts
from server.services.locks import lock_tenancies
from server.services.site_file import (
    AlipayTable,
    CheckMerchant,
    Fault,
    KnownCodes,
    ProfileFacts,
    SiteDocument,
    SiteFileError,
    WeChatTable,
    merchant_settings,
)
from server.services.site_import_counts import Counts
from server.services.site_import_devices import (
    import_controls,
    import_gateways,
    import_meters,
)
from server.services.site_import_fixed import changed_charges, check_fixed_charges
from server.services.site_import_rules import import_rules
from server.services.site_import_shops import (
    changed_tariffs,
    check_left_tariffs,
    import_shop,
    open_tenancies,
)
from server.services.site_parsing import parse_site_file, read_content, site_code_of
from server.services.site_rules import chinese_holidays
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
                  created_at, approval, holidays_until, shipping_information)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8::jsonb, $9, $10)
ON CONFLICT (code) DO UPDATE SET name = excluded.name, timezone = excluded.timezone,
    poll_seconds = excluded.poll_seconds, close_after_days = excluded.close_after_days,
    weixin_templates = excluded.weixin_templates, approval = excluded.approval,
    shipping_information = excluded.shipping_information
WHERE (site.name, site.timezone, site.poll_seconds, site.close_after_days, site.weixin_templates,
       site.approval, site.shipping_information)
    IS DISTINCT FROM (excluded.name, excluded.timezone, excluded.poll_seconds,
                      excluded.close_after_days, excluded.weixin_templates, excluded.approval,
                      excluded.shipping_information)
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
OTHER_ZONE = """
SELECT site.timezone,
       greatest((SELECT max(day) FROM statement WHERE statement.site_id = site.id),
                (SELECT max(day) FROM fixed_charge_statement charged
                 WHERE charged.site_id = site.id)) AS closed
FROM site WHERE site.code = $1 AND site.timezone <> $2
"""
# pg_timezone_names would read each of its 600 files to find this one
LOCAL_TIME = "SELECT now() AT TIME ZONE $1 AS local"
# Nothing is closed: a tenancy's days begin with the one on which it began, by the new clock.
REDATED = """
UPDATE tenancy SET first_open_day = (opened_at AT TIME ZONE $2)::date,
    fixed_open_day = CASE WHEN fixed_open_day = first_open_day
        THEN (opened_at AT TIME ZONE $2)::date ELSE fixed_open_day END
FROM site WHERE site.code = $1 AND tenancy.site_id = site.id
"""
BEFORE_ALL = """
DELETE FROM open_day USING tenancy, site WHERE site.code = $1 AND tenancy.site_id = site.id
    AND open_day.tenancy_id = tenancy.id AND open_day.day < tenancy.first_open_day
"""
RESETTLE = """
INSERT INTO settlement_due (tenancy_id, first_day, try_at)
SELECT id, first_open_day, $2 FROM tenancy WHERE site_id = $1
  AND (closed_at IS NULL OR EXISTS (SELECT 1 FROM open_day WHERE tenancy_id = tenancy.id))
ORDER BY id
ON CONFLICT (tenancy_id) DO UPDATE
    SET first_day = least(settlement_due.first_day, excluded.first_day)
"""
ALL_TENANCIES = "SELECT id FROM tenancy WHERE site_id = $1"
OPEN_TENANCIES = "SELECT id FROM tenancy WHERE site_id = $1 AND closed_at IS NULL ORDER BY id"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """How many rows of each table were created, updated, left unchanged; what to look out for."""

    site_id: int
    created: Mapping[str, int]
    updated: Mapping[str, int]
    unchanged: Mapping[str, int]
    warnings: Sequence[str] = ()


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
    code = site_code_of(content) or ""
    await make_charged_months(now)
    async with transaction() as connection:
        await rows(connection, LOCK, code)
        known = await _known_codes(connection, code)
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
    counts = Counts()
    await _hold_tenancies(connection, document.tables.site.code, now)
    site_id = await _import_site_table(connection, document, counts, now)
    await open_accounts(connection, site_id, None)
    await _import_merchants(connection, site_id, document, counts)
    await import_rules(connection, site_id, document, counts)
    await import_gateways(connection, site_id, document, counts, now)
    await check_left_tariffs(connection, site_id, document.tables.shop)
    warnings = await changed_charges(connection, site_id, document.tables.shop)
    warnings += await changed_tariffs(connection, site_id, document.tables.shop, now)
    for shop in document.tables.shop:
        counts.note("shop", await import_shop(connection, site_id, shop))
    await check_fixed_charges(connection, site_id, [shop.code for shop in document.tables.shop])
    await import_meters(connection, site_id, document.tables.meter, profiles, counts, now)
    await import_controls(connection, site_id, document.tables.meter, profiles, now)
    await open_tenancies(connection, site_id, document.tables.shop, counts, now)
    await rows(connection, RESETTLE, site_id, now)
    open_now = [one["id"] for one in await rows(connection, OPEN_TENANCIES, site_id)]
    await decide_within(connection, open_now, now)
    warnings += await holiday_warnings(connection, site_id, now)
    return ImportReport(site_id, counts.created, counts.updated, counts.unchanged, warnings)


async def _hold_tenancies(connection: Connection, site_code: str, now: datetime) -> None:
    """Let nobody settle, close or decide by the old rules while the new ones come.

    The days of fixed charges that are over are charged by the old ones.
    """
    site = await row(connection, "SELECT id FROM site WHERE code = $1", site_code)
    if site is not None:
        await rows(connection, RESETTLE, site["id"], now)
        tenancies = [one["id"] for one in await rows(connection, ALL_TENANCIES, site["id"])]
        await lock_tenancies(connection, tenancies)
        await charge_within(connection, tenancies, now)


async def _import_site_table(
    connection: Connection, document: SiteDocument, counts: Counts, now: datetime
) -> int:
    site = document.tables.site
    await _change_zone(connection, site.code, site.timezone)
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
        to_json(document.tables.approval.model_dump(exclude_none=True)),
        chinese_holidays().last_year,
        document.tables.weixin.shipping_information,
    )
    counts.note("site", found)
    kept = await row(connection, "SELECT id FROM site WHERE code = $1", site.code)
    assert kept is not None  # noqa: S101  inserted above or before
    return int(kept["id"])


async def _change_zone(connection: Connection, site_code: str, zone: str) -> None:
    """Days are closed at the midnights of one timezone: another would charge hours twice.

    Before any is closed they may have others, and a tenancy's first day may be another one.
    """
    other = await row(connection, OTHER_ZONE, site_code, zone)
    if other is not None and other["closed"] is not None:
        text = f"is {other['timezone']}, and days up to {other['closed']} are closed by it"
        raise SiteFileError([Fault("site.timezone", text)])
    try:
        await row(connection, LOCAL_TIME, zone)
    except OperationalError as error:
        fault = Fault("site.timezone", f"the database knows no {zone}")
        raise SiteFileError([fault]) from error
    if other is not None:
        await rows(connection, REDATED, site_code, zone)
        await rows(connection, BEFORE_ALL, site_code)


async def _import_merchants(
    connection: Connection, site_id: int, document: SiteDocument, counts: Counts
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
