"""The energy of a gap goes by the meter's registers of the periods, where these can be believed."""

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.calendar import NO_HOLIDAYS, day_bounds
from server.core.settlement.day import DaySettlement, settle_day
from server.core.settlement.document import half_closed_until, statement_document
from server.core.settlement.interval import Exchange, MeterPath, PeriodRegisters, path_from_rows
from server.core.tariff.parse import parse_tariff
from server.core.tariff.periods import TouPeriod
from server.core.tariff.versions import TariffVersion

ZONE = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 3, 4)
TOP = 1_000_000
SHARP, PEAK, FLAT, VALLEY, DEEP = TouPeriod


def tou(valid_from: str, valley: str, peak: str) -> TariffVersion:
    return parse_tariff(
        {
            "code": "tou",
            "valid_from": valid_from,
            "prices": {"peak": "1", "valley": "0.25"},
            "periods": [{"valley": [valley], "peak": [peak]}],
        }
    )


TOU = tou("2026-01-01", "00:00-08:00", "08:00-24:00")
FLAT_PRICE = parse_tariff({"code": "flat", "price": "1"})
Shown = tuple[str, int, PeriodRegisters | None]


def local(text: str) -> datetime:
    """A minute of 2026, such as 03-04 08:30."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=ZONE)


def registers(peak: int | None, valley: int | None, flat: int | None = None) -> PeriodRegisters:
    return (None, peak, flat, valley, None)


def path(*shown: Shown, ratio: int = 1, exchanges: tuple[Exchange, ...] = ()) -> MeterPath:
    rows = [(local(at), wh) for at, wh, _ in shown]
    found = {local(at): periods for at, _, periods in shown if periods is not None}
    return replace(path_from_rows(1, "M-1", ratio, TOP, rows, exchanges), registers_wh=found)


def settle(
    meter: MeterPath,
    *,
    day: date = DAY,
    version: TariffVersion = TOU,
    versions: tuple[TariffVersion, ...] = (),
    opened_at: datetime | None = None,
    closed_at: datetime | None = None,
) -> DaySettlement:
    return settle_day(
        day,
        ZONE,
        [meter],
        version,
        NO_HOLIDAYS,
        block_start_wh=0,
        gap_s=3_600,
        opened_at=opened_at,
        closed_at=closed_at,
        versions=versions,
    )


def by_period(settled: DaySettlement) -> tuple[int, int]:
    """Watt-hours of peak and of valley."""
    found = {line.period: line.energy_wh for line in settled.lines}
    return found.get(PEAK, 0), found.get(VALLEY, 0)


BEFORE = ("03-04 06:00", 10_000, registers(7_000, 3_000))


@pytest.mark.parametrize(
    ("after", "ratio", "peak_wh", "valley_wh"),
    [
        # four hours and 4 kWh over the edge at eight: as the registers say
        (("03-04 10:00", 14_000, registers(10_500, 3_500)), 1, 3_500, 500),
        (("03-04 10:00", 14_000, registers(11_000, 3_000)), 1, 4_000, 0),
        (("03-04 10:00", 14_000, registers(10_500, 3_500)), 40, 140_000, 20_000),
        # without registers, or without one that the tariff needs: in proportion to time
        (("03-04 10:00", 14_000, None), 1, 2_000, 2_000),
        (("03-04 10:00", 14_000, registers(10_500, None)), 1, 2_000, 2_000),
        (("03-04 10:00", 14_000, registers(None, 3_500)), 1, 2_000, 2_000),
        # a register of a period that the tariff does not have there says nothing
        (("03-04 10:00", 14_000, registers(10_500, 3_500, 0)), 1, 3_500, 500),
        # they add up but for the digits that the registers do not show: shares of the total
        (("03-04 10:00", 14_000, registers(10_440, 3_440)), 1, 3_546, 454),
        (("03-04 10:00", 14_000, registers(10_560, 3_560)), 1, 3_456, 544),
        (("03-04 10:00", 14_000, registers(10_439, 3_440)), 1, 2_000, 2_000),
        (("03-04 10:00", 14_000, registers(10_561, 3_560)), 1, 2_000, 2_000),
        (("03-04 10:00", 20_000, registers(16_800, 3_000)), 1, 10_000, 0),  # a fiftieth of 10 kWh
        (("03-04 10:00", 20_000, registers(16_799, 3_000)), 1, 5_000, 5_000),
        # the meter's clock is another one
        (("03-04 10:00", 14_000, registers(8_000, 3_500, 2_500)), 1, 2_000, 2_000),
        # a register that was set back, or did not move with the total
        (("03-04 10:00", 14_000, registers(500, 3_500)), 1, 2_000, 2_000),
        (("03-04 10:00", 10_100, registers(7_000, 3_000)), 1, 50, 50),
        # all of it in one period, to its very edge
        (("03-04 08:00", 14_000, registers(7_000, 7_000)), 1, 0, 4_000),
        # no gap: an hour is not longer than an hour
        (("03-04 07:00", 14_000, registers(7_000, 7_000)), 1, 0, 4_000),
    ],
)
def test_a_gap_over_an_edge(after: Shown, ratio: int, peak_wh: int, valley_wh: int) -> None:
    settled = settle(path(BEFORE, after, ratio=ratio))
    assert by_period(settled) == (peak_wh, valley_wh)
    assert settled.energy_wh == peak_wh + valley_wh
    assert settled.estimated is (after[0] != "03-04 07:00")


def test_an_hour_that_is_no_gap_goes_by_time() -> None:
    shown = ("03-04 07:30", 0, registers(0, 0)), ("03-04 08:30", 1_000, registers(900, 100))
    assert by_period(settle(path(*shown))) == (500, 500)


def test_registers_roll_over() -> None:
    before = ("03-04 06:00", TOP - 1_000, registers(TOP - 600, TOP - 300))
    after = ("03-04 10:00", 3_000, registers(2_900, 200))
    assert by_period(settle(path(before, after))) == (3_500, 500)


def test_in_each_period_the_energy_is_even() -> None:
    settled = settle(path(BEFORE, ("03-04 10:00", 14_000, registers(10_500, 3_500))))
    hours = [hour.energy_wh for hour in settled.hours]
    assert hours[6:10] == [250, 250, 1_750, 1_750]


def test_a_later_reading_in_the_gap_corrects_it() -> None:
    after = ("03-04 10:00", 14_000, registers(10_500, 3_500))
    late = ("03-04 08:00", 13_000, None)
    assert by_period(settle(path(BEFORE, late, after))) == (1_000, 3_000)


NIGHT = (
    ("03-04 21:00", 10_000, registers(7_000, 3_000)),
    ("03-05 11:00", 24_000, registers(12_000, 12_000)),  # 5 kWh of peak, 9 kWh of valley
)


def test_over_midnight_both_days_find_the_same() -> None:
    """Six hours of peak, eight of valley: three and three hours of peak, all valley on the 5th."""
    meter = path(*NIGHT)
    assert by_period(settle(meter)) == (2_500, 0)
    assert by_period(settle(meter, day=DAY + timedelta(days=1))) == (2_500, 9_000)


def test_another_version_at_midnight_does_not_cut_a_gap_otherwise() -> None:
    """The clock is that of the gap's start: what a closed day said stays true."""
    later = tou("2026-03-05", "08:00-24:00", "00:00-08:00")
    tomorrow = DAY + timedelta(days=1)
    settled = settle(path(*NIGHT), day=tomorrow, version=later, versions=(TOU, later))
    assert settled.energy_wh == 11_500
    assert [hour.energy_wh for hour in settled.hours[:11]] == [1_125] * 8 + [833, 833, 834]
    assert by_period(settled) == (9_000, 2_500)  # at that version's prices
    unknown = settle(path(*NIGHT), day=tomorrow, version=later)
    assert by_period(unknown) == (8_000, 3_000)  # no version for the 4th: by time


