"""From readings to an explained day: periods, hours, rounding, and the laws of every day."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.calendar import NO_HOLIDAYS, DayType, HolidayCalendar, day_bounds
from server.core.errors import InvalidInputError
from server.core.money import fen_from_nano_yuan
from server.core.settlement.day import DaySettlement, settle_day
from server.core.settlement.interval import MeterPath, energy_until, path_from_rows
from server.core.tariff.parse import parse_tariff
from server.core.tariff.periods import TouPeriod
from server.core.tariff.versions import TariffVersion

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
DAY = date(2026, 3, 4)
TOP = 1_000_000_000
SHARP, PEAK, FLAT, VALLEY, DEEP = TouPeriod

ONE_PRICE = parse_tariff({"code": "flat", "price": "0.6883"})
TOU = parse_tariff(
    {
        "code": "tou",
        "prices": {"peak": "1.0288", "valley": "0.2891"},
        "periods": [{"valley": ["00:00-08:30", "22:00-24:00"], "peak": ["08:30-22:00"]}],
    }
)
TOU_BLOCKS = parse_tariff(
    {
        "code": "tou-blocks",
        "blocks": [
            {"up_to_kwh": 10, "prices": {"peak": "1", "valley": "0.2"}},
            {"up_to_kwh": 30, "prices": {"peak": "1.5", "valley": "0.3"}},
            {"prices": {"peak": "2", "valley": "0.4"}},
        ],
        "periods": [{"valley": ["00:00-08:30", "22:00-24:00"], "peak": ["08:30-22:00"]}],
    }
)
TARIFFS = [ONE_PRICE, TOU, TOU_BLOCKS]


def local(text: str, zone: ZoneInfo = SHANGHAI) -> datetime:
    """A minute of 2026, such as 03-04 08:30."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=zone)


def path(*rows: tuple[str, int], meter_id: int = 1, ratio: int = 1) -> MeterPath:
    return path_from_rows(
        meter_id, f"M-{meter_id}", ratio, TOP, [(local(at), wh) for at, wh in rows]
    )


def settle(
    *paths: MeterPath,
    version: TariffVersion = TOU,
    day: date = DAY,
    zone: ZoneInfo = SHANGHAI,
    block_start_wh: int = 0,
    gap_s: int = 86_400,
    opened_at: datetime | None = None,
    closed_at: datetime | None = None,
) -> DaySettlement:
    return settle_day(
        day,
        zone,
        paths,
        version,
        NO_HOLIDAYS,
        block_start_wh=block_start_wh,
        gap_s=gap_s,
        opened_at=opened_at,
        closed_at=closed_at,
    )


WHOLE_DAY = path(("03-04 00:00", 1_000), ("03-05 00:00", 25_000))  # 1 kW all day


@pytest.mark.parametrize(
    ("rows", "energy_wh", "split"),
    [
        # 1 kW from midnight to midnight: 10.5 hours of valley, 13.5 of peak
        ([("03-04 00:00", 0), ("03-05 00:00", 24_000)], 24_000, {PEAK: 13_500, VALLEY: 10_500}),
        # the day takes its part of an interval over midnight
        ([("03-03 23:00", 0), ("03-04 01:00", 2_000)], 1_000, {VALLEY: 1_000}),
        ([("03-04 23:00", 0), ("03-05 01:00", 2_000)], 1_000, {VALLEY: 1_000}),
        # an interval over a period's edge is split by time, to the minute
        ([("03-04 08:00", 0), ("03-04 09:00", 600)], 600, {PEAK: 300, VALLEY: 300}),
        ([("03-04 08:29", 0), ("03-04 08:30", 600)], 600, {VALLEY: 600}),
        ([("03-04 08:30", 0), ("03-04 08:31", 600)], 600, {PEAK: 600}),
        ([("03-04 21:59", 0), ("03-04 22:01", 601)], 601, {PEAK: 300, VALLEY: 301}),
        # nothing before the first reading, nothing after the last
        ([("03-04 12:00", 77_000), ("03-04 13:00", 77_500)], 500, {PEAK: 500}),
        ([("03-04 12:00", 77_000)], 0, {}),
        ([("03-03 12:00", 77_000)], 0, {}),
        ([("03-05 12:00", 77_000)], 0, {}),
        ([], 0, {}),
        # a gap over the whole day
        ([("03-03 00:00", 0), ("03-06 00:00", 72_000)], 24_000, {PEAK: 13_500, VALLEY: 10_500}),
        # a counter that rolls over
        ([("03-04 09:00", TOP - 400), ("03-04 10:00", 600)], 1_000, {PEAK: 1_000}),
    ],
)
def test_energy_is_spread_over_periods_in_proportion_to_time(
    rows: list[tuple[str, int]], energy_wh: int, split: dict[TouPeriod, int]
) -> None:
    settled = settle(path(*rows))
    assert settled.energy_wh == energy_wh
    assert {line.period: line.energy_wh for line in settled.lines} == split


