"""A meter's history in a day: its devices one after the other, and the shops that it measured."""

import json
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.calendar import NO_HOLIDAYS, day_bounds
from server.core.errors import InvalidInputError
from server.core.settlement.day import DaySettlement, settle_day
from server.core.settlement.document import (
    document_differences,
    read_inputs,
    statement_document,
)
from server.core.settlement.interval import (
    Exchange,
    MeterPath,
    Segment,
    TrustedReading,
    energies_until,
    energy_until,
    path_from_rows,
)
from server.core.settlement.meter_day import DeviceDay, GapDay
from server.core.tariff.parse import parse_tariff

ZONE = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 3, 4)
TOP, OLD_TOP = 1_000_000, 100_000
FLAT = parse_tariff({"code": "flat", "price": "1"})

# (when, register of the meter), or (when, final of the old one, first of the new, old ratio)
Row = tuple[str, int]
Swap = tuple[str, int, int, int]


def local(text: str, zone: ZoneInfo = ZONE) -> datetime:
    """A minute of 2026, such as 03-04 08:30."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=zone)


def exchange(at: str, final_wh: int, first_wh: int, old_ratio: int) -> Exchange:
    return Exchange(local(at), final_wh, first_wh, old_ratio, OLD_TOP)


def path(
    rows: list[Row],
    swaps: list[Swap],
    *,
    ratio: int = 1,
    installed: str | None = None,
    removed: str | None = None,
) -> MeterPath:
    return path_from_rows(
        1,
        "M-1",
        ratio,
        TOP,
        [(local(at), wh) for at, wh in rows],
        [exchange(*swap) for swap in swaps],
        installed_at=local(installed) if installed else None,
        removed_at=local(removed) if removed else None,
    )


def settle(*paths: MeterPath, day: date = DAY, gap_s: int = 86_400) -> DaySettlement:
    return settle_day(day, ZONE, paths, FLAT, NO_HOLIDAYS, block_start_wh=0, gap_s=gap_s)


def energies(settled: DaySettlement) -> list[int]:
    return [device.energy_wh for meter in settled.readings for device in meter.devices]


BEFORE, NOON, AFTER = ("03-04 00:00", 1_000), "03-04 12:00", ("03-05 00:00", 700)


@pytest.mark.parametrize(
    ("rows", "swaps", "ratio", "devices", "has_later"),
    [
        # at noon: the old one until its final reading, the new one from its first
        ([BEFORE, AFTER], [(NOON, 1_300, 200, 1)], 1, [300, 500], True),
        # each by its own ratio
        ([BEFORE, AFTER], [(NOON, 1_300, 200, 40)], 1, [12_000, 500], True),
        ([BEFORE, AFTER], [(NOON, 1_300, 200, 1)], 60, [300, 30_000], True),
        # each by its own rollover
        ([("03-04 00:00", OLD_TOP - 100), AFTER], [(NOON, 50, 0, 1)], 1, [150, 700], True),
        ([BEFORE, ("03-05 00:00", 30)], [(NOON, 1_000, TOP - 20, 1)], 1, [0, 50], True),
        # the new one shows more than the old one, or the same
        ([BEFORE, ("03-05 00:00", 9_000)], [(NOON, 1_000, 8_000, 1)], 1, [0, 1_000], True),
        ([BEFORE, ("03-05 00:00", 1_300)], [(NOON, 1_300, 1_300, 1)], 1, [300, 0], True),
        # at the day's start there is nothing left of the old one
        ([("03-03 23:00", 900), AFTER], [("03-04 00:00", 999, 100, 7)], 1, [600], True),
        # at its end nothing yet of the new one, and nothing is awaited
        ([BEFORE], [("03-05 00:00", 1_400, 0, 2)], 1, [800], True),
        # two a day, and one device that nobody read
        (
            [BEFORE, ("03-04 07:00", 50), AFTER],
            [("03-04 06:00", 1_060, 0, 1), (NOON, 100, 600, 2)],
            1,
            [60, 200, 100],
            True,
        ),
        ([BEFORE, AFTER], [("03-04 06:00", 1_060, 0, 1), (NOON, 9, 600, 1)], 1, [60, 9, 100], True),
        # the old one was never read: its final reading shows no energy
        ([AFTER], [(NOON, 1_300, 200, 1)], 1, [0, 500], True),
        # the new one is not read yet
        ([BEFORE], [(NOON, 1_300, 200, 1)], 1, [300, 0], False),
        # an interval over midnight: the day takes its part of the device's time
        ([("03-03 12:00", 0), AFTER], [(NOON, 240, 200, 1)], 1, [120, 500], True),
        # at the exchange's instant only the exchange counts
        ([BEFORE, (NOON, 1_299), AFTER], [(NOON, 1_300, 200, 1)], 1, [300, 500], True),
        ([BEFORE, (NOON, 201), AFTER], [(NOON, 1_300, 200, 1)], 1, [300, 500], True),
        # an exchange of another day changes nothing
        ([BEFORE, ("03-05 00:00", 1_900)], [("03-06 00:00", 1_900, 5, 1)], 9, [900], True),
    ],
)
def test_a_day_over_an_exchange_is_the_sum_of_its_devices(
    rows: list[Row], swaps: list[Swap], ratio: int, devices: list[int], *, has_later: bool
) -> None:
    settled = settle(path(rows, swaps, ratio=ratio))
    assert energies(settled) == devices
    assert settled.energy_wh == sum(devices)
    assert settled.has_later_reading is has_later


def test_an_exchange_at_noon_shows_both_devices() -> None:
    beyond = [("03-03 23:00", 950), BEFORE, AFTER, ("03-05 06:00", 900), ("03-05 12:00", 999)]
    settled = settle(path(beyond, [(NOON, 1_300, 200, 40)]), gap_s=43_199)
    start, end = day_bounds(DAY, ZONE)
    noon = local(NOON)
    ((old, new),) = (meter.devices for meter in settled.readings)
    assert old == DeviceDay(
        transformer_ratio=40,
        rollover_wh=OLD_TOP,
        starts_at=start,
        ends_at=noon,
        first=TrustedReading(start, 1_000),
        last=TrustedReading(noon, 1_300),
        reading_count=2,
        energy_wh=12_000,
        gaps=(GapDay(start, noon, 12_000, None),),
        began_by_exchange=False,
        ended_by_exchange=True,
    )
    assert new == DeviceDay(
        transformer_ratio=1,
        rollover_wh=TOP,
        starts_at=noon,
        ends_at=end,
        first=TrustedReading(noon, 200),
        last=TrustedReading(end, 700),
        reading_count=2,
        energy_wh=500,
        gaps=(GapDay(noon, end, 500, None),),
        began_by_exchange=True,
        ended_by_exchange=False,
    )
    assert settled.estimated
    assert not settle(path([BEFORE, AFTER], [(NOON, 1_300, 200, 40)]), gap_s=43_200).estimated


def test_one_of_several_meters_is_exchanged() -> None:
    other = path_from_rows(2, "M-2", 3, TOP, [(local("03-04 00:00"), 0), (local("03-05 00:00"), 9)])
    settled = settle(path([BEFORE, AFTER], [(NOON, 1_300, 200, 1)]), other)
    assert energies(settled) == [300, 500, 27]
    assert [(meter.meter_code, len(meter.devices)) for meter in settled.readings] == [
        ("M-1", 2),
        ("M-2", 1),
    ]


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25), ("2026-06-01", 24)]
)
def test_an_exchange_in_a_day_of_any_length(day: str, hours: int) -> None:
    """At half past one, which New York's clock has twice in November."""
    zone = ZoneInfo("America/New_York")
    start, end = day_bounds(date.fromisoformat(day), zone)
    swap = Exchange(start + timedelta(hours=1, minutes=30), 1_500, 0, 1, OLD_TOP)
    rows = [(start, 0), (end, 1_000 * hours - 1_500)]
    meter = path_from_rows(1, "M-1", 1, TOP, rows, [swap])
    settled = settle_day(
        date.fromisoformat(day), zone, [meter], FLAT, NO_HOLIDAYS, block_start_wh=0, gap_s=10**6
    )
    assert [hour.energy_wh for hour in settled.hours] == [1_000] * hours


