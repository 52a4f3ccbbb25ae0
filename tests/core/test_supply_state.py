"""One relay's control: every pair of phase and event, and what follows from it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from server.core.errors import InvalidInputError
from server.core.supply.control_state import ControlState
from server.core.supply.events import (
    Event,
    EventKind,
    held,
    hold_released,
    policy_changed,
    read_back,
    write_answered,
    write_unanswered,
)
from server.core.supply.state import (
    RETRY_EVERY,
    SETTLE_FOR,
    TRANSITIONS,
    Action,
    ActionKind,
    Case,
    MeterControl,
    Phase,
    next_action,
    shown_state,
    step,
)

NOW = datetime(2026, 9, 16, 4, 0, tzinfo=UTC)
OFF, ON, READY = (
    ControlState.DISCONNECTED,
    ControlState.CONNECTED,
    ControlState.READY_FOR_RECONNECTION,
)
SECOND = timedelta(seconds=1)

# One control for each phase (and some that matter beside it).
UNSEEN = MeterControl()
CONNECTED = MeterControl(confirmed=ON)
CUT = MeterControl(
    policy_state=OFF, confirmed=OFF, commanded=OFF, disconnected_by_us=True, answered_writes=1
)
TO_CUT = MeterControl(policy_state=OFF, confirmed=ON)
TO_RECONNECT = replace(CUT, policy_state=ON, answered_writes=0)
CUTTING = replace(
    TO_CUT,
    commanded=OFF,
    commanded_at=NOW - SETTLE_FOR,
    read_back_at=NOW,
    disconnected_by_us=True,
    answered_writes=1,
)
RECONNECTING = replace(
    TO_RECONNECT,
    commanded=ON,
    commanded_at=NOW - SETTLE_FOR,
    read_back_at=NOW,
    answered_writes=1,
)
OUTSIDE = MeterControl(confirmed=OFF, case=Case.OPENED_OUTSIDE)
FAILING = replace(
    TO_RECONNECT,
    commanded=ON,
    answered_writes=3,
    case=Case.RECONNECTION_FAILED,
    retry_at=NOW + RETRY_EVERY,
)
WELDED = replace(
    TO_CUT,
    commanded=OFF,
    disconnected_by_us=True,
    answered_writes=3,
    case=Case.DISCONNECTION_FAILED,
)
HELD = replace(CUT, policy_state=ON, hold=True)

NOTHING = "none"


@pytest.mark.parametrize(
    ("control", "phase", "action"),
    [
        (UNSEEN, Phase.UNSEEN, "read_back"),
        (CONNECTED, Phase.SETTLED, NOTHING),
        (CUT, Phase.SETTLED, NOTHING),
        (HELD, Phase.SETTLED, NOTHING),
        (TO_CUT, Phase.DRIVING, "disconnect"),
        (replace(CONNECTED, hold=True), Phase.DRIVING, "disconnect"),
        (TO_RECONNECT, Phase.DRIVING, "reconnect"),
        (CUTTING, Phase.WRITTEN, "read_back"),
        (RECONNECTING, Phase.WRITTEN, "read_back"),
        (OUTSIDE, Phase.BLOCKED, NOTHING),
        (WELDED, Phase.BLOCKED, NOTHING),
        (FAILING, Phase.RETRYING, NOTHING),
        # waiting for the tenant's word: nothing is written, whatever the relay is
        (replace(CUT, policy_state=READY), Phase.SETTLED, NOTHING),
        (replace(CONNECTED, policy_state=READY), Phase.SETTLED, NOTHING),
        # a relay that is only permitted to close is not disconnected
        (replace(CUT, confirmed=READY), Phase.DRIVING, "disconnect"),
        (replace(TO_RECONNECT, confirmed=READY), Phase.DRIVING, "reconnect"),
        (replace(TO_RECONNECT, confirmed=READY, permit_only=True), Phase.SETTLED, NOTHING),
    ],
)
def test_a_phase_has_its_action(control: MeterControl, phase: Phase, action: str) -> None:
    assert control.phase is phase
    assert next_action(control, NOW).kind == action


PHASES = {
    Phase.UNSEEN: UNSEEN,
    Phase.WRITTEN: RECONNECTING,
    Phase.SETTLED: CONNECTED,
    Phase.BLOCKED: OUTSIDE,
    Phase.RETRYING: FAILING,
    Phase.DRIVING: TO_RECONNECT,
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("kind", EventKind)
def test_every_pair_of_phase_and_event_is_decided(phase: Phase, kind: EventKind) -> None:
    states = (None,) if kind in {EventKind.HELD, EventKind.HOLD_RELEASED} else (ON, OFF)
    assert (phase, kind) in TRANSITIONS
    for state in states:
        after = step(PHASES[phase], Event(kind, state), NOW)
        assert next_action(after, NOW).kind in ActionKind


@pytest.mark.parametrize(
    ("control", "event", "phase", "changed"),
    [
        # the first look: what is, is
        (UNSEEN, read_back(ON), Phase.SETTLED, {"confirmed": ON}),
        (UNSEEN, read_back(OFF), Phase.BLOCKED, {"confirmed": OFF, "case": None}),
        (UNSEEN, policy_changed(OFF), Phase.UNSEEN, {"policy_state": OFF}),
        (UNSEEN, held(), Phase.UNSEEN, {"hold": True}),
        (UNSEEN, write_answered(OFF), Phase.UNSEEN, {"disconnected_by_us": False}),
        # a wish
        (CONNECTED, policy_changed(OFF), Phase.DRIVING, {"policy_state": OFF}),
        (CONNECTED, policy_changed(ON), Phase.SETTLED, {}),
        (CONNECTED, policy_changed(READY), Phase.SETTLED, {"policy_state": READY}),
        (CUT, policy_changed(ON), Phase.DRIVING, {"answered_writes": 0}),
        (CUT, policy_changed(READY), Phase.SETTLED, {"answered_writes": 0}),
        (CUTTING, policy_changed(ON), Phase.WRITTEN, {"answered_writes": 0}),
        (HELD, policy_changed(OFF), Phase.SETTLED, {"answered_writes": 1}),
        (HELD, policy_changed(READY), Phase.SETTLED, {"answered_writes": 1}),
        (FAILING, policy_changed(OFF), Phase.SETTLED, {"case": None, "retry_at": None}),
        (WELDED, policy_changed(ON), Phase.SETTLED, {"case": None, "answered_writes": 0}),
        (OUTSIDE, policy_changed(OFF), Phase.SETTLED, {"case": Case.OPENED_OUTSIDE}),
        (
            MeterControl(policy_state=OFF, confirmed=OFF),
            policy_changed(ON),
            Phase.BLOCKED,
            {"case": Case.OPENED_OUTSIDE},
        ),
        # a person's orders: the relay is read first
        (CONNECTED, held(), Phase.WRITTEN, {"hold": True, "read_back_at": NOW}),
        (CUT, held(), Phase.WRITTEN, {"hold": True}),
        (WELDED, held(), Phase.WRITTEN, {"case": None, "answered_writes": 0}),
        (OUTSIDE, held(), Phase.WRITTEN, {"case": Case.OPENED_OUTSIDE}),
        (HELD, hold_released(), Phase.WRITTEN, {"hold": False, "read_back_at": NOW}),
        (OUTSIDE, hold_released(), Phase.WRITTEN, {"case": None, "disconnected_by_us": True}),
        (FAILING, hold_released(), Phase.WRITTEN, {"case": None, "answered_writes": 0}),
        # writes
        (
            TO_CUT,
            write_answered(OFF),
            Phase.WRITTEN,
            {"commanded": OFF, "answered_writes": 1, "disconnected_by_us": True},
        ),
        (
            TO_CUT,
            write_unanswered(OFF),
            Phase.WRITTEN,
            {"answered_writes": 0, "unanswered_writes": 1, "disconnected_by_us": True},
        ),
        (TO_RECONNECT, write_answered(ON), Phase.WRITTEN, {"commanded": ON, "answered_writes": 1}),
        (FAILING, write_answered(ON), Phase.WRITTEN, {"answered_writes": 3, "retry_at": None}),
        # reported after the wish had changed: it does not count, its effect is read back
        (CONNECTED, write_answered(OFF), Phase.WRITTEN, {"answered_writes": 0}),
        (OUTSIDE, write_answered(OFF), Phase.WRITTEN, {"disconnected_by_us": False}),
        (CONNECTED, write_unanswered(OFF), Phase.WRITTEN, {"unanswered_writes": 0}),
        # proofs
        (CUTTING, read_back(OFF), Phase.SETTLED, {"confirmed": OFF, "read_back_at": None}),
        (CUTTING, read_back(ON), Phase.DRIVING, {"read_back_at": None, "answered_writes": 1}),
        (
            replace(CUTTING, answered_writes=3),
            read_back(ON),
            Phase.BLOCKED,
            {"case": Case.DISCONNECTION_FAILED},
        ),
        (
            RECONNECTING,
            read_back(ON),
            Phase.SETTLED,
            {"reconnected_at": NOW, "disconnected_by_us": False},
        ),
        (RECONNECTING, read_back(OFF), Phase.DRIVING, {"confirmed": OFF}),
        (
            replace(RECONNECTING, answered_writes=3),
            read_back(OFF),
            Phase.RETRYING,
            {"case": Case.RECONNECTION_FAILED, "retry_at": NOW + RETRY_EVERY},
        ),
        (
            replace(RECONNECTING, answered_writes=0, unanswered_writes=2),
            read_back(OFF),
            Phase.DRIVING,
            {"case": None, "unanswered_writes": 2},
        ),
        (
            replace(RECONNECTING, answered_writes=0, unanswered_writes=3),
            read_back(OFF),
            Phase.RETRYING,
            {"case": Case.WRITES_UNANSWERED, "unanswered_writes": 0, "answered_writes": 0},
        ),
        (
            replace(FAILING, read_back_at=NOW, unanswered_writes=3, commanded_at=NOW),
            read_back(OFF),
            Phase.RETRYING,
            {"case": Case.RECONNECTION_FAILED, "retry_at": NOW + RETRY_EVERY},
        ),
        (
            replace(RECONNECTING, unanswered_writes=2),
            read_back(ON),
            Phase.SETTLED,
            {"unanswered_writes": 0},
        ),
        (
            replace(CUTTING, commanded_at=NOW - timedelta(hours=1)),
            read_back(ON),
            Phase.DRIVING,
            {"disconnected_by_us": True},
        ),
        # read too early to prove a failure: read again when the mechanics are through
        (
            replace(CUTTING, commanded_at=NOW),
            read_back(ON),
            Phase.WRITTEN,
            {"read_back_at": NOW + SETTLE_FOR},
        ),
        # the wish changed meanwhile: on to the new one
        (
            replace(CUTTING, policy_state=ON, answered_writes=0),
            read_back(OFF),
            Phase.DRIVING,
            {"case": None},
        ),
        (
            replace(CUTTING, policy_state=ON, answered_writes=0),
            read_back(ON),
            Phase.SETTLED,
            {"case": None},
        ),
        # ordinary polls
        (CONNECTED, read_back(ON), Phase.SETTLED, {}),
        (CONNECTED, read_back(OFF), Phase.BLOCKED, {"case": Case.OPENED_OUTSIDE}),
        (
            replace(CONNECTED, reconnected_at=NOW - 59 * SECOND),
            read_back(OFF),
            Phase.BLOCKED,
            {"case": Case.LOAD_TRIP},
        ),
        (
            replace(CONNECTED, reconnected_at=NOW - 60 * SECOND),
            read_back(OFF),
            Phase.BLOCKED,
            {"case": Case.OPENED_OUTSIDE},
        ),
        (
            replace(CONNECTED, reconnected_at=NOW + SECOND),
            read_back(OFF),
            Phase.BLOCKED,
            {"case": Case.OPENED_OUTSIDE},
        ),
        (MeterControl(confirmed=OFF), read_back(OFF), Phase.BLOCKED, {"case": Case.OPENED_OUTSIDE}),
        (OUTSIDE, read_back(OFF), Phase.BLOCKED, {"case": Case.OPENED_OUTSIDE}),
        (
            replace(OUTSIDE, case=Case.LOAD_TRIP),
            read_back(OFF),
            Phase.BLOCKED,
            {"case": Case.LOAD_TRIP},
        ),
        (OUTSIDE, read_back(ON), Phase.SETTLED, {"case": None}),
        (CUT, read_back(ON), Phase.DRIVING, {"answered_writes": 1, "case": None}),
        (
            replace(CUT, answered_writes=3),
            read_back(ON),
            Phase.BLOCKED,
            {"case": Case.DISCONNECTION_FAILED},
        ),
        (WELDED, read_back(OFF), Phase.SETTLED, {"case": None, "disconnected_by_us": True}),
        (FAILING, read_back(OFF), Phase.RETRYING, {"case": Case.RECONNECTION_FAILED}),
        (FAILING, read_back(ON), Phase.SETTLED, {"case": None, "retry_at": None}),
        # a disconnection in doubt may still arrive; after a minute it is nobody's
        (
            replace(CUTTING, policy_state=ON, commanded_at=NOW - 59 * SECOND),
            read_back(ON),
            Phase.SETTLED,
            {"disconnected_by_us": True},
        ),
        (
            replace(CUTTING, policy_state=ON, commanded_at=NOW - 60 * SECOND),
            read_back(ON),
            Phase.SETTLED,
            {"disconnected_by_us": False},
        ),
    ],
)
def test_an_event_moves_the_control(
    control: MeterControl, event: Event, phase: Phase, changed: dict[str, object]
) -> None:
    after = step(control, event, NOW)
    assert after.phase is phase
    assert {name: getattr(after, name) for name in changed} == changed


@pytest.mark.parametrize(
    ("control", "now", "action"),
    [
        (FAILING, NOW, Action(ActionKind.NONE, NOW + RETRY_EVERY)),
        (FAILING, NOW + RETRY_EVERY - SECOND, Action(ActionKind.NONE, NOW + RETRY_EVERY)),
        (FAILING, NOW + RETRY_EVERY, Action(ActionKind.RECONNECT)),
        (FAILING, NOW - SECOND, Action(ActionKind.RECONNECT)),  # the clock was set back
        (
            replace(CUTTING, read_back_at=NOW + SECOND),
            NOW,
            Action(ActionKind.NONE, NOW + SECOND),
        ),
        (replace(CUTTING, read_back_at=NOW + SECOND), NOW + SECOND, Action(ActionKind.READ_BACK)),
        (
            replace(CUTTING, read_back_at=NOW + timedelta(hours=1)),
            NOW,
            Action(ActionKind.READ_BACK),
        ),
    ],
)
def test_an_action_waits(control: MeterControl, now: datetime, action: Action) -> None:
    assert next_action(control, now) == action


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (EventKind.HELD, ON),
        (EventKind.HOLD_RELEASED, OFF),
        (EventKind.POLICY_CHANGED, None),
        (EventKind.READ_BACK, None),
        (EventKind.WRITE_ANSWERED, READY),
        (EventKind.WRITE_UNANSWERED, READY),
        (EventKind.WRITE_ANSWERED, None),
    ],
)
def test_an_event_that_cannot_be_is_refused(kind: EventKind, state: ControlState | None) -> None:
    with pytest.raises(InvalidInputError):
        Event(kind, state)


def play(control: MeterControl, *events: Event, pause: timedelta = SETTLE_FOR) -> MeterControl:
    """The control after these events, each `pause` after the last."""
    for number, event in enumerate(events):
        control = step(control, event, NOW + number * pause)
    return control


def test_a_meter_that_ignores_its_disconnection_gets_three_writes_and_a_case() -> None:
    control = TO_CUT
    for _ in range(3):
        assert next_action(control, NOW).kind is ActionKind.DISCONNECT
        control = play(control, write_answered(OFF), read_back(ON))
    assert control.case is Case.DISCONNECTION_FAILED
    assert next_action(control, NOW).kind is ActionKind.NONE


def test_a_relay_that_somebody_keeps_closing_gets_three_writes_in_all() -> None:
    control = TO_CUT
    for _ in range(3):
        control = play(control, write_answered(OFF), read_back(OFF), read_back(ON))
    assert control.case is Case.DISCONNECTION_FAILED
    assert control.phase is Phase.BLOCKED


def test_unanswered_writes_are_not_counted() -> None:
    control = play(TO_CUT, *(write_unanswered(OFF), read_back(ON)) * 2)
    assert (control.answered_writes, control.case) == (0, None)
    control = play(control, write_answered(OFF), read_back(OFF))
    assert (control.answered_writes, control.phase) == (1, Phase.SETTLED)


def test_an_unanswered_disconnection_that_arrived_is_ours_to_undo() -> None:
    control = play(TO_CUT, write_unanswered(OFF), read_back(OFF), policy_changed(ON))
    assert next_action(control, NOW).kind is ActionKind.RECONNECT


def test_a_disconnection_that_arrives_after_the_payment_is_undone() -> None:
    in_time = (write_unanswered(OFF), read_back(ON), policy_changed(ON), read_back(ON))
    control = play(TO_CUT, *in_time, read_back(OFF))
    assert next_action(control, NOW).kind is ActionKind.RECONNECT


def test_a_failed_reconnection_is_tried_for_ever_at_its_pace() -> None:
    control, now, writes = TO_RECONNECT, NOW, 0
    for _ in range(100):
        action = next_action(control, now)
        if action.kind is ActionKind.NONE:
            assert action.wait_until is not None
            now = action.wait_until
        elif action.kind is ActionKind.RECONNECT:
            writes += 1
            control = step(control, write_answered(ON), now)
            now += SETTLE_FOR
        else:
            control = step(control, read_back(OFF), now)
    assert control.case is Case.RECONNECTION_FAILED
    assert control.answered_writes == 3
    minutes = (now - NOW) / timedelta(minutes=1)
    assert writes <= 3 + minutes / 5 + 1
    assert play(control, read_back(ON)).case is None


def test_a_permitted_meter_waits_for_its_button() -> None:
    control = replace(TO_RECONNECT, permit_only=True)
    control = play(control, write_answered(ON), read_back(OFF))
    assert control.confirmed is READY
    assert shown_state([control]) is READY
    assert next_action(control, NOW).kind is ActionKind.NONE
    control = play(control, read_back(OFF), read_back(ON))
    assert (control.confirmed, control.phase) == (ON, Phase.SETTLED)


def test_a_load_that_trips_when_the_button_is_pressed_is_a_case() -> None:
    control = replace(TO_RECONNECT, permit_only=True)
    pressed = (write_answered(ON), read_back(OFF), read_back(ON))
    assert play(control, *pressed, read_back(OFF)).case is Case.LOAD_TRIP


def test_a_permission_that_was_not_answered_is_given_again() -> None:
    control = replace(TO_RECONNECT, permit_only=True)
    control = play(control, write_unanswered(ON), read_back(OFF))
    assert next_action(control, NOW).kind is ActionKind.RECONNECT


def test_a_permission_is_taken_back_when_the_wish_changes() -> None:
    control = replace(TO_RECONNECT, permit_only=True)
    control = play(control, write_answered(ON), read_back(OFF), policy_changed(OFF))
    assert next_action(control, NOW).kind is ActionKind.DISCONNECT
    control = play(control, write_answered(OFF), read_back(OFF))
    assert (control.confirmed, control.phase) == (OFF, Phase.SETTLED)


@pytest.mark.parametrize("control", [OUTSIDE, CONNECTED, UNSEEN, HELD, FAILING])
def test_a_manager_may_close_whatever_is_found_open(control: MeterControl) -> None:
    control = play(control, hold_released(), read_back(OFF))
    assert next_action(control, NOW).kind is ActionKind.RECONNECT
    control = play(control, write_answered(ON), read_back(ON))
    assert (control.phase, control.case, control.disconnected_by_us) == (Phase.SETTLED, None, False)


def test_a_manager_who_reconnects_what_is_connected_takes_nothing_over() -> None:
    control = play(CONNECTED, hold_released(), read_back(ON))
    assert (control.phase, control.disconnected_by_us) == (Phase.SETTLED, False)


def test_a_hold_s_end_does_not_pay_the_bill() -> None:
    control = play(replace(HELD, policy_state=OFF), hold_released(), read_back(OFF))
    assert next_action(control, NOW).kind is ActionKind.NONE


def test_a_hold_disconnects_what_is_found_connected() -> None:
    for control in (CONNECTED, CUT, UNSEEN, WELDED):
        assert next_action(play(control, held(), read_back(ON)), NOW) == Action(
            ActionKind.DISCONNECT
        )


def test_a_hold_outlives_every_payment() -> None:
    control = play(CONNECTED, held(), read_back(ON), write_answered(OFF), read_back(OFF))
    control = play(control, policy_changed(OFF), policy_changed(ON), read_back(OFF))
    assert next_action(control, NOW).kind is ActionKind.NONE


@pytest.mark.parametrize(
    ("controls", "shown"),
    [
        ([], None),
        ([UNSEEN], None),
        ([CONNECTED], ON),
        ([CUT], OFF),
        ([CONNECTED, CUT], OFF),
        ([UNSEEN, CUT], OFF),
        ([CONNECTED, UNSEEN], None),
        ([replace(CUT, policy_state=READY)], READY),
        ([replace(CONNECTED, policy_state=READY)], ON),
        ([replace(CUT, policy_state=READY), CONNECTED], READY),
        ([replace(CUT, policy_state=READY), HELD], OFF),
        ([replace(CUT, confirmed=READY)], READY),
    ],
)
def test_a_tenancy_is_shown(controls: list[MeterControl], shown: ControlState | None) -> None:
    assert shown_state(controls) is shown
