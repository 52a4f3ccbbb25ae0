"""What a tenancy is told: each warning once a descent, each rung once an episode."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.supply.control_state import ControlState
from server.core.supply.notices import (
    NoticeDue,
    NoticeFacts,
    NoticeKind,
    due_notices,
    next_notice_at,
    still_low_fen,
)
from server.core.supply.policy import Decision, Reason, SupplyPolicy

NOW = datetime(2026, 9, 16, 4, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OFF, ON, READY = (
    ControlState.DISCONNECTED,
    ControlState.CONNECTED,
    ControlState.READY_FOR_RECONNECTION,
)
POLICY = SupplyPolicy(low_balance_fen=(10_000, 3_000), notice_minutes=(4_320, 60, 30))
NO_NOTICE = replace(POLICY, notice_minutes=())

PAID = Decision(ON, (Reason.PAID_UP,))
PENDING = Decision(ON, (Reason.OVERDRAWN, Reason.NOTICE_NOT_DELIVERED), overdrawn_since=NOW)
BILLED = Decision(ON, (Reason.OVERDRAWN, Reason.BACK_BILLING), overdrawn_since=NOW)
PROTECTED = Decision(ON, (Reason.OVERDRAWN, Reason.PROTECTED), overdrawn_since=NOW)
CUT = Decision(OFF, (Reason.OVERDRAWN,), overdrawn_since=NOW)
MOVED_OUT = Decision(ON, (Reason.MOVED_OUT,))


def cut_in(minutes: int) -> Decision:
    """An episode whose cut comes then, if nothing happens."""
    return replace(PENDING, earliest_cut_at=NOW + minutes * MINUTE)


def facts(available_fen: int, sent: tuple[int, ...] = ()) -> NoticeFacts:
    return NoticeFacts(available_fen=available_fen, now=NOW, low_sent_fen=frozenset(sent))


def told(*minutes: int) -> NoticeFacts:
    return NoticeFacts(available_fen=-1, now=NOW, pending_sent_minutes=frozenset(minutes))


def low(level: int, *covers: int) -> NoticeDue:
    return NoticeDue(NoticeKind.LOW_BALANCE, level, covers)


def pending(level: int, *covers: int, cut_in_minutes: int | None = None) -> NoticeDue:
    cut_at = None if cut_in_minutes is None else NOW + cut_in_minutes * MINUTE
    return NoticeDue(NoticeKind.DISCONNECTION_PENDING, level, covers, cut_at)


@pytest.mark.parametrize(
    ("policy", "decision", "given_facts", "due"),
    [
        # low balance: at a limit, once
        (POLICY, PAID, facts(10_001), ()),
        (POLICY, PAID, facts(10_000), (low(10_000, 10_000),)),
        (POLICY, PAID, facts(10_000, sent=(10_000,)), ()),
        (POLICY, PAID, facts(3_001, sent=(10_000,)), ()),
        (POLICY, PAID, facts(3_000, sent=(10_000,)), (low(3_000, 3_000),)),
        (POLICY, PAID, facts(3_000, sent=(10_000, 3_000)), ()),
        # two limits at once: the last one is told, both are remembered
        (POLICY, PAID, facts(100), (low(3_000, 10_000, 3_000),)),
        # armed again above it
        (POLICY, PAID, facts(10_000, sent=(3_000,)), (low(10_000, 10_000),)),
        # the tenant's own limits
        (POLICY, PAID, replace(facts(5_000), own_limits_fen=(6_000,)), (low(6_000, 6_000),)),
        (POLICY, PAID, replace(facts(5_000), own_limits_fen=()), ()),
        # a pending cut says more than a low balance; where none is announced, the low one is
        (POLICY, PENDING, facts(-1), (pending(4_320, 4_320),)),
        (POLICY, PROTECTED, facts(-1, sent=(10_000,)), (low(3_000, 3_000),)),
        (NO_NOTICE, PENDING, facts(-1), (low(3_000, 10_000, 3_000),)),
        (NO_NOTICE, CUT, facts(-1), ()),
        # back-billing is told of before it cuts, once, where the policy wants no notices too
        (NO_NOTICE, BILLED, facts(-1), (pending(0, 0),)),
        (NO_NOTICE, BILLED, told(0), ()),
        (POLICY, BILLED, facts(-1), (pending(4_320, 4_320),)),
        # the rungs: the first at once, each later one so long before the cut
        (POLICY, PENDING, told(4_320), ()),
        (POLICY, cut_in(61), told(4_320), ()),
        (POLICY, cut_in(60), told(4_320), (pending(60, 60, cut_in_minutes=60),)),
        (POLICY, cut_in(31), told(4_320, 60), ()),
        (POLICY, cut_in(30), told(4_320, 60), (pending(30, 30, cut_in_minutes=30),)),
        (POLICY, cut_in(5), told(4_320), (pending(30, 60, 30, cut_in_minutes=5),)),
        (POLICY, cut_in(5), told(4_320, 60, 30), ()),
        (POLICY, CUT, told(), ()),
        (POLICY, replace(PENDING, desired=READY), told(), ()),
        # nobody is there
        (POLICY, MOVED_OUT, replace(facts(0), shown=OFF), ()),
    ],
)
def test_notices_are_due(
    policy: SupplyPolicy,
    decision: Decision,
    given_facts: NoticeFacts,
    due: tuple[NoticeDue, ...],
) -> None:
    assert due_notices(policy, decision, given_facts) == due


@pytest.mark.parametrize(
    ("was_told", "shown", "kind"),
    [
        (ON, None, None),
        (ON, ON, None),
        (ON, OFF, NoticeKind.DISCONNECTED),
        (ON, READY, NoticeKind.READY_FOR_RECONNECTION),
        (OFF, None, None),
        (OFF, OFF, None),
        (OFF, READY, NoticeKind.READY_FOR_RECONNECTION),
        (OFF, ON, NoticeKind.RECONNECTED),
        (READY, READY, None),
        (READY, ON, NoticeKind.RECONNECTED),
        (READY, OFF, NoticeKind.DISCONNECTED),
    ],
)
def test_the_supply_is_told_when_it_changes(
    was_told: ControlState, shown: ControlState | None, kind: NoticeKind | None
) -> None:
    given_facts = replace(facts(50_000), told=was_told, shown=shown)
    due = due_notices(POLICY, PAID, given_facts)
    assert due == (() if kind is None else (NoticeDue(kind),))


def test_the_most_urgent_notice_comes_first() -> None:
    given_facts = replace(facts(100), told=OFF, shown=ON)
    kinds = [due.kind for due in due_notices(POLICY, PAID, given_facts)]
    assert kinds == [NoticeKind.RECONNECTED, NoticeKind.LOW_BALANCE]


@pytest.mark.parametrize(
    ("policy", "decision", "minutes"),
    [
        (POLICY, cut_in(61), 1),
        (POLICY, cut_in(60), 30),
        (POLICY, cut_in(30), None),
        (POLICY, PENDING, None),
        (POLICY, PAID, None),
        (NO_NOTICE, cut_in(61), None),
    ],
)
def test_the_next_rung_s_time_is_known(
    policy: SupplyPolicy, decision: Decision, minutes: int | None
) -> None:
    expected = None if minutes is None else NOW + minutes * MINUTE
    assert next_notice_at(policy, decision, facts(-1)) == expected


@given(st.lists(st.integers(-5_000, 20_000), max_size=40))
def test_each_limit_is_told_once_a_descent(balances_fen: list[int]) -> None:
    sent: frozenset[int] = frozenset()
    at_or_below: set[int] = set()  # the plain reading: limits reached and not left since
    for available_fen in balances_fen:
        due = due_notices(POLICY, PAID, facts(available_fen, tuple(sent)))
        reached = {limit for limit in POLICY.low_balance_fen if available_fen <= limit}
        newly = reached - at_or_below
        assert [notice.level for notice in due] == ([min(newly)] if newly else [])
        at_or_below = reached
        sent = still_low_fen(available_fen, sent) | {c for notice in due for c in notice.covers}
        assert sent == at_or_below
