"""One business day of one tenancy: a pure function of its readings, tariff and calendar."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from server.core.calendar import DayType, HolidayCalendar, day_bounds
from server.core.errors import InvalidInputError
from server.core.money import apportion, fen_from_nano_yuan
from server.core.settlement.grid import DayGrid, day_grid
from server.core.settlement.interval import MeterPath, TrustedReading, energies_until
from server.core.tariff.periods import TouPeriod
from server.core.tariff.rating import RatedLine, rate_parts
from server.core.tariff.versions import TariffVersion


class StatementLine(NamedTuple):
    """A rated line and its share of the day's rounded amount."""

    period: TouPeriod | None
    block: int
    price_micro_yuan: int
    energy_wh: int
    amount_nano_yuan: int
    amount_fen: int


class HourUsage(NamedTuple):
    """One hour of the wall clock; `by_period` names only periods with energy."""

    start: datetime
    energy_wh: int
    amount_fen: int
    by_period: tuple[tuple[TouPeriod | None, int], ...]


class DeviceDay(NamedTuple):
    """A device's part of the day: the readings at its edges, none where it has none.

    What an exchange says of it is its last (or first) reading.
    """

    transformer_ratio: int
    rollover_wh: int
    starts_at: datetime
    ends_at: datetime
    first: TrustedReading | None
    last: TrustedReading | None
    reading_count: int
    energy_wh: int
    has_gap: bool
    began_by_exchange: bool
    ended_by_exchange: bool


class MeterDay(NamedTuple):
    """A meter's part of the day: that of each of its devices, in their order."""

    meter_id: int
    meter_code: str
    devices: tuple[DeviceDay, ...]
    energy_wh: int
    has_later_reading: bool

    @property
    def has_gap(self) -> bool:
        """Whether two neighbouring readings lie too far apart."""
        return any(device.has_gap for device in self.devices)

    @property
    def last(self) -> TrustedReading | None:
        """The newest reading that the day was made from."""
        return self.devices[-1].last


@dataclass(frozen=True)
class DaySettlement:
    """A day with its working. `starts_at` and `ends_at` are the tenancy's part of the day (UTC)."""

    day: date
    zone: ZoneInfo
    day_type: DayType
    holidays_known: bool
    starts_at: datetime
    ends_at: datetime
    block_start_wh: int
    gap_s: int
    energy_wh: int
    amount_nano_yuan: int
    amount_fen: int
    lines: tuple[StatementLine, ...]
    hours: tuple[HourUsage, ...]
    readings: tuple[MeterDay, ...]
    estimated: bool
    has_later_reading: bool
    settled_until: datetime | None

    @property
    def complete(self) -> bool:
        """Whether nothing is awaited: every meter was read at or after the end, without a gap."""
        return self.has_later_reading and not self.estimated


def settle_day(  # noqa: PLR0913 - the whole list of what a charge depends on
    day: date,
    zone: ZoneInfo,
    paths: Sequence[MeterPath],
    version: TariffVersion,
    calendar: HolidayCalendar,
    *,
    block_start_wh: int,
    gap_s: int,
    opened_at: datetime | None = None,
    closed_at: datetime | None = None,
) -> DaySettlement:
    """The day as far as its readings go; readings beyond those at its edges change nothing.

    Each path should reach from the last reading at or before the day's start to the first at or
    after its end; before a meter's first reading it has used nothing.
    """
    starts_at, ends_at = _window(day, zone, opened_at, closed_at)
    grid = day_grid(day, zone, version, calendar)
    gap = timedelta(seconds=gap_s)
    energies = [0] * len(grid.periods)
    meters: list[MeterDay] = []
    for path in paths:
        part = _part(path, starts_at, ends_at)
        if part is None:
            continue
        since, until = part
        edges = [min(max(edge, since), until) for edge in grid.edges]
        totals = energies_until(path, edges)
        energies = [
            energy + later - earlier
            for energy, (earlier, later) in zip(energies, pairwise(totals), strict=True)
        ]
        meters.append(_meter_day(path, since, until, gap))
    priced = rate_parts(energies, grid.periods, version, block_start_wh=block_start_wh)
    amount_fen = fen_from_nano_yuan(priced.rating.amount_nano_yuan)
    return DaySettlement(
        day=day,
        zone=zone,
        day_type=calendar.day_type(day),
        holidays_known=calendar.knows(day),
        starts_at=starts_at,
        ends_at=ends_at,
        block_start_wh=block_start_wh,
        gap_s=gap_s,
        energy_wh=sum(energies),
        amount_nano_yuan=priced.rating.amount_nano_yuan,
        amount_fen=amount_fen,
        lines=_statement_lines(priced.rating.lines, amount_fen),
        hours=_hours(grid, energies, priced.amounts_nano_yuan, amount_fen),
        readings=tuple(meters),
        estimated=any(meter.has_gap for meter in meters),
        has_later_reading=all(meter.has_later_reading for meter in meters),
        settled_until=max((m.last.read_at for m in meters if m.last), default=None),
    )