def test_a_day_shows_its_working() -> None:
    settled = settle(WHOLE_DAY)
    assert [tuple(line) for line in settled.lines] == [
        (PEAK, 0, 1_028_800, 13_500, 13_888_800_000, 1_389),
        (VALLEY, 0, 289_100, 10_500, 3_035_550_000, 303),  # 3.03555 yuan gives way to 13.8888
    ]
    assert (settled.amount_nano_yuan, settled.amount_fen) == (16_924_350_000, 1_692)
    assert (settled.starts_at, settled.ends_at) == day_bounds(DAY, SHANGHAI)
    assert settled.day_type is DayType.WORKDAY
    assert (settled.day, settled.zone, settled.gap_s) == (DAY, SHANGHAI, 86_400)
    (meter,) = settled.readings
    (device,) = meter.devices
    assert (meter.meter_id, meter.meter_code, device.transformer_ratio) == (1, "M-1", 1)
    assert (device.first, device.last) == WHOLE_DAY.readings
    assert (device.reading_count, device.energy_wh, device.rollover_wh) == (2, 24_000, TOP)
    assert (device.starts_at, device.ends_at) == day_bounds(DAY, SHANGHAI)
    assert (device.began_by_exchange, device.ended_by_exchange) == (False, False)
    assert (meter.last, meter.energy_wh) == (device.last, 24_000)


@pytest.mark.parametrize(
    ("nano_price", "energy_wh", "fen"),
    [("0.005", 999, 0), ("0.005", 1_000, 1), ("0.015", 999, 1), ("0.015", 1_000, 2), ("0", 9, 0)],
)
def test_a_day_is_rounded_once_half_up(nano_price: str, energy_wh: int, fen: int) -> None:
    version = parse_tariff({"code": "x", "price": nano_price})
    settled = settle(path(("03-04 01:00", 0), ("03-04 02:00", energy_wh)), version=version)
    assert settled.amount_fen == fen


def test_hours_follow_the_wall_clock() -> None:
    settled = settle(path(("03-04 08:00", 0), ("03-04 09:30", 900)))
    used = {hour.start.astimezone(SHANGHAI).hour: hour for hour in settled.hours if hour.energy_wh}
    assert {hour: usage.energy_wh for hour, usage in used.items()} == {8: 600, 9: 300}
    assert used[8].by_period == ((VALLEY, 300), (PEAK, 300))
    assert used[9].by_period == ((PEAK, 300),)
    assert (used[8].amount_fen, used[9].amount_fen) == (39, 31)  # 39.537 and 30.864: 70 together
    assert settled.amount_fen == 70
    assert len(settled.hours) == 24


