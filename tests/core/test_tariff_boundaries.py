"""Where a price changes, and where blocks begin anew: one line a case, through whole days.

A case says what was used from one wall-clock time to another, evenly, and what each day's lines
then are: period, block, price in yuan, watt-hours.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from server.core.calendar import HolidayCalendar
from server.core.money import price_text
from server.core.settlement.day import settle_day
from server.core.settlement.interval import path_from_rows
from server.core.tariff.parse import parse_tariff
from server.core.tariff.versions import TariffVersion, block_period_start, version_on

SHANGHAI = ZoneInfo("Asia/Shanghai")
Table = dict[str, object]
# 国务院办公厅 2026 年放假安排, as far as these cases need it; 2027 is not known
CALENDAR = HolidayCalendar(
    holidays=frozenset(
        {date(2026, 1, day) for day in (1, 2, 3)} | {date(2026, 10, day) for day in range(1, 8)}
    ),
    moved_workdays=frozenset({date(2026, 1, 4), date(2026, 2, 14), date(2026, 10, 10)}),
    first_year=2026,
    last_year=2026,
)
PRICES = {"sharp": "1.5", "peak": "1.2", "flat": "0.8", "valley": "0.4", "deep_valley": "0.2"}
SUMMER, NOT_SUMMER = [7, 8], [1, 2, 3, 4, 5, 6, 9, 10, 11, 12]
TOU: Table = {
    "code": "t",
    "prices": PRICES,
    "periods": [
        {
            "months": SUMMER,
            "days": "workday",
            "valley": ["00:00-08:00"],
            "flat": ["08:00-18:00"],
            "sharp": ["18:00-24:00"],
        },
        {
            "months": NOT_SUMMER,
            "days": "workday",
            "valley": ["00:00-08:00"],
            "flat": ["08:00-18:00"],
            "peak": ["18:00-24:00"],
        },
        {"days": "weekend", "valley": ["00:00-08:00"], "flat": ["08:00-24:00"]},
        {"days": "holiday", "deep_valley": ["00:00-24:00"]},
    ],
}
BLOCKS = [{"up_to_kwh": 1, "price": "0.5"}, {"up_to_kwh": 3, "price": "0.6"}, {"price": "0.9"}]
MONTHLY: Table = {"code": "t", "blocks": BLOCKS, "period": "month"}
YEARLY: Table = {"code": "t", "blocks": BLOCKS, "period": "year"}
BLOCKS_BY_TIME: Table = {
    "code": "t",
    "blocks": [
        {"up_to_kwh": 1, "prices": {"flat": "0.8", "valley": "0.4"}},
        {"prices": {"flat": "1.0", "valley": "0.5"}},
    ],
    "periods": [{"valley": ["00:00-08:00"], "flat": ["08:00-24:00"]}],
    "period": "month",
}
CHEAP: Table = {"code": "t", "price": "0.5"}
DEAR_FROM_JUNE: Table = {"code": "t", "price": "0.7", "valid_from": "2026-06-01"}
BLOCKS_FROM_20_MAY: Table = {**MONTHLY, "valid_from": "2026-05-20"}
TOU_FROM_JUNE: Table = {**TOU, "valid_from": "2026-06-01"}
YEARLY_FROM_JUNE: Table = {**YEARLY, "valid_from": "2026-06-01"}

Use = tuple[str, str, int]  # from, to (wall clock), watt-hours
Line = tuple[str | None, int, str, int]  # period, block, yuan per kWh, watt-hours


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)


def bill(tables: Sequence[Table], uses: Sequence[Use]) -> dict[str, list[Line]]:
    """The lines of each day with use, day after day, blocks counting on."""
    versions = [parse_tariff(table) for table in tables]
    register_wh, readings = 0, [(local(uses[0][0]), 0)]
    for start, end, energy_wh in uses:
        readings.append((local(start), register_wh))
        register_wh += energy_wh
        readings.append((local(end), register_wh))
    path = path_from_rows(1, "M-1", 1, 1_000_000_000, readings)
    used_wh: dict[date, int] = {}
    lines: dict[str, list[Line]] = {}
    day = readings[0][0].date()
    while day <= readings[-1][0].date():
        version = version_on(versions, day)
        settled = settle_day(
            day,
            SHANGHAI,
            [path],
            version,
            CALENDAR,
            block_start_wh=_used_before(version, day, used_wh),
            gap_s=10**9,
        )
        used_wh[day] = settled.energy_wh
        if settled.lines:
            lines[day.isoformat()] = [
                (
                    line.period and line.period.value,
                    line.block,
                    price_text(line.price_micro_yuan),
                    line.energy_wh,
                )
                for line in settled.lines
            ]
        day += timedelta(days=1)
    return lines


def _used_before(version: TariffVersion, day: date, used_wh: dict[date, int]) -> int:
    since = block_period_start(version, day)
    return 0 if since is None else sum(wh for one, wh in used_wh.items() if since <= one < day)


def flat(wh: int) -> Line:
    return ("flat", 0, "0.80", wh)


def valley(wh: int) -> Line:
    return ("valley", 0, "0.40", wh)


def peak(wh: int) -> Line:
    return ("peak", 0, "1.20", wh)


def sharp(wh: int) -> Line:
    return ("sharp", 0, "1.50", wh)


def deep(wh: int) -> Line:
    return ("deep_valley", 0, "0.20", wh)


def block(number: int, wh: int) -> Line:
    return (None, number, ("0.50", "0.60", "0.90")[number], wh)


CLOCK: list[tuple[str, Use, dict[str, list[Line]]]] = [
    ("00:00", ("2026-05-20 00:00", "2026-05-20 00:01", 6), {"2026-05-20": [valley(6)]}),
    ("24:00", ("2026-05-20 23:59", "2026-05-21 00:00", 6), {"2026-05-20": [peak(6)]}),
    (
        "over 24:00",
        ("2026-05-20 23:59", "2026-05-21 00:01", 6),
        {"2026-05-20": [peak(3)], "2026-05-21": [valley(3)]},
    ),
    ("to 08:00", ("2026-05-20 07:59", "2026-05-20 08:00", 6), {"2026-05-20": [valley(6)]}),
    ("from 08:00", ("2026-05-20 08:00", "2026-05-20 08:01", 6), {"2026-05-20": [flat(6)]}),
    (
        "over 18:00",
        ("2026-05-20 17:59", "2026-05-20 18:01", 6),
        {"2026-05-20": [peak(3), flat(3)]},
    ),
    (
        "Friday to Saturday",
        ("2026-05-22 23:59", "2026-05-23 00:01", 6),
        {"2026-05-22": [peak(3)], "2026-05-23": [valley(3)]},
    ),
    ("Saturday evening", ("2026-05-23 19:00", "2026-05-23 20:00", 6), {"2026-05-23": [flat(6)]}),
    (
        "Sunday to Monday",
        ("2026-05-24 23:59", "2026-05-25 00:01", 6),
        {"2026-05-24": [flat(3)], "2026-05-25": [valley(3)]},
    ),
    (
        "into 29 February",
        ("2028-02-28 23:59", "2028-02-29 00:01", 6),
        {"2028-02-28": [peak(3)], "2028-02-29": [valley(3)]},
    ),
    (
        "out of 29 February",
        ("2028-02-29 23:59", "2028-03-01 00:01", 6),
        {"2028-02-29": [peak(3)], "2028-03-01": [valley(3)]},
    ),
    (
        "28 February to March",
        ("2026-02-28 23:59", "2026-03-01 00:01", 6),
        {"2026-02-28": [flat(3)], "2026-03-01": [valley(3)]},
    ),
    (
        "New Year's holiday begins",
        ("2025-12-31 23:59", "2026-01-01 00:01", 6),
        {"2025-12-31": [peak(3)], "2026-01-01": [deep(3)]},
    ),
    (
        "holiday to moved workday",
        ("2026-01-03 23:59", "2026-01-04 00:01", 6),
        {"2026-01-03": [deep(3)], "2026-01-04": [valley(3)]},
    ),
    ("a worked Sunday", ("2026-01-04 19:00", "2026-01-04 20:00", 6), {"2026-01-04": [peak(6)]}),
    ("a worked Saturday", ("2026-02-14 19:00", "2026-02-14 20:00", 6), {"2026-02-14": [peak(6)]}),
    ("the next Saturday", ("2026-02-21 19:00", "2026-02-21 20:00", 6), {"2026-02-21": [flat(6)]}),
    ("a Saturday off", ("2026-01-03 19:00", "2026-01-03 20:00", 6), {"2026-01-03": [deep(6)]}),
    (
        "holiday week ends",
        ("2026-10-07 23:59", "2026-10-08 00:01", 6),
        {"2026-10-07": [deep(3)], "2026-10-08": [valley(3)]},
    ),
    (
        "New Year of an unknown year: an ordinary Friday",
        ("2026-12-31 23:59", "2027-01-01 00:01", 6),
        {"2026-12-31": [peak(3)], "2027-01-01": [valley(3)]},
    ),
    (
        "its Saturday: a weekend",
        ("2027-01-02 19:00", "2027-01-02 20:00", 6),
        {"2027-01-02": [flat(6)]},
    ),
    ("summer's eve", ("2026-06-30 19:00", "2026-06-30 20:00", 6), {"2026-06-30": [peak(6)]}),
    ("summer begins", ("2026-07-01 19:00", "2026-07-01 20:00", 6), {"2026-07-01": [sharp(6)]}),
    (
        "into summer",
        ("2026-06-30 23:59", "2026-07-01 00:01", 6),
        {"2026-06-30": [peak(3)], "2026-07-01": [valley(3)]},
    ),
    (
        "out of summer",
        ("2026-08-31 23:59", "2026-09-01 00:01", 6),
        {"2026-08-31": [sharp(3)], "2026-09-01": [valley(3)]},
    ),
]


@pytest.mark.parametrize(("use", "lines"), [case[1:] for case in CLOCK], ids=[c[0] for c in CLOCK])
def test_a_period_begins_and_ends_to_the_minute(use: Use, lines: dict[str, list[Line]]) -> None:
    assert bill([TOU], [use]) == lines


VERSIONS: list[tuple[str, list[Table], Use, dict[str, list[Line]]]] = [
    (
        "another price at midnight",
        [CHEAP, DEAR_FROM_JUNE],
        ("2026-05-31 23:59", "2026-06-01 00:01", 6),
        {"2026-05-31": [(None, 0, "0.50", 3)], "2026-06-01": [(None, 0, "0.70", 3)]},
    ),
    (
        "the last minute before it",
        [CHEAP, DEAR_FROM_JUNE],
        ("2026-05-31 23:59", "2026-06-01 00:00", 6),
        {"2026-05-31": [(None, 0, "0.50", 6)]},
    ),
    (
        "periods from midnight on",
        [CHEAP, TOU_FROM_JUNE],
        ("2026-05-31 23:59", "2026-06-01 00:01", 6),
        {"2026-05-31": [(None, 0, "0.50", 3)], "2026-06-01": [valley(3)]},
    ),
    (
        "blocks from midnight on count what the month has used",
        [CHEAP, BLOCKS_FROM_20_MAY],
        ("2026-05-19 22:00", "2026-05-20 02:00", 5_000),
        {"2026-05-19": [(None, 0, "0.50", 2_500)], "2026-05-20": [block(1, 500), block(2, 2_000)]},
    ),
    (
        "blocks of the year from June on count what the year has used",
        [MONTHLY, YEARLY_FROM_JUNE],
        ("2026-05-31 22:00", "2026-06-01 02:00", 5_000),
        {
            "2026-05-31": [block(0, 1_000), block(1, 1_500)],
            "2026-06-01": [block(1, 500), block(2, 2_000)],
        },
    ),
]


@pytest.mark.parametrize(
    ("tables", "use", "lines"), [case[1:] for case in VERSIONS], ids=[c[0] for c in VERSIONS]
)
def test_a_version_holds_from_its_midnight_on(
    tables: list[Table], use: Use, lines: dict[str, list[Line]]
) -> None:
    assert bill(tables, [use]) == lines


def whole(day: str, energy_wh: int) -> Use:
    """Some hour at noon."""
    return f"{day} 12:00", f"{day} 13:00", energy_wh


COUNTED: list[tuple[str, Table, list[Use], dict[str, list[Line]]]] = [
    (
        "an edge exactly hit",
        MONTHLY,
        [whole("2026-05-20", 1_000)],
        {"2026-05-20": [block(0, 1_000)]},
    ),
    (
        "one watt-hour more",
        MONTHLY,
        [whole("2026-05-20", 1_001)],
        {"2026-05-20": [block(0, 1_000), block(1, 1)]},
    ),
    (
        "hit on one day, the next begins above it",
        MONTHLY,
        [whole("2026-05-20", 1_000), whole("2026-05-21", 1)],
        {"2026-05-20": [block(0, 1_000)], "2026-05-21": [block(1, 1)]},
    ),
    (
        "the second edge exactly hit",
        MONTHLY,
        [whole("2026-05-20", 3_000), whole("2026-05-21", 1)],
        {"2026-05-20": [block(0, 1_000), block(1, 2_000)], "2026-05-21": [block(2, 1)]},
    ),
    (
        "blocks of a month begin anew at its first midnight",
        MONTHLY,
        [("2026-05-31 22:00", "2026-06-01 02:00", 8_000)],
        {
            "2026-05-31": [block(0, 1_000), block(1, 2_000), block(2, 1_000)],
            "2026-06-01": [block(0, 1_000), block(1, 2_000), block(2, 1_000)],
        },
    ),
    (
        "those of a year do not",
        YEARLY,
        [("2026-05-31 22:00", "2026-06-01 02:00", 8_000)],
        {
            "2026-05-31": [block(0, 1_000), block(1, 2_000), block(2, 1_000)],
            "2026-06-01": [block(2, 4_000)],
        },
    ),
    (
        "New Year, by month",
        MONTHLY,
        [("2026-12-31 23:00", "2027-01-01 01:00", 4_000)],
        {
            "2026-12-31": [block(0, 1_000), block(1, 1_000)],
            "2027-01-01": [block(0, 1_000), block(1, 1_000)],
        },
    ),
    (
        "New Year, by year",
        YEARLY,
        [whole("2026-12-30", 3_000), ("2026-12-31 23:00", "2027-01-01 01:00", 4_000)],
        {
            "2026-12-30": [block(0, 1_000), block(1, 2_000)],
            "2026-12-31": [block(2, 2_000)],
            "2027-01-01": [block(0, 1_000), block(1, 1_000)],
        },
    ),
    (
        "29 February belongs to its month",
        MONTHLY,
        [whole("2028-02-28", 1_000), whole("2028-02-29", 500), whole("2028-03-01", 500)],
        {
            "2028-02-28": [block(0, 1_000)],
            "2028-02-29": [block(1, 500)],
            "2028-03-01": [block(0, 500)],
        },
    ),
    (
        "with periods, an edge in the middle of one",
        BLOCKS_BY_TIME,
        [("2026-05-20 07:00", "2026-05-20 09:00", 3_000)],
        {
            "2026-05-20": [
                ("valley", 0, "0.40", 1_000),
                ("flat", 1, "1.00", 1_500),
                ("valley", 1, "0.50", 500),
            ]
        },
    ),
    (
        "with periods, an edge at the change of one",
        BLOCKS_BY_TIME,
        [("2026-05-20 07:00", "2026-05-20 09:00", 2_000)],
        {"2026-05-20": [("valley", 0, "0.40", 1_000), ("flat", 1, "1.00", 1_000)]},
    ),
    (
        "with periods, anew at the month's midnight",
        BLOCKS_BY_TIME,
        [("2026-05-31 23:00", "2026-06-01 01:00", 4_000)],
        {
            "2026-05-31": [("flat", 0, "0.80", 1_000), ("flat", 1, "1.00", 1_000)],
            "2026-06-01": [("valley", 0, "0.40", 1_000), ("valley", 1, "0.50", 1_000)],
        },
    ),
]


@pytest.mark.parametrize(
    ("table", "uses", "lines"), [case[1:] for case in COUNTED], ids=[c[0] for c in COUNTED]
)
def test_blocks_count_to_the_watt_hour_and_begin_anew(
    table: Table, uses: list[Use], lines: dict[str, list[Line]]
) -> None:
    assert bill([table], uses) == lines
