"""An import's fixed charges; none may touch charged days, nor cost more than the books can hold."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from server.core.ledger.transfer import AMOUNT_FEN_MAX
from server.core.money import yuan_text
from server.core.settlement.fixed_day import basis_quantity, charge_fixed_day
from server.core.tariff.versions import FixedCharge
from server.models.database import Connection, Row, from_json, rows
from server.services.site_file import Fault, SiteFileError
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
