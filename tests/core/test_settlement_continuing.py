"""A day that goes on is the day that all its readings make, whatever was new at which time."""

from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.calendar import NO_HOLIDAYS, day_bounds
from server.core.settlement.continuing import (
    DayFrame,
    DayLeft,
    DayNow,
    MeterSteps,
    begin_next,
    cells_between,
    day_frame,
    go_on,
    has_gap,
    may_go_on,
)
from server.core.settlement.day import DaySettlement, settle_day
from server.core.settlement.interval import path_from_rows
from server.core.tariff.parse import parse_tariff
from server.core.tariff.versions import TariffVersion

ROLLOVER_WH = 100_000
MINUTE = timedelta(minutes=1)
ONE_PRICE = parse_tariff({"code": "flat", "price": "0.6883"})
TOU = parse_tariff(
    {
        "code": "tou",
        "prices": {"peak": "1.0288", "valley": "0.2891"},
        "periods": [{"valley": ["00:00-08:30", "22:00-24:00"], "peak": ["08:30-22:00"]}],
    }
)
BLOCKS = {
    period: parse_tariff(
        {
            "code": f"blocks-{period}",
            "period": period,
            "blocks": [
                {"up_to_kwh": 10, "prices": {"peak": "1", "valley": "0.2"}},
                {"up_to_kwh": 30, "prices": {"peak": "1.5", "valley": "0.3"}},
                {"prices": {"peak": "2", "valley": "0.4"}},
            ],
            "periods": [{"valley": ["00:00-08:30", "22:00-24:00"], "peak": ["08:30-22:00"]}],
        }
    )
    for period in ("month", "year")
}
TARIFFS = [ONE_PRICE, TOU, *BLOCKS.values()]
ZONES = [ZoneInfo(name) for name in ("Asia/Shanghai", "America/New_York", "Australia/Lord_Howe")]
# Ordinary days, ends of months and of a year, clocks put forward and back.
DAYS = [date(2026, 3, 4), date(2026, 4, 30), date(2026, 12, 31), date(2026, 3, 8), date(2026, 4, 5)]

Rows = list[tuple[datetime, int]]


@st.composite
def readings(draw: st.DrawFn, since: datetime) -> Rows:
    """From just before or at the day's start on, at any pace, over a rollover."""
    steps = draw(st.lists(st.integers(1, 400), min_size=1, max_size=14))
    rises = draw(st.lists(st.integers(0, 9_000), min_size=len(steps), max_size=len(steps)))
    first = since - draw(st.integers(0, 30)) * MINUTE
    times = accumulate(steps, lambda at, minutes: at + minutes * MINUTE, initial=first)
    registers = accumulate(rises, initial=ROLLOVER_WH - 20_000)
    return [(at, wh % ROLLOVER_WH) for at, wh in zip(times, registers, strict=True)]


def settle(
    day: date, zone: ZoneInfo, version: TariffVersion, meters: list[Rows], block_start_wh: int
) -> DaySettlement:
    paths = [
        path_from_rows(number, f"M-{number}", number + 1, ROLLOVER_WH, rows)
        for number, rows in enumerate(meters)
    ]
    return settle_day(
        day, zone, paths, version, NO_HOLIDAYS, block_start_wh=block_start_wh, gap_s=86_400
    )


def steps_of(meters: list[Rows], left: list[int]) -> list[MeterSteps]:
    """What is new of each meter, from the reading at which it was left."""
    return [
        MeterSteps(
            number + 1,
            ROLLOVER_WH,
            [at for at, _ in rows[place:]],
            [register_wh for _, register_wh in rows[place:]],
        )
        for number, (rows, place) in enumerate(zip(meters, left, strict=True))
    ]


def same(now: DayNow, settled: DaySettlement) -> None:
    assert (now.day, now.block_start_wh) == (settled.day, settled.block_start_wh)
    assert tuple(now.cells_wh) == settled.cells_wh
    assert {type(energy_wh) for energy_wh in now.cells_wh} == {int}  # never a float
    assert (now.energy_wh, now.amount_fen) == (settled.energy_wh, settled.amount_fen)
    assert (now.estimated, now.complete) == (settled.estimated, settled.complete)
    assert now.has_later_reading == settled.has_later_reading


@given(
    data=st.data(),
    day=st.sampled_from(DAYS),
    zone=st.sampled_from(ZONES),
    version=st.sampled_from(TARIFFS),
    block_start_wh=st.integers(0, 40_000),
)
def test_a_day_that_goes_on_is_the_day_that_all_its_readings_make(
    data: st.DataObject, day: date, zone: ZoneInfo, version: TariffVersion, block_start_wh: int
) -> None:
    start = day_bounds(day, zone)[0]
    meters = [data.draw(readings(start)), data.draw(readings(start))]
    left = [data.draw(st.integers(0, len(rows) - 1)) for rows in meters]
    early = [rows[: place + 1] for rows, place in zip(meters, left, strict=True)]
    before = settle(day, zone, version, early, block_start_wh)
    frame = day_frame(day, zone, version, NO_HOLIDAYS)
    steps = steps_of(meters, left)
    now = go_on(frame, DayLeft(block_start_wh, before.cells_wh, before.estimated), steps)
    same(now, settle(day, zone, version, meters, block_start_wh))
    since = min(step.read_ats[0] for step in steps)
    first, end = cells_between(frame, since, max(step.read_ats[-1] for step in steps))
    assert now.cells_wh[: max(first, 0)] == list(before.cells_wh[: max(first, 0)])
    assert now.cells_wh[end:] == list(before.cells_wh[end:])


