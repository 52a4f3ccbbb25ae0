"""A tariff as a table: what may be written, what it means, and every fault with its place."""

import json
import tomllib
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.calendar import DayType
from server.core.errors import Fault, InvalidInputError
from server.core.tariff.parse import (
    PRICE_MICRO_YUAN_MAX,
    TariffErrors,
    fixed_charge_table,
    parse_fixed_charge,
    parse_tariff,
    tariff_table,
)
from server.core.tariff.periods import PeriodRule, PeriodSpan, TouPeriod
from server.core.tariff.versions import (
    SINCE_EVER,
    Block,
    BlockPeriod,
    FixedCharge,
    FixedChargeBasis,
    FixedChargePer,
    TariffKind,
    TariffVersion,
)

FLAT = 'code = "f"\nvalid_from = 2026-01-01\nkind = "flat"\nprice = "0.6883"'
TOU = """
code = "t"
valid_from = 2026-01-01
kind = "tou"
prices = {peak = "1.0288", valley = "0.2891"}
periods = [{valley = ["00:00-08:00", "22:00-24:00"], peak = ["08:00-22:00"]}]
"""
BLOCK = """
code = "b"
kind = "block"
blocks = [{up_to_kwh = 2000, price = "0.60"}, {price = "0.75"}]
period = "year"
"""
BLOCK_TOU = """
code = "bt"
valid_from = 2028-02-29
kind = "block"
blocks = [
  {up_to_kwh = 100, prices = {peak = "1", valley = "0.3"}},
  {up_to_kwh = 300, prices = {peak = "1.1", valley = "0.4"}},
  {prices = {peak = "1.5", valley = "0.5"}},
]
periods = [
  {months = [7, 8], days = "workday", peak = ["00:00-22:00"], valley = ["22:00-24:00"]},
  {months = [7, 8], days = "weekend", valley = ["00:00-24:00"]},
  {months = [7, 8], days = "holiday", valley = ["00:00-24:00"]},
  {months = [1, 2, 3, 4, 5, 6, 9, 10, 11, 12], peak = ["00:00-24:00"]},
]
"""
EXAMPLES = [FLAT, TOU, BLOCK, BLOCK_TOU]


def test_a_flat_tariff_is_one_block_without_periods() -> None:
    assert parse_tariff(tomllib.loads(FLAT)) == TariffVersion(
        "f", date(2026, 1, 1), TariffKind.FLAT, (Block(None, ((None, 688_300),)),)
    )


def test_a_time_of_use_tariff_holds_all_year_unless_it_says_otherwise() -> None:
    peak, valley = TouPeriod.PEAK, TouPeriod.VALLEY
    spans = (
        PeriodSpan(0, 480, valley),
        PeriodSpan(480, 1320, peak),
        PeriodSpan(1320, 1440, valley),
    )
    assert parse_tariff(tomllib.loads(TOU)) == TariffVersion(
        "t",
        date(2026, 1, 1),
        TariffKind.TOU,
        (Block(None, ((peak, 1_028_800), (valley, 289_100))),),
        (PeriodRule(tuple(range(1, 13)), None, spans),),
    )


def test_blocks_end_where_the_next_begins_and_the_last_has_no_end() -> None:
    version = parse_tariff(tomllib.loads(BLOCK))
    assert version.valid_from == SINCE_EVER
    assert version.block_period is BlockPeriod.YEAR
    assert version.blocks == (
        Block(2_000_000, ((None, 600_000),)),
        Block(None, ((None, 750_000),)),
    )


def test_blocks_may_have_periods() -> None:
    version = parse_tariff(tomllib.loads(BLOCK_TOU))
    assert version.block_period is BlockPeriod.MONTH
    assert [block.up_to_wh for block in version.blocks] == [100_000, 300_000, None]
    assert version.blocks[1].prices == ((TouPeriod.PEAK, 1_100_000), (TouPeriod.VALLEY, 400_000))
    assert version.rules[0].days is DayType.WORKDAY
    assert version.rules[3].days is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('code = "x"\nprice = "1"', TariffKind.FLAT),
        (TOU.replace('kind = "tou"', ""), TariffKind.TOU),
        (BLOCK.replace('kind = "block"', ""), TariffKind.BLOCK),
    ],
)
def test_the_kind_follows_from_the_prices_where_it_is_not_named(
    text: str, kind: TariffKind
) -> None:
    assert parse_tariff(tomllib.loads(text)).kind is kind


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_canonical_table_survives_json_and_reads_back(text: str) -> None:
    version = parse_tariff(tomllib.loads(text))
    table = tariff_table(version)
    assert parse_tariff(json.loads(json.dumps(table))) == version
    assert tariff_table(parse_tariff(table)) == table


