"""A meter's trusted readings as one curve of energy over time, over all its devices."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import accumulate, groupby, pairwise
from operator import eq, ge, sub
from typing import NamedTuple

from server.core.errors import InvalidInputError

MICROSECOND = timedelta(microseconds=1)


class TrustedReading(NamedTuple):
    """What a meter's energy register showed at an instant."""

    read_at: datetime
    register_wh: int


_as_reading = partial(tuple.__new__, TrustedReading)  # as `_make`, without a call of Python's each


class Exchange(NamedTuple):
    """A device replaced by another: what each showed at that instant, and what the old one was."""

    at: datetime
    final_wh: int
    first_wh: int
    transformer_ratio: int
    rollover_wh: int


# Sharp, peak, flat, valley and deep valley, as TouPeriod has them; None: the meter has no such.
PeriodRegisters = tuple[int | None, ...]


class Curve(NamedTuple):
    """Watt-hours since the first of these instants, at each; an exchange is there twice."""

    times: list[datetime]
    totals_wh: list[int]


@dataclass(frozen=True)
class Segment:
    """Trusted readings of one device, strictly ascending in time.

    Where it was exchanged, its last (or first) reading is the exchange's.
    """

    transformer_ratio: int
    rollover_wh: int
    readings: tuple[TrustedReading, ...]


@dataclass(frozen=True)
class MeterPath:
    """A meter's devices one after the other, each beginning where the one before it ended.

    What it counts is the shop's from `installed_at` until `removed_at`. `registers_wh` are what the
    registers of the periods showed at readings on both sides of a gap. Raises InvalidInputError.
    """

    meter_id: int
    meter_code: str
    segments: tuple[Segment, ...]
    installed_at: datetime | None = None
    removed_at: datetime | None = None
    registers_wh: Mapping[datetime, PeriodRegisters] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for segment in self.segments:
            self._check(segment)
        for earlier, later in pairwise(self.segments):
            if not earlier.readings or not later.readings:
                raise InvalidInputError(f"meter {self.meter_code}: a device without a reading")
            if earlier.readings[-1].read_at != later.readings[0].read_at:
                raise InvalidInputError(f"meter {self.meter_code}: devices leave a hole")

    def _check(self, segment: Segment) -> None:
        if segment.transformer_ratio < 1 or segment.rollover_wh < 1:
            raise InvalidInputError(f"meter {self.meter_code}: ratio and rollover start at 1")
        times = [reading[0] for reading in segment.readings]
        if any(map(ge, times, times[1:])):
            raise InvalidInputError(f"meter {self.meter_code}: readings are not ascending")
        registers = [reading[1] for reading in segment.readings]
        if registers and not 0 <= min(registers) <= max(registers) < segment.rollover_wh:
            raise InvalidInputError(f"meter {self.meter_code}: a register is out of its range")

    @cached_property
    def readings(self) -> tuple[TrustedReading, ...]:
        """All devices' readings in the order of time; an exchange gives two at one instant."""
        if len(self.segments) == 1:
            return self.segments[0].readings
        return tuple(reading for segment in self.segments for reading in segment.readings)

    @cached_property
    def curve(self) -> Curve:
        """What the meter counted, behind its transformer; at an exchange nothing."""
        totals: list[int] = []
        for segment in self.segments:
            totals += _totals_wh(segment, totals[-1] if totals else 0)
        return Curve([reading[0] for reading in self.readings], totals)

    @cached_property
    def longest_pause(self) -> timedelta:
        """The longest time between two neighbouring readings."""
        times = self.curve.times
        return max(map(sub, times[1:], times), default=timedelta(0))


def _totals_wh(segment: Segment, before_wh: int) -> list[int]:
    """What was counted at each of a device's readings, added to what others before it counted."""
    ratio, rollover_wh = segment.transformer_ratio, segment.rollover_wh
    registers = [reading[1] for reading in segment.readings]
    if registers == sorted(registers):  # it did not roll over
        base_wh = before_wh - registers[0] * ratio if registers else before_wh
        return [base_wh + register_wh * ratio for register_wh in registers]
    rises = (rise_wh(*pair, rollover_wh) * ratio for pair in pairwise(registers))
    return list(accumulate(rises, initial=before_wh))


def path_from_rows(  # noqa: PLR0913 - all that a path is made of
    meter_id: int,
    meter_code: str,
    transformer_ratio: int,
    rollover_wh: int,
    rows: Iterable[tuple[datetime, int]],
    exchanges: Iterable[Exchange] = (),
    *,
    installed_at: datetime | None = None,
    removed_at: datetime | None = None,
) -> MeterPath:
    """A path from rows in any order; the same row twice counts once, two registers never agree.

    Ratio and rollover are the newest device's. At the instant of an exchange only that counts.
    """
    readings = list(map(_as_reading, sorted(rows)))
    times = [reading[0] for reading in readings]
    if any(map(eq, times, times[1:])):
        readings = [reading for reading, _ in groupby(readings)]
    segments: list[Segment] = []
    first: tuple[TrustedReading, ...] = ()
    done = 0
    for one in sorted(exchanges):
        until = bisect_left(readings, one.at, key=_read_at)
        mine = (*first, *readings[done:until], TrustedReading(one.at, one.final_wh))
        segments.append(Segment(one.transformer_ratio, one.rollover_wh, mine))
        first = (TrustedReading(one.at, one.first_wh),)
        done = until
        while done < len(readings) and readings[done].read_at == one.at:
            done += 1
    segments.append(Segment(transformer_ratio, rollover_wh, (*first, *readings[done:])))
    return MeterPath(meter_id, meter_code, tuple(segments), installed_at, removed_at)


def _read_at(reading: TrustedReading) -> datetime:
    return reading.read_at


def rise_wh(before_wh: int, after_wh: int, rollover_wh: int) -> int:
    """How far a register went on, over its rollover where it shows less than before."""
    return (after_wh - before_wh) % rollover_wh


def energy_until(path: MeterPath, at: datetime) -> int:
    """Watt-hours behind the transformer from the first reading until this instant."""
    return energies_until(path, (at,))[0]


def energies_until(
    path: MeterPath,
    instants: Sequence[datetime],
    splits: Mapping[int, Callable[[datetime], int]] | None = None,
) -> list[int]:
    """Watt-hours from the path's first reading until each of the ascending instants.

    Between two readings energy grows in proportion to time, floored to a watt-hour, or as `splits`
    says of the time before the reading of that number; outside them not at all. The difference of
    two results is the energy between them, so pieces add up.
    """
    times, totals = path.curve
    count, index = len(times), 0
    splits = splits or {}
    energies = []
    for at in instants:
        index = bisect_right(times, at, index)
        if index == 0:
            energies.append(0)
        elif index == count:
            energies.append(totals[-1])
        else:
            since, until = times[index - 1], times[index]
            if at == since:
                energies.append(totals[index - 1])
                continue
            if index in splits:
                energies.append(totals[index - 1] + splits[index](at))
                continue
            rise = totals[index] - totals[index - 1]
            part = rise * ((at - since) // MICROSECOND) // ((until - since) // MICROSECOND)
            energies.append(totals[index - 1] + part)
    return energies
