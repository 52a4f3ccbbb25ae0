"""Energy is whole watt-hours, shown as kilowatt-hours."""

import pytest

from server.core.energy import kwh_text


@pytest.mark.parametrize(
    ("energy_wh", "text"),
    [(0, "0.000"), (1, "0.001"), (1_234, "1.234"), (-1, "-0.001"), (-12_345, "-12.345")],
)
def test_watt_hours_are_shown_as_kilowatt_hours(energy_wh: int, text: str) -> None:
    assert kwh_text(energy_wh) == text