def test_an_hour_is_one_hour_however_often_its_price_changes() -> None:
    valley_within_peak = parse_tariff(
        {
            "code": "x",
            "prices": {"peak": "1", "valley": "0.2"},
            "periods": [{"peak": ["00:00-20:05", "20:45-24:00"], "valley": ["20:05-20:45"]}],
        }
    )
    settled = settle(WHOLE_DAY, version=valley_within_peak)
    assert len(settled.hours) == 24
    assert settled.hours[20].by_period == ((PEAK, 333), (VALLEY, 667))


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        (SHANGHAI, "2028-02-29", 24),
        (NEW_YORK, "2026-03-08", 23),
        (NEW_YORK, "2026-11-01", 25),
        (LORD_HOWE, "2026-04-05", 24),  # half an hour longer: its second hour has ninety minutes
        (LORD_HOWE, "2026-10-04", 24),
        (ZoneInfo("Asia/Kathmandu"), "2026-03-04", 24),
        (ZoneInfo("Pacific/Apia"), "2011-12-30", 0),  # a day that never was
    ],
)
def test_a_day_has_the_hours_that_its_clock_shows(zone: ZoneInfo, day: str, hours: int) -> None:
    start, end = day_bounds(date.fromisoformat(day), zone)
    rows = [(start - timedelta(hours=1), 0), (end + timedelta(hours=1), 50_000)]
    settled = settle(path_from_rows(1, "M-1", 1, TOP, rows), day=date.fromisoformat(day), zone=zone)
    assert len(settled.hours) == hours
    starts = [hour.start for hour in settled.hours]
    assert starts == sorted(set(starts))
    assert all(start <= at < end for at in starts)


def test_a_period_over_a_repeated_hour_is_as_long_as_its_clock_says() -> None:
    start, end = day_bounds(date(2026, 11, 1), NEW_YORK)
    version = parse_tariff(
        {
            "code": "x",
            "prices": {"peak": "1", "valley": "0.2"},
            "periods": [{"valley": ["01:00-02:00"], "peak": ["00:00-01:00", "02:00-24:00"]}],
        }
    )
    rows = [(start, 0), (end, 25_000)]
    settled = settle(
        path_from_rows(1, "M-1", 1, TOP, rows),
        version=version,
        day=date(2026, 11, 1),
        zone=NEW_YORK,
    )
    assert {line.period: line.energy_wh for line in settled.lines} == {PEAK: 23_000, VALLEY: 2_000}


@pytest.mark.parametrize(
    ("day", "periods"),
    [
        ("2026-01-01", {DEEP}),  # holiday
        ("2026-01-03", {DEEP}),  # a holiday on a Saturday
        ("2026-01-04", {PEAK, VALLEY}),  # a Sunday moved to be a workday
        ("2026-01-05", {PEAK, VALLEY}),
        ("2026-01-10", {FLAT}),
        ("2028-02-29", {PEAK, VALLEY}),  # an unknown year: an ordinary Tuesday
    ],
)
def test_the_type_of_day_decides_its_periods(day: str, periods: set[TouPeriod]) -> None:
    version = parse_tariff(
        {
            "code": "x",
            "prices": {"peak": "1", "flat": "0.5", "valley": "0.2", "deep_valley": "0.1"},
            "periods": [
                {"days": "workday", "valley": ["00:00-08:00"], "peak": ["08:00-24:00"]},
                {"days": "weekend", "flat": ["00:00-24:00"]},
                {"days": "holiday", "deep_valley": ["00:00-24:00"]},
            ],
        }
    )
    calendar = HolidayCalendar(
        frozenset({date(2026, 1, 1), date(2026, 1, 3)}), frozenset({date(2026, 1, 4)}), 2026, 2026
    )
    start, end = day_bounds(date.fromisoformat(day), SHANGHAI)
    settled = settle_day(
        date.fromisoformat(day),
        SHANGHAI,
        [path_from_rows(1, "M-1", 1, TOP, [(start, 0), (end, 24_000)])],
        version,
        calendar,
        block_start_wh=0,
        gap_s=86_400,
    )
    assert {line.period for line in settled.lines} == periods
    assert settled.day_type is calendar.day_type(date.fromisoformat(day))


def test_several_meters_count_together_each_with_its_ratio() -> None:
    first = path(("03-04 09:00", 0), ("03-04 10:00", 10), ratio=40)
    second = path(("03-04 09:30", 500), ("03-04 10:30", 800), meter_id=2)
    settled = settle(first, second)
    assert settled.energy_wh == 700
    assert [(meter.meter_id, meter.energy_wh) for meter in settled.readings] == [(1, 400), (2, 300)]