def _window(
    day: date, zone: ZoneInfo, opened_at: datetime | None, closed_at: datetime | None
) -> tuple[datetime, datetime]:
    """The part of the day in which the tenancy lasted; empty, at one end, where it did not."""
    day_start, day_end = day_bounds(day, zone)
    if opened_at is not None and closed_at is not None and closed_at < opened_at:
        raise InvalidInputError("a tenancy ends before it begins")
    starts_at = day_start if opened_at is None else min(max(opened_at, day_start), day_end)
    ends_at = day_end if closed_at is None else max(min(closed_at, day_end), day_start)
    return min(starts_at, ends_at), ends_at


def _part(
    path: MeterPath, starts_at: datetime, ends_at: datetime
) -> tuple[datetime, datetime] | None:
    """The part of the day in which the meter was the shop's, if it was."""
    installed_at, removed_at = path.installed_at, path.removed_at
    if installed_at is not None:
        if installed_at >= ends_at:
            return None
        starts_at = max(starts_at, installed_at)
    if removed_at is not None:
        if removed_at <= starts_at:
            return None
        ends_at = min(ends_at, removed_at)
    return starts_at, ends_at


def _meter_day(path: MeterPath, since: datetime, until: datetime, gap: timedelta) -> MeterDay:
    """The working, from the last reading at or before `since` to the first at or after `until`."""
    times = path.curve.times
    first = max(bisect_right(times, since) - 1, 0)
    end = bisect_left(times, until) + 1
    devices: list[DeviceDay] = []
    offset, ends = 0, len(path.segments) - 1
    for number, segment in enumerate(path.segments):
        used = segment.readings[max(first - offset, 0) : max(end - offset, 0)]
        if used or (number == ends and not devices):
            devices.append(_device_day(path, number, used, since, until, gap))
        offset += len(segment.readings)
    last_read_at = devices[-1].last and devices[-1].last.read_at
    return MeterDay(
        meter_id=path.meter_id,
        meter_code=path.meter_code,
        devices=tuple(devices),
        energy_wh=sum(device.energy_wh for device in devices),
        has_later_reading=last_read_at is not None and last_read_at >= until,
    )


def _device_day(
    path: MeterPath,
    number: int,
    used: tuple[TrustedReading, ...],
    since: datetime,
    until: datetime,
    gap: timedelta,
) -> DeviceDay:
    segment, is_last = path.segments[number], number == len(path.segments) - 1
    starts_at = max(since, segment.readings[0].read_at) if number else since
    ends_at = until if is_last else min(until, segment.readings[-1].read_at)
    earlier_wh, later_wh = energies_until(path, (starts_at, ends_at))
    return DeviceDay(
        transformer_ratio=segment.transformer_ratio,
        rollover_wh=segment.rollover_wh,
        starts_at=starts_at,
        ends_at=ends_at,
        first=used[0] if used else None,
        last=used[-1] if used else None,
        reading_count=len(used),
        energy_wh=later_wh - earlier_wh,
        has_gap=any(later[0] - earlier[0] > gap for earlier, later in pairwise(used)),
        began_by_exchange=number > 0 and used[:1] == segment.readings[:1],
        ended_by_exchange=not is_last and used[-1:] == segment.readings[-1:],
    )


def _statement_lines(lines: tuple[RatedLine, ...], amount_fen: int) -> tuple[StatementLine, ...]:
    if not lines:
        return ()
    shares = apportion(amount_fen, tuple(line.amount_nano_yuan for line in lines))
    return tuple(StatementLine(*line, share) for line, share in zip(lines, shares, strict=True))


def _hours(
    grid: DayGrid, energies: Sequence[int], amounts: Sequence[int], amount_fen: int
) -> tuple[HourUsage, ...]:
    count = len(grid.hour_starts)
    if count == 0:
        return ()
    nano_yuan = [0] * count
    by_period: list[dict[TouPeriod | None, int]] = [{} for _ in range(count)]
    for energy_wh, amount, hour, period in zip(
        energies, amounts, grid.hours, grid.periods, strict=True
    ):
        if energy_wh:
            nano_yuan[hour] += amount
            by_period[hour][period] = by_period[hour].get(period, 0) + energy_wh
    shares = apportion(amount_fen, tuple(nano_yuan))
    return tuple(
        HourUsage(start, sum(split.values()), share, tuple(split.items()))
        for start, split, share in zip(grid.hour_starts, by_period, shares, strict=True)
    )
