"""Answers as a sample, by profile: pure."""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal

from server.devices.errors import MeterValueError
from server.devices.profiles.profile import (
    ENERGY_OF_PERIODS,
    ENERGY_TOTAL,
    IDENTITY,
    STATE,
    WH_PER_UNIT,
    Profile,
    ReadStep,
)
from server.devices.samples import MeterSample, Quantity

REGISTER_WH_LIMIT = 1 << 62  # a counter beyond it is garbage, and no database could keep it


def split_answer(step: ReadStep, data: bytes) -> dict[str, bytes]:
    """The values of one answer, by name."""
    return {
        part.name: data[part.start : part.start + part.size] if part.size else data
        for part in step.parts
    }


def decode_sample(profile: Profile, values: Mapping[str, bytes]) -> MeterSample:
    """The sample in these values; a point that is no number is left out.

    Raises MeterValueError when energy_total is missing or no number.
    """
    points = {
        name: quantity
        for name in profile.points
        if name in values and (quantity := _quantity(profile, name, values[name])) is not None
    }
    energy = points.get(ENERGY_TOTAL)
    if energy is None:
        raise MeterValueError("the meter shows no energy_total")
    state = identity = None
    if profile.supply is not None and STATE in values:
        state = profile.supply.state.decode(values[STATE])
    if profile.identity is not None and IDENTITY in values:
        identity = profile.identity.codec.digits(values[IDENTITY])
    return MeterSample(points, _register_wh(energy), state, identity, _periods_wh(points))


def _quantity(profile: Profile, name: str, data: bytes) -> Quantity | None:
    point = profile.points[name]
    try:
        number = point.codec.number(data)
    except MeterValueError:
        if name == ENERGY_TOTAL:
            raise
        return None
    return None if number is None else Quantity(number * point.scale, point.unit)


def _register_wh(energy: Quantity) -> int:
    wh = int((energy.value * WH_PER_UNIT[energy.unit]).to_integral_value(ROUND_HALF_UP))
    if abs(wh) >= REGISTER_WH_LIMIT:
        raise MeterValueError(f"energy_total {energy.value:.6E} {energy.unit} cannot be")
    return wh


def _periods_wh(points: Mapping[str, Quantity]) -> tuple[int | None, ...] | None:
    """The registers of the periods; one that no counter can show is as good as none."""
    registers = tuple(
        _period_wh(points[name]) if name in points else None for name in ENERGY_OF_PERIODS
    )
    return None if all(register is None for register in registers) else registers


def _period_wh(energy: Quantity) -> int | None:
    if energy.unit not in WH_PER_UNIT:
        return None
    wh = int((energy.value * WH_PER_UNIT[energy.unit]).to_integral_value(ROUND_HALF_UP))
    return wh if 0 <= wh < REGISTER_WH_LIMIT else None


def rollover_wh(span: int | None, scale: Decimal, unit: str) -> int:
    """Where a counter starts again by its own size; one without an end gets a far one."""
    farthest = 10**15
    if span is None:
        return farthest
    return min(farthest, int(span * scale * WH_PER_UNIT[unit]))
