"""What a day of fixed charges costs, a line a case; what months and shops always pay."""

from calendar import monthrange
from datetime import date, timedelta
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidInputError
from server.core.settlement.fixed_day import (
    FixedLine,
    NamedCharge,
    basis_quantity,
    charge_fixed_day,
    fixed_day_document,
    owed_until,
    read_named_charges,
)
from server.core.tariff.versions import (
    FixedCharge,
    FixedChargeBasis,
    FixedChargePer,
    fixed_charge_on,
)

DAY, MONTH = FixedChargePer.DAY, FixedChargePer.MONTH
SHOP, M2, KVA = FixedChargeBasis.SHOP, FixedChargeBasis.M2, FixedChargeBasis.KVA
SINCE = date(2026, 1, 1)


def charge(
    per: FixedChargePer, basis: FixedChargeBasis, price_micro_yuan: int, code: str = "service"
) -> FixedCharge:
    return FixedCharge(code, SINCE, per, basis, price_micro_yuan)


def fen(day: date, one: FixedCharge, quantity: int) -> int:
    return charge_fixed_day(day, [(one, quantity)]).amount_fen


@pytest.mark.parametrize(
    ("day", "per", "basis", "price_micro_yuan", "quantity", "amount_fen"),
    [
        ("2026-05-20", DAY, SHOP, 20_000_000, 1, 2_000),
        ("2026-05-20", DAY, SHOP, 0, 1, 0),
        ("2026-05-20", DAY, M2, 3_500_000, 365_000, 12_775),  # 3.50 yuan x 36.5 m²
        ("2026-05-20", DAY, M2, 3_500_000, 0, 0),
        ("2026-05-20", DAY, KVA, 500_000, 20_000, 1_000),  # 0.50 yuan x 20 kVA
        ("2026-05-20", DAY, KVA, 500_000, 63_500, 3_175),
        ("2026-05-20", DAY, SHOP, 4_999, 1, 0),  # half up, to the fen
        ("2026-05-20", DAY, SHOP, 5_000, 1, 1),
        ("2026-05-20", DAY, M2, 1, 49_999_999, 0),  # exact to the last cm²
        ("2026-05-20", DAY, M2, 1, 50_000_000, 1),
        ("2026-05-20", DAY, KVA, 1, 4_999_999, 0),
        ("2026-05-20", DAY, KVA, 1, 5_000_000, 1),
        ("2026-05-01", MONTH, SHOP, 31_000_000, 1, 100),  # one yuan a day
        ("2026-05-31", MONTH, SHOP, 31_000_000, 1, 100),
        ("2026-05-01", MONTH, SHOP, 1_000_000, 1, 3),  # 100 fen over 31 days: 3.2, then 6.5
        ("2026-05-02", MONTH, SHOP, 1_000_000, 1, 3),
        ("2026-05-03", MONTH, SHOP, 1_000_000, 1, 4),  # 9.7
        ("2026-02-28", MONTH, SHOP, 28_000_000, 1, 100),
        ("2028-02-28", MONTH, SHOP, 29_000_000, 1, 100),
        ("2028-02-29", MONTH, SHOP, 29_000_000, 1, 100),  # a leap year's month has 29 days
        ("2026-12-31", MONTH, SHOP, 310_000, 1, 1),
        ("2027-01-01", MONTH, SHOP, 310_000, 1, 1),
        ("2026-05-16", MONTH, SHOP, 10_000, 1, 1),  # one fen a month, on the day of its half
        ("2026-05-15", MONTH, SHOP, 10_000, 1, 0),
        ("2026-05-31", MONTH, SHOP, 10_000, 1, 0),
    ],
)
def test_a_day_costs(
    day: str,
    per: FixedChargePer,
    basis: FixedChargeBasis,
    price_micro_yuan: int,
    quantity: int,
    amount_fen: int,
) -> None:
    assert fen(date.fromisoformat(day), charge(per, basis, price_micro_yuan), quantity) == (
        amount_fen
    )