@st.composite
def tariff_versions(draw: st.DrawFn) -> TariffVersion:
    cuts = draw(st.lists(st.integers(1, 1439), max_size=8, unique=True))
    edges = [0, *sorted(cuts), 1440]
    holders = [draw(st.sampled_from(TouPeriod)) for _ in edges[1:]]
    spans = [PeriodSpan(*span) for span in sorted(zip(edges[:-1], edges[1:], holders, strict=True))]
    summer = tuple(sorted(draw(st.sets(st.integers(1, 12), min_size=1, max_size=11))))
    winter = tuple(month for month in range(1, 13) if month not in summer)
    rules = (
        *(PeriodRule(summer, day_type, tuple(spans)) for day_type in DayType),
        PeriodRule(winter, None, tuple(spans)),
    )
    prices = st.tuples(*(st.integers(0, PRICE_MICRO_YUAN_MAX) for _ in TouPeriod)).map(
        lambda found: tuple(zip(TouPeriod, found, strict=True))
    )
    ends = sorted(draw(st.sets(st.integers(1, 10**6), max_size=4)))
    blocks = tuple(
        Block(None if end is None else end * 1_000, draw(prices)) for end in (*ends, None)
    )
    kind = TariffKind.BLOCK if ends else TariffKind.TOU
    period = draw(st.sampled_from(BlockPeriod)) if ends else None
    return TariffVersion("h", draw(st.dates()), kind, blocks, rules, period)


@given(tariff_versions())
def test_every_version_survives_its_table(version: TariffVersion) -> None:
    assert parse_tariff(json.loads(json.dumps(tariff_table(version)))) == version


def faults_of(text: str) -> tuple[tuple[str, str], ...]:
    with pytest.raises(TariffErrors) as caught:
        parse_tariff(tomllib.loads(text))
    return caught.value.errors