MOVED = [("03-04 00:00", 0), ("03-04 11:00", 1_100), ("03-04 13:00", 1_300), ("03-05 00:00", 2_400)]


@pytest.mark.parametrize(
    ("installed", "removed", "energy_wh", "has_later"),
    [
        (None, None, 2_400, True),
        (None, NOON, 1_200, True),  # moved away at noon: complete with the reading after it
        (NOON, None, 1_200, True),  # moved in at noon
        ("03-04 06:00", "03-04 18:00", 1_200, True),
        (NOON, NOON, 0, True),
        ("03-03 00:00", "03-09 00:00", 2_400, True),
        ("03-04 00:00", "03-05 00:00", 2_400, True),  # by the midnights
        ("03-05 00:00", None, 0, True),  # later: nothing of it is awaited
        (None, "03-04 00:00", 0, True),  # before
    ],
)
def test_a_meter_counts_for_a_shop_while_it_is_installed_there(
    installed: str | None, removed: str | None, energy_wh: int, *, has_later: bool
) -> None:
    settled = settle(path(MOVED, [], installed=installed, removed=removed))
    assert settled.energy_wh == energy_wh
    assert settled.has_later_reading is has_later


@pytest.mark.parametrize(
    ("installed", "removed"), [("03-05 00:00", None), (None, "03-04 00:00"), (None, "03-03 12:00")]
)
def test_a_meter_of_another_time_is_no_part_of_the_day(
    installed: str | None, removed: str | None
) -> None:
    other = path(MOVED[:2], [], installed=installed, removed=removed)  # it would be awaited
    settled = settle(other, path(MOVED, []))
    assert [meter.energy_wh for meter in settled.readings] == [2_400]
    assert settled.complete


