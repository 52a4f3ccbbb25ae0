"""Every word about a part in every state, and what a refund and a case come to."""

from datetime import UTC, datetime, timedelta

import pytest

from server.core.errors import ConflictError
from server.core.refunds.cases import CASES, CaseDecision, CaseKind, check_choice, choices
from server.core.refunds.parts import (
    BY_MANAGERS,
    ENDED,
    TRANSITIONS,
    Attention,
    Money,
    PartEvent,
    PartState,
    attention_of,
    refund_status,
    step,
)

# Columns: unanswered, not known, accepted, succeeded, closed, refused, turned abnormal,
# no merchant, contradicted, paid out, asked again, turned to hand, given back.
# A letter names the state after it, + money gone, - money back, ! a case, x refused.
# fmt: off
TABLE = {
    PartState.DUE:        "d   d   p   D+  F-! F-! a!  a!  d!  x   x   x   x",
    PartState.PROCESSING: "p   d   p   D+  F-! p!  a!  a!  p!  x   x   x   x",
    PartState.ABNORMAL:   "a   d   p   D+  F-! a!  a   a   a!  x   d   R   F-",
    PartState.TO_PAY:     "t!  t!  t!  t!  t!  t!  t!  t!  t!  D+  x   x   F-",
    PartState.DONE:       "D   D   D   D   D!  D!  D!  D!  D!  x   x   x   x",
    PartState.FAILED:     "F   F   F!  F!  F   F   F!  F!  F!  x   x   x   x",
    PartState.REPLACED:   "R   R   R!  R!  R   R!  R   R!  R!  x   x   x   x",
}
LETTERS = {
    "d": PartState.DUE, "p": PartState.PROCESSING, "a": PartState.ABNORMAL,
    "t": PartState.TO_PAY, "D": PartState.DONE, "F": PartState.FAILED, "R": PartState.REPLACED,
}
# fmt: on
CELLS = [
    (state, event, cell)
    for state, line in TABLE.items()
    for event, cell in zip(PartEvent, line.split(), strict=True)
]


@pytest.mark.parametrize(("state", "event", "cell"), CELLS)
def test_every_word_is_decided(state: PartState, event: PartEvent, cell: str) -> None:
    if cell == "x":
        with pytest.raises(ConflictError):
            step(state, event)
        return
    taken = step(state, event)
    assert taken.state is LETTERS[cell[0]]
    money = Money.GONE if "+" in cell else Money.BACK if "-" in cell else Money.STAYS
    assert taken.money is money
    assert (taken.attention is not None) == ("!" in cell)


def test_money_moves_once_and_only_where_a_part_ends() -> None:
    for (state, event), taken in TRANSITIONS.items():
        if state in ENDED:
            assert (taken.state, taken.money) == (state, Money.STAYS), event
        assert (taken.money is not Money.STAYS) == (
            state not in ENDED and taken.state in (PartState.DONE, PartState.FAILED)
        )
    assert all((PartState.DUE, event) not in TRANSITIONS for event in BY_MANAGERS)


def test_what_was_done_and_comes_back_is_no_contradiction() -> None:
    for event in (PartEvent.CLOSED, PartEvent.TURNED_ABNORMAL):
        assert step(PartState.DONE, event).attention is Attention.RETURNED
    assert step(PartState.FAILED, PartEvent.SUCCEEDED).attention is Attention.OUTSIDE
    assert step(PartState.REPLACED, PartEvent.SUCCEEDED).attention is Attention.OUTSIDE