def test_another_version_may_cut_a_gap_within_a_period() -> None:
    later = tou("2026-03-05", "00:00-08:30", "08:30-24:00")
    tomorrow = DAY + timedelta(days=1)
    settled = settle(path(*NIGHT), day=tomorrow, version=later, versions=(TOU, later))
    assert by_period(settled) == (2_084, 9_416)  # half an hour of peak at the valley's price


def test_the_clock_is_that_of_the_local_day_on_which_the_gap_began() -> None:
    later = tou("2026-03-05", "08:00-24:00", "00:00-08:00")
    since = ("03-05 01:00", 10_000, registers(7_000, 3_000))  # in UTC it is still the 4th
    until = ("03-05 11:00", 20_000, registers(11_000, 9_000))
    settled = settle(
        path(since, until), day=DAY + timedelta(days=1), version=later, versions=(TOU, later)
    )
    assert by_period(settled) == (4_000, 6_000)


@pytest.mark.parametrize(
    ("opened", "closed", "installed", "removed"),
    [
        ("03-04 22:00", None, None, None),
        (None, "03-05 10:59", None, None),
        (None, None, "03-04 21:01", None),
        (None, None, None, "03-05 10:59"),
    ],
)
def test_a_gap_that_two_share_goes_by_time(
    opened: str | None, closed: str | None, installed: str | None, removed: str | None
) -> None:
    """Two tenants, or two shops, may have two clocks; what each finds must add up."""
    meter = replace(
        path(*NIGHT),
        installed_at=local(installed) if installed else None,
        removed_at=local(removed) if removed else None,
    )
    settled = settle(
        meter,
        day=DAY + timedelta(days=1),
        opened_at=local(opened) if opened else None,
        closed_at=local(closed) if closed else None,
    )
    assert [hour.energy_wh for hour in settled.hours[:10]] == [1_000] * 10


