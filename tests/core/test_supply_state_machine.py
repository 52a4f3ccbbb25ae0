"""The machine against a relay that fails in every way: model checking by search."""

from copy import copy
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.core.supply.control_state import ControlState
from server.core.supply.events import (
    held,
    hold_released,
    policy_changed,
    read_back,
    write_answered,
    write_unanswered,
)
from server.core.supply.state import (
    ANSWERED_WRITES_MAX,
    IN_DOUBT_FOR,
    UNANSWERED_WRITES_MAX,
    Action,
    ActionKind,
    Case,
    MeterControl,
    Phase,
    next_action,
    step,
)

OFF, ON = ControlState.DISCONNECTED, ControlState.CONNECTED
STEPS_MAX = 40  # enough for three unanswered writes, a pause, and three answered ones


class Relay:
    """A meter's relay, and who opened it last."""

    def __init__(self) -> None:
        self.state = ON
        self.opened_outside = False

    def write(self, action: ActionKind) -> None:
        self.set(OFF if action is ActionKind.DISCONNECT else ON, outside=False)

    def set(self, state: ControlState, *, outside: bool) -> None:
        if state is OFF and self.state is ON:
            self.opened_outside = outside
        self.state = state


class RelayUnderControl(RuleBasedStateMachine):
    """Wishes, holds, lost answers, deaf and slow meters, hands on the relay, clock steps."""

    def __init__(self) -> None:
        super().__init__()
        self.relay = Relay()
        self.control = MeterControl()
        self.now = datetime(2026, 9, 16, 4, 0, tzinfo=UTC)
        self.answered_this_change = 0
        self.queued: tuple[ActionKind, datetime] | None = None

    def send(self, after: MeterControl) -> None:
        if after.desired is not self.control.desired:
            self.answered_this_change = 0
        self.control = after

    @rule(state=st.sampled_from(ControlState))
    def the_policy_wishes(self, state: ControlState) -> None:
        self.send(step(self.control, policy_changed(state), self.now))

    @rule()
    def a_person_holds(self) -> None:
        self.send(step(self.control, held(), self.now))
        self.answered_this_change = 0

    @rule()
    def a_manager_reconnects(self) -> None:
        self.send(step(self.control, hold_released(), self.now))
        self.answered_this_change = 0
        self.relay.opened_outside = False  # closing it is now our order

    @rule()
    def a_poll_reads_the_relay(self) -> None:
        self.send(step(self.control, read_back(self.relay.state), self.now))

    @rule(obeys=st.booleans(), answers=st.booleans(), jobs=st.integers(1, 8))
    def the_collector_acts(self, *, obeys: bool, answers: bool, jobs: int) -> None:
        for _ in range(jobs):
            self.act(obeys=obeys, answers=answers)
            self.now += timedelta(seconds=2)

    @rule(jobs=st.integers(1, 8))
    def the_collector_writes_into_the_void_but_reads(self, jobs: int) -> None:
        for _ in range(jobs):
            self.act(obeys=False, answers=False)
            self.a_poll_reads_the_relay()

    @rule(seconds=st.sampled_from([1, 2, 61, 300, 7_200, -3_600]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.queued is not None)
    @rule()
    def a_queued_write_arrives_late(self) -> None:
        assert self.queued is not None
        (kind, sent_at), self.queued = self.queued, None
        if timedelta(0) <= self.now - sent_at < IN_DOUBT_FOR:
            self.relay.write(kind)

    @rule()
    def a_hand_closes_the_relay(self) -> None:
        self.relay.set(ON, outside=True)

    # While a disconnection of ours is under way nobody can tell whose opening it was.
    @precondition(lambda self: not self.control.disconnected_by_us)
    @rule()
    def something_else_opens_the_relay(self) -> None:
        self.relay.set(OFF, outside=True)

    def act(self, *, obeys: bool, answers: bool) -> Action:
        """One job of the collector, which reads the relay before it opens one."""
        action = next_action(self.control, self.now)
        if action.kind is ActionKind.DISCONNECT:
            self.a_poll_reads_the_relay()
            action = next_action(self.control, self.now)
        if action.kind is ActionKind.READ_BACK and answers:
            self.a_poll_reads_the_relay()
        if action.kind in {ActionKind.DISCONNECT, ActionKind.RECONNECT}:
            self.write(action.kind, obeys=obeys, answers=answers)
        return action

    def write(self, kind: ActionKind, *, obeys: bool, answers: bool) -> None:
        if kind is ActionKind.RECONNECT:
            assert not self.relay.opened_outside, "closed what we did not open"
            assert not self.control.hold
        retries = self.control.case in {Case.RECONNECTION_FAILED, Case.WRITES_UNANSWERED}
        if answers and not retries:
            self.answered_this_change += 1
            assert self.answered_this_change <= ANSWERED_WRITES_MAX
        state = OFF if kind is ActionKind.DISCONNECT else ON
        if obeys:
            self.relay.write(kind)
        self.queued = None if obeys or answers else (kind, self.now)
        event = write_answered(state) if answers else write_unanswered(state)
        self.send(step(self.control, event, self.now))

    @invariant()
    def counts_stay_within_their_limits(self) -> None:
        assert 0 <= self.control.answered_writes <= ANSWERED_WRITES_MAX
        assert 0 <= self.control.unanswered_writes <= UNANSWERED_WRITES_MAX

    @invariant()
    def what_waits_is_awaited_for_a_bounded_time(self) -> None:
        action = next_action(self.control, self.now)
        if action.wait_until is not None:
            assert self.now < action.wait_until <= self.now + timedelta(minutes=5)

    @invariant()
    def an_obedient_meter_ends_as_desired(self) -> None:
        """Unless a person has to decide: then it stays as it is."""
        control, relay = self.after_obeying()
        desired = control.desired
        if control.phase is Phase.BLOCKED:
            assert relay.state is not desired
            assert desired is OFF or not control.disconnected_by_us
        else:
            assert control.phase is Phase.SETTLED
            assert desired is ControlState.READY_FOR_RECONNECTION or relay.state is desired

    @invariant()
    def whoever_is_desired_connected_and_was_opened_by_us_ends_connected(self) -> None:
        was_ours = self.relay.state is OFF and not self.relay.opened_outside
        if self.control.desired is ON and was_ours:
            _, relay = self.after_obeying()
            assert relay.state is ON

    def after_obeying(self) -> tuple[MeterControl, Relay]:
        """Where it ends if from here on the meter answers and obeys and nobody interferes."""
        ahead = RelayUnderControl()
        ahead.relay, ahead.control, ahead.now = copy(self.relay), self.control, self.now
        ahead.answered_this_change = self.answered_this_change
        ahead.a_poll_reads_the_relay()
        for _ in range(STEPS_MAX):
            action = ahead.act(obeys=True, answers=True)
            if action.wait_until is not None:
                ahead.now = action.wait_until
            elif action.kind is ActionKind.NONE:
                return ahead.control, ahead.relay
            ahead.now += timedelta(seconds=1)
        raise AssertionError(f"it never came to rest: {ahead.control}")


RelayUnderControl.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None
)
TestRelayUnderControl = RelayUnderControl.TestCase
