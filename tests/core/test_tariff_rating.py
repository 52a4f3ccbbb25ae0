"""What energy costs: lines by block and period, the price now, and when it changes."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.calendar import NO_HOLIDAYS, HolidayCalendar, day_bounds
from server.core.errors import InvalidInputError, NotFoundError
from server.core.tariff.parse import parse_tariff
from server.core.tariff.periods import PeriodSpan, TouPeriod
from server.core.tariff.rating import (
    PricedParts,
    RatedLine,
    Rating,
    amount_of_parts,
    boundaries,
    part_prices,
    price_at,
    rate_parts,
)
from server.core.tariff.versions import (
    Block,
    TariffKind,
    TariffVersion,
    block_period_start,
    version_on,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")
SHARP, PEAK, FLAT, VALLEY, DEEP = TouPeriod
NOON = datetime(2026, 3, 4, 4, tzinfo=UTC)

CALENDAR = HolidayCalendar(
    holidays=frozenset({date(2026, 1, 1), date(2026, 1, 3), date(2026, 10, 1)}),
    moved_workdays=frozenset({date(2026, 1, 4), date(2026, 10, 10)}),
    first_year=2026,
    last_year=2026,
)
ONE_PRICE = parse_tariff({"code": "flat", "price": "0.6883"})
NOT_SUMMER = [1, 2, 3, 4, 5, 6, 9, 10, 11, 12]
BY_SEASON = parse_tariff(
    {
        "code": "seasons",
        "prices": {
            "sharp": "1.2345",
            "peak": "1.0288",
            "flat": "0.6172",
            "valley": "0.2891",
            "deep_valley": "0.1",
        },
        "periods": [
            {
                "months": [7, 8],
                "days": "workday",
                "valley": ["00:00-08:00"],
                "peak": ["08:00-18:00"],
                "sharp": ["18:00-22:00"],
                "flat": ["22:00-24:00"],
            },
            {
                "months": NOT_SUMMER,
                "days": "workday",
                "valley": ["00:00-08:00"],
                "peak": ["08:00-22:00"],
                "flat": ["22:00-24:00"],
            },
            {"days": "weekend", "valley": ["00:00-08:00"], "flat": ["08:00-24:00"]},
            {
                "days": "holiday",
                "deep_valley": ["00:00-12:00", "12:00-14:00"],
                "flat": ["14:00-24:00"],
            },
        ],
    }
)
BLOCKS = parse_tariff(
    {
        "code": "blocks",
        "blocks": [
            {"up_to_kwh": 1, "price": "0.5"},
            {"up_to_kwh": 3, "price": "0.6"},
            {"price": "0.9"},
        ],
    }
)
TOU_BLOCKS = parse_tariff(
    {
        "code": "tou-blocks",
        "blocks": [
            {"up_to_kwh": 1, "prices": {"peak": "1", "valley": "0.2"}},
            {"prices": {"peak": "2", "valley": "0.4"}},
        ],
        "periods": [{"peak": ["08:00-24:00"], "valley": ["00:00-08:00"]}],
    }
)


FIRST_MINUTE = parse_tariff(
    {
        "code": "first-minute",
        "prices": {"peak": "1", "valley": "0.2"},
        "periods": [{"valley": ["00:00-00:01"], "peak": ["00:01-24:00"]}],
    }
)
Part = tuple[int, TouPeriod | None]


def rate(parts: Sequence[Part], version: TariffVersion, start_wh: int) -> PricedParts:
    """What these parts cost, one after the other."""
    energies, periods = [part[0] for part in parts], [part[1] for part in parts]
    return rate_parts(energies, periods, version, block_start_wh=start_wh)


@pytest.mark.parametrize(
    ("version", "start_wh", "parts", "lines"),
    [
        (ONE_PRICE, 0, [], []),
        (ONE_PRICE, 0, [(0, None)], []),
        (ONE_PRICE, 0, [(1, None)], [(None, 0, 688_300, 1, 688_300)]),
        (ONE_PRICE, 10**9, [(1_000, None)], [(None, 0, 688_300, 1_000, 688_300_000)]),
        (
            BY_SEASON,
            0,
            [(10, FLAT), (20, SHARP), (5, FLAT)],  # dearest first, whatever came first
            [(SHARP, 0, 1_234_500, 20, 24_690_000), (FLAT, 0, 617_200, 15, 9_258_000)],
        ),
        # [from, to): the last watt-hour below the edge is in the lower block
        (BLOCKS, 0, [(1_000, None)], [(None, 0, 500_000, 1_000, 500_000_000)]),
        (
            BLOCKS,
            0,
            [(1_001, None)],
            [(None, 0, 500_000, 1_000, 500_000_000), (None, 1, 600_000, 1, 600_000)],
        ),
        (BLOCKS, 999, [(1, None)], [(None, 0, 500_000, 1, 500_000)]),
        (BLOCKS, 1_000, [(1, None)], [(None, 1, 600_000, 1, 600_000)]),
        (BLOCKS, 3_000, [(1, None)], [(None, 2, 900_000, 1, 900_000)]),
        (
            BLOCKS,
            500,
            [(5_000, None)],  # one slice through three blocks
            [
                (None, 0, 500_000, 500, 250_000_000),
                (None, 1, 600_000, 2_000, 1_200_000_000),
                (None, 2, 900_000, 2_500, 2_250_000_000),
            ],
        ),
        (
            TOU_BLOCKS,
            0,
            [(600, VALLEY), (600, PEAK), (100, VALLEY)],  # the earlier fills the lower block
            [
                (PEAK, 0, 1_000_000, 400, 400_000_000),
                (VALLEY, 0, 200_000, 600, 120_000_000),
                (PEAK, 1, 2_000_000, 200, 400_000_000),
                (VALLEY, 1, 400_000, 100, 40_000_000),
            ],
        ),
    ],
)
def test_energy_is_rated_in_explained_lines(
    version: TariffVersion,
    start_wh: int,
    parts: list[Part],
    lines: list[tuple[TouPeriod | None, int, int, int, int]],
) -> None:
    expected = tuple(RatedLine(*line) for line in lines)
    rating = rate(parts, version, start_wh).rating
    assert rating == Rating(expected, sum(line.amount_nano_yuan for line in expected))


@pytest.mark.parametrize(
    ("version", "start_wh", "parts", "amounts"),
    [
        (ONE_PRICE, 0, [(0, None), (2, None)], [0, 1_376_600]),
        (TOU_BLOCKS, 0, [(600, VALLEY), (400, PEAK)], [120_000_000, 400_000_000]),
        # 400 Wh at 1 yuan, 200 Wh at 2 yuan
        (TOU_BLOCKS, 600, [(600, PEAK), (100, VALLEY)], [800_000_000, 40_000_000]),
        (BLOCKS, 500, [(5_000, None)], [250_000_000 + 1_200_000_000 + 2_250_000_000]),
    ],
)
def test_each_part_has_its_own_amount(
    version: TariffVersion, start_wh: int, parts: list[Part], amounts: list[int]
) -> None:
    assert rate(parts, version, start_wh).amounts_nano_yuan == amounts


PARTS = st.lists(st.tuples(st.integers(0, 4_000), st.sampled_from([PEAK, VALLEY])), max_size=8)


@given(PARTS, st.integers(0, 3_000), st.data())
def test_energy_in_pieces_costs_what_it_costs_whole(
    parts: list[Part], start_wh: int, data: st.DataObject
) -> None:
    pieces: list[Part] = []
    for energy_wh, period in parts:
        first_wh = data.draw(st.integers(0, energy_wh))
        pieces += [(first_wh, period), (energy_wh - first_wh, period)]
    assert rate(pieces, TOU_BLOCKS, start_wh).rating == rate(parts, TOU_BLOCKS, start_wh).rating


@given(PARTS, st.integers(0, 3_000), st.integers(0, 8))
def test_two_days_cost_what_both_cost_together(parts: list[Part], start_wh: int, cut: int) -> None:
    used_wh = sum(energy_wh for energy_wh, _ in parts[:cut])
    first = rate(parts[:cut], TOU_BLOCKS, start_wh).rating
    second = rate(parts[cut:], TOU_BLOCKS, start_wh + used_wh).rating
    whole = rate(parts, TOU_BLOCKS, start_wh).rating
    assert first.amount_nano_yuan + second.amount_nano_yuan == whole.amount_nano_yuan


@given(PARTS, st.integers(0, 3_000))
def test_lines_hold_all_energy_and_their_amounts_are_exact(
    parts: list[Part], start_wh: int
) -> None:
    rating, amounts = rate(parts, TOU_BLOCKS, start_wh)
    assert sum(line.energy_wh for line in rating.lines) == sum(wh for wh, _ in parts)
    assert all(
        line.amount_nano_yuan == line.energy_wh * line.price_micro_yuan for line in rating.lines
    )
    assert sum(line.amount_nano_yuan for line in rating.lines) == rating.amount_nano_yuan
    assert sum(amounts) == rating.amount_nano_yuan


ENDING = TariffVersion("x", date(2026, 1, 1), TariffKind.BLOCK, (Block(5, ((None, 1),)),))


@pytest.mark.parametrize(
    ("version", "start_wh", "part", "why"),
    [
        (ONE_PRICE, -1, (1, None), "energy is never negative"),
        (ONE_PRICE, 0, (-1, None), "energy is never negative"),
        (ONE_PRICE, 0, (1, PEAK), "the tariff has no price for peak"),
        (BY_SEASON, 0, (1, None), "the tariff has no price for a whole day"),
        (ENDING, 5, (1, None), "the last block must be without end"),
    ],
)
def test_what_cannot_be_rated_is_refused(
    version: TariffVersion, start_wh: int, part: Part, why: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        rate([part], version, start_wh)
    assert str(refused.value) == why


def test_each_part_needs_its_period() -> None:
    with pytest.raises(ValueError, match="shorter"):
        rate_parts([1, 2], [None], ONE_PRICE, block_start_wh=0)


@pytest.mark.parametrize(
    ("day", "spans"),
    [
        (
            "2026-07-01",
            [(0, 480, VALLEY), (480, 1080, PEAK), (1080, 1320, SHARP), (1320, 1440, FLAT)],
        ),
        ("2026-07-04", [(0, 480, VALLEY), (480, 1440, FLAT)]),  # Saturday
        ("2026-06-30", [(0, 480, VALLEY), (480, 1320, PEAK), (1320, 1440, FLAT)]),
        ("2026-01-01", [(0, 840, DEEP), (840, 1440, FLAT)]),  # holiday; neighbours joined
        ("2026-01-03", [(0, 840, DEEP), (840, 1440, FLAT)]),  # holiday beats Saturday
        ("2026-01-04", [(0, 480, VALLEY), (480, 1320, PEAK), (1320, 1440, FLAT)]),  # moved Sunday
        ("2026-10-10", [(0, 480, VALLEY), (480, 1320, PEAK), (1320, 1440, FLAT)]),
        ("2026-10-11", [(0, 480, VALLEY), (480, 1440, FLAT)]),
        ("2028-02-29", [(0, 480, VALLEY), (480, 1320, PEAK), (1320, 1440, FLAT)]),
        ("2027-01-01", [(0, 480, VALLEY), (480, 1320, PEAK), (1320, 1440, FLAT)]),  # unknown year
    ],
)
def test_a_day_has_its_periods(day: str, spans: list[tuple[int, int, TouPeriod]]) -> None:
    found = BY_SEASON.spans(date.fromisoformat(day), CALENDAR)
    assert found == tuple(PeriodSpan(*span) for span in spans)


@pytest.mark.parametrize(
    ("version", "depends"),
    [(ONE_PRICE, False), (BLOCKS, False), (TOU_BLOCKS, False), (BY_SEASON, True)],
)
def test_a_tariff_depends_on_the_type_of_day_or_does_not(
    version: TariffVersion, depends: bool
) -> None:
    assert version.depends_on_day_type is depends


@pytest.mark.parametrize(
    ("version", "at", "used_wh", "period", "price"),
    [
        (ONE_PRICE, "2026-07-01T12:00", 0, None, 688_300),
        (BY_SEASON, "2026-07-01T00:00", 0, VALLEY, 289_100),
        (BY_SEASON, "2026-07-01T07:59:59", 0, VALLEY, 289_100),
        (BY_SEASON, "2026-07-01T08:00", 0, PEAK, 1_028_800),
        (BY_SEASON, "2026-07-01T21:59:59.999999", 0, SHARP, 1_234_500),
        (BY_SEASON, "2026-07-01T23:59:59.999999", 0, FLAT, 617_200),
        (BY_SEASON, "2026-01-01T13:59", 0, DEEP, 100_000),
        (BY_SEASON, "2025-12-31T23:59", 0, FLAT, 617_200),
        (BLOCKS, "2026-07-01T12:00", 999, None, 500_000),
        (BLOCKS, "2026-07-01T12:00", 1_000, None, 600_000),
        (BLOCKS, "2026-07-01T12:00", 3_000, None, 900_000),
        (TOU_BLOCKS, "2026-07-01T07:59", 1_000, VALLEY, 400_000),
        (TOU_BLOCKS, "2026-07-01T08:00", 999, PEAK, 1_000_000),
    ],
)
def test_the_price_now_follows_the_wall_clock_and_the_block(
    version: TariffVersion, at: str, used_wh: int, period: TouPeriod | None, price: int
) -> None:
    local = datetime.fromisoformat(at).replace(tzinfo=SHANGHAI)
    assert price_at(version, local, CALENDAR, used_wh) == (period, price)


def test_a_time_without_a_timezone_has_no_price() -> None:
    with pytest.raises(InvalidInputError) as refused:
        price_at(ONE_PRICE, NOON.replace(tzinfo=None), CALENDAR, 0)
    assert str(refused.value) == "a local time must know its timezone"


@pytest.mark.parametrize(
    ("version", "day", "zone", "instants"),
    [
        (ONE_PRICE, "2026-03-08", SHANGHAI, ["00:00", "00:00"]),
        (BLOCKS, "2026-03-08", SHANGHAI, ["00:00", "00:00"]),
        (BY_SEASON, "2026-07-01", SHANGHAI, ["00:00", "08:00", "18:00", "22:00", "00:00"]),
        (BY_SEASON, "2026-01-01", SHANGHAI, ["00:00", "14:00", "00:00"]),
        (TOU_BLOCKS, "2026-03-08", NEW_YORK, ["00:00", "08:00", "00:00"]),
        (FIRST_MINUTE, "2026-03-08", SHANGHAI, ["00:00", "00:01", "00:00"]),
        (FIRST_MINUTE, "2026-11-01", NEW_YORK, ["00:00", "00:01", "00:00"]),  # 01:00 twice
    ],
)
def test_periods_change_at_instants(
    version: TariffVersion, day: str, zone: ZoneInfo, instants: list[str]
) -> None:
    found = boundaries(version, date.fromisoformat(day), zone, CALENDAR)
    assert [at.astimezone(zone).strftime("%H:%M") for at in found] == instants
    assert (found[0], found[-1]) == day_bounds(date.fromisoformat(day), zone)


def test_a_repeated_hour_brings_its_change_of_period_twice() -> None:
    version = parse_tariff(
        {
            "code": "x",
            "prices": {"peak": "1", "valley": "0.2"},
            "periods": [{"valley": ["00:00-01:30"], "peak": ["01:30-24:00"]}],
        }
    )
    found = boundaries(version, date(2026, 11, 1), NEW_YORK, NO_HOLIDAYS)
    assert [at.strftime("%H:%M") for at in found] == ["04:00", "05:30", "06:00", "06:30", "05:00"]


def test_a_period_that_the_clock_skips_has_no_instants() -> None:
    version = parse_tariff(
        {
            "code": "x",
            "prices": {"peak": "1", "valley": "0.2"},
            "periods": [{"valley": ["02:00-02:30"], "peak": ["00:00-02:00", "02:30-24:00"]}],
        }
    )
    assert len(boundaries(version, date(2026, 3, 8), NEW_YORK, NO_HOLIDAYS)) == 2


@pytest.mark.parametrize(
    ("day", "price"),
    [("2026-01-01", "1"), ("2026-02-28", "1"), ("2026-03-01", "2"), ("2030-01-01", "2")],
)
def test_the_newest_valid_version_holds(day: str, price: str) -> None:
    table = {"code": "x", "price": price}
    versions = [
        parse_tariff({"code": "x", "price": "2", "valid_from": "2026-03-01"}),
        parse_tariff({"code": "x", "price": "1", "valid_from": "2026-01-01"}),
    ]
    assert version_on(versions, date.fromisoformat(day)).blocks == parse_tariff(table).blocks


def test_before_the_first_version_there_is_none() -> None:
    version = parse_tariff({"code": "x", "price": "1", "valid_from": "2026-01-01"})
    with pytest.raises(NotFoundError) as refused:
        version_on([version], date(2025, 12, 31))
    assert refused.value.code == "no_tariff_version"
    assert str(refused.value) == "no tariff version is valid on 2025-12-31"


@pytest.mark.parametrize(
    ("period", "day", "start"),
    [
        ("month", "2028-02-29", "2028-02-01"),
        ("month", "2026-01-01", "2026-01-01"),
        ("year", "2028-02-29", "2028-01-01"),
        ("year", "2026-12-31", "2026-01-01"),
    ],
)
def test_blocks_count_from_the_start_of_their_period(period: str, day: str, start: str) -> None:
    version = parse_tariff({"code": "x", "blocks": [{"price": "1"}], "period": period})
    assert block_period_start(version, date.fromisoformat(day)) == date.fromisoformat(start)


def test_without_blocks_nothing_is_counted() -> None:
    assert block_period_start(ONE_PRICE, date(2026, 1, 1)) is None


@pytest.mark.parametrize(
    ("version", "periods"),
    [
        (ONE_PRICE, [None] * 4),
        (BY_SEASON, [VALLEY, PEAK, SHARP, FLAT]),
        (BLOCKS, [None] * 4),
        (TOU_BLOCKS, [VALLEY, PEAK, PEAK, VALLEY]),
    ],
)
@given(
    energies_wh=st.lists(st.integers(0, 4_000), min_size=4, max_size=4),
    block_start_wh=st.integers(0, 4_000),
)
def test_an_amount_needs_no_lines(
    version: TariffVersion,
    periods: list[TouPeriod | None],
    energies_wh: list[int],
    block_start_wh: int,
) -> None:
    prices = part_prices(version, periods)
    amount = amount_of_parts(energies_wh, prices, version, block_start_wh=block_start_wh)
    explained = rate_parts(energies_wh, periods, version, block_start_wh=block_start_wh)
    assert amount == explained.rating.amount_nano_yuan


@pytest.mark.parametrize(("energy_wh", "block_start_wh"), [(-1, 0), (0, -1)])
@pytest.mark.parametrize("version", [ONE_PRICE, BLOCKS])
def test_an_amount_of_negative_energy_is_refused(
    version: TariffVersion, energy_wh: int, block_start_wh: int
) -> None:
    prices = part_prices(version, [None])
    with pytest.raises(InvalidInputError) as refused:
        amount_of_parts([energy_wh], prices, version, block_start_wh=block_start_wh)
    assert str(refused.value) == "energy is never negative"
