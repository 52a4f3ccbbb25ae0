"""A local day cut into cells that lie in one hour and in one period each."""

from datetime import date, datetime
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from server.core.calendar import MINUTES_PER_DAY, HolidayCalendar, day_bounds, wall_cuts
from server.core.tariff.periods import TouPeriod
from server.core.tariff.rating import period_at
from server.core.tariff.versions import TariffVersion

_FULL_HOURS = range(0, MINUTES_PER_DAY, 60)


class DayGrid(NamedTuple):
    """Cell i runs from edges[i] to edges[i + 1] (UTC) and lies in periods[i] and hours[i]."""

    edges: tuple[datetime, ...]
    periods: tuple[TouPeriod | None, ...]
    hours: tuple[int, ...]
    hour_starts: tuple[datetime, ...]


@lru_cache(maxsize=4_096)
def day_grid(
    day: date, zone: ZoneInfo, version: TariffVersion, calendar: HolidayCalendar
) -> DayGrid:
    """The cells of this day; an hour that the clock repeats is an hour of its own."""
    spans = version.spans(day, calendar)
    minutes = sorted({*_FULL_HOURS, *(span.start_minute for span in spans)})
    cuts = wall_cuts(day, zone, tuple(minutes))
    hours: list[int] = []
    hour_starts: list[datetime] = []
    minute_before = -1
    for cut in cuts:
        if cut.minute % 60 == 0 or cut.minute // 60 != minute_before // 60:
            hour_starts.append(cut.at)
        hours.append(len(hour_starts) - 1)
        minute_before = cut.minute
    return DayGrid(
        edges=(*(cut.at for cut in cuts), day_bounds(day, zone)[1]),
        periods=tuple(period_at(spans, cut.minute) for cut in cuts),
        hours=tuple(hours),
        hour_starts=tuple(hour_starts),
    )
