"""Days, their types, their edges and their minutes, also where the clock is set."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.calendar import (
    NO_HOLIDAYS,
    DayType,
    HolidayCalendar,
    MinuteSpan,
    day_bounds,
    local_day,
    minute_text,
    parse_span,
    wall_cuts,
)
from server.core.errors import InvalidInputError

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
APIA = ZoneInfo("Pacific/Apia")
ZONES = [SHANGHAI, NEW_YORK, SAO_PAULO, LORD_HOWE, APIA, ZoneInfo("Asia/Kathmandu")]

# 国务院办公厅 2026 年放假安排, as far as these tests need it
CHINA_2026 = HolidayCalendar(
    holidays=frozenset(
        {date(2026, 1, day) for day in (1, 2, 3)} | {date(2026, 10, day) for day in range(1, 8)}
    ),
    moved_workdays=frozenset({date(2026, 1, 4), date(2026, 9, 20), date(2026, 10, 10)}),
    first_year=2026,
    last_year=2026,
)


@pytest.mark.parametrize(
    ("day", "day_type"),
    [
        ("2026-01-01", DayType.HOLIDAY),  # New Year, a Thursday
        ("2026-01-03", DayType.HOLIDAY),  # a Saturday: holiday beats weekend
        ("2026-01-04", DayType.WORKDAY),  # a Sunday worked for it
        ("2026-01-05", DayType.WORKDAY),
        ("2026-01-10", DayType.WEEKEND),
        ("2026-09-20", DayType.WORKDAY),  # a moved Sunday
        ("2026-10-07", DayType.HOLIDAY),
        ("2026-10-08", DayType.WORKDAY),
        ("2026-10-10", DayType.WORKDAY),  # a moved Saturday
        ("2026-12-31", DayType.WORKDAY),
        ("2027-01-01", DayType.WORKDAY),  # unknown year: an ordinary Friday
        ("2027-01-02", DayType.WEEKEND),
        ("2025-12-28", DayType.WEEKEND),
        ("2028-02-29", DayType.WORKDAY),
    ],
)
def test_a_day_has_one_type(day: str, day_type: DayType) -> None:
    assert CHINA_2026.day_type(date.fromisoformat(day)) is day_type


@pytest.mark.parametrize(("year", "known"), [(2025, False), (2026, True), (2027, False)])
def test_a_calendar_knows_its_years(year: int, known: bool) -> None:
    assert CHINA_2026.knows(date(year, 6, 1)) is known
    assert not NO_HOLIDAYS.knows(date(year, 6, 1))


def test_a_holiday_of_an_unknown_year_is_not_used() -> None:
    calendar = HolidayCalendar(
        frozenset({date(2027, 1, 1)}), frozenset({date(2027, 1, 2)}), 2026, 2026
    )
    assert calendar.day_type(date(2027, 1, 1)) is DayType.WORKDAY
    assert calendar.day_type(date(2027, 1, 2)) is DayType.WEEKEND


@pytest.mark.parametrize(
    ("zone", "day", "start", "end"),
    [
        (SHANGHAI, "2026-01-01", "2025-12-31T16:00", "2026-01-01T16:00"),
        (SHANGHAI, "2028-02-29", "2028-02-28T16:00", "2028-02-29T16:00"),
        (NEW_YORK, "2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00"),  # 23 hours
        (NEW_YORK, "2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00"),  # 25 hours
        (SAO_PAULO, "2018-11-04", "2018-11-04T03:00", "2018-11-05T02:00"),  # no midnight
        (SAO_PAULO, "2018-02-17", "2018-02-17T02:00", "2018-02-18T03:00"),  # 23:00 twice
        (APIA, "2011-12-29", "2011-12-29T10:00", "2011-12-30T10:00"),
        (APIA, "2011-12-30", "2011-12-30T10:00", "2011-12-30T10:00"),  # never was
        (APIA, "2011-12-31", "2011-12-30T10:00", "2011-12-31T10:00"),
        # 23:30 became 00:30 of the next day
        (ZoneInfo("America/Toronto"), "1919-03-31", "1919-03-31T04:30", "1919-04-01T04:00"),
    ],
)
def test_a_day_has_two_instants_as_its_edges(
    zone: ZoneInfo, day: str, start: str, end: str
) -> None:
    bounds = day_bounds(date.fromisoformat(day), zone)
    assert [at.strftime("%Y-%m-%dT%H:%M") for at in bounds] == [start, end]
    assert {at.tzinfo for at in bounds} == {UTC}


INSTANTS = st.integers(600_000_000, 2_050_000_000).map(lambda s: datetime.fromtimestamp(s, UTC))


@given(st.sampled_from(ZONES), INSTANTS)
def test_every_instant_lies_in_its_local_day(zone: ZoneInfo, at: datetime) -> None:
    start, end = day_bounds(local_day(at, zone), zone)
    assert start <= at < end


@given(st.sampled_from(ZONES), st.dates(date(1990, 1, 1), date(2035, 1, 1)))
def test_days_follow_each_other_without_a_gap(zone: ZoneInfo, day: date) -> None:
    assert day_bounds(day, zone)[1] == day_bounds(day + timedelta(days=1), zone)[0]


@pytest.mark.parametrize(
    ("zone", "day", "minutes", "cuts"),
    [
        (SHANGHAI, "2026-03-08", (0, 480), ["00:00+0", "08:00+480"]),
        (SHANGHAI, "2026-03-08", (), ["00:00+0"]),
        (NEW_YORK, "2026-03-08", (60, 120, 150, 180), ["00:00+0", "01:00+60", "03:00+120"]),
        (
            NEW_YORK,
            "2026-11-01",
            (60, 90, 120),
            ["00:00+0", "01:00+60", "01:30+90", "01:00+120", "01:30+150", "02:00+180"],
        ),
        (LORD_HOWE, "2026-04-05", (60, 120), ["00:00+0", "01:00+60", "01:30+120", "02:00+150"]),
        (LORD_HOWE, "2026-10-04", (60, 120), ["00:00+0", "01:00+60", "02:30+120"]),
        (SAO_PAULO, "2018-11-04", (0, 60, 120), ["01:00+0", "02:00+60"]),
        (SAO_PAULO, "2018-02-17", (1380,), ["00:00+0", "23:00+1380", "23:00+1440"]),
        (APIA, "2011-12-30", (0, 60), []),
    ],
)
def test_a_clock_that_is_set_cuts_the_day(
    zone: ZoneInfo, day: str, minutes: tuple[int, ...], cuts: list[str]
) -> None:
    """Each cut as wall clock + minutes since the day began."""
    start = day_bounds(date.fromisoformat(day), zone)[0]
    found = wall_cuts(date.fromisoformat(day), zone, minutes)
    shown = [
        f"{minute_text(cut.minute)}+{(cut.at - start) // timedelta(minutes=1)}" for cut in found
    ]
    assert shown == cuts
    for cut in found:
        local = cut.at.astimezone(zone)
        assert local.hour * 60 + local.minute == cut.minute


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("00:00-24:00", 0, 1440),
        ("00:00-00:01", 0, 1),
        ("23:59-24:00", 1439, 1440),
        ("08:00-10:30", 480, 630),
    ],
)
def test_a_span_is_read_in_minutes(text: str, start: int, end: int) -> None:
    assert parse_span(text, may_wrap=False) == (start, end)
    assert parse_span(text, may_wrap=True) == (start, end)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8:00-10:00",
        "08:00-10:00 ",
        "08:00–10:00",
        "08:00-08:00",
        "00:00-00:00",
        "24:00-24:00",
        "24:00-08:00",
        "08:60-10:00",
        "08:00-09:60",
        "08:00-24:01",
        "08:00-25:00",
        "٠٨:00-10:00",
        "-08:00-10:00",
    ],
)
@pytest.mark.parametrize("may_wrap", [False, True])
def test_what_is_no_span_is_refused(text: str, may_wrap: bool) -> None:
    with pytest.raises(InvalidInputError):
        parse_span(text, may_wrap=may_wrap)


@pytest.mark.parametrize("text", ["20:00-09:00", "20:00-00:00", "00:01-00:00"])
def test_a_span_wraps_over_midnight_only_where_it_may(text: str) -> None:
    assert parse_span(text, may_wrap=True).start > parse_span(text, may_wrap=True).end
    with pytest.raises(InvalidInputError):
        parse_span(text, may_wrap=False)


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("20:00-09:00", [1200, 1439, 0, 539], [540, 720, 1199]),
        ("20:00-00:00", [1200, 1439], [0, 1199]),
        ("08:00-10:00", [480, 599], [0, 479, 600, 1439]),
        ("00:00-24:00", [0, 720, 1439], []),
    ],
)
def test_a_span_holds_its_first_minute_and_not_its_end(
    span: str, inside: list[int], outside: list[int]
) -> None:
    minutes: MinuteSpan = parse_span(span, may_wrap=True)
    assert all(minutes.contains(minute) for minute in inside)
    assert not any(minutes.contains(minute) for minute in outside)
