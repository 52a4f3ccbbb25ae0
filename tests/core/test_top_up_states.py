"""Each event in each state of a top-up and of an attempt, and the pace of asking."""

from datetime import UTC, datetime, timedelta

import pytest

from server.core.top_ups.pace import ASKED_FOR, is_forgotten, pause
from server.core.top_ups.states import (
    ATTEMPT_MOVES,
    TOP_UP_MOVES,
    UNDECIDED,
    AttemptEvent,
    AttemptState,
    TopUpEvent,
    TopUpStatus,
    by_state,
    changes,
)

# A line a state; columns are the events in their order; x cannot happen.
# fmt: off
TOP_UPS = {  # credited   suspended  given up   begun      ended  refunded whole
    "pending":   "paid      closed     closed     x          x      x",
    "paid":      "x         paid       paid       refunding  paid   refunded",
    "closed":    "paid      closed     closed     x          x      x",
    "refunding": "x         refunding  refunding  refunding  paid   refunded",
    "refunded":  "x         refunded   refunded   x          x      refunded",
}
ATTEMPTS = {  # given up  ended   paid
    "waiting":   "closing closed  paid",
    "closing":   "closing closed  paid",
    "paid":      "paid    paid    paid",
    "closed":    "closed  closed  paid",
}
# fmt: on
CELLS = [
    (state, event, after)
    for table, events in ((TOP_UPS, TopUpEvent), (ATTEMPTS, AttemptEvent))
    for state, line in table.items()
    for event, after in zip(events, line.split(), strict=True)
]


def test_every_state_and_event_has_its_cell() -> None:
    assert list(TOP_UPS) == list(TopUpStatus)
    assert list(ATTEMPTS) == list(AttemptState)


@pytest.mark.parametrize(("state", "event", "after"), CELLS)
def test_every_event_is_decided(state: str, event: TopUpEvent | AttemptEvent, after: str) -> None:
    assert by_state(event).get(state, "x") == after


def test_what_is_credited_never_waits_again() -> None:
    unpaid = {TopUpStatus.PENDING, TopUpStatus.CLOSED}
    back = [cell for cell, new in TOP_UP_MOVES.items() if cell[0] not in unpaid and new in unpaid]
    assert back == []


def test_an_attempt_may_be_paid_at_any_time() -> None:
    assert set(by_state(AttemptEvent.PAID)) == set(AttemptState)
    assert set(by_state(AttemptEvent.PAID).values()) == {"paid"}
    assert all(new not in UNDECIDED for (old, _), new in ATTEMPT_MOVES.items() if old == "paid")


def test_a_change_is_named_once_and_staying_is_none() -> None:
    assert changes(by_state(AttemptEvent.PAID)) == {"waiting paid", "closing paid", "closed paid"}


@pytest.mark.parametrize(
    ("age_s", "pause_s"),
    [(0, 2), (29, 2), (30, 5), (89, 5), (90, 15), (389, 15), (390, 60), (3_599, 60), (3_600, 600)],
)
def test_the_pace_of_asking(age_s: int, pause_s: int) -> None:
    pauses = {pause(timedelta(seconds=age_s), seed) for seed in range(100)}
    assert min(pauses) == timedelta(seconds=pause_s) * 0.9
    assert max(pauses) == timedelta(seconds=pause_s) * 1.1
    assert len(pauses) == 21


def test_asking_ends_two_days_after_the_order() -> None:
    expires_at = datetime(2026, 5, 20, 10, 30, tzinfo=UTC)
    assert not is_forgotten(expires_at, expires_at + ASKED_FOR)
    assert is_forgotten(expires_at, expires_at + ASKED_FOR + timedelta(seconds=1))
