"""What one look at a meter yields."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from server.core.supply.control_state import ControlState


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with the unit in which its profile gives it."""

    value: Decimal
    unit: str


@dataclass(frozen=True, slots=True)
class MeterSample:
    """One reading. `register_wh` is energy_total as shown, before any transformer ratio.

    Points that the meter marks as absent are left out; energy_total is always there. `periods_wh`
    are energy_sharp, _peak, _flat, _valley and _deep_valley in the same way, None where the meter
    has no such. `control_state` is None where the profile has no relay, or the state shows no
    known value.
    """

    points: Mapping[str, Quantity]
    register_wh: int
    control_state: ControlState | None
    identity: str | None
    periods_wh: tuple[int | None, ...] | None = None
