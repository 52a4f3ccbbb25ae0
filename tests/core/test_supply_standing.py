"""A balance that can change nothing is known without asking; where it is not sure, ask."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.calendar import NO_HOLIDAYS
from server.core.supply.control_state import ControlState
from server.core.supply.notices import NoticeFacts, due_notices, next_notice_at, still_low_fen
from server.core.supply.policy import Reason, SupplyFacts, SupplyPolicy, decide
from server.core.supply.standing import Standing, stays

NOW = datetime(2026, 9, 16, 4, 0, tzinfo=UTC)
ON, OFF, READY = (
    ControlState.CONNECTED,
    ControlState.DISCONNECTED,
    ControlState.READY_FOR_RECONNECTION,
)
POLICY = SupplyPolicy(low_balance_fen=(10_000, 3_000), overdraft_limit_fen=500)
CALM = Standing(
    state=ON,
    reasons=(Reason.PAID_UP,),
    overdrawn_since=None,
    decide_again_at=None,
    low_sent_fen=frozenset(),
    pending_sent_minutes=frozenset(),
    told=ON,
)


def told(*limits: int) -> Standing:
    return replace(CALM, low_sent_fen=frozenset(limits))


@pytest.mark.parametrize(
    ("standing", "available_fen", "nothing_new"),
    [
        (CALM, 10_001, True),
        (CALM, 10_000, False),
        (CALM, 3_000, False),
        (told(10_000), 10_000, True),
        (told(10_000), 3_001, True),
        (told(10_000), 3_000, False),
        (told(10_000), 10_001, False),  # armed again
        (told(10_000, 3_000), 0, True),
        (told(10_000, 3_000), -1, False),  # no longer paid up, though within the limit
        (told(10_000, 3_000), 3_000, True),
        (told(10_000, 3_000), 3_001, False),
        (replace(CALM, state=OFF), 50_000, False),
        (replace(CALM, state=READY), 50_000, False),
        (replace(CALM, reasons=()), 50_000, False),
        (replace(CALM, reasons=(Reason.WITHIN_LIMIT,)), 50_000, False),
        (replace(CALM, reasons=(Reason.PAID_UP, Reason.AWAITING_CONFIRMATION)), 50_000, False),
        (replace(CALM, overdrawn_since=NOW), 50_000, False),
        (replace(CALM, decide_again_at=NOW), 50_000, False),
        (replace(CALM, pending_sent_minutes=frozenset({30})), 50_000, False),
        (replace(CALM, told=OFF), 50_000, False),
        (replace(CALM, told=None), 50_000, False),
    ],
)
def test_what_a_balance_may_change(
    standing: Standing, available_fen: int, nothing_new: bool
) -> None:
    assert stays(POLICY, standing, available_fen) is nothing_new


POLICIES = st.builds(
    SupplyPolicy,
    low_balance_fen=st.sampled_from([(), (50,), (80, 20), (80, 50, 20, 0)]),
    overdraft_limit_fen=st.integers(0, 50),
    reconnect_at_fen=st.integers(0, 50),
    notice_minutes=st.sampled_from([(), (45,), (4_320, 30)]),
    no_disconnect=st.sampled_from([(), ("20:00-09:00",), ("weekend", "holiday")]),
)
STANDINGS = st.builds(
    Standing,
    state=st.sampled_from(ControlState),
    reasons=st.sampled_from([(), (Reason.PAID_UP,), (Reason.WITHIN_LIMIT,)]),
    overdrawn_since=st.none() | st.just(NOW),
    decide_again_at=st.none() | st.just(NOW),
    low_sent_fen=st.frozensets(st.sampled_from([80, 50, 20, 0])),
    pending_sent_minutes=st.frozensets(st.sampled_from([45, 30])),
    told=st.none() | st.sampled_from(ControlState),
)
CALM_ONES = STANDINGS.map(lambda one: replace(CALM, low_sent_fen=one.low_sent_fen))


@given(
    policy=POLICIES,
    standing=STANDINGS | CALM_ONES,
    available_fen=st.integers(-60, 100),
    hours=st.integers(0, 100) | st.none(),
    cut_commanded=st.booleans(),
    protected=st.booleans(),
    credit_fen=st.integers(0, 30),
)
def test_where_it_says_so_deciding_changes_nothing(  # all else that a decision depends on
    policy: SupplyPolicy,
    standing: Standing,
    available_fen: int,
    hours: int | None,
    cut_commanded: bool,
    protected: bool,
    credit_fen: int,
) -> None:
    if not stays(policy, standing, available_fen):
        return
    facts = SupplyFacts(
        available_fen=available_fen,
        now=NOW,
        zone=ZoneInfo("Asia/Shanghai"),
        calendar=NO_HOLIDAYS,
        last_trusted_reading_at=None if hours is None else NOW - timedelta(hours=hours),
        previous_desired=standing.state,
        cut_commanded=cut_commanded,
        overdrawn_since=standing.overdrawn_since,
        emergency_credit_used_fen=credit_fen,
        supply_protection=protected,
    )
    decision = decide(policy, facts)
    assert (decision.desired, decision.reasons) == (standing.state, standing.reasons)
    assert (decision.overdrawn_since, decision.decide_again_at) == (None, None)
    notices = NoticeFacts(
        available_fen=available_fen,
        now=NOW,
        low_sent_fen=standing.low_sent_fen,
        pending_sent_minutes=standing.pending_sent_minutes,
        shown=ON,
        told=ON,
    )
    assert due_notices(policy, decision, notices) == ()
    assert next_notice_at(policy, decision, notices) is None
    assert still_low_fen(available_fen, standing.low_sent_fen) == standing.low_sent_fen
