"""Days, their kinds and their edges in a site's timezone; spans of minutes of the wall clock."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from reprlib import repr as short_repr
from typing import NamedTuple
from zoneinfo import ZoneInfo

from server.core.errors import InvalidInputError

MINUTES_PER_DAY = 1_440
_HOUR = timedelta(hours=1)
_SECOND = timedelta(seconds=1)
_SPAN = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", re.ASCII)


class DayType(StrEnum):
    """What a tariff or a supply policy may ask of a day."""

    WORKDAY = "workday"
    WEEKEND = "weekend"
    HOLIDAY = "holiday"


@dataclass(frozen=True)
class HolidayCalendar:
    """Public holidays and moved workdays of the years from `first_year` to `last_year`."""

    holidays: frozenset[date]
    moved_workdays: frozenset[date]
    first_year: int
    last_year: int

    def knows(self, day: date) -> bool:
        """Whether the holidays of this day's year are known."""
        return self.first_year <= day.year <= self.last_year

    @property
    def first_unknown_day(self) -> date:
        """The day from which on no holidays are known."""
        return date(self.last_year + 1, 1, 1)

    def day_type(self, day: date) -> DayType:
        """Holiday beats weekend, a moved workday is a workday; unknown years have no holidays."""
        if self.knows(day):
            if day in self.holidays:
                return DayType.HOLIDAY
            if day in self.moved_workdays:
                return DayType.WORKDAY
        return DayType.WEEKEND if day.weekday() >= 5 else DayType.WORKDAY


NO_HOLIDAYS = HolidayCalendar(frozenset(), frozenset(), first_year=1, last_year=0)


class MinuteSpan(NamedTuple):
    """Minutes of the wall clock, half-open; wraps over midnight where start is behind end."""

    start: int
    end: int

    def contains(self, minute: int) -> bool:
        """Whether a minute of the day (0 to 1439) lies inside."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def parse_span(text: str, *, may_wrap: bool) -> MinuteSpan:
    """The minutes of a span such as "08:00-24:00"; raises InvalidInputError."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"not a span such as 08:00-24:00: {short_repr(text)}")
    start_hour, start_minute, end_hour, end_minute = (int(part) for part in match.groups())
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    if max(start_minute, end_minute) > 59 or start >= MINUTES_PER_DAY or end > MINUTES_PER_DAY:
        raise InvalidInputError(f"no such time of day: {short_repr(text)}")
    if start == end:
        raise InvalidInputError(
            f"ends where it starts (the whole day is 00:00-24:00): {short_repr(text)}"
        )
    if start > end and not may_wrap:
        raise InvalidInputError(f"ends before it starts: {short_repr(text)}")
    return MinuteSpan(start, end)


def minute_text(minute: int) -> str:
    """A minute of the day as HH:MM; 1440 is 24:00."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def local_day(at: datetime, zone: ZoneInfo) -> date:
    """The site's calendar day at this instant."""
    return at.astimezone(zone).date()


def minute_of_day(local: datetime) -> int:
    """The wall clock's minute of a local time."""
    return local.hour * 60 + local.minute


@lru_cache(maxsize=4_096)
def day_bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The first instant of the local day and the first of the next, in UTC."""
    return _first_instant(day, zone), _first_instant(day + timedelta(days=1), zone)


def _first_instant(day: date, zone: ZoneInfo) -> datetime:
    midnight = datetime.combine(day, time.min, tzinfo=zone)
    first = midnight.astimezone(UTC)
    if local_day(first - _SECOND, zone) < day:
        return first
    # A clock put forward over midnight (23:30 to 00:30): the day starts at the jump itself.
    return _first_where(midnight.replace(fold=1).astimezone(UTC), first, day, zone)


def _first_where(low: datetime, high: datetime, day: date, zone: ZoneInfo) -> datetime:
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if local_day(middle, zone) < day:
            low = middle
        else:
            high = middle
    return high


class WallCut(NamedTuple):
    """An instant inside a day and the wall clock's minute from there on."""

    at: datetime
    minute: int


@lru_cache(maxsize=4_096)
def wall_cuts(day: date, zone: ZoneInfo, minutes: tuple[int, ...]) -> tuple[WallCut, ...]:
    """Where the day starts, where its clock shows one of `minutes`, and where its clock is set.

    A minute that the clock skips has no cut of its own, one that it shows twice has two.
    """
    cuts: list[WallCut] = []
    for start, end in _steady_pieces(*day_bounds(day, zone), zone):
        first = minute_of_day(start.astimezone(zone))
        cuts.append(WallCut(start, first))
        instants = ((start + timedelta(minutes=m - first), m) for m in minutes if m > first)
        cuts.extend(WallCut(at, m) for at, m in instants if at < end)
    return tuple(cuts)


def _steady_pieces(
    start: datetime, end: datetime, zone: ZoneInfo
) -> Iterator[tuple[datetime, datetime]]:
    """The parts of [start, end) in which the clock is not set."""
    if start >= end:
        return
    piece = at = start
    while at < end:
        ahead = min(at + _HOUR, end - _SECOND)
        if ahead > at and _offset(ahead, zone) != _offset(at, zone):
            at = _offset_change(at, ahead, zone)
            yield piece, at
            piece = at
        else:
            at += _HOUR
    yield piece, end


def _offset(at: datetime, zone: ZoneInfo) -> timedelta | None:
    return at.astimezone(zone).utcoffset()


def _offset_change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first second after `low` with another offset; timezones change on whole seconds."""
    before = _offset(low, zone)
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return high
