"""An import's policies, tariffs and fixed charges; none may touch closed days."""

from server.models.database import Connection, row, rows, to_json
from server.services.site_file import SiteDocument, SiteFileError
from server.services.site_import_counts import Counts
from server.services.site_import_fixed import FIXED_CHARGES
from server.services.site_import_versions import VersionKind, import_versions

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
# A day on a statement was rated with the version that it names; that version may not change, nor
# another come between.
CLOSED_DAY = """
SELECT max(day) AS day FROM statement
WHERE site_id = $1 AND document -> 'tariff' ->> 'code' = $2 AND day >= $3
  AND day < coalesce((SELECT min(valid_from) FROM tariff_version
      WHERE site_id = $1 AND code = $2 AND valid_from > $3), 'infinity'::date)
"""
TARIFFS = VersionKind("tariff", TARIFF, CLOSED_DAY, "closed")
NEW_RULES = "UPDATE site SET rules_version = nextval('rules_version') WHERE id = $1"


async def import_rules(
    connection: Connection, site_id: int, document: SiteDocument, counts: Counts
) -> None:
    """Policies, tariffs and fixed charges; refuses a version that touches closed days.

    Raises SiteFileError.
    """
    for code, rules in document.policies.items():
        found = await row(connection, POLICY, site_id, code, to_json(rules))
        counts.note("supply_policy", found)
    faults = await import_versions(connection, site_id, TARIFFS, document.tariffs, counts)
    faults += await import_versions(
        connection, site_id, FIXED_CHARGES, document.fixed_charges, counts
    )
    if faults:
        raise SiteFileError(faults)
    await rows(connection, NEW_RULES, site_id)  # after all that a site's rules are made of