def test_a_gap_that_is_all_of_a_tenancy_is_its_own() -> None:
    since, until = local("03-04 21:00"), local("03-05 11:00")
    meter = replace(path(*NIGHT), installed_at=since, removed_at=until)
    assert by_period(settle(meter, opened_at=since, closed_at=until)) == (2_500, 0)


@pytest.mark.parametrize(("days", "peak_wh"), [(31, 31_000), (32, 32_000 * 4 // 3)])
def test_a_gap_of_more_than_a_month_goes_by_time(days: int, peak_wh: int) -> None:
    """Two kilowatt-hours a day, half of them peak by the registers, two thirds by the clock."""
    since, total_wh = day_bounds(DAY, ZONE)[0], days * 2_000
    until = since + timedelta(days=days)
    half = registers(total_wh // 2, total_wh // 2)
    meter = replace(
        path_from_rows(1, "M-1", 1, TOP, [(since, 0), (until, total_wh)]),
        registers_wh={since: registers(0, 0), until: half},
    )
    all_days = [DAY + timedelta(days=number) for number in range(days)]
    found_wh = sum(by_period(settle(meter, day=day))[0] for day in all_days)
    assert abs(found_wh - peak_wh) <= days


def test_without_periods_there_is_nothing_to_split() -> None:
    settled = settle(path(*NIGHT), version=FLAT_PRICE)
    assert settled.energy_wh == 3_000


def test_what_an_exchange_says_has_no_registers() -> None:
    """Also where a reading of that very instant had some: it does not count."""
    swap = (Exchange(local("03-04 10:00"), 14_000, 0, 1, TOP),)
    after = ("03-04 10:00", 14_000, registers(10_500, 3_500))
    assert by_period(settle(path(BEFORE, after, exchanges=swap))) == (2_000, 2_000)
    early = (Exchange(local("03-04 06:00"), 10_000, 10_000, 1, TOP),)
    assert by_period(settle(path(BEFORE, after, exchanges=early))) == (2_000, 2_000)
    before = (Exchange(local("03-04 05:00"), 9_000, 9_000, 1, TOP),)
    assert by_period(settle(path(BEFORE, after, exchanges=before))) == (3_500, 1_500)


def test_the_third_device_has_its_registers() -> None:
    exchanges = tuple(
        Exchange(local(at), 9_000, 9_000, 1, TOP) for at in ("03-04 04:00", "03-04 05:00")
    )
    after = ("03-04 10:00", 14_000, registers(10_500, 3_500))
    idle = [(at, 14_000, None) for at in ("03-04 11:00", "03-04 12:00")]
    meter = path(("03-04 03:00", 9_000, None), BEFORE, after, *idle, exchanges=exchanges)
    assert by_period(settle(meter)) == (3_500, 1_500)


def test_a_statement_says_how_a_gap_was_split() -> None:
    document = statement_document(settle(path(*NIGHT)), TOU)
    assert half_closed_until(document) == local("03-05 11:00")
    (device,) = json.loads(json.dumps(document))["readings"]
    assert device["gaps"] == [
        {
            "starts_at": "2026-03-04T21:00:00+08:00",
            "ends_at": "2026-03-05T11:00:00+08:00",
            "energy_wh": 14_000,
            "by_register": {
                "tariff_valid_from": "2026-01-01",
                "energy_wh": {"peak": 5_000, "valley": 9_000},
            },
        }
    ]


MORNING = registers(10_500, 3_500)


@pytest.mark.parametrize(
    ("shown", "day"),
    [
        (NIGHT, DAY + timedelta(days=1)),  # its other half
        ((BEFORE, ("03-04 10:00", 14_000, MORNING)), DAY),  # within the day
        ((BEFORE, ("03-05 00:00", 14_000, MORNING)), DAY),  # until its very end
        ((BEFORE, ("03-05 10:00", 14_000, None)), DAY),  # by time
        ((BEFORE,), DAY),  # no gap
    ],
)
def test_a_gap_that_a_day_settles_whole_leaves_nothing_half_closed(
    shown: tuple[Shown, ...], day: date
) -> None:
    assert half_closed_until(statement_document(settle(path(*shown), day=day), TOU)) is None


def test_of_two_gaps_the_one_that_goes_on_is_half_closed() -> None:
    shown = (BEFORE, ("03-04 10:00", 14_000, MORNING), ("03-05 03:00", 24_000, None))
    later = ("03-05 03:00", 24_000, registers(18_500, 5_500))
    settled = settle(path(*shown[:2], later))
    assert half_closed_until(statement_document(settled, TOU)) == local("03-05 03:00")
    assert half_closed_until(statement_document(settle(path(*shown)), TOU)) is None


@given(
    st.integers(0, 86_399),
    st.integers(3_601, 6 * 86_400),
    st.integers(0, 300_000),
    st.integers(0, 300_000),
    st.integers(1, 60),
    st.lists(st.integers(0, 6 * 86_400), max_size=4),
)
def test_wherever_a_gap_is_cut_the_periods_add_up_to_their_registers(
    second: int, length: int, peak_wh: int, valley_wh: int, ratio: int, cuts: list[int]
) -> None:
    """By days, and into the whole by single hours, never less than nothing."""
    since = day_bounds(DAY, ZONE)[0] + timedelta(seconds=second)
    until = since + timedelta(seconds=length)
    rows = [(since, 0), (until, peak_wh + valley_wh)]
    found = {since: registers(0, 0), until: registers(peak_wh, valley_wh)}
    meter = replace(path_from_rows(1, "M-1", ratio, TOP, rows), registers_wh=found)
    days = [settle(meter, day=DAY + timedelta(days=number)) for number in range(8)]
    total = [sum(wh) for wh in zip(*(by_period(day) for day in days), strict=True)]
    assert sum(total) == (peak_wh + valley_wh) * ratio
    lasting = {line.period for day in days for line in day.lines}
    split = any(
        gap.split for day in days for m in day.readings for d in m.devices for gap in d.gaps
    )
    if split and lasting == {PEAK, VALLEY}:
        assert total == [peak_wh * ratio, valley_wh * ratio]
    assert min((hour.energy_wh for day in days for hour in day.hours), default=0) >= 0
