"""Energy and money by hour, day or month, from statements (newest version) and open days."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Literal
from zoneinfo import ZoneInfo

from server.core.calendar import NO_HOLIDAYS, day_bounds
from server.core.errors import InvalidInputError, NotFoundError
from server.core.settlement.grid import day_grid
from server.core.tariff.versions import SINCE_EVER, TariffKind, TariffVersion
from server.models.database import Row, from_json, pool, row, rows
from server.services.site_rules import site_rules

Step = Literal["hour", "day", "month"]

DAYS_MAX: Mapping[Step, int] = {"hour": 31, "day": 400, "month": 3_660}
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2200, 1, 1)
_NO_PERIODS = TariffVersion("", SINCE_EVER, TariffKind.FLAT, ())

SITE_OF = "SELECT site_id FROM tenancy WHERE id = $1"
# $5: which part of the document is wanted; a day is on a statement or open, never both
DAYS = """
SELECT day, energy_wh, amount_fen, estimated, document -> $5 AS part FROM (
    (SELECT DISTINCT ON (day) day, energy_wh, amount_fen, estimated, document FROM statement
     WHERE site_id = $1 AND tenancy_id = $2 AND day >= $3 AND day < $4
     ORDER BY day, version DESC)
    UNION ALL
    SELECT day, energy_wh, amount_fen, estimated, document FROM open_day
    WHERE tenancy_id = $2 AND day >= $3 AND day < $4
) AS used ORDER BY day
"""


@dataclass(frozen=True, slots=True)
class UsagePoint:
    """From `start` (local offset) to the next point; `by_period` is empty without periods."""

    start: datetime
    energy_wh: int
    amount_fen: int
    by_period: dict[str, int]
    estimated: bool


async def usage(
    tenancy_id: int,
    first: date,
    last_exclusive: date,
    step: Step,
    now: datetime,  # noqa: ARG001  every use case is handed the time; the past needs none
) -> list[UsagePoint]:
    """A point for every hour, day or month of the range, zero where nothing is known of it.

    A month that the range cuts has a point for its part inside. Raises InvalidInputError for a
    range that is empty, too long, or out of the calendar; NotFoundError.
    """
    _check_range(first, last_exclusive, step)
    tenancy = await row(pool(), SITE_OF, tenancy_id)
    if tenancy is None:
        raise NotFoundError("no such tenancy")
    rules = await site_rules(pool(), tenancy["site_id"])
    part = "hours" if step == "hour" else "lines"
    found = await rows(pool(), DAYS, tenancy["site_id"], tenancy_id, first, last_exclusive, part)
    used = {one["day"]: one for one in found}
    days = list(_days(first, last_exclusive))
    if step == "hour":
        return [point for day in days for point in _hours(day, used.get(day), rules.zone)]
    key_length = len("YYYY-MM-DD") if step == "day" else len("YYYY-MM")
    groups: dict[str, list[date]] = {}
    for day in days:
        groups.setdefault(day.isoformat()[:key_length], []).append(day)
    return [_sum_of(group, used, rules.zone) for group in groups.values()]


def _check_range(first: date, last_exclusive: date, step: Step) -> None:
    if not FIRST_DAY <= first < last_exclusive <= LAST_DAY:
        raise InvalidInputError(f"from is before to, both from {FIRST_DAY} to {LAST_DAY}")
    if (last_exclusive - first).days > DAYS_MAX[step]:
        raise InvalidInputError(f"at most {DAYS_MAX[step]} days by {step}")


def _days(first: date, last_exclusive: date) -> Iterator[date]:
    for number in range((last_exclusive - first).days):
        yield first + timedelta(days=number)


def _hours(day: date, used: Row | None, zone: ZoneInfo) -> list[UsagePoint]:
    """The hours as the day was settled; of a day without a document, those of the wall clock."""
    if used is None:
        return [UsagePoint(start, 0, 0, {}, estimated=False) for start in _hour_starts(day, zone)]
    return [
        UsagePoint(
            start=datetime.fromisoformat(hour["start"]),
            energy_wh=hour["energy_wh"],
            amount_fen=hour["amount_fen"],
            by_period=hour["by_period"],
            estimated=used["estimated"],
        )
        for hour in from_json(used["part"])
    ]


def _hour_starts(day: date, zone: ZoneInfo) -> list[datetime]:
    """The hours of a day that has 23, 24 or 25 of them, as a settled day has them."""
    grid = day_grid(day, zone, _NO_PERIODS, NO_HOLIDAYS)
    return [_local(start, zone) for start in grid.hour_starts]


def _local(at: datetime, zone: ZoneInfo) -> datetime:
    """With a fixed offset: hours that the clock shows twice stay apart when compared."""
    local = at.astimezone(zone)
    return local.replace(tzinfo=timezone(local.utcoffset() or timedelta()), fold=0)


def _sum_of(days: Sequence[date], used: Mapping[date, Row], zone: ZoneInfo) -> UsagePoint:
    found = [used[day] for day in days if day in used]
    return UsagePoint(
        start=_local(day_bounds(days[0], zone)[0], zone),
        energy_wh=sum(one["energy_wh"] for one in found),
        amount_fen=sum(one["amount_fen"] for one in found),
        by_period=_by_period(line for one in found for line in from_json(one["part"])),
        estimated=any(one["estimated"] for one in found),
    )


def _by_period(lines: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    split: dict[str, int] = {}
    for line in lines:
        if line["period"] is not None:
            split[line["period"]] = split.get(line["period"], 0) + line["energy_wh"]
    return split
