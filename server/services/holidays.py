"""Public holidays of years that nobody has announced yet: who is told, and what follows later.

In a year that the calendar does not know Monday to Friday are workdays, Saturday and Sunday are
weekends. Prices and quiet hours that ask for the kind of a day are named beforehand. Once the
calendar knows the year, the days that were closed without it are rated anew.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import structlog

from server.core.calendar import HolidayCalendar, local_day
from server.core.supply.windows import windows
from server.core.tariff.versions import TariffVersion
from server.models.database import Connection, Row, pool, rows, transaction
from server.services.correction_marks import mark_closed_days
from server.services.locks import lock_tenancies
from server.services.site_rules import SiteRules, chinese_holidays, rules_of_sites

log = structlog.get_logger(__name__)

LOOK_AHEAD = timedelta(days=60)  # holidays of a year are announced in the November before

IN_USE = """
SELECT DISTINCT tariff_code, supply_policy_code FROM shop WHERE site_id = $1 ORDER BY 1, 2
"""
SITES = "SELECT id FROM site ORDER BY id"
BEHIND = "SELECT id, holidays_until FROM site WHERE holidays_until < $1 ORDER BY id"
RESETTLE = """
INSERT INTO settlement_due (tenancy_id, first_day, try_at)
SELECT id, first_open_day, $2 FROM tenancy WHERE site_id = $1 AND (first_open_day > $3
    OR EXISTS (SELECT 1 FROM open_day WHERE tenancy_id = tenancy.id AND day >= $3))
ORDER BY id
ON CONFLICT (tenancy_id) DO UPDATE
    SET first_day = least(settlement_due.first_day, excluded.first_day)
"""
ALL_TENANCIES = "SELECT id FROM tenancy WHERE site_id = $1"
TENANCIES = """
SELECT tenancy.id, first_open_day, (opened_at AT TIME ZONE site.timezone)::date AS opened_on
FROM tenancy JOIN site ON site.id = tenancy.site_id
WHERE site_id = $1 AND first_open_day > $2 ORDER BY tenancy.id
"""
LEARNED = "UPDATE site SET holidays_until = $2 WHERE id = $1"


async def holiday_warnings(connection: Connection, site_id: int, now: datetime) -> list[str]:
    """What of a site's rules in use asks for holidays that are not known, now or in 60 days."""
    rules = (await rules_of_sites(connection, [site_id]))[site_id]
    calendar = rules.calendar
    if calendar.knows(local_day(now + LOOK_AHEAD, rules.zone)):
        return []
    used = await rows(connection, IN_USE, site_id)
    return [_warning(name, calendar) for name in dict.fromkeys(_asking(rules, used))]


def _asking(rules: SiteRules, used: list[Row]) -> Iterator[str]:
    """Names; a shop whose rules are not there is not ours to complain of."""
    since = rules.calendar.first_unknown_day
    for one in used:
        coming = _from(rules.tariffs.get(one["tariff_code"], ()), since)
        if any(version.depends_on_day_type for version in coming):
            yield f"tariff {one['tariff_code']}"
    for one in used:
        policy = rules.policies.get(one["supply_policy_code"])
        quiet = windows(policy.no_disconnect if policy else ())
        if quiet.weekend or quiet.holiday:
            yield f"supply policy {one['supply_policy_code']}"


def _from(versions: tuple[TariffVersion, ...], day: date) -> tuple[TariffVersion, ...]:
    """Those that hold on this day or later; versions come in the order of their dates."""
    before = sum(version.valid_from <= day for version in versions)
    return versions[max(before - 1, 0) :]


def _warning(name: str, calendar: HolidayCalendar) -> str:
    return (
        f"{name} asks for public holidays, which are known up to {calendar.last_year}: from "
        f"{calendar.first_unknown_day} on Monday to Friday count as workdays, Saturday and Sunday "
        "as weekends, until MallWatt is updated; days closed by then are corrected"
    )


async def sites_without_holidays(now: datetime) -> int:
    """How many sites use rules that ask for holidays which are not known, now or in 60 days."""
    sites = [one["id"] for one in await rows(pool(), SITES)]
    warned = [bool(await holiday_warnings(pool(), site_id, now)) for site_id in sites]
    return sum(warned)


async def learn_holidays(now: datetime) -> None:
    """Have what was closed or projected without holidays that are known by now rated anew."""
    known = chinese_holidays().last_year
    for site in await rows(pool(), BEHIND, known):
        first = date(site["holidays_until"] + 1, 1, 1)
        async with transaction() as connection:
            await rows(connection, RESETTLE, site["id"], now, first)
            held = await rows(connection, ALL_TENANCIES, site["id"])
            await lock_tenancies(connection, [one["id"] for one in held])
            found = await rows(connection, TENANCIES, site["id"], first)
            first_days = {one["id"]: max(first, one["opened_on"]) for one in found}
            await mark_closed_days(connection, first_days, now)
            await rows(connection, LEARNED, site["id"], known)
        log.info("holidays became known", site_id=site["id"], until=known, tenancies=len(found))
