"""An import's fixed charges; none may touch charged days, nor cost more than the books can hold."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from server.core.ledger.transfer import AMOUNT_FEN_MAX
from server.core.money import yuan_text
from server.core.settlement.fixed_day import basis_quantity, charge_fixed_day
from server.core.tariff.versions import FixedCharge
from server.models.database import Connection, Row, from_json, rows, to_json
from server.services.site_file import Fault, ShopTable, SiteFileError, area_cm2, capacity_va
from server.services.site_import_versions import VersionKind
from server.services.site_rules import site_rules

FIXED_CHARGE = """
INSERT INTO fixed_charge_version (site_id, code, valid_from, definition)
VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT (site_id, code, valid_from) DO UPDATE SET definition = excluded.definition
WHERE fixed_charge_version.definition IS DISTINCT FROM excluded.definition
RETURNING (xmax = 0) AS created
"""
# A charged day names the version that it was charged by, as a closed day names its tariff's.
CHARGED_DAY = """
SELECT max(day) AS day FROM fixed_charge_statement
WHERE site_id = $1 AND day >= $3
  AND document -> 'lines' @> jsonb_build_array(jsonb_build_object('code', $2::text))
  AND day < coalesce((SELECT min(valid_from) FROM fixed_charge_version
      WHERE site_id = $1 AND code = $2 AND valid_from > $3), 'infinity'::date)
"""
FIXED_CHARGES = VersionKind("fixed_charge", FIXED_CHARGE, CHARGED_DAY, "charged")
SHOPS = """
SELECT code, fixed_charges, area_cm2, capacity_va FROM shop
WHERE site_id = $1 AND fixed_charges <> '[]' ORDER BY code
"""

# Shops whose charges will be made from something else, and the last day that was charged before.
CHANGED = """
SELECT shop.code, shop.area_cm2 <> wanted.area_cm2 AS area_m2,
       shop.capacity_va <> wanted.capacity_va AS kva,
       shop.fixed_charges <> wanted.fixed_charges::jsonb AS fixed_charges, charged.day
FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::text[])
    AS wanted (code, area_cm2, capacity_va, fixed_charges)
JOIN shop ON shop.site_id = $1 AND shop.code = wanted.code
    AND (shop.area_cm2, shop.capacity_va, shop.fixed_charges)
        <> (wanted.area_cm2, wanted.capacity_va, wanted.fixed_charges::jsonb)
CROSS JOIN LATERAL (
    SELECT max(statement.day) AS day FROM fixed_charge_statement statement
    JOIN tenancy ON tenancy.id = statement.tenancy_id
    WHERE statement.site_id = shop.site_id AND tenancy.shop_id = shop.id
) AS charged
WHERE charged.day IS NOT NULL ORDER BY shop.code
"""


async def changed_charges(
    connection: Connection, site_id: int, shops: Sequence[ShopTable]
) -> list[str]:
    """Before the shops are written: what is told of those whose charged days stay as they are.

    Another area may be a new wall or an old mistake, and the file cannot say since when. So it
    holds from the first day that is not charged, and nothing is billed back (ADR 18).
    """
    found = await rows(
        connection,
        CHANGED,
        site_id,
        [shop.code for shop in shops],
        [area_cm2(shop.area_m2) for shop in shops],
        [capacity_va(shop.kva) for shop in shops],
        [to_json(list(shop.fixed_charges)) for shop in shops],
    )
    warnings = []
    for one in found:
        changed = " and ".join(key for key in ("area_m2", "kva", "fixed_charges") if one[key])
        stays = f"days up to {one['day']} are charged as before and stay so"
        warnings.append(
            f"shop {one['code']}: {changed} changed; {stays} (an adjustment mends them)"
        )
    return warnings


async def check_fixed_charges(
    connection: Connection, site_id: int, shop_codes: Sequence[str]
) -> None:
    """Raises SiteFileError for a shop whose fixed charges are more than a posting can hold."""
    charges = (await site_rules(connection, site_id)).fixed_charges
    faults = []
    for shop in await rows(connection, SHOPS, site_id):
        most_fen = sum(_dearest_fen(shop, charges))
        if most_fen > AMOUNT_FEN_MAX:
            known = shop["code"] in shop_codes
            place = f"shop[{shop_codes.index(shop['code'])}]" if known else f"shop {shop['code']}"
            most = f"are {yuan_text(most_fen)} yuan: more than {yuan_text(AMOUNT_FEN_MAX)}"
            faults.append(Fault(f"{place}.fixed_charges", most))
    if faults:
        raise SiteFileError(faults)


def _dearest_fen(shop: Row, charges: Mapping[str, Sequence[FixedCharge]]) -> Iterator[int]:
    """The dearest version of each of a shop's charges, for its whole day or month."""
    quantities = {"area_cm2": shop["area_cm2"], "capacity_va": shop["capacity_va"]}
    for code in from_json(shop["fixed_charges"]):
        versions = [(one, basis_quantity(one.basis, **quantities)) for one in charges[code]]
        lines = charge_fixed_day(date.min, versions).lines
        yield max(line.period_fen for line in lines)