def test_a_removed_meter_is_awaited_until_its_removal() -> None:
    gone = path(MOVED[:2], [], removed=NOON)
    assert settle(gone).energy_wh == 1_100
    assert not settle(gone).has_later_reading
    assert settle(path(MOVED[:3], [], removed=NOON)).has_later_reading


def test_a_meter_that_came_back_is_there_twice() -> None:
    mornings = path(MOVED, [], removed="03-04 06:00"), path(MOVED, [], installed="03-04 18:00")
    settled = settle(*mornings)
    assert [(meter.meter_id, meter.energy_wh) for meter in settled.readings] == [(1, 600), (1, 600)]
    assert devices_of_meters(settled) == [1, 1]


def devices_of_meters(settled: DaySettlement) -> list[int]:
    """How many devices each meter had, as the day's document is read."""
    inputs = read_inputs(json.loads(json.dumps(statement_document(settled, FLAT))))
    return [len(devices) for devices in inputs.meters]


def test_a_document_tells_an_exchange_from_a_meter_that_came_back() -> None:
    read_at_noon = [*MOVED, (NOON, 1_200)]
    came_back = path(read_at_noon, [], removed=NOON), path(read_at_noon, [], installed=NOON)
    assert devices_of_meters(settle(*came_back)) == [1, 1]
    exchanged = settle(path(MOVED, [(NOON, 1_200, 0, 1)]))
    assert devices_of_meters(exchanged) == [2]
    ((old, new),) = (meter.devices for meter in exchanged.readings)
    assert (old.began_by_exchange, old.ended_by_exchange) == (False, True)
    assert (new.began_by_exchange, new.ended_by_exchange) == (True, False)


@pytest.mark.parametrize(
    "segments",
    [
        (Segment(1, TOP, ()), Segment(1, TOP, (TrustedReading(local(NOON), 1),))),
        (Segment(1, TOP, (TrustedReading(local(NOON), 1),)), Segment(1, TOP, ())),
        (
            Segment(1, TOP, (TrustedReading(local(NOON), 1),)),
            Segment(1, TOP, (TrustedReading(local("03-04 12:01"), 1),)),
        ),
        (
            Segment(1, TOP, (TrustedReading(local(NOON), 1),)),
            Segment(1, TOP, (TrustedReading(local(NOON), TOP),)),
        ),
    ],
)
def test_devices_follow_each_other_without_a_hole(segments: tuple[Segment, ...]) -> None:
    with pytest.raises(InvalidInputError, match="M-1"):
        MeterPath(1, "M-1", segments)


@pytest.mark.parametrize(
    "swaps",
    [
        [(NOON, OLD_TOP, 0, 1)],  # beyond the old one's register
        [(NOON, 1_300, TOP, 1)],  # beyond the new one's
        [(NOON, -1, 0, 1)],
        [(NOON, 1_300, 0, 0)],
        [(NOON, 1_300, 0, 1), (NOON, 1_300, 0, 1)],  # twice at once
    ],
)
def test_an_impossible_exchange_is_refused(swaps: list[Swap]) -> None:
    with pytest.raises(InvalidInputError, match="M-1"):
        path([BEFORE, AFTER], swaps)


