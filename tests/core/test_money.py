"""Money is whole fen: what is a price, where it is rounded, how it is shared out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidInputError
from server.core.money import (
    apportion,
    fen_from_nano_yuan,
    micro_yuan_from_text,
    price_text,
    yuan_text,
)


@pytest.mark.parametrize(
    ("nano_yuan", "fen"),
    [
        (0, 0),
        (4_999_999, 0),
        (5_000_000, 1),
        (14_999_999, 1),
        (15_000_000, 2),
        (-4_999_999, 0),
        (-5_000_000, -1),
        (1_000 * 617_200, 62),  # 1 kWh at 0.6172 yuan
    ],
)
def test_nano_yuan_round_half_up_to_fen(nano_yuan: int, fen: int) -> None:
    assert fen_from_nano_yuan(nano_yuan) == fen


@pytest.mark.parametrize(
    ("text", "micro_yuan"),
    [
        ("0.6172", 617_200),
        ("1", 1_000_000),
        ("0", 0),
        ("0.000001", 1),
        ("999999999.999999", 999_999_999_999_999),
    ],
)
def test_a_price_is_read_to_the_micro_yuan(text: str, micro_yuan: int) -> None:
    assert micro_yuan_from_text(text) == micro_yuan


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", ".5", "1.", "1e3", "0.1234567", "1,5", " 1", "1\n", "１", "nan", "1234567890"],
)
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        micro_yuan_from_text(text)


@given(st.integers(0, 999_999_999_999_999))
def test_a_price_text_reads_back(micro_yuan: int) -> None:
    text = price_text(micro_yuan)
    assert micro_yuan_from_text(text) == micro_yuan
    assert len(text.partition(".")[2]) >= 2


@pytest.mark.parametrize(
    ("micro_yuan", "text"),
    [(0, "0.00"), (600_000, "0.60"), (617_200, "0.6172"), (1, "0.000001"), (3_500_000, "3.50")],
)
def test_a_price_has_two_decimals_or_as_many_as_it_needs(micro_yuan: int, text: str) -> None:
    assert price_text(micro_yuan) == text


@pytest.mark.parametrize(
    ("fen", "text"),
    [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (123_456, "1234.56"), (-100, "-1.00")],
)
def test_fen_are_shown_as_yuan(fen: int, text: str) -> None:
    assert yuan_text(fen) == text


@pytest.mark.parametrize(
    ("total", "weights", "shares"),
    [
        (10, (1, 1, 1), (4, 3, 3)),  # ties go to the earlier
        (100, (1, 2, 4), (14, 29, 57)),  # 14.29, 28.57, 57.14
        (-10, (1, 1, 1), (-4, -3, -3)),
        (7, (0, 0), (7, 0)),  # nothing to go by: the first takes it
        (7, (0, 3, 0), (0, 7, 0)),
        (0, (1, 2), (0, 0)),
        (1, (1,), (1,)),
    ],
)
def test_shares_go_to_the_largest_remainders(
    total: int, weights: tuple[int, ...], shares: tuple[int, ...]
) -> None:
    assert apportion(total, weights) == shares


def test_nothing_to_apportion_to_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        apportion(1, ())


@given(st.integers(-(10**12), 10**12), st.lists(st.integers(0, 10**12), min_size=1, max_size=30))
def test_shares_add_up_and_are_within_one_of_their_due(total: int, weights: list[int]) -> None:
    shares = apportion(total, tuple(weights))
    assert sum(shares) == total
    weight_sum = sum(weights)
    for share, weight in zip(shares, weights, strict=True):
        if weight_sum:
            assert abs(share * weight_sum - total * weight) < weight_sum