def test_blocks_fill_over_all_meters_in_time_order() -> None:
    night = path(("03-04 01:00", 0), ("03-04 02:00", 6_000))
    noon = path(("03-04 12:00", 0), ("03-04 13:00", 6_000), meter_id=2)
    for paths in ((night, noon), (noon, night)):
        settled = settle(*paths, version=TOU_BLOCKS, block_start_wh=1_000)
        assert [(line.block, line.period, line.energy_wh) for line in settled.lines] == [
            (0, PEAK, 3_000),
            (0, VALLEY, 6_000),
            (1, PEAK, 3_000),
        ]
        assert settled.block_start_wh == 1_000


@pytest.mark.parametrize(
    ("opened", "closed", "energy_wh"),
    [
        (None, None, 24_000),
        ("03-04 12:00", None, 12_000),  # moved in at noon
        (None, "03-04 12:00", 12_000),  # moved out at noon
        ("03-04 09:00", "03-04 09:01", 16),  # 16.67 Wh, the rest of the last one is the next's
        ("03-04 12:00", "03-04 12:00", 0),
        ("03-01 00:00", "03-09 00:00", 24_000),
        ("03-05 00:00", None, 0),
        ("03-06 12:00", None, 0),
        (None, "03-04 00:00", 0),
        ("03-01 00:00", "03-02 00:00", 0),
    ],
)
def test_a_tenancy_pays_for_its_part_of_the_day(
    opened: str | None, closed: str | None, energy_wh: int
) -> None:
    settled = settle(
        WHOLE_DAY,
        opened_at=local(opened) if opened else None,
        closed_at=local(closed) if closed else None,
    )
    assert settled.energy_wh == energy_wh


def test_a_tenancy_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InvalidInputError) as refused:
        settle(WHOLE_DAY, opened_at=local("03-04 12:00"), closed_at=local("03-04 11:59"))
    assert str(refused.value) == "a tenancy ends before it begins"


@pytest.mark.parametrize(
    ("rows", "has_later", "estimated", "count"),
    [
        # gap_s is 3600
        ([], False, False, 0),
        ([("03-03 23:30", 1)], False, False, 1),  # nothing in the day yet
        ([("03-03 23:30", 1), ("03-04 00:30", 2)], False, False, 2),
        ([("03-03 23:30", 1), ("03-04 00:31", 2)], False, True, 2),  # over the start of the day
        ([("03-04 23:00", 1), ("03-05 00:00", 2)], True, False, 2),
        ([("03-04 22:59", 1), ("03-05 00:00", 2)], True, True, 2),
        ([("03-04 23:30", 1), ("03-05 00:30", 2)], True, False, 2),
        ([("03-03 12:00", 1), ("03-06 12:00", 2)], True, True, 2),
        ([("03-05 12:00", 1)], True, False, 1),  # a meter that came later
        ([("03-04 23:30", 1), ("03-05 00:30", 2), ("03-05 09:00", 3)], True, False, 2),  # not ours
        ([("03-03 01:00", 1), ("03-03 23:30", 2), ("03-04 00:30", 3)], False, False, 2),
    ],
)
def test_a_day_is_complete_when_every_meter_was_read_after_it_without_a_gap(
    rows: list[tuple[str, int]], has_later: bool, estimated: bool, count: int
) -> None:
    settled = settle(path(*rows), gap_s=3_600)
    assert (settled.has_later_reading, settled.estimated) == (has_later, estimated)
    assert settled.complete is (has_later and not estimated)
    assert settled.readings[0].devices[0].reading_count == count


def test_one_meter_that_waits_makes_the_day_wait() -> None:
    waiting = path(("03-04 00:00", 0), ("03-04 23:59", 9), meter_id=2)
    settled = settle(WHOLE_DAY, waiting)
    assert not settled.complete
    assert [meter.has_later_reading for meter in settled.readings] == [True, False]
    assert settled.settled_until == local("03-05 00:00")