# --- laws -----------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[Segment]:
    """One to four devices, each with its ratio and rollover, over about three days."""
    at, segments = day_bounds(DAY, ZONE)[0] - timedelta(hours=20), []
    for _ in range(draw(st.integers(1, 4))):
        top, register_wh = draw(st.integers(10_000, 50_000)), draw(st.integers(0, 9_999))
        readings = [TrustedReading(at, register_wh)]
        for _ in range(draw(st.integers(1, 5))):
            at += timedelta(seconds=draw(st.integers(1, 40_000)))
            register_wh = (register_wh + draw(st.integers(0, 9_000))) % top
            readings.append(TrustedReading(at, register_wh))
        segments.append(Segment(draw(st.integers(1, 50)), top, tuple(readings)))
    return segments


def whole(segments: list[Segment]) -> MeterPath:
    """The segments as readings and exchanges, in any order."""
    exchanges = [
        Exchange(
            old.readings[-1].read_at,
            old.readings[-1].register_wh,
            new.readings[0].register_wh,
            old.transformer_ratio,
            old.rollover_wh,
        )
        for old, new in pairwise(segments)
    ]
    at_exchanges = {one.at for one in exchanges}
    rows = {r for one in segments for r in one.readings if r.read_at not in at_exchanges}
    last = segments[-1]
    return path_from_rows(
        1, "M-1", last.transformer_ratio, last.rollover_wh, rows, reversed(exchanges)
    )


@given(histories())
def test_rows_and_exchanges_in_any_order_make_the_devices(segments: list[Segment]) -> None:
    assert whole(segments).segments == tuple(segments)


@given(histories(), st.lists(st.integers(-80_000, 900_000), min_size=1, max_size=6))
def test_a_path_is_the_sum_of_its_devices(segments: list[Segment], seconds: list[int]) -> None:
    start = day_bounds(DAY, ZONE)[0]
    instants = [start + timedelta(seconds=second) for second in sorted(seconds)]
    alone = [energies_until(MeterPath(1, "M-1", (one,)), instants) for one in segments]
    assert energies_until(whole(segments), instants) == [
        sum(one) for one in zip(*alone, strict=True)
    ]


@given(histories(), st.lists(st.integers(0, 400_000), max_size=4))
def test_energy_does_not_depend_on_where_it_is_cut(
    segments: list[Segment], seconds: list[int]
) -> None:
    """By days, and by the times in which a meter is installed here and there."""
    meter, start = whole(segments), day_bounds(DAY, ZONE)[0] - timedelta(days=1)
    cuts = [None, *(start + timedelta(seconds=second) for second in sorted(set(seconds))), None]
    parts = [
        MeterPath(1, "M-1", meter.segments, installed_at=since, removed_at=until)
        for since, until in pairwise(cuts)
    ]
    days = [DAY + timedelta(days=number) for number in range(-1, 11)]
    total_wh = sum(settle(part, day=day).energy_wh for part in parts for day in days)
    assert total_wh == energy_until(meter, meter.curve.times[-1])


@given(histories())
def test_what_a_document_names_settles_to_the_same_document(segments: list[Segment]) -> None:
    meter = whole(segments)
    for day in (DAY - timedelta(days=1), DAY, DAY + timedelta(days=1)):
        settled = settle(meter, day=day)
        document = json.loads(json.dumps(statement_document(settled, FLAT)))
        ((*devices,),) = read_inputs(document).meters
        first_at, last_at = devices[0].first_read_at, devices[-1].last_read_at
        if first_at is None or last_at is None:
            continue
        named = [
            Segment(
                one.transformer_ratio,
                one.rollover_wh,
                tuple(r for r in one.readings if first_at <= r.read_at <= last_at),
            )
            for one in segments
            if one.readings[0].read_at <= last_at and first_at <= one.readings[-1].read_at
        ]
        again = settle(whole(named), day=day)
        assert (
            document_differences(document, json.loads(json.dumps(statement_document(again, FLAT))))
            == ()
        )
