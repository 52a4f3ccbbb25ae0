"""One meter's control state: what it should be, was told to be, and was read back to be.

The policy's wish and a hold give `desired`; only a read-back gives `confirmed`. Everything that
moves the machine is an Event (`events`); `TRANSITIONS` decides each pair of phase and event,
`next_action` says what the collector does next. Time is handed in.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from server.core.supply.control_state import ControlState
from server.core.supply.events import Event, EventKind

ANSWERED_WRITES_MAX = 3  # a change
UNANSWERED_WRITES_MAX = 3  # in a row, each followed by a read-back, before a pause
RETRY_EVERY = timedelta(minutes=5)
SETTLE_FOR = timedelta(seconds=2)  # a relay's mechanics: what is read before proves no failure
LOAD_TRIP_WITHIN = timedelta(seconds=60)
IN_DOUBT_FOR = timedelta(seconds=60)  # a write without effect may still arrive (a broker's queue)

_CONNECTED = ControlState.CONNECTED
_DISCONNECTED = ControlState.DISCONNECTED
_READY = ControlState.READY_FOR_RECONNECTION


class Case(StrEnum):
    """What needs a person. The first two are about the relay, the others about one change."""

    OPENED_OUTSIDE = "opened_outside"  # open, and not by us: nobody knows who works behind it
    LOAD_TRIP = "load_trip"  # opened itself right after our reconnection
    RECONNECTION_FAILED = "reconnection_failed"
    DISCONNECTION_FAILED = "disconnection_failed"  # the relay may be welded
    WRITES_UNANSWERED = "writes_unanswered"  # it can be read, but answers no write


_CASES_OF_RELAY = frozenset({Case.OPENED_OUTSIDE, Case.LOAD_TRIP})


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterControl:
    """All that is remembered of one meter's relay; a fresh one is a meter never seen.

    `disconnected_by_us`: we told it to disconnect (or a manager ordered it closed), so it is ours
    to close. `permitted`: a `permit_only` meter (DL/T 645 1B) was permitted to close and waits
    for its button. `read_back_at`: a write or a person's order awaits its read-back, due then.
    """

    policy_state: ControlState = _CONNECTED
    hold: bool = False
    commanded: ControlState | None = None
    commanded_at: datetime | None = None
    confirmed: ControlState | None = None
    answered_writes: int = 0
    unanswered_writes: int = 0
    disconnected_by_us: bool = False
    case: Case | None = None
    retry_at: datetime | None = None
    read_back_at: datetime | None = None
    reconnected_at: datetime | None = None
    permit_only: bool = False
    permitted: bool = False

    @property
    def desired(self) -> ControlState:
        """What the relay should be: a hold beats the policy."""
        return _DISCONNECTED if self.hold else self.policy_state

    @property
    def phase(self) -> "Phase":
        """Where it stands on its way; derived, never stored."""
        if self.confirmed is None:
            return Phase.UNSEEN
        if self.read_back_at is not None:
            return Phase.WRITTEN
        if _is_settled(self):
            return Phase.SETTLED
        if _is_blocked(self):
            return Phase.BLOCKED
        return Phase.DRIVING if self.retry_at is None else Phase.RETRYING


class Phase(StrEnum):
    """The stations between a wish and its proof."""

    UNSEEN = "unseen"  # never read back
    WRITTEN = "written"  # a write, or a person's order, awaits a read-back
    SETTLED = "settled"  # as desired
    BLOCKED = "blocked"  # not as desired, and only a person may change that
    RETRYING = "retrying"  # not as desired; the next write waits for `retry_at`
    DRIVING = "driving"  # not as desired; a write is due


class ActionKind(StrEnum):
    """What the collector does on the bus."""

    NONE = "none"
    DISCONNECT = "disconnect"
    RECONNECT = "reconnect"
    READ_BACK = "read_back"


@dataclass(frozen=True, slots=True)
class Action:
    """The next job; NONE with `wait_until` is to be asked again then."""

    kind: ActionKind
    wait_until: datetime | None = None


def step(control: MeterControl, event: Event, now: datetime) -> MeterControl:
    """The control after this event."""
    return TRANSITIONS[control.phase, event.kind](control, event, now)


def next_action(control: MeterControl, now: datetime) -> Action:
    """What is to be done on the bus at `now`.

    A disconnection also needs the policy's decision to stand (`policy.check_cut`) unless it is a
    hold's.
    """
    phase = control.phase
    if phase is Phase.UNSEEN:
        return Action(ActionKind.READ_BACK)
    if phase is Phase.WRITTEN:
        return _when_due(ActionKind.READ_BACK, control.read_back_at, now, SETTLE_FOR)
    if phase in {Phase.SETTLED, Phase.BLOCKED}:
        return Action(ActionKind.NONE)
    write = ActionKind.RECONNECT if control.desired is _CONNECTED else ActionKind.DISCONNECT
    return _when_due(write, control.retry_at, now, RETRY_EVERY)


def shown_state(controls: Iterable[MeterControl]) -> ControlState | None:
    """What a tenancy with these meters is told; None before the first read-back.

    Disconnected if any meter is; ready while a confirmation or a button is awaited.
    """
    states = {_shown(control) for control in controls}
    order = (_DISCONNECTED, _READY, None, _CONNECTED)
    return next((state for state in order if state in states), None)


def _shown(control: MeterControl) -> ControlState | None:
    if control.confirmed is _DISCONNECTED and control.desired is _READY:
        return _READY
    return control.confirmed


def _when_due(kind: ActionKind, at: datetime | None, now: datetime, most: timedelta) -> Action:
    """The action, if it is due; an instant further ahead than `most` is a clock set back."""
    if at is None or not now < at <= now + most:
        return Action(kind)
    return Action(ActionKind.NONE, wait_until=at)


def _is_settled(control: MeterControl) -> bool:
    if control.desired is _CONNECTED:
        waits_for_button = control.permit_only and control.confirmed is _READY
        return control.confirmed is _CONNECTED or waits_for_button
    # Ready for reconnection is a wish for the tenant's word: nothing is written for it.
    return control.desired is _READY or control.confirmed is _DISCONNECTED


def _is_blocked(control: MeterControl) -> bool:
    if control.desired is _CONNECTED:
        return not control.disconnected_by_us
    return control.case is Case.DISCONNECTION_FAILED


def _on_policy_changed(control: MeterControl, event: Event, _now: datetime) -> MeterControl:
    wished = replace(control, policy_state=event.state or control.policy_state)
    if wished.desired is control.desired:
        return wished
    return _name_relay_case(_start_change(wished), Case.OPENED_OUTSIDE)


def _on_held(control: MeterControl, _event: Event, now: datetime) -> MeterControl:
    return _start_change(replace(control, hold=True, read_back_at=now))


def _on_hold_released(control: MeterControl, _event: Event, now: datetime) -> MeterControl:
    """A person took the relay over: whoever opened it, closing it is now our order.

    A person's order reads the relay first: what was confirmed a minute ago may be why they order.
    """
    taken_over = replace(control, hold=False, disconnected_by_us=True, case=None)
    return _start_change(replace(taken_over, read_back_at=now))


def _start_change(control: MeterControl) -> MeterControl:
    """A new change has its writes before it; what is known of the relay stays known."""
    return replace(
        control,
        answered_writes=0,
        unanswered_writes=0,
        retry_at=None,
        case=control.case if control.case in _CASES_OF_RELAY else None,
    )


def _on_write(control: MeterControl, event: Event, now: datetime) -> MeterControl:
    answered = event.kind is EventKind.WRITE_ANSWERED
    counts = event.state is control.desired  # one for a wish since taken back does not
    opens = event.state is _DISCONNECTED and control.confirmed is _CONNECTED
    return replace(
        control,
        commanded=event.state,
        commanded_at=now,
        answered_writes=min(control.answered_writes + (answered and counts), ANSWERED_WRITES_MAX),
        unanswered_writes=0 if answered else control.unanswered_writes + counts,
        disconnected_by_us=control.disconnected_by_us or opens,
        permitted=_is_permitted(control, event),
        retry_at=None,
        read_back_at=now,
    )


def _is_permitted(control: MeterControl, event: Event) -> bool:
    if event.kind is EventKind.WRITE_UNANSWERED:
        return control.permitted
    return control.permit_only and event.state is _CONNECTED


def _on_first_sight(control: MeterControl, event: Event, now: datetime) -> MeterControl:
    """What is found at first is how it is: no case, and not ours to close."""
    if control.read_back_at is not None:
        return _on_proof(control, event, now)
    return _observe(control, event, now)


def _on_proof(control: MeterControl, event: Event, now: datetime) -> MeterControl:
    """The read-back after a write."""
    seen = _observe(control, event, now)
    if _is_settled(seen):
        return _end_change(seen)
    if control.commanded is not control.desired or control.commanded_at is None:
        return _name_relay_case(replace(seen, read_back_at=None), Case.OPENED_OUTSIDE)
    answered = control.unanswered_writes == 0
    if answered and _is_within(SETTLE_FOR, control.commanded_at, now):
        return replace(seen, read_back_at=control.commanded_at + SETTLE_FOR)
    return _on_failure(replace(seen, read_back_at=None), now)


def _on_failure(control: MeterControl, now: datetime) -> MeterControl:
    """A write that proved to have no effect: again, or a case."""
    if control.unanswered_writes:
        if control.unanswered_writes < UNANSWERED_WRITES_MAX:
            return control
        case = control.case or Case.WRITES_UNANSWERED
        return replace(control, case=case, unanswered_writes=0, retry_at=now + RETRY_EVERY)
    if control.answered_writes < ANSWERED_WRITES_MAX:
        return control
    if control.desired is _DISCONNECTED:
        return replace(control, case=Case.DISCONNECTION_FAILED)
    return replace(control, case=Case.RECONNECTION_FAILED, retry_at=now + RETRY_EVERY)


def _on_watch(control: MeterControl, event: Event, now: datetime) -> MeterControl:
    """An ordinary poll's look at the relay, no write awaiting proof."""
    seen = _observe(control, event, now)
    if _is_settled(seen):
        return _end_change(seen)
    if seen.desired is _DISCONNECTED and seen.answered_writes >= ANSWERED_WRITES_MAX:
        return replace(seen, case=Case.DISCONNECTION_FAILED)
    tripped = control.confirmed is _CONNECTED and _is_within(
        LOAD_TRIP_WITHIN, control.reconnected_at, now
    )
    return _name_relay_case(seen, Case.LOAD_TRIP if tripped else Case.OPENED_OUTSIDE)


