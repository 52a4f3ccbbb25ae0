from decimal import Decimal

import pytest

from server.core.energy import kwh_text, wh_from_kwh


@pytest.mark.parametrize(
    ("energy_wh", "text"),
    [(0, "0.000"), (1, "0.001"), (1_234, "1.234"), (-1, "-0.001"), (-12_345, "-12.345")],
)
def test_watt_hours_are_shown_as_kilowatt_hours(energy_wh: int, text: str) -> None:
    assert kwh_text(energy_wh) == text


@pytest.mark.parametrize(
    ("kwh", "energy_wh"),
    [("0", 0), ("123.45", 123_450), ("0.0005", 1), ("0.0004999", 0), ("999999.99", 999_999_990)],
)
def test_kilowatt_hours_are_rounded_half_up(kwh: str, energy_wh: int) -> None:
    assert wh_from_kwh(Decimal(kwh)) == energy_wh
