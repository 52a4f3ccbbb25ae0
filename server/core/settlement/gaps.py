"""The energy of a gap, by the meter's own registers of each period where they can be believed."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from server.core.calendar import HolidayCalendar, local_day
from server.core.errors import NotFoundError
from server.core.money import apportion
from server.core.settlement.grid import day_grid
from server.core.settlement.interval import MICROSECOND, MeterPath, rise_wh
from server.core.tariff.periods import TouPeriod
from server.core.tariff.versions import TariffVersion, version_on

# Six registers that show whole tens of watt-hours miss the true rise by less than 60 Wh together,
# and they are read one after the other: the rises of the periods may differ from the total's by
# twice that, or by a fiftieth of it, whichever is more.
DIFFER_WH = 120
DIFFER_PART = 50
# A longer gap goes by time.
LONGEST = timedelta(days=31)
_PLACES = {period: place for place, period in enumerate(TouPeriod)}


class Clock(NamedTuple):
    """Which period it is, as a tenancy's tariff says and its meter's registers follow."""

    zone: ZoneInfo
    versions: Sequence[TariffVersion]
    calendar: HolidayCalendar
    opened_at: datetime | None = None
    closed_at: datetime | None = None


class _Piece(NamedTuple):
    """A time of one period in a gap; `others_wh` went to other periods before it."""

    start: datetime
    period: TouPeriod
    lasted_us: int
    others_wh: int


@dataclass(frozen=True)
class GapSplit:
    """The energy of a gap by periods, in each of them even; `valid_from` is its clock's."""

    valid_from: date
    energy_wh: Mapping[TouPeriod, int]
    duration_us: Mapping[TouPeriod, int]
    pieces: Sequence[_Piece]

    def energy_until(self, at: datetime) -> int:
        """Watt-hours from the gap's start until an instant in it, floored in each period."""
        place = bisect_right(self.pieces, at, key=_start) - 1
        piece = self.pieces[place]
        lasted_us = piece.lasted_us + (at - piece.start) // MICROSECOND
        return piece.others_wh + self._part(piece.period, lasted_us)

    def _part(self, period: TouPeriod, lasted_us: int) -> int:
        return self.energy_wh[period] * lasted_us // self.duration_us[period]


def _start(piece: _Piece) -> datetime:
    return piece.start


def gap_split(path: MeterPath, number: int, clock: Clock) -> GapSplit | None:
    """How the energy before this reading goes by periods; None where registers do not tell.

    The clock is that of the tariff version valid when the gap began, whatever comes later, and a
    gap that is not one tenancy's alone goes by time: so all who share it find the same.
    """
    times, totals = path.curve
    since, until = times[number - 1], times[number]
    version = _version_at(since, clock)
    if since not in path.registers_wh or version is None:
        return None
    if until - since > LONGEST or not _is_one_tenancys(path, since, until, clock):
        return None
    durations = _durations(since, until, clock, version)
    rises = _believed_rises(path, number, durations)
    if not rises:
        return None
    parts = apportion(totals[number] - totals[number - 1], tuple(rises.values()))
    energy_wh = dict(zip(rises, parts, strict=True))
    pieces = tuple(_pieces(since, until, clock, version, energy_wh, durations))
    return GapSplit(version.valid_from, energy_wh, durations, pieces)


def _version_at(at: datetime, clock: Clock) -> TariffVersion | None:
    try:
        return version_on(clock.versions, local_day(at, clock.zone))
    except NotFoundError:
        return None


def _is_one_tenancys(path: MeterPath, since: datetime, until: datetime, clock: Clock) -> bool:
    began, ended = (clock.opened_at, path.installed_at), (clock.closed_at, path.removed_at)
    return all(at is None or at <= since for at in began) and all(
        at is None or until <= at for at in ended
    )


def _believed_rises(
    path: MeterPath, number: int, periods: Iterable[TouPeriod]
) -> dict[TouPeriod, int]:
    """How far the registers of these periods went; empty unless they add up to the total's rise."""
    offset, segment = 0, path.segments[0]
    for segment in path.segments:
        if number < offset + len(segment.readings):
            break
        offset += len(segment.readings)
    earlier, later = path.readings[number - 1], path.readings[number]
    before, after = path.registers_wh.get(earlier.read_at), path.registers_wh.get(later.read_at)
    begins = offset > 0 and number - 1 == offset  # by what an exchange said
    ends = number == offset + len(segment.readings) - 1 < len(path.readings) - 1
    if before is None or after is None or begins or ends:
        return {}
    rises = {}
    for period in periods:
        earlier_wh, later_wh = before[_PLACES[period]], after[_PLACES[period]]
        if earlier_wh is None or later_wh is None:
            return {}
        rises[period] = rise_wh(earlier_wh, later_wh, segment.rollover_wh)
    shown_wh = rise_wh(earlier.register_wh, later.register_wh, segment.rollover_wh)
    differ_wh = abs(sum(rises.values()) - shown_wh)
    believed = any(rises.values()) and differ_wh <= max(DIFFER_WH, shown_wh // DIFFER_PART)
    return rises if believed else {}


def _times(
    since: datetime, until: datetime, clock: Clock, version: TariffVersion
) -> Iterator[tuple[datetime, datetime, TouPeriod | None]]:
    """The cells of the clock between two instants."""
    day, last = local_day(since, clock.zone), local_day(until, clock.zone)
    while day <= last:
        grid = day_grid(day, clock.zone, version, clock.calendar)
        for place, period in enumerate(grid.periods):
            start, end = max(grid.edges[place], since), min(grid.edges[place + 1], until)
            if start < end:
                yield start, end, period
        day += timedelta(days=1)


def _durations(
    since: datetime, until: datetime, clock: Clock, version: TariffVersion
) -> dict[TouPeriod, int]:
    """How long each period lasts (µs); empty where the tariff has no periods."""
    durations: dict[TouPeriod, int] = {}
    for start, end, period in _times(since, until, clock, version):
        if period is None:
            return {}
        durations[period] = durations.get(period, 0) + (end - start) // MICROSECOND
    return durations


def _pieces(
    since: datetime,
    until: datetime,
    clock: Clock,
    version: TariffVersion,
    energy_wh: Mapping[TouPeriod, int],
    durations: Mapping[TouPeriod, int],
) -> Iterator[_Piece]:
    lasted_us, parts_wh = dict.fromkeys(energy_wh, 0), dict.fromkeys(energy_wh, 0)
    for start, end, period in _times(since, until, clock, version):
        if period is not None:
            others_wh = sum(parts_wh.values()) - parts_wh[period]
            yield _Piece(start, period, lasted_us[period], others_wh)
            lasted_us[period] += (end - start) // MICROSECOND
            parts_wh[period] = energy_wh[period] * lasted_us[period] // durations[period]