def _observe(control: MeterControl, event: Event, now: datetime) -> MeterControl:
    """What a read-back says of the relay itself."""
    if event.state is not _CONNECTED:
        waits_for_button = control.permitted and event.state is _DISCONNECTED
        return replace(control, confirmed=_READY if waits_for_button else event.state)
    closed_by_us = control.commanded is _CONNECTED and control.confirmed is not _CONNECTED
    return replace(
        control,
        confirmed=_CONNECTED,
        permitted=False,
        reconnected_at=now if closed_by_us else control.reconnected_at,
        disconnected_by_us=control.disconnected_by_us and _may_still_open(control, now),
        case=None if control.case in _CASES_OF_RELAY else control.case,
    )


def _may_still_open(control: MeterControl, now: datetime) -> bool:
    """Whether our own disconnection may still take effect on a relay that is read connected."""
    if control.desired is _DISCONNECTED:
        return True
    if control.commanded is not _DISCONNECTED:
        return False
    return _is_within(IN_DOUBT_FOR, control.commanded_at, now)


def _end_change(control: MeterControl) -> MeterControl:
    """As desired: what was counted as answered stays counted, until the wish changes."""
    return replace(
        control,
        unanswered_writes=0,
        retry_at=None,
        read_back_at=None,
        case=control.case if control.case in _CASES_OF_RELAY else None,
    )


