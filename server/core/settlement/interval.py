"""A meter's trusted readings as one curve of energy over time."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from typing import NamedTuple

from server.core.errors import InvalidInputError

MICROSECOND = timedelta(microseconds=1)


class TrustedReading(NamedTuple):
    """What a meter's energy register showed at an instant."""

    read_at: datetime
    register_wh: int


@dataclass(frozen=True)
class MeterPath:
    """Trusted readings of one meter, strictly ascending in time; raises InvalidInputError."""

    meter_id: int
    meter_code: str
    transformer_ratio: int
    rollover_wh: int
    readings: tuple[TrustedReading, ...]

    def __post_init__(self) -> None:
        if self.transformer_ratio < 1 or self.rollover_wh < 1:
            raise InvalidInputError(f"meter {self.meter_code}: ratio and rollover start at 1")
        for earlier, later in pairwise(self.readings):
            if earlier[0] >= later[0]:
                raise InvalidInputError(f"meter {self.meter_code}: readings are not ascending")
        registers = [reading.register_wh for reading in self.readings]
        if registers and not 0 <= min(registers) <= max(registers) < self.rollover_wh:
            raise InvalidInputError(f"meter {self.meter_code}: a register is out of its range")


def path_from_rows(
    meter_id: int,
    meter_code: str,
    transformer_ratio: int,
    rollover_wh: int,
    rows: Iterable[tuple[datetime, int]],
) -> MeterPath:
    """A path from rows in any order; the same row twice counts once, two registers never agree."""
    readings = tuple(TrustedReading(*row) for row, _ in groupby(sorted(rows)))
    return MeterPath(meter_id, meter_code, transformer_ratio, rollover_wh, readings)


def rise_wh(before_wh: int, after_wh: int, rollover_wh: int) -> int:
    """How far a register went on, over its rollover where it shows less than before."""
    return (after_wh - before_wh) % rollover_wh


def energy_until(path: MeterPath, at: datetime) -> int:
    """Watt-hours behind the transformer from the first reading until this instant."""
    return energies_until(path.readings, path.transformer_ratio, path.rollover_wh, (at,))[0]


def energies_until(
    readings: Sequence[TrustedReading],
    transformer_ratio: int,
    rollover_wh: int,
    instants: Sequence[datetime],
) -> list[int]:
    """Watt-hours from the first reading until each of the ascending instants.

    Between two readings energy grows in proportion to time, floored to a watt-hour; outside them
    not at all. The difference of two results is the energy between them, so pieces add up.
    """
    if not readings:
        return [0] * len(instants)
    times = [reading[0] for reading in readings]
    totals = _totals(readings, transformer_ratio, rollover_wh)
    count, index = len(times), 0
    energies = []
    for at in instants:
        index = bisect_right(times, at, index)
        if index == 0:
            energies.append(0)
        elif index == count:
            energies.append(totals[-1])
        else:
            since, until = times[index - 1], times[index]
            rise = totals[index] - totals[index - 1]
            part = rise * ((at - since) // MICROSECOND) // ((until - since) // MICROSECOND)
            energies.append(totals[index - 1] + part)
    return energies


def _totals(
    readings: Sequence[TrustedReading], transformer_ratio: int, rollover_wh: int
) -> list[int]:
    """Watt-hours from the first reading until each reading."""
    totals, total, before_wh = [], 0, readings[0].register_wh
    for _, register_wh in readings:
        total += (register_wh - before_wh) % rollover_wh * transformer_ratio
        before_wh = register_wh
        totals.append(total)
    return totals
