"""Load curves: what a shop draws at a moment, and its energy between two moments.

Power is constant within a quarter of an hour and a multiple of 4 W, so every whole quarter is a
whole number of watt-hours and energies of adjacent intervals add up exactly. Integers only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from server.core.errors import InvalidInputError
from server.devices.simulator.trades import CURVES, FULL, HOURS, SEASON_PERMILLE, Trade

SLOT_US = 900_000_000
WATT_US_PER_WH = 3_600_000_000
LONGEST_DAYS = 400

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_QUARTERS = 4
_SATURDAY = 5
_PERMILLE = 1000
_BASE_NOISE, _SLOT_NOISE, _DAY_NOISE = 20, 80, 60  # thousandths, either way
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Load:
    """One customer behind a meter; `scale` is thousandths of the trade's usual size."""

    trade: Trade
    seed: int
    scale: int = _PERMILLE


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of constant power: at most one quarter of an hour."""

    local_hour: int
    watt_us: int


def energy_wh(
    trade: Trade, seed: int, scale: int, start: datetime, end: datetime, zone: tzinfo
) -> int:
    """Whole watt-hours between two moments; adjacent intervals add up exactly."""
    load = Load(trade, seed, scale)
    before_us = _microseconds(start) % SLOT_US
    quarter = start - before_us * _US
    upto_start = energy_watt_us(load, quarter, start, zone) // WATT_US_PER_WH
    return energy_watt_us(load, quarter, end, zone) // WATT_US_PER_WH - upto_start


def energy_watt_us(load: Load, start: datetime, end: datetime, zone: tzinfo) -> int:
    """The same, exact: watt-microseconds."""
    return sum(span.watt_us for span in spans(load, start, end, zone))


def spans(load: Load, start: datetime, end: datetime, zone: tzinfo) -> Iterator[Span]:
    """The stretches of constant power between two moments, in order of time."""
    begin_us, end_us = _microseconds(start), _microseconds(end)
    if begin_us > end_us:
        raise InvalidInputError("an interval that ends before it starts has no energy")
    if end - start > timedelta(days=LONGEST_DAYS):
        raise InvalidInputError(f"an interval of more than {LONGEST_DAYS} days")
    while begin_us < end_us:
        slot = begin_us // SLOT_US
        until_us = min((slot + 1) * SLOT_US, end_us)
        local_hour, slot_w = _slot(load, slot, zone)
        yield Span(local_hour, slot_w * (until_us - begin_us))
        begin_us = until_us


def power_w(load: Load, at: datetime, zone: tzinfo) -> int:
    """What the customer draws at a moment."""
    return _slot(load, slot_of(at), zone)[1]


def slot_of(moment: datetime) -> int:
    """Which quarter of an hour since 1970 a moment lies in."""
    return _microseconds(moment) // SLOT_US


def noise(seed: int, key: int, spread: int) -> int:
    """A whole number in [-spread, spread], the same for the same seed and key."""
    mixed = (seed * 0x9E3779B97F4A7C15 + key * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & _WORD
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _WORD
    return (mixed ^ (mixed >> 31)) % (2 * spread + 1) - spread


@lru_cache(maxsize=8192)
def _slot(load: Load, slot: int, zone: tzinfo) -> tuple[int, int]:
    """The local hour and the power of the slot-th quarter of an hour since 1970."""
    local = datetime.fromtimestamp(slot * SLOT_US // 1_000_000, zone)
    curve = CURVES[load.trade]
    shape = curve.weekend if local.weekday() >= _SATURDAY else curve.workday
    quarter = local.minute // (60 // _QUARTERS)
    here, after = int(shape[local.hour]), int(shape[(local.hour + 1) % HOURS])
    level = here * (_QUARTERS - quarter) + after * quarter  # between the hours: a straight line
    swing_w = curve.swing_w * level // (_QUARTERS * FULL)
    swing_w = swing_w * SEASON_PERMILLE[local.month - 1] // _PERMILLE
    of_day = noise(load.seed, -local.toordinal(), _DAY_NOISE)
    of_slot = noise(load.seed, slot, _SLOT_NOISE)
    swing_w = swing_w * (_PERMILLE + of_day + of_slot) // _PERMILLE
    base_w = curve.base_w * (_PERMILLE + noise(~load.seed, slot, _BASE_NOISE)) // _PERMILLE
    total_w = (base_w + swing_w) * load.scale // _PERMILLE
    return local.hour, total_w - total_w % _QUARTERS


def _microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of an aware moment."""
    if moment.tzinfo is None:
        raise InvalidInputError("a moment needs its time zone")
    return (moment - _EPOCH) // _US