MONTHS = st.tuples(st.integers(2024, 2029), st.integers(1, 12))
CHARGES = st.builds(
    charge, st.just(MONTH), st.sampled_from(FixedChargeBasis), st.integers(0, 10**9)
)
QUANTITIES = st.integers(0, 10**9)
PARTS = {SHOP: 1, M2: 10_000, KVA: 1_000}


def days_of(year: int, month: int) -> list[date]:
    return [date(year, month, 1 + n) for n in range(monthrange(year, month)[1])]


def half_up(fen_exact: Fraction) -> int:
    return floor(fen_exact + Fraction(1, 2))


@given(MONTHS, CHARGES, QUANTITIES)
def test_the_days_of_a_month_add_up_to_its_rounded_price(
    month: tuple[int, int], one: FixedCharge, quantity: int
) -> None:
    exact = Fraction(one.price_micro_yuan * quantity, 10_000 * PARTS[one.basis])
    days = days_of(*month)
    amounts = [fen(day, one, quantity) for day in days]
    assert sum(amounts) == half_up(exact)
    assert all(abs(amount - exact / len(days)) <= 1 for amount in amounts)


@given(MONTHS, CHARGES, QUANTITIES, st.integers(0, 31))
def test_two_tenants_of_one_month_pay_what_one_would(
    month: tuple[int, int], one: FixedCharge, quantity: int, moved_on: int
) -> None:
    days = days_of(*month)
    first, second = days[:moved_on], days[moved_on:]
    paid = [sum(fen(day, one, quantity) for day in part) for part in (first, second)]
    assert sum(paid) == sum(fen(day, one, quantity) for day in days)


@given(st.dates(date(2024, 1, 1), date(2029, 12, 31)), CHARGES, QUANTITIES)
def test_a_line_shows_its_working(day: date, one: FixedCharge, quantity: int) -> None:
    line = charge_fixed_day(day, [(one, quantity)]).lines[0]
    exact = Fraction(one.price_micro_yuan * quantity, 10_000 * PARTS[one.basis])
    assert (line.day_number, line.day_count) == (day.day, len(days_of(day.year, day.month)))
    assert line.period_fen == half_up(exact)
    assert line.before_fen == half_up(exact * (day.day - 1) / line.day_count)
    assert line.before_fen + line.amount_fen == half_up(exact * day.day / line.day_count)


def test_charges_stand_in_their_order_and_add_up() -> None:
    lift, service = charge(DAY, SHOP, 5_000, "lift"), charge(MONTH, M2, 3_500_000)
    charged = charge_fixed_day(date(2026, 5, 20), [(service, 365_000), (lift, 1)])
    assert charged.lines == (
        FixedLine(service, 365_000, 20, 31, 12_775, 7_830, 412),
        FixedLine(lift, 1, 1, 1, 1, 0, 1),
    )
    assert charged.amount_fen == 413


def test_without_charges_nothing_is_owed() -> None:
    charged = charge_fixed_day(date(2026, 5, 20), [])
    assert (charged.lines, charged.amount_fen) == ((), 0)


@pytest.mark.parametrize(("basis", "quantity"), [(SHOP, 1), (M2, 365_000), (KVA, 20_000)], ids=str)
def test_a_shop_has_so_much_of_a_basis(basis: FixedChargeBasis, quantity: int) -> None:
    assert basis_quantity(basis, area_cm2=365_000, capacity_va=20_000) == quantity


@pytest.mark.parametrize(("price_micro_yuan", "quantity"), [(-1, 1), (1, -1)])
def test_what_is_negative_is_refused(price_micro_yuan: int, quantity: int) -> None:
    one = charge(DAY, SHOP, price_micro_yuan)
    with pytest.raises(InvalidInputError) as refused:
        fen(date(2026, 5, 20), one, quantity)
    assert str(refused.value) == f"{one.code}: a price and its basis are never negative"


