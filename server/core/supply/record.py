"""A MeterControl as a flat JSON table and back: what services keep between two steps."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from enum import StrEnum

from server.core.errors import InvalidInputError
from server.core.supply.control_state import ControlState
from server.core.supply.state import Case, MeterControl

Json = str | int | bool | None


def control_record(control: MeterControl) -> dict[str, Json]:
    """Every field by its name; states and cases as their codes, instants as ISO 8601."""
    return {field.name: _to_json(getattr(control, field.name)) for field in fields(control)}


def control_from_record(record: Mapping[str, object]) -> MeterControl:
    """The control of a record, its absent fields as in a fresh one; raises InvalidInputError."""
    unknown = sorted(record.keys() - _READERS.keys())
    if unknown:
        raise InvalidInputError(f"no such field of a meter's control: {unknown[0]}")
    values = {name: _READERS[name](value) for name, value in record.items()}
    return MeterControl(**values)  # type: ignore[arg-type]  # each reader gives its field's type


def _to_json(value: object) -> Json:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, StrEnum):
        return str(value)
    if value is None or isinstance(value, int):  # bool is an int
        return value
    raise InvalidInputError(f"not kept in a record: {value!r}")


def _state(value: object) -> ControlState:
    try:
        return ControlState(str(value))
    except ValueError:
        raise InvalidInputError(f"not a control state: {value!r}") from None


def _case(value: object) -> Case:
    try:
        return Case(str(value))
    except ValueError:
        raise InvalidInputError(f"not a case: {value!r}") from None


def _instant(value: object) -> datetime:
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        raise InvalidInputError(f"not an instant: {value!r}") from None
    if at.tzinfo is None:
        raise InvalidInputError(f"an instant without a timezone: {value!r}")
    return at


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInputError(f"neither true nor false: {value!r}")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInputError(f"not a count: {value!r}")
    return value


def _maybe(read: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else read(value)


_READERS: dict[str, Callable[[object], object]] = {
    "policy_state": _state,
    "hold": _flag,
    "commanded": _maybe(_state),
    "commanded_at": _maybe(_instant),
    "confirmed": _maybe(_state),
    "answered_writes": _count,
    "unanswered_writes": _count,
    "disconnected_by_us": _flag,
    "case": _maybe(_case),
    "retry_at": _maybe(_instant),
    "read_back_at": _maybe(_instant),
    "reconnected_at": _maybe(_instant),
    "permit_only": _flag,
    "permitted": _flag,
}
