"""Energy and money by hour, day or month, from statements (newest version) and open days."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Literal
from zoneinfo import ZoneInfo

from server.core.calendar import NO_HOLIDAYS, day_bounds
from server.core.errors import InvalidInputError, NotFoundError, UnavailableError
from server.core.settlement.day import charge_cells
from server.core.settlement.document import hours_document, lines_document
from server.core.settlement.grid import DayGrid, day_grid
from server.core.tariff.versions import SINCE_EVER, TariffKind, TariffVersion, version_on
from server.models.database import Row, from_json, pool, row, rows
from server.services.settlement import settle_due
from server.services.site_rules import SiteRules, site_rules

Step = Literal["hour", "day", "month"]

DAYS_MAX: Mapping[Step, int] = {"hour": 31, "day": 400, "month": 3_660}
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2200, 1, 1)
_NO_PERIODS = TariffVersion("", SINCE_EVER, TariffKind.FLAT, ())

TENANCY = """
SELECT tenancy.site_id, shop.tariff_code FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
WHERE tenancy.id = $1
"""
# A day is on a statement or open, never both. $5: which part of the document is wanted; an open
# day has none, but its cells.
DAYS = """
(SELECT DISTINCT ON (day) day, energy_wh, amount_fen, estimated, document -> $5 AS part,
     NULL::bigint AS rules_version, NULL::bigint AS block_start_wh, NULL::bigint[] AS cells_wh
 FROM statement WHERE site_id = $1 AND tenancy_id = $2 AND day >= $3 AND day < $4
 ORDER BY day, version DESC)