@pytest.mark.parametrize(
    ("moved_in", "moved_out", "today", "paid"),
    [
        ("05-18", None, "05-20", ["05-18", "05-19"]),  # today is not over
        ("05-20", None, "05-20", []),
        ("05-18", "05-19", "05-25", ["05-18"]),  # whoever has it at a day's end pays the day
        ("05-18", "05-20", "05-20", ["05-18", "05-19"]),  # all is due at the move-out itself
        ("05-18", "05-18", "05-25", []),  # in and out on one day
    ],
)
def test_a_tenancy_pays_its_days(
    moved_in: str, moved_out: str | None, today: str, paid: list[str]
) -> None:
    end = owed_until(
        date.fromisoformat(f"2026-{today}"),
        None if moved_out is None else date.fromisoformat(f"2026-{moved_out}"),
    )
    first = date.fromisoformat(f"2026-{moved_in}")
    days = [first + timedelta(days=n) for n in range((end - first).days)]
    assert [day.strftime("%m-%d") for day in days] == paid


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_no_day_of_a_shop_is_paid_twice(stays: list[int]) -> None:
    """Tenants follow each other, each after so many days, maybe on the day itself."""
    today, day, paid = date(2026, 6, 30), date(2026, 5, 1), []
    for stay in stays:
        out = day + timedelta(days=stay)
        end = owed_until(today, out)
        paid += [day + timedelta(days=n) for n in range((end - day).days)]
        day = out
    assert paid == [date(2026, 5, 1) + timedelta(days=n) for n in range(sum(stays))]


@pytest.mark.parametrize(
    ("day", "price"),
    [("2025-12-31", None), ("2026-01-01", 1), ("2026-02-28", 1), ("2026-03-01", 2)],
)
def test_the_newest_valid_version_of_a_charge_holds(day: str, price: int | None) -> None:
    versions = [
        FixedCharge("service", date(2026, 3, 1), MONTH, SHOP, 2),
        FixedCharge("service", date(2026, 1, 1), MONTH, SHOP, 1),
    ]
    found = fixed_charge_on(versions, date.fromisoformat(day))
    assert (found and found.price_micro_yuan) == price


def test_a_document_says_what_it_was_made_from() -> None:
    service = charge(MONTH, M2, 3_500_000)
    document = fixed_day_document(charge_fixed_day(date(2026, 5, 20), [(service, 365_000)]))
    assert document == {
        "format": 1,
        "day": "2026-05-20",
        "amount_fen": 412,
        "lines": [
            {
                "code": "service",
                "valid_from": "2026-01-01",
                "per": "month",
                "basis": "m2",
                "price_micro_yuan": 3_500_000,
                "quantity": 365_000,
                "unit": "cm2",
                "day_number": 20,
                "day_count": 31,
                "period_fen": 12_775,
                "before_fen": 7_830,
                "amount_fen": 412,
            }
        ],
    }
    assert read_named_charges(document) == (NamedCharge("service", SINCE, 365_000),)


GOOD_LINE = {"code": "x", "valid_from": "2026-01-01", "quantity": 1}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, "a fixed-charge document of format None"),
        ({"format": 2, "lines": []}, "a fixed-charge document of format 2"),
        ({"format": 1}, "a damaged fixed-charge document: no lines"),
        ({"format": 1, "lines": "none"}, "a damaged fixed-charge document: no lines"),
        ({"format": 1, "lines": [7]}, "a damaged fixed-charge line"),
        (
            {"format": 1, "lines": [GOOD_LINE | {"valid_from": "soon"}]},
            "a damaged fixed-charge line: Invalid isoformat string: 'soon'",
        ),
        ({"format": 1, "lines": [GOOD_LINE | {"quantity": "1"}]}, "a damaged fixed-charge line"),
        ({"format": 1, "lines": [{"code": "x"}]}, "a damaged fixed-charge line"),
    ],
)
def test_a_damaged_document_is_refused(document: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_named_charges(document)
    assert str(refused.value) == why
