"""What energy costs: explained lines, exact in nano-yuan."""

from collections.abc import Sequence
from datetime import date, datetime
from itertools import groupby
from operator import mul
from typing import NamedTuple
from zoneinfo import ZoneInfo

from server.core.calendar import HolidayCalendar, day_bounds, minute_of_day, wall_cuts
from server.core.errors import InvalidInputError
from server.core.tariff.periods import PeriodSpan, TouPeriod
from server.core.tariff.versions import TariffVersion, block_prices


class RatedLine(NamedTuple):
    """Energy of one block and one period, at one price."""

    period: TouPeriod | None
    block: int
    price_micro_yuan: int
    energy_wh: int
    amount_nano_yuan: int


class Rating(NamedTuple):
    """Lines in order of block and period, and their sum."""

    lines: tuple[RatedLine, ...]
    amount_nano_yuan: int


class PriceNow(NamedTuple):
    """The price of the next watt-hour."""

    period: TouPeriod | None
    price_micro_yuan: int


class PricedParts(NamedTuple):
    """A rating together with the amount of each part that was handed in."""

    rating: Rating
    amounts_nano_yuan: list[int]


def rate_parts(
    energies_wh: Sequence[int],
    periods: Sequence[TouPeriod | None],
    version: TariffVersion,
    *,
    block_start_wh: int,
) -> PricedParts:
    """The charge for parts in time order, the earlier filling the lower blocks first.

    A part's period is None where the price does not depend on the time.
    """
    if min((block_start_wh, *energies_wh)) < 0:
        raise InvalidInputError("energy is never negative")
    prices = block_prices(version)
    energy_by_line: dict[tuple[int, TouPeriod | None], int] = {}
    amounts: list[int] = []
    block, left_wh = _block_at(version, block_start_wh)
    for energy_wh, period in zip(energies_wh, periods, strict=True):
        amount, rest_wh = 0, energy_wh
        while rest_wh:
            if left_wh == 0:
                block, left_wh = block + 1, _block_size(version, block + 1)
            part_wh = rest_wh
            if left_wh is not None:
                part_wh = min(rest_wh, left_wh)
                left_wh -= part_wh
            line = (block, period)
            energy_by_line[line] = energy_by_line.get(line, 0) + part_wh
            amount += part_wh * _price(prices, line)
            rest_wh -= part_wh
        amounts.append(amount)
    return PricedParts(_rating(energy_by_line, prices), amounts)


def part_prices(
    version: TariffVersion, periods: Sequence[TouPeriod | None]
) -> tuple[tuple[int, ...], ...]:
    """Micro-yuan per kWh of parts in these periods, for each block."""
    prices = block_prices(version)
    return tuple(
        tuple(_price(prices, (block, period)) for period in periods) for block in range(len(prices))
    )


def amount_of_parts(
    energies_wh: Sequence[int],
    prices: Sequence[Sequence[int]],
    version: TariffVersion,
    *,
    block_start_wh: int,
) -> int:
    """The nano-yuan of `rate_parts`, with the parts' prices at hand and nothing explained."""
    if min((block_start_wh, *energies_wh)) < 0:
        raise InvalidInputError("energy is never negative")
    if len(prices) == 1:
        return sum(map(mul, energies_wh, prices[0]))
    amount = 0
    block, left_wh = _block_at(version, block_start_wh)
    for part, energy_wh in enumerate(energies_wh):
        rest_wh = energy_wh
        while left_wh is not None and rest_wh > left_wh:
            amount += left_wh * prices[block][part]
            rest_wh -= left_wh
            block, left_wh = block + 1, _block_size(version, block + 1)
        amount += rest_wh * prices[block][part]
        left_wh = None if left_wh is None else left_wh - rest_wh
    return amount


def _rating(
    energy_by_line: dict[tuple[int, TouPeriod | None], int],
    prices: tuple[dict[TouPeriod | None, int], ...],
) -> Rating:
    lines = [
        RatedLine(period, block, prices[block][period], wh, wh * prices[block][period])
        for (block, period), wh in energy_by_line.items()
    ]
    lines.sort(key=_line_order)
    return Rating(tuple(lines), sum(line.amount_nano_yuan for line in lines))


_PERIOD_ORDER: dict[TouPeriod | None, int] = {
    period: order for order, period in enumerate((None, *TouPeriod))
}


def _line_order(line: RatedLine) -> tuple[int, int]:
    return line.block, _PERIOD_ORDER[line.period]


def _price(
    prices: tuple[dict[TouPeriod | None, int], ...], line: tuple[int, TouPeriod | None]
) -> int:
    block, period = line
    try:
        return prices[block][period]
    except KeyError:
        raise InvalidInputError(f"the tariff has no price for {period or 'a whole day'}") from None


def _block_at(version: TariffVersion, used_wh: int) -> tuple[int, int | None]:
    """The block of the next watt-hour, and how much still goes into it (None: no end)."""
    for number, block in enumerate(version.blocks):
        if block.up_to_wh is None:
            return number, None
        if used_wh < block.up_to_wh:
            return number, block.up_to_wh - used_wh
    raise InvalidInputError("the last block must be without end")


def _block_size(version: TariffVersion, number: int) -> int | None:
    up_to_wh, from_wh = version.blocks[number].up_to_wh, version.blocks[number - 1].up_to_wh
    if up_to_wh is None or from_wh is None:
        return None
    return up_to_wh - from_wh


def price_at(
    version: TariffVersion, at: datetime, calendar: HolidayCalendar, block_start_wh: int
) -> PriceNow:
    """The price at this local time for who has used `block_start_wh` in the block period."""
    if at.utcoffset() is None:
        raise InvalidInputError("a local time must know its timezone")
    period = period_at(version.spans(at.date(), calendar), minute_of_day(at))
    block, _ = _block_at(version, block_start_wh)
    return PriceNow(period, _price(block_prices(version), (block, period)))


def period_at(spans: Sequence[PeriodSpan], minute: int) -> TouPeriod | None:
    """The period of a minute of the day; None where the day has no periods."""
    for span in spans:
        if span.start_minute <= minute < span.end_minute:
            return span.period
    return None


def boundaries(
    version: TariffVersion, day: date, zone: ZoneInfo, calendar: HolidayCalendar
) -> tuple[datetime, ...]:
    """The day's ends and the instants between them at which the period changes, in UTC."""
    _, end = day_bounds(day, zone)
    spans = version.spans(day, calendar)
    cuts = wall_cuts(day, zone, tuple(span.start_minute for span in spans))
    periods = groupby(cuts, key=lambda cut: period_at(spans, cut.minute))
    return (*(next(same).at for _, same in periods), end)