NUMBER = "must be a whole number from 1 to 1000000000"
REQUIRED_LIST = "is required: a list with at least one row"
NUMBERS = "must be a list with at least one number"
ONCE = "each number once, 1 to 12: "


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('price = "1"', "code", "is required: a text without spaces around it"),
        ('code = ""\nprice = "1"', "code", "is required: a text without spaces around it"),
        ('code = " x"\nprice = "1"', "code", "is required: a text without spaces around it"),
        ('code = 7\nprice = "1"', "code", "is required: a text without spaces around it"),
        (f'code = "{"x" * 33}"\nprice = "1"', "code", "has at most 32 printable characters"),
        ('code = "a\\tb"\nprice = "1"', "code", "has at most 32 printable characters"),
        ('code = "x"', "price", "is required"),
        ('code = "x"\nprice = "-0.1"', "price", "a price is never negative: '-0.1'"),
        ('code = "x"\nprice = 0.5', "price", 'a price is a text such as "0.6172", not 0.5'),
        ('code = "x"\nprice = 1', "price", 'a price is a text such as "0.6172", not 1'),
        (
            'code = "x"\nprice = "0.1234567"',
            "price",
            "must be yuan with up to 9 digits and 6 decimals: '0.1234567'",
        ),
        ('code = "x"\nprice = "100.000001"', "price", "must be at most 100.00 yuan: '100.000001'"),
        ('code = "x"\nprice = "999999999"', "price", "must be at most 100.00 yuan: '999999999'"),
        (
            TOU.replace('"0.2891"', '"289.1"'),
            "prices.valley",
            "must be at most 100.00 yuan: '289.1'",
        ),
        (
            'code = "x"\nblocks = [{up_to_kwh = 1, price = "1"}, {price = "101"}]',
            "blocks[1].price",
            "must be at most 100.00 yuan: '101'",
        ),
        ('code = "x"\nprice = "1"\ncolour = 1', "colour", "is not a known key here"),
        ('code = "x"\nprice = "1"\nperiod = "month"', "period", "is not a known key here"),
        ('code = "x"\nprice = "1"\nperiods = []', "periods", "is not a known key here"),
        (
            'code = "x"\nprice = "1"\nkind = "tier"',
            "kind",
            "must be one of flat, tou, block, not 'tier'",
        ),
        ('code = "x"\nprice = "1"\nkind = []', "kind", "must be one of flat, tou, block, not []"),
        (
            'code = "x"\nprice = "1"\nvalid_from = "2026-02-30"',
            "valid_from",
            "must be a date such as 2026-01-01, not '2026-02-30'",
        ),
        (
            'code = "x"\nprice = "1"\nvalid_from = 20260101',
            "valid_from",
            "must be a date such as 2026-01-01, not 20260101",
        ),
        (
            TOU.replace('prices = {peak = "1.0288", valley = "0.2891"}', ""),
            "prices",
            "is required",
        ),
        (TOU.replace("peak =", "dear =", 1), "prices.dear", "is not a known key here"),
        (
            TOU.replace(', valley = "0.2891"', ""),
            "prices.valley",
            "is required: the period is used",
        ),
        (TOU.replace('"0.2891"', '"-1"'), "prices.valley", "a price is never negative: '-1'"),
        (TOU.replace("periods = [{", "periods = 1 #"), "periods", REQUIRED_LIST),
        (TOU.replace("[{valley", "[{months = [0], valley"), "periods[0].months", ONCE + "[0]"),
        (TOU.replace("[{valley", "[{months = [13], valley"), "periods[0].months", ONCE + "[13]"),
        (
            TOU.replace("[{valley", "[{months = [1, 1], valley"),
            "periods[0].months",
            ONCE + "[1, 1]",
        ),
        (
            TOU.replace("[{valley", "[{months = [true], valley"),
            "periods[0].months",
            ONCE + "[True]",
        ),
        (TOU.replace("[{valley", "[{months = [], valley"), "periods[0].months", NUMBERS),
        (TOU.replace("[{valley", "[{months = 1, valley"), "periods[0].months", NUMBERS),
        (
            TOU.replace("[{valley", '[{days = "sunday", valley'),
            "periods[0].days",
            "must be one of all, workday, weekend, holiday, not 'sunday'",
        ),
        (TOU.replace("[{valley", "[{shoulder"), "periods[0].shoulder", "is not a known key here"),
        (
            TOU.replace("22:00-24:00", "22:00-06:00"),
            "periods[0].valley[1]",
            "ends before it starts: '22:00-06:00'",
        ),
        (
            TOU.replace('"22:00-24:00"', "22"),
            "periods[0].valley[1]",
            "not a span such as 08:00-24:00: ''",
        ),
        (TOU.replace('["08:00-22:00"]', '"08:00-22:00"'), "periods[0].peak", REQUIRED_LIST),
        (TOU.replace("[{valley", "[3, {valley"), "periods[0]", "must be a table"),
        (
            BLOCK.replace("period", "per"),
            "per",
            "is not a known key here",
        ),
        (
            BLOCK.replace('"year"', '"week"'),
            "period",
            "must be one of month, year, not 'week'",
        ),
        (BLOCK.replace("blocks", "block"), "blocks", REQUIRED_LIST),
        (BLOCK.replace("2000", "0"), "blocks[0].up_to_kwh", NUMBER),
        (BLOCK.replace("2000", "-5"), "blocks[0].up_to_kwh", NUMBER),
        (BLOCK.replace("2000", '"2000"'), "blocks[0].up_to_kwh", NUMBER),
        (BLOCK.replace("2000", "true"), "blocks[0].up_to_kwh", NUMBER),
        (BLOCK.replace("2000", "1000000001"), "blocks[0].up_to_kwh", NUMBER),
        (BLOCK.replace("up_to_kwh = 2000, ", ""), "blocks[0].up_to_kwh", NUMBER),
        (
            BLOCK.replace('{price = "0.75"}', '{up_to_kwh = 3000, price = "0.75"}'),
            "blocks[1].up_to_kwh",
            "the last block is without end",
        ),
        (
            BLOCK.replace("{price", '{up_to_kwh = 2000, price = "1"}, {price'),
            "blocks[1].up_to_kwh",
            "must be more than that of the block before",
        ),
        (BLOCK.replace('price = "0.75"', ""), "blocks[1].price", "is required"),
        (
            BLOCK_TOU.replace('peak = "1.1", ', ""),
            "blocks[1].prices.peak",
            "is required: the period is used",
        ),
        (
            BLOCK_TOU.replace('prices = {peak = "1.5", valley = "0.5"}', 'price = "1"'),
            "blocks[2].price",
            "is not a known key here",
        ),
    ],
)
def test_a_fault_is_named_with_its_place(text: str, place: str, message: str) -> None:
    assert (place, message) in faults_of(text)


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("08:00-22:00", "08:30-22:00", "month 1-12: {}: minute 08:00-08:30 has no period"),
        ("08:00-22:00", "08:00-21:59", "month 1-12: {}: minute 21:59-22:00 has no period"),
        ("00:00-08:00", "00:01-08:00", "month 1-12: {}: minute 00:00-00:01 has no period"),
        ("22:00-24:00", "22:00-23:59", "month 1-12: {}: minute 23:59-24:00 has no period"),
        ("08:00-22:00", "07:59-22:00", "month 1-12: {}: minute 07:59-08:00 has valley and peak"),
        ("08:00-22:00", "08:00-22:01", "month 1-12: {}: minute 22:00-22:01 has peak and valley"),
        ("22:00-24:00", "07:00-24:00", "month 1-12: {}: minute 07:00-08:00 has valley twice"),
        (
            "[{valley",
            "[{months = [2], valley",
            "month 1, 3-12: {}: minute 00:00-24:00 has no period",
        ),
        (
            "[{valley",
            "[{months = [1, 2, 5, 6, 8, 9, 10, 11, 12], valley",
            "month 3-4, 7: {}: minute 00:00-24:00 has no period",
        ),
        (  # three at once
            'valley = ["00:00-08:00", "22:00-24:00"], peak = ["08:00-22:00"]',
            'valley = ["00:00-08:00", "07:30-24:00"], peak = ["07:00-08:00"]',
            "month 1-12: {}: minute 07:30-08:00 has valley twice",
        ),
    ],
)
def test_a_gap_or_an_overlap_is_named_to_the_minute(before: str, after: str, fault: str) -> None:
    faults = faults_of(TOU.replace(before, after))
    assert {message for _, message in faults} >= {fault.format(day_type) for day_type in DayType}
    assert {place for place, _ in faults} == {"periods"}


