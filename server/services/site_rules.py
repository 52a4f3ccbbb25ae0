"""A site's rules as frozen values: tariffs, policies, timezone, public holidays.

Each import gives them a new version. A process keeps what it has read, and asks for the version at
each use: whoever asks under a tenancy's lock gets the rules that hold there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from zoneinfo import ZoneInfo

import msgspec
from chinese_calendar import constants as chinese_calendar

from server.core.calendar import HolidayCalendar
from server.core.supply.policy import SupplyPolicy, parse_supply_policy
from server.core.tariff.parse import parse_fixed_charge, parse_tariff
from server.core.tariff.versions import FixedCharge, TariffVersion
from server.models.database import Connection, from_json, row, rows

GAP_S_MIN = 3_600  # below an hour between two readings nothing is called a gap
GAP_POLLS = 3  # nor below three missed polls

VERSIONS = "SELECT id, rules_version FROM site WHERE id = ANY($1::bigint[])"
SITE = """
SELECT id, code, name, timezone, poll_seconds, close_after_days, weixin_templates, rules_version
FROM site WHERE id = $1
"""
TARIFFS = "SELECT code, definition FROM tariff_version WHERE site_id = $1 ORDER BY code, valid_from"
FIXED_CHARGES = """
SELECT code, definition FROM fixed_charge_version WHERE site_id = $1 ORDER BY code, valid_from
"""
POLICIES = "SELECT code, rules FROM supply_policy WHERE site_id = $1"


class Template(msgspec.Struct, frozen=True):
    """A WeChat subscribe message: its id, and which fact fills which field."""

    id: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class SiteRules:
    """All of a site that decisions need.

    Tariffs and fixed charges are by code, each ascending by `valid_from`.
    """

    site_id: int
    version: int
    code: str
    name: str
    zone: ZoneInfo
    poll_seconds: int
    close_after_days: int
    gap_s: int
    tariffs: Mapping[str, tuple[TariffVersion, ...]]
    fixed_charges: Mapping[str, tuple[FixedCharge, ...]]
    policies: Mapping[str, SupplyPolicy]
    templates: Mapping[str, Template]
    calendar: HolidayCalendar


_kept: dict[int, SiteRules] = {}


@cache
def chinese_holidays() -> HolidayCalendar:
    """China's public holidays and moved workdays as chinesecalendar knows them.

    A year is known once its last holiday is, National Day: the days around a New Year are
    announced with either year.
    """
    holidays, workdays = chinese_calendar.holidays, chinese_calendar.workdays
    years = [day.year for day in holidays if (day.month, day.day) == (10, 1)]
    return HolidayCalendar(
        holidays=frozenset(holidays),
        moved_workdays=frozenset(workdays),
        first_year=min(years),
        last_year=max(years),
    )


async def site_rules(connection: Connection, site_id: int) -> SiteRules:
    """The rules of a site as they are now; raises LookupError."""
    return (await rules_of_sites(connection, [site_id]))[site_id]


async def rules_of_sites(connection: Connection, site_ids: Iterable[int]) -> dict[int, SiteRules]:
    """The rules of these sites as they are now; raises LookupError."""
    wanted = sorted(set(site_ids))
    versions = {one["id"]: one["rules_version"] for one in await rows(connection, VERSIONS, wanted)}
    found = {}
    for site_id in wanted:
        kept = _kept.get(site_id)
        if kept is None or kept.version != versions.get(site_id):
            kept = _kept[site_id] = await _load_site_rules(connection, site_id)
        found[site_id] = kept
    return found


def forget_site_rules() -> None:
    """Read the rules anew at the next use (after a change of database in this process)."""
    _kept.clear()


async def _load_site_rules(connection: Connection, site_id: int) -> SiteRules:
    # the version is read first: rules newer than it are read again at the next use
    site = await row(connection, SITE, site_id)
    if site is None:
        raise LookupError(f"site {site_id}")
    tariffs: dict[str, list[TariffVersion]] = {}
    for found in await rows(connection, TARIFFS, site_id):
        version = parse_tariff(from_json(found["definition"]))
        tariffs.setdefault(found["code"], []).append(version)
    fixed_charges: dict[str, list[FixedCharge]] = {}
    for found in await rows(connection, FIXED_CHARGES, site_id):
        charge = parse_fixed_charge(from_json(found["definition"]))
        fixed_charges.setdefault(found["code"], []).append(charge)
    policies = {
        found["code"]: parse_supply_policy(from_json(found["rules"]))
        for found in await rows(connection, POLICIES, site_id)
    }
    return SiteRules(
        site_id=site_id,
        version=site["rules_version"],
        code=site["code"],
        name=site["name"],
        zone=ZoneInfo(site["timezone"]),
        poll_seconds=site["poll_seconds"],
        close_after_days=site["close_after_days"],
        gap_s=max(GAP_S_MIN, GAP_POLLS * site["poll_seconds"]),
        tariffs={code: tuple(versions) for code, versions in tariffs.items()},
        fixed_charges={code: tuple(charges) for code, charges in fixed_charges.items()},
        policies=policies,
        templates=msgspec.convert(from_json(site["weixin_templates"]), dict[str, Template]),
        calendar=chinese_holidays(),
    )
