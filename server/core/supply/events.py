"""What can happen to a meter's control: the whole language between services and the machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from server.core.errors import InvalidInputError
from server.core.supply.control_state import ControlState

_WRITABLE = frozenset({ControlState.CONNECTED, ControlState.DISCONNECTED})


class EventKind(StrEnum):
    """What can happen to a meter's control."""

    POLICY_CHANGED = "policy_changed"
    HELD = "held"
    HOLD_RELEASED = "hold_released"
    WRITE_ANSWERED = "write_answered"
    WRITE_UNANSWERED = "write_unanswered"
    READ_BACK = "read_back"


_STATES_OF_EVENT: Mapping[EventKind, frozenset[ControlState | None]] = MappingProxyType(
    {
        EventKind.POLICY_CHANGED: frozenset(ControlState),
        EventKind.HELD: frozenset({None}),
        EventKind.HOLD_RELEASED: frozenset({None}),
        EventKind.WRITE_ANSWERED: _WRITABLE,
        EventKind.WRITE_UNANSWERED: _WRITABLE,
        EventKind.READ_BACK: frozenset(ControlState),
    }
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, with the state that was wished, written or read."""

    kind: EventKind
    state: ControlState | None = None

    def __post_init__(self) -> None:
        if self.state not in _STATES_OF_EVENT[self.kind]:
            raise InvalidInputError(f"{self.kind} does not go with {self.state}")


def policy_changed(state: ControlState) -> Event:
    """The policy wishes this; the same wish again changes nothing."""
    return Event(EventKind.POLICY_CHANGED, state)


def held() -> Event:
    """A person ordered it disconnected; only `hold_released` ends that."""
    return Event(EventKind.HELD)


def hold_released() -> Event:
    """A manager ordered it reconnected: ends a hold, and allows closing what others opened."""
    return Event(EventKind.HOLD_RELEASED)


def write_answered(state: ControlState) -> Event:
    """The meter answered a write, with consent or refusal; whether it obeyed is read back."""
    return Event(EventKind.WRITE_ANSWERED, state)


def write_unanswered(state: ControlState) -> Event:
    """A write got no answer: it may have arrived."""
    return Event(EventKind.WRITE_UNANSWERED, state)


def read_back(state: ControlState) -> Event:
    """The relay was read, after a write or in an ordinary poll."""
    return Event(EventKind.READ_BACK, state)