@pytest.mark.parametrize(
    ("days", "missing"),
    [
        ("workday", ["weekend", "holiday"]),
        ("weekend", ["workday", "holiday"]),
        ("holiday", ["workday", "weekend"]),
    ],
)
def test_every_type_of_day_needs_its_periods(days: str, missing: list[str]) -> None:
    faults = faults_of(TOU.replace("[{valley", f'[{{days = "{days}", valley'))
    assert faults == tuple(
        ("periods", f"month 1-12: {day_type}: minute 00:00-24:00 has no period")
        for day_type in missing
    )


def test_all_faults_are_named_at_once_and_nothing_else() -> None:
    text = TOU.replace('"1.0288"', "1").replace("22:00-24:00", "22:00-25:00") + "x = 1"
    faults = faults_of(text)
    assert [place for place, _ in faults] == ["prices.peak", "periods[0].valley[1]", "x"]


def test_the_error_is_the_callers_and_reads_as_one_line() -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_tariff({"code": "x", "price": "-1", "y": 1})
    assert (
        caught.value.detail == "price: a price is never negative: '-1'; y: is not a known key here"
    )
    assert caught.value.fault is Fault.CALLER


@pytest.mark.parametrize(
    ("key", "rows", "most"),
    [("periods", 101, 100), ("blocks", 21, 20)],
)
def test_lists_have_a_limit(key: str, rows: int, most: int) -> None:
    table: dict[str, object] = {"code": "x", "kind": "block", "blocks": [{"price": "1"}]}
    table[key] = [{} for _ in range(rows)]
    with pytest.raises(TariffErrors) as caught:
        parse_tariff(table)
    assert (key, f"has at most {most} rows, not {rows}") in caught.value.errors


def test_a_period_has_a_limited_number_of_spans() -> None:
    table = deepcopy(tomllib.loads(TOU))
    table["periods"][0]["peak"] = ["08:00-22:00"] * 49
    with pytest.raises(TariffErrors) as caught:
        parse_tariff(table)
    assert ("periods[0].peak", "has at most 48 rows, not 49") in caught.value.errors


