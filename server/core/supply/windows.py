"""The times at which nobody may be disconnected, on the wall clock of the site."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from server.core.calendar import (
    DayType,
    HolidayCalendar,
    MinuteSpan,
    WallCut,
    local_day,
    minute_of_day,
    parse_span,
    wall_cuts,
)
from server.core.supply.reasons import Reason

WEEKEND_ITEM = "weekend"
HOLIDAY_ITEM = "holiday"
LOOK_AHEAD_DAYS = 35  # longer than any row of holidays; what lies behind is looked at again then


@dataclass(frozen=True, slots=True)
class Windows:
    """A policy's `no_disconnect`, parsed; `edges` are the minutes at which a day may change."""

    spans: tuple[MinuteSpan, ...]
    weekend: bool
    holiday: bool
    edges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Whose wall clock and whose holidays."""

    zone: ZoneInfo
    calendar: HolidayCalendar


def parse_no_disconnect_item(item: str) -> MinuteSpan | None:
    """The span of "20:00-09:00"; None for "weekend" and "holiday"; raises InvalidInputError."""
    return None if item in {WEEKEND_ITEM, HOLIDAY_ITEM} else parse_span(item, may_wrap=True)


@lru_cache(maxsize=256)
def windows(no_disconnect: tuple[str, ...]) -> Windows:
    """The windows of a policy's items."""
    parsed = (parse_no_disconnect_item(item) for item in no_disconnect)
    spans = tuple(span for span in parsed if span is not None)
    return Windows(
        spans=spans,
        weekend=WEEKEND_ITEM in no_disconnect,
        holiday=HOLIDAY_ITEM in no_disconnect,
        edges=tuple(sorted({edge for span in spans for edge in span})),
    )


def reasons_at(at: datetime, rules: Windows, place: Place) -> tuple[Reason, ...]:
    """Why nobody may be disconnected at this instant; empty where one may."""
    local = at.astimezone(place.zone)
    return _reasons(minute_of_day(local), local_day(at, place.zone), rules, place)


def next_change_at(at: datetime, rules: Windows, place: Place) -> datetime | None:
    """The next instant with other reasons than this one; None where they never change.

    Where nothing changes for LOOK_AHEAD_DAYS it is the end of that time: look again then.
    """
    if not (rules.spans or rules.weekend or rules.holiday):
        return None
    now = reasons_at(at, rules, place)
    day = local_day(at, place.zone)
    for cut_day, cut in _cuts_from(at, rules, place):
        if _reasons(cut.minute, cut_day, rules, place) != now:
            return cut.at
    horizon = day + timedelta(days=LOOK_AHEAD_DAYS)
    return wall_cuts(horizon, place.zone, ())[0].at


def first_free_at(at: datetime, rules: Windows, place: Place) -> datetime | None:
    """The first instant from this one on at which one may be disconnected, if soon enough."""
    if not reasons_at(at, rules, place):
        return at
    for cut_day, cut in _cuts_from(at, rules, place):
        if not _reasons(cut.minute, cut_day, rules, place):
            return cut.at
    return None


def _cuts_from(at: datetime, rules: Windows, place: Place) -> Iterator[tuple[date, WallCut]]:
    """The instants after this one at which reasons may change, in order, with their day."""
    first = local_day(at, place.zone)
    for ahead in range(LOOK_AHEAD_DAYS):
        day = first + timedelta(days=ahead)
        for cut in wall_cuts(day, place.zone, rules.edges):
            if cut.at > at:
                yield day, cut


def _reasons(minute: int, day: date, rules: Windows, place: Place) -> tuple[Reason, ...]:
    reasons: list[Reason] = []
    if any(span.contains(minute) for span in rules.spans):
        reasons.append(Reason.QUIET_HOURS)
    if rules.weekend or rules.holiday:
        reasons.extend(_day_reasons(day, rules, place.calendar))
    return tuple(reasons)


def _day_reasons(day: date, rules: Windows, calendar: HolidayCalendar) -> Iterator[Reason]:
    kind = calendar.day_type(day)
    # A Saturday inside a holiday is a weekend all the same; a moved workday never is.
    if rules.weekend and day.weekday() >= 5 and kind is not DayType.WORKDAY:
        yield Reason.WEEKEND
    if rules.holiday and kind is DayType.HOLIDAY:
        yield Reason.HOLIDAY
    if rules.holiday and not calendar.knows(day):
        yield Reason.HOLIDAYS_UNKNOWN
