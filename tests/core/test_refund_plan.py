"""Which payments a refund goes back to: a table of stories, and what holds for all of them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidInputError
from server.core.refunds.plan import LIMITS, Paid, PlannedPart, plan

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


def paid(credit_id: int, amount_fen: int, days: int, **more: object) -> Paid:
    return Paid(credit_id, "wechat", amount_fen, NOW - days * DAY, **more)  # type: ignore[arg-type]  # one fact a case


STORIES: list[tuple[str, int, list[Paid], list[tuple[int | None, int]]]] = [
    ("nobody paid by a platform", 300, [], [(None, 300)]),
    ("one payment has it all", 300, [paid(1, 500, 3)], [(1, 300)]),
    ("newest first", 700, [paid(1, 500, 9), paid(2, 500, 3)], [(2, 500), (1, 200)]),
    ("of one instant, the last", 100, [paid(1, 500, 3), paid(2, 500, 3)], [(2, 100)]),
    ("only what is left of it", 500, [paid(1, 500, 3, taken_fen=200)], [(1, 300), (None, 200)]),
    ("nothing is left of it", 100, [paid(2, 50, 1, taken_fen=50), paid(1, 500, 2)], [(1, 100)]),
    ("the last second of its year", 100, [paid(1, 500, 364)], [(1, 100)]),
    ("a year is over", 100, [paid(1, 500, 365)], [(None, 100)]),
    ("one more of its fifty", 100, [paid(1, 500, 3, refunds=49)], [(1, 100)]),
    ("fifty refunds", 100, [paid(1, 500, 3, refunds=50)], [(None, 100)]),
    ("it gave nothing back once", 100, [paid(2, 500, 1, refused=True), paid(1, 99, 2)],
     [(1, 99), (None, 1)]),
]  # fmt: skip


@pytest.mark.parametrize(("story", "amount_fen", "payments", "parts"), STORIES)
def test_a_refund_goes_back_this_way(
    story: str, amount_fen: int, payments: list[Paid], parts: list[tuple[int | None, int]]
) -> None:
    planned = plan(amount_fen, payments, NOW)
    assert [(part.credit_id, part.amount_fen) for part in planned] == parts, story


@pytest.mark.parametrize("ago", [0, 1, 59, 60, 3_600])
def test_a_payment_is_asked_for_refunds_a_minute_apart(ago: int) -> None:
    before = NOW - timedelta(seconds=ago)
    (part,) = plan(100, [paid(1, 500, 3, asked_at=before)], NOW)
    assert part == PlannedPart(1, 100, max(NOW, before + MINUTE))


def test_a_refund_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        plan(0, [paid(1, 500, 3)], NOW)


PAYMENTS = st.lists(
    st.builds(
        Paid,
        credit_id=st.integers(1, 10**6),
        platform=st.sampled_from(sorted(LIMITS)),
        amount_fen=st.integers(1, 10**6),
        paid_at=st.integers(0, 400 * 86_400).map(lambda ago: NOW - timedelta(seconds=ago)),
        taken_fen=st.integers(0, 10**6 + 1),
        refunds=st.integers(0, 51),
        asked_at=st.none() | st.integers(0, 200).map(lambda ago: NOW - timedelta(seconds=ago)),
        refused=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda one: one.credit_id,
)


@given(st.integers(1, 3 * 10**6), PAYMENTS)
def test_what_holds_for_every_plan(amount_fen: int, payments: list[Paid]) -> None:
    parts = plan(amount_fen, payments, NOW)
    by_id = {one.credit_id: one for one in payments}
    assert sum(part.amount_fen for part in parts) == amount_fen
    assert all(part.amount_fen > 0 for part in parts)
    used = [by_id[part.credit_id] for part in parts if part.credit_id is not None]
    assert len({one.credit_id for one in used}) == len(used)
    assert used == sorted(used, key=lambda one: (one.paid_at, one.credit_id), reverse=True)
    for part in parts:
        if part.credit_id is None:
            assert part is parts[-1]
            continue
        one = by_id[part.credit_id]
        limits = LIMITS[one.platform]
        assert part.amount_fen <= one.amount_fen - one.taken_fen
        assert NOW - one.paid_at < limits.within
        assert one.refunds < limits.refunds_max
        assert not one.refused
        assert one.asked_at is None or part.try_at - one.asked_at >= limits.apart
    # a part of a payment is all that is left of it, but for the last one
    assert all(
        part.amount_fen == by_id[part.credit_id].left_fen
        for part in parts[:-1]
        if part.credit_id is not None
    )
