"""A day of ours against a bill: what differs, whom the platform bears out, and what is done."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.reconciliation.compare import (
    COMPATIBLE,
    Billed,
    BillLine,
    Comparison,
    Difference,
    Finding,
    Kind,
    OurLine,
    Way,
    compare,
)
from server.core.reconciliation.cures import (
    CURES,
    OWN_CASES,
    Act,
    Answer,
    Question,
    Told,
    answer_of,
    case_of,
)
from server.core.reconciliation.days import bill_day, days_with_bills, edges, is_due, is_over
from server.core.refunds.cases import CASES, CaseKind
from server.core.refunds.parts import PartState

PAID, BACK = Way.PAYMENT, Way.REFUND
DONE, GOING, FAILED = PartState.DONE, PartState.PROCESSING, PartState.FAILED


def ours(
    number: str = "t1",
    fen: int = 100,
    state: PartState | None = None,
    *,
    due: bool = True,
    recorded: bool = False,
    trade: str = "o1",
) -> OurLine:
    way = PAID if state is None else BACK
    return OurLine(way, number, trade, fen, state, is_due=due, is_recorded=recorded)


def billed(
    number: str = "t1", fen: int = 100, state: Billed | None = None, *, trade: str = "o1"
) -> BillLine:
    return BillLine(PAID if state is None else BACK, number, trade, fen, state)


SUCCEEDED = Billed.SUCCEEDED
RECORDED = ours("mine", state=DONE, recorded=True, due=False)
# ours, the bill, other bills' numbers -> what differs
CASES_OF_ONE_LINE = [
    ([ours()], [billed()], (), []),
    ([], [], (), []),
    ([], [billed()], (), [Finding.MISSING_HERE]),
    ([ours()], [], (), [Finding.MISSING_THERE]),
    ([ours()], [], ("t1",), []),  # a second before midnight here, one after it there
    ([ours(due=False)], [], (), []),
    ([ours(due=False)], [billed()], (), []),  # and the other way round
    ([ours(fen=101)], [billed()], (), [Finding.OTHER_AMOUNT]),
    ([ours(fen=101, due=False)], [billed()], (), [Finding.OTHER_AMOUNT]),
    ([ours()], [billed(), billed()], (), [Finding.MISSING_HERE]),  # twice on the bill
    ([ours("r1", state=DONE)], [billed("r1", state=SUCCEEDED)], (), []),
    ([ours("r1", state=DONE)], [], (), [Finding.REFUND_HERE_ONLY]),
    ([ours("r1", state=GOING)], [], (), [Finding.REFUND_HERE_ONLY]),
    ([], [billed("r1", state=SUCCEEDED)], (), [Finding.REFUND_THERE_ONLY]),
    ([], [billed("r1", state=Billed.PROCESSING)], (), [Finding.REFUND_THERE_ONLY]),
    ([], [billed("r1", state=Billed.CLOSED)], (), []),  # nothing went back
    (
        [ours("r1", 99, DONE)],
        [billed("r1", state=SUCCEEDED)],
        (),
        [Finding.REFUND_OTHER_AMOUNT],
    ),
    (
        [ours("r1", state=GOING)],
        [billed("r1", state=SUCCEEDED)],
        (),
        [Finding.REFUND_OTHER_STATE],
    ),
    ([ours("r1", state=DONE)], [billed("r1", state=Billed.PROCESSING)], (), []),  # done since
    (
        [RECORDED],
        [billed("theirs", state=SUCCEEDED)],
        (),
        [],
    ),
    (
        [RECORDED],
        [billed("theirs", state=SUCCEEDED, trade="o2")],
        (),
        [Finding.REFUND_THERE_ONLY],
    ),
    (
        [RECORDED],
        [billed("theirs", state=SUCCEEDED), billed("more", state=SUCCEEDED)],
        (),
        [Finding.REFUND_THERE_ONLY],
    ),
    # given up here, given back after all, and recorded by another number, once
    *(
        (
            [ours("r1", fen, state, due=False), RECORDED],
            [billed("r1", state=SUCCEEDED)],
            (),
            [],
        )
        for state in (FAILED, PartState.REPLACED)
        for fen in (100, 99)
    ),
    (
        [ours("r1", state=FAILED, due=False), RECORDED],
        [billed("r1", state=SUCCEEDED), billed("theirs", state=SUCCEEDED)],
        (),
        [Finding.REFUND_THERE_ONLY],
    ),
    (
        [ours("r1", state=FAILED, due=False), RECORDED],
        [billed("r1", fen=99, state=SUCCEEDED)],
        (),
        [Finding.REFUND_OTHER_AMOUNT],
    ),
    (
        [ours("r1", state=FAILED, due=False), RECORDED],
        [billed("r1", state=SUCCEEDED, trade="o2")],
        (),
        [Finding.REFUND_OTHER_STATE],
    ),
    # but what truly came to nothing leaves it to the refund that was done
    *(
        (
            [ours("r1", fen, FAILED, due=False), RECORDED],
            [billed("r1", state=said), billed("theirs", state=SUCCEEDED)],
            (),
            findings,
        )
        for fen, said, findings in (
            (100, Billed.PROCESSING, []),
            (100, Billed.CLOSED, []),
            (99, Billed.CLOSED, [Finding.REFUND_OTHER_AMOUNT]),
        )
    ),
    # a number of a payment is none of a refund
    (
        [ours("x", state=DONE)],
        [billed("x")],
        (),
        [Finding.MISSING_HERE, Finding.REFUND_HERE_ONLY],
    ),
]


@pytest.mark.parametrize(("mine", "bill", "elsewhere", "findings"), CASES_OF_ONE_LINE)
def test_what_differs(
    mine: list[OurLine], bill: list[BillLine], elsewhere: tuple[str, ...], findings: list[Finding]
) -> None:
    assert [one.finding for one in compare(mine, bill, elsewhere).differences] == findings


# what a refund may be here when the bill says: succeeded, processing, closed, abnormal
COMPATIBLE_STATES = {
    PartState.DUE: "xxxx",
    PartState.PROCESSING: "xoxx",
    PartState.ABNORMAL: "xoxo",
    PartState.TO_PAY: "xxxx",
    PartState.DONE: "ooxo",
    PartState.FAILED: "xooo",
    PartState.REPLACED: "xooo",
}


@pytest.mark.parametrize("state", list(PartState))
def test_every_state_of_a_refund_meets_every_word_of_a_bill(state: PartState) -> None:
    words = (Billed.SUCCEEDED, Billed.PROCESSING, Billed.CLOSED, Billed.ABNORMAL)
    found = "".join("o" if state in COMPATIBLE[word] else "x" for word in words)
    assert found == COMPATIBLE_STATES[state]


NUMBERS = st.sampled_from(["a", "b", "c", "d"])
FEN = st.integers(1, 3)
TRADES = st.sampled_from(["o1", "o2"])
OURS = st.lists(
    st.builds(OurLine, st.just(PAID), NUMBERS, TRADES, FEN, st.none(), st.booleans())
    | st.builds(
        OurLine,
        *(st.just(BACK), NUMBERS, TRADES, FEN),
        *(st.sampled_from(PartState), st.booleans(), st.booleans()),
    ),
    max_size=8,
)
BILL = st.lists(
    st.builds(BillLine, st.just(PAID), NUMBERS, TRADES, FEN, st.none())
    | st.builds(BillLine, st.just(BACK), NUMBERS, TRADES, FEN, st.sampled_from(Billed)),
    max_size=8,
)


def lines_of(found: Comparison) -> tuple[Counter[OurLine], Counter[BillLine]]:
    pairs = [(one.ours, one.bill) for one in found.differences]
    pairs += [(one.ours, one.bill) for one in found.agreed]
    mine = [one for one, _ in pairs if one is not None]
    theirs = [one for _, one in pairs if one is not None]
    return Counter([*mine, *found.elsewhere, *found.not_due]), Counter([*theirs, *found.idle])


@given(OURS, BILL, st.sets(NUMBERS))
def test_each_line_is_in_exactly_one_class(
    mine: list[OurLine], bill: list[BillLine], elsewhere: set[str]
) -> None:
    found = compare(mine, bill, elsewhere)
    assert lines_of(found) == (Counter(mine), Counter(bill))
    for one in found.differences:
        assert (one.ours is None) == (one.finding in (Finding.MISSING_HERE, THERE_ONLY))
        assert (one.bill is None) == (one.finding in (Finding.MISSING_THERE, HERE_ONLY))


THERE_ONLY, HERE_ONLY = Finding.REFUND_THERE_ONLY, Finding.REFUND_HERE_ONLY
SAME = {DONE: Billed.SUCCEEDED, GOING: Billed.PROCESSING, FAILED: Billed.CLOSED}


@given(OURS)
def test_equal_sets_agree_to_the_fen(mine: list[OurLine]) -> None:
    mine = [one for one in mine if one.state in {None, *SAME}]
    bill = [
        BillLine(one.way, one.number, one.out_trade_no, one.amount_fen, SAME.get(one.state))
        if one.state
        else BillLine(one.way, one.number, one.out_trade_no, one.amount_fen)
        for one in {(one.way, one.number): one for one in mine}.values()
    ]
    found = compare({(one.way, one.number): one for one in mine}.values(), bill)
    assert (found.differences, found.idle) == ([], [])
    assert found.our_sums == found.bill_sums


@given(OURS, BILL)
def test_without_differences_both_sides_have_the_same_money(
    mine: list[OurLine], bill: list[BillLine]
) -> None:
    found = compare(mine, bill)
    alone = sum(_net(one.bill) - _net(one.ours) for one in found.differences)
    assert found.bill_sums.net_fen - found.our_sums.net_fen == alone


def _net(line: OurLine | BillLine | None) -> int:
    if line is None:
        return 0
    return line.amount_fen if line.way is PAID else -line.amount_fen


def cured(mine: list[OurLine], found: Comparison) -> list[OurLine]:
    """What the books have once all that only the bill had was credited or recorded."""
    return mine + [
        OurLine(
            *(one.bill.way, one.bill.number, one.bill.out_trade_no, one.bill.amount_fen),
            None if one.bill.way is PAID else DONE,
        )
        for one in found.differences
        if one.ours is None and one.bill is not None
    ]


@given(OURS, BILL.map(lambda lines: list({(one.way, one.number): one for one in lines}.values())))
def test_a_cure_ends_its_difference_and_does_nothing_twice(
    mine: list[OurLine], bill: list[BillLine]
) -> None:
    first = compare(mine, bill)
    after = cured(mine, first)
    second = compare(after, bill)
    assert [one for one in first.differences if one.ours is not None] == second.differences
    assert cured(after, second) == after


def test_a_refund_that_came_to_nothing_counts_nowhere() -> None:
    found = compare(
        [ours(), ours("r1", state=FAILED), ours("r2", state=FAILED)],
        [billed(), billed("r1", state=Billed.CLOSED), billed("r2", state=Billed.PROCESSING)],
    )
    assert found.differences == []
    assert (found.bill_sums.refunds, found.our_sums.refunds, found.our_sums.net_fen) == (0, 0, 100)


# what is asked, what cures, and the case where the platform bears out: the bill, us, neither
TABLE = {
    Finding.MISSING_HERE: "trade credit unbooked_payment unbooked_payment unbooked_payment",
    Finding.MISSING_THERE: "trade nothing credited_without_payment payment_not_on_bill"
    " credited_without_payment",
    Finding.OTHER_AMOUNT: "none nothing" + " payment_billed_otherwise" * 3,
    Finding.REFUND_HERE_ONLY: "refund settle" + " refund_not_on_bill" * 3,
    Finding.REFUND_THERE_ONLY: "none tell" + " refunded_outside" * 3,
    Finding.REFUND_OTHER_AMOUNT: "refund settle" + " refund_billed_otherwise" * 3,
    Finding.REFUND_OTHER_STATE: "refund settle" + " refund_billed_otherwise" * 3,
}


@pytest.mark.parametrize("finding", list(Finding))
def test_every_difference_has_its_cure(finding: Finding) -> None:
    cure = CURES[finding]
    answers = (Answer.AS_BILLED, Answer.AS_BOOKED, Answer.NEITHER)
    kinds = [case_of(finding, one, next_bill_known=True) for one in answers]
    assert f"{cure.question} {cure.act} {' '.join(str(one) for one in kinds)}" == TABLE[finding]
    assert case_of(finding, Answer.UNANSWERED, next_bill_known=True) is None
    assert finding.kind in Kind
    for kind in kinds:
        assert kind in OWN_CASES or kind is CaseKind.REFUNDED_OUTSIDE
        assert CASES[CaseKind(str(kind))].by_itself is None, "no cure takes money back"


@pytest.mark.parametrize("answer", [Answer.AS_BOOKED, Answer.REFUSED])
def test_what_the_platform_does_not_deny_waits_for_the_next_bill(answer: Answer) -> None:
    for finding in Finding:
        early = case_of(finding, answer, next_bill_known=False)
        assert (early is None) == (finding in {Finding.MISSING_THERE, HERE_ONLY})
        late = case_of(finding, answer, next_bill_known=True)
        assert late is not None
        assert late is not CaseKind.CREDITED_WITHOUT_PAYMENT
        assert case_of(finding, Answer.AS_BILLED, next_bill_known=False) is not None


ONLY_BILLED = Difference(Finding.MISSING_HERE, bill=billed())
ONLY_OURS = Difference(Finding.MISSING_THERE, ours=ours())
BOTH = Difference(Finding.REFUND_OTHER_AMOUNT, ours("r", 99, DONE), billed("r", state=SUCCEEDED))


@pytest.mark.parametrize(
    ("difference", "told", "answer"),
    [
        (ONLY_BILLED, Told(True, "t1", 100), Answer.AS_BILLED),
        (ONLY_BILLED, Told(True), Answer.AS_BILLED),  # given back since: it names no amount
        (ONLY_BILLED, Told(True, "t2", 100), Answer.NEITHER),
        (ONLY_BILLED, Told(True, "t1", 99), Answer.NEITHER),
        (ONLY_BILLED, Told(False), Answer.AS_BOOKED),
        (ONLY_OURS, Told(True, "t1", 100), Answer.AS_BOOKED),
        (ONLY_OURS, Told(True, "t1", 99), Answer.NEITHER),
        (ONLY_OURS, Told(False), Answer.AS_BILLED),
        (BOTH, Told(True, "r", 99), Answer.AS_BOOKED),
        (BOTH, Told(True, "r", 100), Answer.AS_BILLED),
        (BOTH, Told(True, "r", 98), Answer.NEITHER),
        (BOTH, Told(False), Answer.NEITHER),
    ],
)
def test_whom_an_answer_bears_out(difference: Difference, told: Told, answer: Answer) -> None:
    assert answer_of(difference, told) is answer


def test_only_a_payment_that_the_platform_bears_out_is_credited() -> None:
    assert CURES[Finding.MISSING_HERE].act_on == {Answer.AS_BILLED}
    assert [one for one in Finding if CURES[one].act is Act.CREDIT] == [Finding.MISSING_HERE]
    assert {CURES[one].question for one in Finding} == set(Question)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+08:00").astimezone(UTC)


@pytest.mark.parametrize(
    ("first", "now", "days"),
    [
        ("2026-05-19 12:00", "2026-05-20 09:59", []),
        ("2026-05-19 12:00", "2026-05-20 10:00", ["2026-05-19"]),
        ("2026-05-19 00:00", "2026-05-20 23:59", ["2026-05-19"]),
        ("2026-05-18 23:59", "2026-05-20 10:00", ["2026-05-18", "2026-05-19"]),
        ("2026-05-18 23:59", "2026-05-20 00:00", ["2026-05-18"]),
        ("2026-05-20 12:00", "2026-05-20 13:00", []),
    ],
)
def test_a_bill_is_there_from_ten_on(first: str, now: str, days: list[str]) -> None:
    assert [f"{day}" for day in days_with_bills(at(first), at(now))] == days


def test_no_more_than_sixty_days_are_caught_up() -> None:
    found = days_with_bills(at("2025-01-01 00:00"), at("2026-05-20 10:00"))
    assert (len(found), found[0], found[-1]) == (60, date(2026, 3, 21), date(2026, 5, 19))


def test_a_day_is_chinese() -> None:
    begin, end = edges(date(2026, 5, 19))
    assert (begin, end) == (at("2026-05-19 00:00"), at("2026-05-20 00:00"))
    assert bill_day(end - timedelta(seconds=1)) == date(2026, 5, 19)
    assert not is_over(date(2026, 5, 19), end - timedelta(seconds=1))
    assert is_over(date(2026, 5, 19), end)


@pytest.mark.parametrize(
    ("fetched", "finished", "differs", "now", "due"),
    [
        (None, False, False, "05-20 10:00", True),
        ("05-20 10:00", False, False, "05-20 10:01", True),  # broken off
        ("05-20 10:00", True, False, "05-20 23:00", False),
        ("05-20 10:00", True, False, "05-21 09:59", False),
        ("05-20 10:00", True, False, "05-21 10:00", True),  # once more: bills may change
        ("05-21 10:00", True, False, "06-20 10:00", False),
        ("05-21 10:00", True, True, "05-21 20:00", False),
        ("05-21 10:00", True, True, "05-22 06:00", True),
    ],
)
def test_when_a_day_is_compared(
    fetched: str | None, finished: bool, differs: bool, now: str, due: bool
) -> None:
    seen = None if fetched is None else at(f"2026-{fetched}")
    told = is_due(
        *(date(2026, 5, 19),),
        fetched_at=seen,
        is_finished=finished,
        differs=differs,
        now=at(f"2026-{now}"),
    )
    assert told is due
