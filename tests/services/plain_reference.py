"""What a shop owes, worked out by hand: the whole path of its meters, once, from the beginning.

As plain as it can be, and it shares nothing with the product: China's clock is eight hours ahead of
UTC all year, prices are whole micro-yuan per kWh, so a watt-hour costs whole nano-yuan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

AHEAD = timedelta(hours=8)
Reading = tuple[datetime, int]


@dataclass(frozen=True)
class Device:
    """One device of a meter: what it showed when, its first and last reading among them."""

    ratio: int
    rollover_wh: int
    readings: Sequence[Reading]


@dataclass(frozen=True)
class Price:
    """A tariff from a day on; blocks by the month: (up to so many Wh, price by name)."""

    valid_from: date
    spans: Sequence[tuple[int, int, str]]  # from hour, to hour, name
    blocks: Sequence[tuple[int | None, Mapping[str, int]]]


Meter = Sequence[Device]


def local_day(at: datetime) -> date:
    """The business day of an instant."""
    return (at.astimezone(UTC) + AHEAD).date()


def midnight(day: date) -> datetime:
    """When a business day begins."""
    return datetime.combine(day, time(), UTC) - AHEAD


def counted_wh(meter: Meter, at: datetime) -> int:
    """Since the meter was first read; between two readings in proportion to time."""
    total = 0
    for device in meter:
        for (before, before_wh), (after, after_wh) in pairwise(sorted(device.readings)):
            rise = (after_wh - before_wh) % device.rollover_wh * device.ratio
            if at >= after:
                total += rise
            elif at > before:
                total += rise * (at - before) // (after - before)
    return total


def bill(
    meters: Sequence[Meter],
    prices: Sequence[Price],
    opened_at: datetime,
    last: date,
    closed_at: datetime | None = None,
) -> dict[date, tuple[int, int]]:
    """Watt-hours and fen of every day from the opening through the last, or until the end."""
    days = {}
    end = midnight(last + timedelta(days=1)) if closed_at is None else closed_at
    day, used_wh = local_day(opened_at), 0
    while day <= last:
        used_wh = 0 if day.day == 1 else used_wh
        valid = [price for price in prices if price.valid_from <= day]
        price = max(valid, key=lambda one: one.valid_from)
        energy_wh = nano_yuan = 0
        for from_hour, to_hour, name in price.spans:
            since = min(end, max(opened_at, midnight(day) + timedelta(hours=from_hour)))
            until = min(end, max(opened_at, midnight(day) + timedelta(hours=to_hour)))
            left_wh = sum(counted_wh(one, until) - counted_wh(one, since) for one in meters)
            energy_wh += left_wh
            for up_to_wh, block in price.blocks:
                room_wh = left_wh if up_to_wh is None else max(0, up_to_wh - used_wh)
                part_wh = min(left_wh, room_wh)
                nano_yuan += part_wh * block[name]
                used_wh, left_wh = used_wh + part_wh, left_wh - part_wh
        days[day] = energy_wh, (nano_yuan + 5_000_000) // 10_000_000
        day += timedelta(days=1)
    return days
