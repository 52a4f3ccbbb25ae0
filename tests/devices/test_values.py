import math
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.devices.errors import MeterValueError
from server.devices.profiles.values import Codec, Kind, Order, decimal_from_float32


@pytest.mark.parametrize(
    ("kind", "order", "raw", "value"),
    [
        (Kind.UNSIGNED, Order.BIG, "0001E240", "123456"),
        (Kind.UNSIGNED, Order.LITTLE_WORDS, "E2400001", "123456"),
        (Kind.UNSIGNED, Order.BIG, "FFFF", "65535"),
        (Kind.SIGNED, Order.BIG, "FFFF", "-1"),
        (Kind.SIGNED, Order.LITTLE_WORDS, "FFFEFFFF", "-2"),
        (Kind.UNSIGNED, Order.LITTLE_WORDS, "0004000300020001", "281483566841860"),
        (Kind.SIGNED, Order.BIG, "FFFFFFFFFFFFFF9C", "-100"),
        (Kind.FLOAT, Order.BIG, "3DCCCCCD", "0.1"),
        (Kind.FLOAT, Order.LITTLE_WORDS, "CCCD3DCC", "0.1"),
        (Kind.BCD, Order.BIG, "00123456", "123456"),
        (Kind.BCD, Order.LITTLE_BYTES, "56341200", "123456"),
        (Kind.SIGNED_BCD, Order.LITTLE_BYTES, "563412", "123456"),
        (Kind.SIGNED_BCD, Order.LITTLE_BYTES, "563492", "-123456"),
        (Kind.UNSIGNED, Order.LITTLE_BYTES, "5000", "80"),
    ],
)
def test_bytes_become_exact_numbers(kind: Kind, order: Order, raw: str, value: str) -> None:
    data = bytes.fromhex(raw)
    assert Codec(kind, len(data), order).number(data) == Decimal(value)


def test_ff_is_an_absent_phase_and_no_number() -> None:
    assert Codec(Kind.BCD, 2, Order.LITTLE_BYTES).number(b"\xff\xff") is None
    assert Codec(Kind.SIGNED_BCD, 3, Order.LITTLE_BYTES).number(b"\xff\xff\xff") is None


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (Kind.BCD, "0A00"),
        (Kind.SIGNED_BCD, "00FF00"),
        (Kind.FLOAT, "7FC00000"),
        (Kind.FLOAT, "FF800000"),
    ],
)
def test_what_is_no_number_is_an_error(kind: Kind, raw: str) -> None:
    data = bytes.fromhex(raw)
    with pytest.raises(MeterValueError):
        Codec(kind, len(data), Order.BIG).number(data)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (123456.78, "123456.78"),
        (131072.02, "131072.02"),
        (1e-3, "0.001"),
        (16777216.0, "16777216"),
        (-230.5, "-230.5"),
        (0.0, "0"),
        (3.4028235e38, "3.4028235e+38"),
    ],
)
def test_a_float32_is_its_shortest_decimal(value: float, text: str) -> None:
    assert decimal_from_float32(struct.pack(">f", value)) == Decimal(text)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_float32_comes_back(value: float) -> None:
    raw = struct.pack(">f", value)
    decimal = decimal_from_float32(raw)
    assert struct.unpack(">f", struct.pack(">f", float(decimal)))[0] == value
    assert math.isfinite(decimal)
    assert len(decimal.as_tuple().digits) <= 9 or decimal == decimal.to_integral_value()


@pytest.mark.parametrize(
    ("kind", "size", "span"),
    [
        (Kind.UNSIGNED, 4, 2**32),
        (Kind.SIGNED, 2, 2**15),
        (Kind.BCD, 4, 10**8),
        (Kind.SIGNED_BCD, 4, 8 * 10**7),
        (Kind.FLOAT, 4, None),
    ],
)
def test_a_counter_starts_again_at_its_span(kind: Kind, size: int, span: int | None) -> None:
    assert Codec(kind, size, Order.BIG).span == span


def test_an_identity_keeps_its_leading_zeros() -> None:
    assert Codec(Kind.BCD, 6, Order.LITTLE_BYTES).digits(bytes.fromhex("610100000000")) == (
        "000000000161"
    )
    assert Codec(Kind.UNSIGNED, 4, Order.BIG).digits(bytes.fromhex("00001B59")) == "7001"
