"""An open day goes on: what new readings at its end add to its cells, without rating it anew.

The same as `settle_day` with all readings, bit by bit, where nothing but readings at the end is
new: energy between two readings depends on these two alone, and every amount on the cells alone.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from server.core.calendar import HolidayCalendar
from server.core.money import fen_from_nano_yuan
from server.core.settlement.grid import DayGrid, day_grid
from server.core.settlement.interval import MICROSECOND
from server.core.tariff.rating import amount_of_parts, part_prices
from server.core.tariff.versions import TariffVersion, block_period_start


class DayFrame(NamedTuple):
    """A whole local day as one tariff version cuts it, and prices its cells in each block."""

    day: date
    grid: DayGrid
    version: TariffVersion
    prices: tuple[tuple[int, ...], ...]

    @property
    def starts_at(self) -> datetime:
        """The first instant of the day."""
        return self.grid.edges[0]

    @property
    def ends_at(self) -> datetime:
        """The first instant of the next day."""
        return self.grid.edges[-1]


class DayLeft(NamedTuple):
    """A tenancy's newest open day as it was left; the tenancy lasts all day."""

    block_start_wh: int
    cells_wh: Sequence[int]
    estimated: bool


class MeterSteps(NamedTuple):
    """A meter's readings in order, from the one that the day was left at."""

    transformer_ratio: int
    rollover_wh: int
    read_ats: Sequence[datetime]
    registers_wh: Sequence[int]


class DayNow(NamedTuple):
    """An open day as it is now."""

    day: date
    block_start_wh: int
    cells_wh: list[int]
    energy_wh: int
    amount_fen: int
    estimated: bool
    has_later_reading: bool

    @property
    def complete(self) -> bool:
        """As of a settled day: nothing is awaited."""
        return self.has_later_reading and not self.estimated


@lru_cache(maxsize=4_096)
def day_frame(
    day: date, zone: ZoneInfo, version: TariffVersion, calendar: HolidayCalendar
) -> DayFrame:
    """The frame of this day."""
    grid = day_grid(day, zone, version, calendar)
    return DayFrame(day, grid, version, part_prices(version, grid.periods))


def may_go_on(frame: DayFrame, left_at: Sequence[datetime], opened_at: datetime) -> bool:
    """Whether a day that was left at these readings of its meters depends on none before them.

    It is a whole day of the tenancy's, and all of them are its own.
    """
    starts_at, ends_at = frame.starts_at, frame.ends_at
    return bool(left_at) and opened_at <= starts_at <= min(left_at) and max(left_at) < ends_at


def has_gap(meters: Sequence[MeterSteps], gap: timedelta) -> bool:
    """Whether two neighbours among the new readings are further apart than `gap`."""
    for meter in meters:
        before = meter.read_ats[0]
        for at in meter.read_ats[1:]:
            if at - before > gap:
                return True
            before = at
    return False


def cells_between(frame: DayFrame, since: datetime, until: datetime) -> tuple[int, int]:
    """The cells that energy used in this time belongs to: the first, and the one behind them."""
    edges = frame.grid.edges
    return bisect_right(edges, since) - 1, min(bisect_left(edges, until), len(edges) - 1)


def go_on(frame: DayFrame, left: DayLeft, meters: Sequence[MeterSteps]) -> DayNow:
    """The day with the new readings' energy in its cells."""
    cells = list(left.cells_wh)
    for meter in meters:
        _add(cells, frame, meter)
    return _day_now(frame, left.block_start_wh, cells, meters, estimated=left.estimated)


def begin_next(frame: DayFrame, before: DayNow, meters: Sequence[MeterSteps]) -> DayNow:
    """The day behind it, of the same tariff version, begun by the same readings without a gap."""
    since = block_period_start(frame.version, frame.day)
    fresh = since is None or since == frame.day
    block_start_wh = 0 if fresh else before.block_start_wh + before.energy_wh
    cells = [0] * len(frame.grid.periods)
    for meter in meters:
        _add(cells, frame, meter)
    return _day_now(frame, block_start_wh, cells, meters, estimated=False)


def _day_now(
    frame: DayFrame,
    block_start_wh: int,
    cells: list[int],
    meters: Sequence[MeterSteps],
    *,
    estimated: bool,
) -> DayNow:
    amount = amount_of_parts(cells, frame.prices, frame.version, block_start_wh=block_start_wh)
    ends_at = frame.grid.edges[-1]
    return DayNow(
        day=frame.day,
        block_start_wh=block_start_wh,
        cells_wh=cells,
        energy_wh=sum(cells),
        amount_fen=fen_from_nano_yuan(amount),
        estimated=estimated,
        has_later_reading=all(meter.read_ats[-1] >= ends_at for meter in meters),
    )


def _add(cells: list[int], frame: DayFrame, meter: MeterSteps) -> None:
    ratio, rollover_wh, read_ats, registers_wh = meter
    edges = frame.grid.edges
    for number in range(1, len(read_ats)):
        rise = (registers_wh[number] - registers_wh[number - 1]) % rollover_wh * ratio
        if rise:
            _spread(cells, edges, read_ats[number - 1], read_ats[number], rise)


def _spread(
    cells: list[int], edges: Sequence[datetime], since: datetime, until: datetime, rise_wh: int
) -> None:
    """Give each cell its part of a rise: floored at each edge, as the whole curve is."""
    cell, before = bisect_right(edges, since) - 1, 0
    whole = (until - since) // MICROSECOND
    if cell < 0:
        cell = 0
        passed = min(edges[0] - since, until - since) // MICROSECOND
        before = rise_wh * passed // whole
    while cell < len(cells):
        edge = edges[cell + 1]
        if edge >= until:
            cells[cell] += rise_wh - before
            return
        part = rise_wh * ((edge - since) // MICROSECOND) // whole
        cells[cell] += part - before
        before, cell = part, cell + 1
