"""A meter's part of a day: what it was made from, device by device and gap by gap."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from server.core.settlement.gaps import Clock, GapSplit, gap_split
from server.core.settlement.interval import MeterPath, TrustedReading, energies_until


class GapDay(NamedTuple):
    """Two readings that lie too far apart, and the energy between them; `split`: by registers."""

    starts_at: datetime
    ends_at: datetime
    energy_wh: int
    split: GapSplit | None


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
    gaps: tuple[GapDay, ...]
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
        return any(device.gaps for device in self.devices)

    @property
    def last(self) -> TrustedReading | None:
        """The newest reading that the day was made from."""
        return self.devices[-1].last


class MeterPart(NamedTuple):
    """A meter in the part of a day in which it was the tenancy's, with its gaps by number.

    `first` to `end`: from the last reading at or before `since` to the first at or after `until`.
    """

    path: MeterPath
    since: datetime
    until: datetime
    first: int
    end: int
    gaps: Mapping[int, GapSplit | None]

    def energies_until(self, instants: Sequence[datetime]) -> list[int]:
        """As `interval.energies_until`, gaps by registers where these tell."""
        if not self.gaps:
            return energies_until(self.path, instants)
        splits = {n: split.energy_until for n, split in self.gaps.items() if split is not None}
        return energies_until(self.path, instants, splits)


def meter_part(
    path: MeterPath, since: datetime, until: datetime, gap: timedelta, clock: Clock
) -> MeterPart | None:
    """The meter's part in the tenancy's part of a day, if it was installed then."""
    installed_at, removed_at = path.installed_at, path.removed_at
    if installed_at is not None:
        if installed_at >= until:
            return None
        since = max(since, installed_at)
    if removed_at is not None:
        if removed_at <= since:
            return None
        until = min(until, removed_at)
    times = path.curve.times
    first = max(bisect_right(times, since) - 1, 0)
    end = min(bisect_left(times, until) + 1, len(times))
    return MeterPart(path, since, until, first, end, _gaps(path, first, end, gap, clock))


def _gaps(
    path: MeterPath, first: int, end: int, gap: timedelta, clock: Clock
) -> dict[int, GapSplit | None]:
    """The readings that come too long after the one before, with how the energy between went."""
    if path.longest_pause <= gap:
        return {}
    return {
        number: gap_split(path, number, clock) if path.registers_wh else None
        for number, (earlier, later) in enumerate(pairwise(path.curve.times[first:end]), first + 1)
        if later - earlier > gap
    }


def meter_day(part: MeterPart, energy_wh: int) -> MeterDay:
    """The working of this energy."""
    path, first, end = part.path, part.first, part.end
    devices: list[DeviceDay] = []
    offset, ends = 0, len(path.segments) - 1
    for number, segment in enumerate(path.segments):
        after = offset + len(segment.readings)
        begin, stop = max(first, offset), min(end, after)
        if begin < stop or (number == ends and not devices):
            whole_wh = energy_wh if ends == 0 else None
            used = offset, begin, max(begin, stop)
            devices.append(_device_day(part, number, *used, energy_wh=whole_wh))
        offset = after
    last = devices[-1].last
    return MeterDay(
        meter_id=path.meter_id,
        meter_code=path.meter_code,
        devices=tuple(devices),
        energy_wh=energy_wh,
        has_later_reading=last is not None and last.read_at >= part.until,
    )


def _device_day(
    part: MeterPart, number: int, offset: int, first: int, end: int, *, energy_wh: int | None
) -> DeviceDay:
    path, segment = part.path, part.path.segments[number]
    is_last = number == len(path.segments) - 1
    starts_at = max(part.since, segment.readings[0].read_at) if number else part.since
    ends_at = part.until if is_last else min(part.until, segment.readings[-1].read_at)
    if energy_wh is None:
        earlier_wh, later_wh = part.energies_until((starts_at, ends_at))
        energy_wh = later_wh - earlier_wh
    used = segment.readings[first - offset : end - offset]
    return DeviceDay(
        transformer_ratio=segment.transformer_ratio,
        rollover_wh=segment.rollover_wh,
        starts_at=starts_at,
        ends_at=ends_at,
        first=used[0] if used else None,
        last=used[-1] if used else None,
        reading_count=len(used),
        energy_wh=energy_wh,
        gaps=tuple(
            _gap_day(path, gap, split) for gap, split in part.gaps.items() if first < gap < end
        ),
        began_by_exchange=number > 0 and used[:1] == segment.readings[:1],
        ended_by_exchange=not is_last and used[-1:] == segment.readings[-1:],
    )


def _gap_day(path: MeterPath, number: int, split: GapSplit | None) -> GapDay:
    times, totals = path.curve
    energy_wh = totals[number] - totals[number - 1]
    return GapDay(times[number - 1], times[number], energy_wh, split)