def test_what_just_fits_a_limit_is_read() -> None:
    ends = [{"up_to_kwh": number, "price": "1"} for number in range(1, 19)]
    blocks = [*ends, {"up_to_kwh": 1_000_000_000, "price": "1"}, {"price": "0"}]
    halves = [f"{half // 2:02d}:{half % 2 * 30:02d}" for half in range(48)]
    spans = [f"{start}-{end}" for start, end in pairwise([*halves, "24:00"])]
    version = parse_tariff({"code": "x" * 32, "blocks": blocks})
    assert (len(version.code), len(version.blocks)) == (32, 20)
    tou = {"code": "x", "prices": {"flat": "1"}, "periods": [{"flat": spans}]}
    assert len(parse_tariff(tou).rules[0].spans) == 48


def test_without_a_date_a_version_holds_since_ever() -> None:
    assert date(2000, 1, 1) == SINCE_EVER


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
KEYS = ["code", "valid_from", "kind", "price", "prices", "periods", "blocks", "period", "per"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON | st.sampled_from(["tou", "block", "1"])))
def test_any_table_is_read_or_refused_with_places(table: dict[str, object]) -> None:
    for parse in (parse_tariff, parse_fixed_charge):
        errors = errors_of(parse, table)
        assert errors is None or (errors and all(place and message for place, message in errors))


def errors_of(
    parse: Callable[[Mapping[str, object]], object], table: Mapping[str, object]
) -> tuple[tuple[str, str], ...] | None:
    try:
        parse(table)
    except TariffErrors as refused:
        return refused.errors
    return None


@pytest.mark.parametrize(
    ("table", "charge"),
    [
        (
            {
                "code": "service",
                "valid_from": date(2026, 1, 1),
                "per": "month",
                "basis": "m2",
                "price": "3.50",
            },
            FixedCharge(
                "service",
                date(2026, 1, 1),
                FixedChargePer.MONTH,
                FixedChargeBasis.M2,
                3_500_000,
            ),
        ),
        (
            {"code": "lift", "price": "0.5", "per": "day", "basis": "kva"},
            FixedCharge("lift", SINCE_EVER, FixedChargePer.DAY, FixedChargeBasis.KVA, 500_000),
        ),
        (
            {"code": "desk", "price": "20"},
            FixedCharge(
                "desk", SINCE_EVER, FixedChargePer.MONTH, FixedChargeBasis.SHOP, 20_000_000
            ),
        ),
    ],
)
def test_a_fixed_charge_is_read(table: dict[str, object], charge: FixedCharge) -> None:
    assert parse_fixed_charge(table) == charge


def test_a_fixed_charge_has_a_canonical_table_that_reads_back() -> None:
    table = {"code": "lift", "valid_from": "2026-03-01", "per": "day", "basis": "m2"}
    table["price"] = "0.50"
    charge = parse_fixed_charge(table)
    assert fixed_charge_table(charge) == table
    assert fixed_charge_table(parse_fixed_charge({**table, "price": "0.5"})) == table


MOST = [("shop", "10000000"), ("m2", "10000"), ("kva", "10000")]


@pytest.mark.parametrize(("basis", "most"), MOST)
def test_a_fixed_charge_has_a_most_by_its_basis(basis: str, most: str) -> None:
    table = {"code": "service", "basis": basis, "price": most}
    assert fixed_charge_table(parse_fixed_charge(table))["price"] == f"{most}.00"
    with pytest.raises(TariffErrors) as caught:
        parse_fixed_charge({**table, "price": f"{most}.000001"})
    message = f"must be at most {most}.00 yuan: '{most}.000001'"
    assert caught.value.errors == (("price", message),)


def test_a_price_of_the_bound_itself_is_read() -> None:
    version = parse_tariff({"code": "x", "price": "100"})
    assert version.blocks[0].prices == ((None, PRICE_MICRO_YUAN_MAX),)


def test_all_faults_of_a_fixed_charge_are_named() -> None:
    with pytest.raises(TariffErrors) as caught:
        parse_fixed_charge({"per": "week", "basis": "m3", "price": "-1", "tax": 6})
    assert caught.value.errors == (
        ("code", "is required: a text without spaces around it"),
        ("per", "must be one of day, month, not 'week'"),
        ("basis", "must be one of shop, m2, kva, not 'm3'"),
        ("price", "a price is never negative: '-1'"),
        ("tax", "is not a known key here"),
    )
