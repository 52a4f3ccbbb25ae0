"""One business day of one tenancy: a pure function of its readings, tariff and calendar."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property, partial
from operator import add, sub
from typing import NamedTuple
from zoneinfo import ZoneInfo

from server.core.calendar import DayType, HolidayCalendar, day_bounds
from server.core.errors import InvalidInputError
from server.core.money import apportion, fen_from_nano_yuan
from server.core.settlement.gaps import Clock
from server.core.settlement.grid import DayGrid, day_grid
from server.core.settlement.interval import MeterPath
from server.core.settlement.meter_day import MeterDay, MeterPart, meter_day, meter_part
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


_as_hour = partial(tuple.__new__, HourUsage)  # as `_make`, without a call of Python's each


class Charge(NamedTuple):
    """What a day's energy costs, rounded once, and how that comes about."""

    amount_nano_yuan: int
    amount_fen: int
    lines: tuple[StatementLine, ...]
    hours: tuple[HourUsage, ...]


@dataclass(frozen=True)
class DaySettlement:
    """A day with its working. `starts_at` and `ends_at` are the tenancy's part of the day (UTC).

    `cells_wh` are its energies by cell of `day_grid`.
    """

    day: date
    zone: ZoneInfo
    day_type: DayType
    holidays_known: bool
    starts_at: datetime
    ends_at: datetime
    block_start_wh: int
    gap_s: int
    cells_wh: tuple[int, ...]
    energy_wh: int
    amount_nano_yuan: int
    amount_fen: int
    lines: tuple[StatementLine, ...]
    hours: tuple[HourUsage, ...]
    readings: tuple[MeterDay, ...]

    @cached_property
    def estimated(self) -> bool:
        """Whether two neighbouring readings of a meter lie too far apart."""
        return any(meter.has_gap for meter in self.readings)

    @cached_property
    def has_later_reading(self) -> bool:
        """Whether every meter was read at or after the end."""
        return all(meter.has_later_reading for meter in self.readings)

    @property
    def settled_until(self) -> datetime | None:
        """The newest reading that the day was made from."""
        return max((meter.last.read_at for meter in self.readings if meter.last), default=None)

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
    versions: Sequence[TariffVersion] = (),
) -> DaySettlement:
    """The day as far as its readings go; readings beyond those at its edges change nothing.

    `versions` are all of this tariff, for a gap that began under an earlier one. Each path should
    reach from the last reading at or before the day's start to the first at or after its end;
    before a meter's first reading it has used nothing.
    """
    starts_at, ends_at = _window(day, zone, opened_at, closed_at)
    grid = day_grid(day, zone, version, calendar)
    gap = timedelta(seconds=gap_s)
    clock = Clock(zone, versions or (version,), calendar, opened_at, closed_at)
    parts = (meter_part(path, starts_at, ends_at, gap, clock) for path in paths)
    cells_wh, meters = _metered(grid, (part for part in parts if part is not None))
    charge = charge_cells(grid, cells_wh, version, block_start_wh=block_start_wh)
    return DaySettlement(
        day=day,
        zone=zone,
        day_type=calendar.day_type(day),
        holidays_known=calendar.knows(day),
        starts_at=starts_at,
        ends_at=ends_at,
        block_start_wh=block_start_wh,
        gap_s=gap_s,
        cells_wh=tuple(cells_wh),
        energy_wh=sum(cells_wh),
        amount_nano_yuan=charge.amount_nano_yuan,
        amount_fen=charge.amount_fen,
        lines=charge.lines,
        hours=charge.hours,
        readings=tuple(meters),
    )


def _metered(grid: DayGrid, parts: Iterable[MeterPart]) -> tuple[list[int], list[MeterDay]]:
    """The energies of the day's cells, and what each meter has of them."""
    cells_wh = [0] * len(grid.periods)
    meters: list[MeterDay] = []
    for part in parts:
        totals = part.energies_until(_edges_in(grid, part))
        cells_wh = list(map(add, cells_wh, map(sub, totals[1:], totals)))
        meters.append(meter_day(part, totals[-1] - totals[0]))
    return cells_wh, meters


def _edges_in(grid: DayGrid, part: MeterPart) -> Sequence[datetime]:
    """The edges of the day's cells, none outside the part."""
    since, until, edges = part.since, part.until, grid.edges
    if since <= edges[0] and edges[-1] <= until:
        return edges
    return [min(max(edge, since), until) for edge in edges]


def charge_cells(
    grid: DayGrid, cells_wh: Sequence[int], version: TariffVersion, *, block_start_wh: int
) -> Charge:
    """What the energy of a day's cells costs, explained."""
    priced = rate_parts(cells_wh, grid.periods, version, block_start_wh=block_start_wh)
    amount_nano_yuan = priced.rating.amount_nano_yuan
    amount_fen = fen_from_nano_yuan(amount_nano_yuan)
    return Charge(
        amount_nano_yuan=amount_nano_yuan,
        amount_fen=amount_fen,
        lines=_statement_lines(priced.rating.lines, amount_fen),
        hours=_hours(grid, cells_wh, priced.amounts_nano_yuan, amount_fen),
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
    nano_yuan, wh = [0] * count, [0] * count
    by_period: list[dict[TouPeriod | None, int]] = [{} for _ in range(count)]
    for energy_wh, amount, hour, period in zip(
        energies, amounts, grid.hours, grid.periods, strict=True
    ):
        if energy_wh:
            nano_yuan[hour] += amount
            wh[hour] += energy_wh
            split = by_period[hour]
            split[period] = split.get(period, 0) + energy_wh
    shares = apportion(amount_fen, tuple(nano_yuan))
    periods = [tuple(split.items()) for split in by_period]
    return tuple(map(_as_hour, zip(grid.hour_starts, wh, shares, periods, strict=True)))
