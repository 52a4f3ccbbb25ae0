"""An import's shops; each shop's first import opens its first tenancy."""

import secrets
from collections.abc import Sequence
from datetime import datetime

from server.core.calendar import local_day
from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import opening_balance
from server.core.settlement.document import half_closed_until
from server.models.database import Connection, Row, from_json, row, rows, to_json
from server.services.journal import open_accounts, post
from server.services.site_file import Fault, ShopTable, SiteFileError, area_cm2, capacity_va
from server.services.site_import_counts import Counts
from server.services.site_rules import site_rules

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
TENANCY = """
INSERT INTO tenancy (site_id, shop_id, opened_at, binding_code, opening_balance_fen,
    first_open_day, fixed_open_day, supply_state, supply_reasons, emergency_credit_fen,
    notice_memory)
SELECT $1, shop.id, $3, $4, $5, $6, $6, 'connected', '[]', 0, '{}' FROM shop
WHERE shop.site_id = $1 AND shop.code = $2
  AND NOT EXISTS (SELECT 1 FROM tenancy WHERE tenancy.shop_id = shop.id)
RETURNING id
"""
FIRST_TENANCY = """
SELECT tenancy.opening_balance_fen FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
WHERE shop.site_id = $1 AND shop.code = $2 ORDER BY tenancy.id LIMIT 1
"""
NO_TARIFF_YET = """
SELECT shop.code, shop.tariff_code, tenancy.first_open_day, min(version.valid_from) AS valid_from
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
JOIN tariff_version version ON version.site_id = shop.site_id AND version.code = shop.tariff_code
WHERE shop.site_id = $1 AND shop.code = ANY($2::text[]) AND tenancy.closed_at IS NULL
GROUP BY tenancy.id, shop.id HAVING min(version.valid_from) > tenancy.first_open_day
"""
# The last closed days of shops that are to have another tariff.
TARIFF_LEFT = """
SELECT shop.code, shop.tariff_code, closed.day, closed.document
FROM unnest($2::text[], $3::text[]) AS wanted (code, tariff_code)
JOIN shop ON shop.site_id = $1 AND shop.code = wanted.code
    AND shop.tariff_code <> wanted.tariff_code
JOIN tenancy ON tenancy.shop_id = shop.id
CROSS JOIN LATERAL (
    SELECT day, document FROM statement
    WHERE site_id = shop.site_id AND tenancy_id = tenancy.id AND day = tenancy.first_open_day - 1
    ORDER BY version DESC LIMIT 1
) AS closed
ORDER BY shop.code
"""
# Who left such a shop with a day that is not closed yet.
LEAVER = """
SELECT shop.code, shop.tariff_code, tenancy.id, tenancy.first_open_day AS day
FROM unnest($2::text[], $3::text[]) AS wanted (code, tariff_code)
JOIN shop ON shop.site_id = $1 AND shop.code = wanted.code
    AND shop.tariff_code <> wanted.tariff_code
JOIN site ON site.id = shop.site_id
JOIN tenancy ON tenancy.shop_id = shop.id
    AND tenancy.first_open_day <= (tenancy.closed_at AT TIME ZONE site.timezone)::date
ORDER BY shop.code, tenancy.id
"""
# Shops that are to have another tariff, and the first day that it will be the price of.
HOLDS_FROM = """
SELECT shop.code, shop.tariff_code, wanted.tariff_code AS next_code, tenancy.first_open_day AS day
FROM unnest($2::text[], $3::text[]) AS wanted (code, tariff_code)
JOIN shop ON shop.site_id = $1 AND shop.code = wanted.code
    AND shop.tariff_code <> wanted.tariff_code
JOIN site ON site.id = shop.site_id
JOIN tenancy ON tenancy.shop_id = shop.id AND tenancy.closed_at IS NULL
    AND tenancy.first_open_day < ($4::timestamptz AT TIME ZONE site.timezone)::date
ORDER BY shop.code
"""


async def changed_tariffs(
    connection: Connection, site_id: int, shops: Sequence[ShopTable], now: datetime
) -> list[str]:
    """Before the shops are written: what is told of those with days before today still open.

    The file cannot say since when, so it holds from the first day that is not closed.
    """
    codes, tariffs = [shop.code for shop in shops], [shop.tariff for shop in shops]
    return [
        f"shop {one['code']}: tariff {one['next_code']} in place of {one['tariff_code']} is the "
        f"price of all days that are not closed, from {one['day']} on"
        for one in await rows(connection, HOLDS_FROM, site_id, codes, tariffs, now)
    ]


async def check_left_tariffs(
    connection: Connection, site_id: int, shops: Sequence[ShopTable]
) -> None:
    """Refuse another tariff where something is still to be charged by the present one.

    That is the rest of a gap that a closed day has split: it goes by the same clock, or the days
    would not add up. And the last days of who moved out: the new tariff is the next one's.
    """
    codes = [shop.code for shop in shops]
    tariffs = [shop.tariff for shop in shops]
    faults = []
    for one in await rows(connection, LEAVER, site_id, codes, tariffs):
        left = f"tenancy {one['id']} moved out, and its {one['day']} is to be charged by"
        place = f"shop[{codes.index(one['code'])}].tariff"
        faults.append(Fault(place, f"{left} {one['tariff_code']}: close its days first"))
    for one in await rows(connection, TARIFF_LEFT, site_id, codes, tariffs):
        until = half_closed_until(from_json(one["document"]))
        if until is not None:
            text = f"{one['day']} is closed with a gap until {until}, split by {one['tariff_code']}"
            place = f"shop[{codes.index(one['code'])}].tariff"
            faults.append(Fault(place, f"{text}: close the days up to then first"))
    if faults:
        raise SiteFileError(faults)


async def import_shop(connection: Connection, site_id: int, shop: ShopTable) -> Row | None:
    """One shop; its token is made once."""
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


async def open_tenancies(
    connection: Connection,
    site_id: int,
    shops: Sequence[ShopTable],
    counts: Counts,
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