def test_a_day_without_meters_waits_for_nothing() -> None:
    settled = settle()
    assert settled.complete
    assert (settled.energy_wh, settled.amount_fen, settled.settled_until) == (0, 0, None)


@pytest.mark.parametrize(
    ("closed", "has_later"), [("03-04 12:00", True), ("03-04 12:01", False), (None, False)]
)
def test_a_tenancy_that_ended_waits_only_for_its_own_end(
    closed: str | None, has_later: bool
) -> None:
    settled = settle(
        path(("03-04 00:00", 0), ("03-04 12:00", 10)),
        closed_at=local(closed) if closed else None,
    )
    assert settled.has_later_reading is has_later


# --- laws -----------------------------------------------------------------------------------------

SECONDS = st.sets(st.integers(-90_000, 3 * 86_400), min_size=2, max_size=30)


@st.composite
def paths(draw: st.DrawFn, meter_id: int = 1) -> MeterPath:
    """Readings from the day before DAY until two days after it."""
    start = day_bounds(DAY, SHANGHAI)[0]
    register_wh = draw(st.integers(0, TOP - 1))
    rows = []
    for second in sorted(draw(SECONDS)):
        register_wh = (register_wh + draw(st.integers(0, 20_000))) % TOP
        rows.append((start + timedelta(seconds=second), register_wh))
    return path_from_rows(meter_id, f"M-{meter_id}", draw(st.integers(1, 60)), TOP, rows)


MANY = st.tuples(paths(1), paths(2))
VERSIONS = st.sampled_from(TARIFFS)


@given(MANY, VERSIONS, st.integers(0, 40_000))
def test_shares_add_up_to_the_day(
    meters: tuple[MeterPath, ...], version: TariffVersion, start_wh: int
) -> None:
    settled = settle(*meters, version=version, block_start_wh=start_wh)
    energy_wh, amount_fen = settled.energy_wh, settled.amount_fen
    assert sum(line.energy_wh for line in settled.lines) == energy_wh
    assert sum(line.amount_fen for line in settled.lines) == amount_fen
    assert sum(line.amount_nano_yuan for line in settled.lines) == settled.amount_nano_yuan
    assert sum(hour.energy_wh for hour in settled.hours) == energy_wh
    assert sum(hour.amount_fen for hour in settled.hours) == amount_fen
    assert sum(wh for hour in settled.hours for _, wh in hour.by_period) == energy_wh
    assert sum(meter.energy_wh for meter in settled.readings) == energy_wh
    assert amount_fen == fen_from_nano_yuan(settled.amount_nano_yuan)


@given(MANY, VERSIONS)
def test_days_telescope(meters: tuple[MeterPath, ...], version: TariffVersion) -> None:
    days = [DAY + timedelta(days=number) for number in range(-2, 4)]
    total_wh = sum(settle(*meters, version=version, day=day).energy_wh for day in days)
    assert total_wh == sum(energy_until(path, path.readings[-1].read_at) for path in meters)


@given(MANY, VERSIONS, st.data())
def test_order_and_repetition_of_readings_and_meters_change_nothing(
    meters: tuple[MeterPath, ...], version: TariffVersion, data: st.DataObject
) -> None:
    again = [
        path_from_rows(
            meter.meter_id,
            meter.meter_code,
            meter.segments[0].transformer_ratio,
            TOP,
            [*data.draw(st.permutations(meter.readings)), meter.readings[0]],
        )
        for meter in meters
    ]
    settled = settle(*meters, version=version)
    assert settle(*again, version=version) == settled
    swapped = settle(*reversed(again), version=version)
    assert (swapped.lines, swapped.hours) == (settled.lines, settled.hours)


@given(paths(), VERSIONS)
def test_readings_beyond_the_edges_of_the_day_change_nothing(
    meter: MeterPath, version: TariffVersion
) -> None:
    start, end = day_bounds(DAY, SHANGHAI)
    earlier = [reading for reading in meter.readings if reading.read_at <= start][-1:]
    inside = [reading for reading in meter.readings if start < reading.read_at < end]
    later = [reading for reading in meter.readings if reading.read_at >= end][:1]
    ratio = meter.segments[0].transformer_ratio
    lean = path_from_rows(1, "M-1", ratio, TOP, (*earlier, *inside, *later))
    assert settle(lean, version=version) == settle(meter, version=version)