@given(
    data=st.data(),
    day=st.sampled_from(DAYS),
    zone=st.sampled_from(ZONES),
    version=st.sampled_from(TARIFFS),
    block_start_wh=st.integers(0, 40_000),
)
def test_the_next_day_begins_as_all_readings_would_have_it(
    data: st.DataObject, day: date, zone: ZoneInfo, version: TariffVersion, block_start_wh: int
) -> None:
    start, end = day_bounds(day, zone)
    meters = [data.draw(readings(start)), data.draw(readings(end - 200 * MINUTE))]
    meters = [[row for row in rows if row[0] < end + timedelta(days=1)] for rows in meters]
    today = settle(day, zone, version, meters, block_start_wh)
    left = [max([n for n, (at, _) in enumerate(rows) if at < end]) for rows in meters]
    steps = steps_of(meters, left)
    tomorrow = day + timedelta(days=1)
    following = {"month": tomorrow.day > 1, "year": (tomorrow.month, tomorrow.day) > (1, 1)}
    goes_on = version.block_period is not None and following[version.block_period.value]
    wanted = settle(
        tomorrow, zone, version, meters, block_start_wh + today.energy_wh if goes_on else 0
    )
    now = DayNow(
        day, block_start_wh, list(today.cells_wh), today.energy_wh, today.amount_fen,
        today.estimated, today.has_later_reading,
    )  # fmt: skip
    same(begin_next(day_frame(tomorrow, zone, version, NO_HOLIDAYS), now, steps), wanted)


SHANGHAI = ZONES[0]
FRAME: DayFrame = day_frame(DAYS[0], SHANGHAI, TOU, NO_HOLIDAYS)
START, END = FRAME.starts_at, FRAME.ends_at


def test_a_frame_is_a_whole_day() -> None:
    assert day_bounds(DAYS[0], SHANGHAI) == (START, END)
    assert len(FRAME.grid.periods) == 25  # 24 hours, one of them cut at 08:30
    assert FRAME.prices == ((289_100,) * 9 + (1_028_800,) * 14 + (289_100,) * 2,)
    assert (FRAME.day, FRAME.version) == (DAYS[0], TOU)


@pytest.mark.parametrize(
    ("left_at", "may"),
    [
        ([], False),
        ([START], True),
        ([START - MINUTE], False),
        ([END - MINUTE], True),
        ([END], False),
        ([START, END], False),
        ([START - MINUTE, START], False),
        ([START, END - MINUTE], True),
    ],
)
def test_a_day_goes_on_from_readings_of_its_own(left_at: list[datetime], may: bool) -> None:
    assert may_go_on(FRAME, left_at, START) is may
    assert may_go_on(FRAME, left_at, START + MINUTE) is False


@pytest.mark.parametrize(
    ("minutes", "gap"),
    [([], False), ([60], False), ([61], True), ([1, 61], False), ([1, 62], True), ([61, 62], True)],
)
def test_a_gap_is_seen(minutes: list[int], gap: bool) -> None:
    times = [START, *(START + number * MINUTE for number in minutes)]
    steps = MeterSteps(1, ROLLOVER_WH, times, [0] * len(times))
    still = MeterSteps(1, ROLLOVER_WH, [START], [0])
    assert has_gap([still, steps], timedelta(hours=1)) is gap


@pytest.mark.parametrize(
    ("since", "until", "cells"),
    [
        (0, 30, (0, 1)),
        (0, 60, (0, 1)),
        (59, 61, (0, 2)),
        (60, 61, (1, 2)),
        (500, 515, (8, 10)),  # 08:20 to 08:35, over the edge of a period
        (1_439, 1_500, (24, 25)),
    ],
)
def test_the_cells_of_a_time(since: int, until: int, cells: tuple[int, int]) -> None:
    assert cells_between(FRAME, START + since * MINUTE, START + until * MINUTE) == cells


def test_a_meter_that_says_nothing_new_keeps_a_day_open() -> None:
    done = MeterSteps(1, ROLLOVER_WH, [START, END], [0, 24])
    waits = MeterSteps(1, ROLLOVER_WH, [START], [0])
    almost = MeterSteps(1, ROLLOVER_WH, [START, END - MINUTE], [0, 24])
    left = DayLeft(0, [0] * 25, estimated=True)
    assert go_on(FRAME, left, [done, waits]).has_later_reading is False
    assert go_on(FRAME, left, [almost]).has_later_reading is False
    now = go_on(FRAME, left, [done])
    assert (now.has_later_reading, now.estimated, now.complete) == (True, True, False)
    assert now.cells_wh == [1] * 8 + [0, 1] + [1] * 15  # floored at 08:30
    assert START.tzinfo is UTC