UNION ALL
SELECT day, energy_wh, amount_fen, estimated, NULL, rules_version, block_start_wh, cells_wh
FROM open_day WHERE tenancy_id = $2 AND day >= $3 AND day < $4
"""
TRIES = 3  # between an import and the settling after it, open days are cut by the rules before it


@dataclass(frozen=True, slots=True)
class UsagePoint:
    """From `start` (local offset) to the next point; `by_period` is empty without periods."""

    start: datetime
    energy_wh: int
    amount_fen: int
    by_period: dict[str, int]
    estimated: bool


@dataclass(frozen=True, slots=True)
class _Used:
    """A day of which something is known; `parts` are its hours or its lines, as in documents."""

    energy_wh: int
    amount_fen: int
    parts: Sequence[Mapping[str, Any]]
    estimated: bool


async def usage(
    tenancy_id: int,
    first: date,
    last_exclusive: date,
    step: Step,
    now: datetime,
) -> list[UsagePoint]:
    """A point for every hour, day or month of the range, zero where nothing is known of it.

    A month that the range cuts has a point for its part inside. Raises InvalidInputError for a
    range that is empty, too long, or out of the calendar; NotFoundError.
    """
    _check_range(first, last_exclusive, step)
    used, zone = await _used(tenancy_id, first, last_exclusive, step, now)
    days = list(_days(first, last_exclusive))
    if step == "hour":
        return [point for day in days for point in _hours(day, used.get(day), zone)]
    key_length = len("YYYY-MM-DD") if step == "day" else len("YYYY-MM")
    groups: dict[str, list[date]] = {}
    for day in days:
        groups.setdefault(day.isoformat()[:key_length], []).append(day)
    return [_sum_of(group, used, zone) for group in groups.values()]


async def _used(
    tenancy_id: int, first: date, last_exclusive: date, step: Step, now: datetime
) -> tuple[dict[date, _Used], ZoneInfo]:
    """What is known of the days, and the timezone that they are in."""
    part = "hours" if step == "hour" else "lines"
    for _ in range(TRIES):
        tenancy = await row(pool(), TENANCY, tenancy_id)
        if tenancy is None:
            raise NotFoundError("no such tenancy")
        rules = await site_rules(pool(), tenancy["site_id"])
        found = await rows(
            pool(), DAYS, tenancy["site_id"], tenancy_id, first, last_exclusive, part
        )
        tariff = rules.tariffs[tenancy["tariff_code"]]
        if not any(_is_cut_otherwise(one, rules, tariff) for one in found):
            return {one["day"]: _used_day(one, rules, tariff, step) for one in found}, rules.zone
        await settle_due(now, only=tenancy_id)
    raise UnavailableError("the rules of this site are changing")


def _is_cut_otherwise(found: Row, rules: SiteRules, tariff: Sequence[TariffVersion]) -> bool:
    """Whether an open day was projected by other rules, or by other holidays."""
    if found["rules_version"] is None:
        return False
    return bool(
        found["rules_version"] != rules.version
        or len(found["cells_wh"]) != len(_grid(found["day"], rules, tariff).periods)
    )


def _grid(day: date, rules: SiteRules, tariff: Sequence[TariffVersion]) -> DayGrid:
    return day_grid(day, rules.zone, version_on(tariff, day), rules.calendar)


def _used_day(found: Row, rules: SiteRules, tariff: Sequence[TariffVersion], step: Step) -> _Used:
    day, part = found["day"], found["part"]
    if part is not None:
        parts = from_json(part)
    else:
        version, grid = version_on(tariff, day), _grid(day, rules, tariff)
        block_start_wh = found["block_start_wh"]
        charge = charge_cells(grid, found["cells_wh"], version, block_start_wh=block_start_wh)
        parts = (
            hours_document(charge.hours, rules.zone)
            if step == "hour"
            else lines_document(charge.lines, version)
        )
    return _Used(found["energy_wh"], found["amount_fen"], parts, found["estimated"])


def _check_range(first: date, last_exclusive: date, step: Step) -> None:
    if not FIRST_DAY <= first < last_exclusive <= LAST_DAY:
        raise InvalidInputError(f"from is before to, both from {FIRST_DAY} to {LAST_DAY}")
    if (last_exclusive - first).days > DAYS_MAX[step]:
        raise InvalidInputError(f"at most {DAYS_MAX[step]} days by {step}")


def _days(first: date, last_exclusive: date) -> Iterator[date]:
    for number in range((last_exclusive - first).days):
        yield first + timedelta(days=number)


def _hours(day: date, used: _Used | None, zone: ZoneInfo) -> list[UsagePoint]:
    """The hours as the day was settled; of a day that was not, those of the wall clock."""
    if used is None:
        return [UsagePoint(start, 0, 0, {}, estimated=False) for start in _hour_starts(day, zone)]
    return [
        UsagePoint(
            start=datetime.fromisoformat(hour["start"]),
            energy_wh=hour["energy_wh"],
            amount_fen=hour["amount_fen"],
            by_period=hour["by_period"],
            estimated=used.estimated,
        )
        for hour in used.parts
    ]


def _hour_starts(day: date, zone: ZoneInfo) -> list[datetime]:
    """The hours of a day that has 23, 24 or 25 of them, as a settled day has them."""
    grid = day_grid(day, zone, _NO_PERIODS, NO_HOLIDAYS)
    return [_local(start, zone) for start in grid.hour_starts]


def _local(at: datetime, zone: ZoneInfo) -> datetime:
    """With a fixed offset: hours that the clock shows twice stay apart when compared."""
    local = at.astimezone(zone)
    return local.replace(tzinfo=timezone(local.utcoffset() or timedelta()), fold=0)


def _sum_of(days: Sequence[date], used: Mapping[date, _Used], zone: ZoneInfo) -> UsagePoint:
    found = [used[day] for day in days if day in used]
    return UsagePoint(
        start=_local(day_bounds(days[0], zone)[0], zone),
        energy_wh=sum(one.energy_wh for one in found),
        amount_fen=sum(one.amount_fen for one in found),
        by_period=_by_period(line for one in found for line in one.parts),
        estimated=any(one.estimated for one in found),
    )


def _by_period(lines: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    split: dict[str, int] = {}
    for line in lines:
        if line["period"] is not None:
            split[line["period"]] = split.get(line["period"], 0) + line["energy_wh"]
    return split