@given(paths(), st.data())
def test_with_a_flat_price_the_pace_of_reading_does_not_matter(
    meter: MeterPath, data: st.DataObject
) -> None:
    start, end = day_bounds(DAY, SHANGHAI)
    first = max((r for r in meter.readings if r.read_at <= start), default=meter.readings[0])
    last = min((r for r in meter.readings if r.read_at >= end), default=meter.readings[-1])
    kept = {first, last, *data.draw(st.sets(st.sampled_from(meter.readings)))}
    kept |= {r for r in meter.readings if not start < r.read_at < end}
    kept |= {min(r for r in meter.readings if r.read_at > start)} if last.read_at > start else set()
    kept |= {max(r for r in meter.readings if r.read_at < end)} if first.read_at < end else set()
    slow = path_from_rows(1, "M-1", meter.segments[0].transformer_ratio, TOP, kept)
    fast, thin = settle(meter, version=ONE_PRICE), settle(slow, version=ONE_PRICE)
    assert thin.amount_nano_yuan == fast.amount_nano_yuan
    assert thin.lines == fast.lines


@given(MANY, VERSIONS, st.integers(0, 40_000), st.integers(0, 86_400))
def test_two_tenants_in_one_day_pay_for_all_of_it(
    meters: tuple[MeterPath, ...], version: TariffVersion, start_wh: int, second: int
) -> None:
    moved_at = day_bounds(DAY, SHANGHAI)[0] + timedelta(seconds=second)
    whole = settle(*meters, version=version, block_start_wh=start_wh)
    first = settle(*meters, version=version, block_start_wh=start_wh, closed_at=moved_at)
    second_tenant = settle(
        *meters,
        version=version,
        block_start_wh=start_wh + first.energy_wh,  # as if the blocks went on
        opened_at=moved_at,
    )
    assert first.energy_wh + second_tenant.energy_wh == whole.energy_wh
    both = first.amount_nano_yuan + second_tenant.amount_nano_yuan
    assert both == whole.amount_nano_yuan


def reference(
    meters: tuple[MeterPath, ...], version: TariffVersion, used_wh: int
) -> dict[tuple[int, TouPeriod | None], int]:
    """Watt-hour by watt-hour thinking: every half hour on its own, no grid, no cache."""
    energy_by_line: dict[tuple[int, TouPeriod | None], int] = {}
    start = day_bounds(DAY, SHANGHAI)[0]
    for half_hour in range(48):
        since = start + timedelta(minutes=30 * half_hour)
        until = since + timedelta(minutes=30)
        energy_wh = sum(energy_until(m, until) - energy_until(m, since) for m in meters)
        period = None if version is ONE_PRICE else PEAK if 17 <= half_hour < 44 else VALLEY
        for number, block in enumerate(version.blocks):
            ceiling = used_wh + energy_wh if block.up_to_wh is None else block.up_to_wh
            part_wh = max(0, min(energy_wh, ceiling - used_wh))
            if part_wh:
                line = (number, period)
                energy_by_line[line] = energy_by_line.get(line, 0) + part_wh
            used_wh += part_wh
            energy_wh -= part_wh
    return energy_by_line


@given(MANY, VERSIONS, st.integers(0, 40_000))
def test_a_day_equals_a_plain_reference(
    meters: tuple[MeterPath, ...], version: TariffVersion, start_wh: int
) -> None:
    settled = settle(*meters, version=version, block_start_wh=start_wh)
    found = {(line.block, line.period): line.energy_wh for line in settled.lines}
    assert found == reference(meters, version, start_wh)
    prices = {(n, p): price for n, b in enumerate(version.blocks) for p, price in b.prices}
    assert settled.amount_nano_yuan == sum(wh * prices[line] for line, wh in found.items())