# how long ago it was written down, in hours; its state; the word; the case
WAITED = [
    (71, PartState.DUE, PartEvent.UNANSWERED, None),
    (72, PartState.DUE, PartEvent.UNANSWERED, Attention.UNANSWERED),
    (99, PartState.DUE, PartEvent.NOT_KNOWN, Attention.UNANSWERED),
    (99, PartState.DUE, PartEvent.CONTRADICTED, Attention.CONTRADICTED),
    (99, PartState.DUE, PartEvent.ACCEPTED, None),
    (99, PartState.DUE, PartEvent.REFUSED, Attention.FAILED),
    (99, PartState.PROCESSING, PartEvent.NOT_KNOWN, None),  # asked for again only now
    (99, PartState.ABNORMAL, PartEvent.ASKED_AGAIN, None),
    (99, PartState.DONE, PartEvent.UNANSWERED, None),
]


@pytest.mark.parametrize(("hours", "state", "event", "attention"), WAITED)
def test_who_waits_too_long_is_shown(
    hours: int, state: PartState, event: PartEvent, attention: Attention | None
) -> None:
    now = datetime(2026, 5, 20, tzinfo=UTC)
    assert attention_of(state, step(state, event), now - timedelta(hours=hours), now) is attention


STATUS = [
    ({PartState.DUE: 1, PartState.DONE: 9}, "in_progress"),
    ({PartState.TO_PAY: 1}, "in_progress"),
    ({PartState.DONE: 9}, "done"),
    ({PartState.REPLACED: 4, PartState.DONE: 4}, "done"),
    ({PartState.FAILED: 9}, "failed"),
    ({PartState.FAILED: 4, PartState.DONE: 5}, "partly"),
]


@pytest.mark.parametrize(("parts", "status"), STATUS)
def test_a_refund_is_what_its_parts_are(parts: dict[PartState, int], status: str) -> None:
    assert refund_status(parts) == status


MONEY = (CaseDecision.CREDIT, CaseDecision.REFUND)
SEEN = (CaseDecision.SEEN,)
# kind, with its money in suspense, without, what is done by itself
KINDS = [
    ("second_payment", MONEY, SEEN, CaseDecision.REFUND),
    ("other_amount", MONEY, SEEN, None),
    ("unknown_order", MONEY, SEEN, None),
    ("after_move_out", MONEY, SEEN, None),
    ("other_merchant", (), SEEN, None),
    ("other_app", (), SEEN, None),
    ("other_currency", (), SEEN, None),
    ("refunded_before_credit", MONEY, SEEN, None),
    ("refunded_outside", (), (CaseDecision.RECORD, CaseDecision.SEEN), None),
    ("refund_failed", (), SEEN, None),
    ("refund_abnormal", (), (CaseDecision.AGAIN, CaseDecision.BY_HAND, CaseDecision.GIVE_BACK),
     None),
    ("refund_unanswered", (), SEEN, None),
    ("refund_returned", (), (CaseDecision.BY_HAND, CaseDecision.GIVE_BACK, *SEEN), None),
    ("refund_contradicted", (), SEEN, None),
    ("unbooked_payment", (), SEEN, None),
    ("credited_without_payment", (), SEEN, None),
    ("payment_not_on_bill", (), SEEN, None),
    ("payment_billed_otherwise", (), SEEN, None),
    ("refund_not_on_bill", (), SEEN, None),
    ("refund_billed_otherwise", (), SEEN, None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "with_money", "without", "by_itself"), KINDS)
def test_every_kind_of_case_has_its_way_out(
    kind: str,
    with_money: tuple[CaseDecision, ...],
    without: tuple[CaseDecision, ...],
    by_itself: CaseDecision | None,
) -> None:
    assert choices(kind, has_money=True) == with_money
    assert choices(kind, has_money=False) == without
    assert CASES[CaseKind(kind)].by_itself is by_itself
    with pytest.raises(ConflictError):
        check_choice("other_app", CaseDecision.CREDIT, has_money=False)


def test_all_kinds_are_in_the_table_and_a_foreign_one_can_be_seen() -> None:
    assert [kind for kind, *_ in KINDS] == list(CaseKind)
    assert set(CASES) == set(CaseKind)
    assert {one.value for one in Attention} <= set(CaseKind)
    assert choices("of another version", has_money=False) == SEEN