def _name_relay_case(control: MeterControl, case: Case) -> MeterControl:
    """The case of a relay that should be connected, is known open, and not ours to close."""
    unseen_or_settled = control.confirmed is None or _is_settled(control)
    if unseen_or_settled or control.desired is not _CONNECTED or control.disconnected_by_us:
        return control
    return replace(control, case=control.case or case)


def _is_within(span: timedelta, since: datetime | None, now: datetime) -> bool:
    """Whether `since` is at most `span` ago; a clock set back ends every span."""
    return since is not None and timedelta(0) <= now - since < span


Transition = Callable[[MeterControl, Event, datetime], MeterControl]

_ON_READ_BACK: Mapping[Phase, Transition] = MappingProxyType(
    {
        Phase.UNSEEN: _on_first_sight,
        Phase.WRITTEN: _on_proof,
        Phase.SETTLED: _on_watch,
        Phase.BLOCKED: _on_watch,
        Phase.RETRYING: _on_watch,
        Phase.DRIVING: _on_watch,
    }
)

# Orders and reports of writes mean the same wherever the machine stands (a report may arrive
# after the wish has changed); a read-back means what the machine was waiting for.
TRANSITIONS: Mapping[tuple[Phase, EventKind], Transition] = MappingProxyType(
    {(phase, EventKind.POLICY_CHANGED): _on_policy_changed for phase in Phase}
    | {(phase, EventKind.HELD): _on_held for phase in Phase}
    | {(phase, EventKind.HOLD_RELEASED): _on_hold_released for phase in Phase}
    | {(phase, EventKind.WRITE_ANSWERED): _on_write for phase in Phase}
    | {(phase, EventKind.WRITE_UNANSWERED): _on_write for phase in Phase}
    | {(phase, EventKind.READ_BACK): then for phase, then in _ON_READ_BACK.items()}
)
