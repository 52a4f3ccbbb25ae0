"""Whatever comes in whatever order, a tenancy's money is what a plain reference makes of it.

The reference (plain_reference.py) works the whole path of true readings out once. The product gets
the same readings in any order, repeated and among lies, between settling, closing, correcting,
paying, refunding, exchanges told late, imports of tariffs and kills (money_story.py). The few
examples of `make test` are always the same; to search deep, as many as you like, others each time:

    LAWS_EXAMPLES=2000 .venv/bin/python -m pytest --timeout=0 tests/services/test_money_laws.py
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from server.models.database import pool
from server.services.audit import audit
from server.services.balances import balances
from tests.services.money import sum_of_all_accounts_fen
from tests.services.money_site import HOURS, OPENED, ROLLOVER_WH
from tests.services.money_story import Curve, Swap, open_story
from tests.services.plain_reference import local_day, midnight

DEEP = int(os.environ.get("LAWS_EXAMPLES", "0"))
LAWS = settings(
    max_examples=DEEP or 12,
    derandomize=not DEEP,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    """A meter's true readings from the opening on, at each midnight too; it rolls over on the way.

    Never at zero, which is held apart until the next reading.
    """
    minutes = draw(st.lists(st.sampled_from([41, 50, 57, 60, 240]), min_size=1, max_size=6))
    rises = draw(st.lists(st.sampled_from([0, 1, 333, 1_000, 2_000]), min_size=1, max_size=8))
    at, register_wh, path = OPENED, ROLLOVER_WH - draw(st.integers(1, 40_000)), []
    while at < OPENED + timedelta(hours=HOURS):
        register_wh += register_wh == ROLLOVER_WH
        path.append((at, register_wh % ROLLOVER_WH))
        next_at = at + timedelta(minutes=minutes[len(path) % len(minutes)])
        at = min(next_at, midnight(local_day(at) + timedelta(days=1)))
        register_wh += rises[len(path) % len(rises)]
    return path


@st.composite
def swapped(draw: st.DrawFn) -> tuple[Curve, Swap | None]:
    """A curve on the way of which the device may be replaced, between two readings."""
    path = draw(curves())
    if draw(st.booleans()):
        return path, None
    number = draw(st.integers(1, len(path) - 1))
    (before, before_wh), (after, after_wh) = path[number - 1 : number + 1]
    rise_wh = (after_wh - before_wh) % ROLLOVER_WH
    final_wh = (before_wh + rise_wh // 2) % ROLLOVER_WH
    swap = Swap(before + (after - before) / 2, final_wh, 5_000, draw(st.integers(1, 7)))
    new = [(at, (wh - final_wh) % ROLLOVER_WH + 5_000) for at, wh in path[number:]]
    return path[:number] + new, swap


KILLED = st.sampled_from([0, 0]) | st.integers(1, 20)
SHARES = st.sampled_from([2, 10, 30, 50])  # of all readings, in per cent
READS = st.one_of(
    st.tuples(st.just("read"), SHARES, KILLED),
    st.tuples(st.just("together"), SHARES, st.just(0)),
)
OTHERS = st.one_of(
    st.tuples(st.sampled_from(["settle", "correct", "agree", "swap"]), st.just(0), KILLED),
    st.tuples(st.just("close"), st.integers(0, 5), KILLED),
    st.tuples(st.just("close"), st.integers(0, 5), KILLED),
    st.tuples(st.sampled_from(["desk", "pay", "refund"]), st.integers(1, 5_000), KILLED),
    st.tuples(st.sampled_from(["import", "lie"]), st.integers(0, 200), KILLED),
)
ACTS = st.lists(
    st.tuples(READS, st.lists(OTHERS, min_size=1, max_size=5)), min_size=2, max_size=5
).map(lambda parts: [act for read, others in parts for act in (read, *others)])


@pytest.fixture(scope="module")
def folder(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for all stories, each at a site of its own."""
    return tmp_path_factory.mktemp("laws")


def slower(path: Curve, keeps: Sequence[bool]) -> Curve:
    """As polled less often, but at the opening, at each midnight and at last."""
    return [
        one
        for number, one in enumerate(path)
        if keeps[number % len(keeps)]
        or number in {0, len(path) - 1}
        or one[0] == midnight(local_day(one[0]))
    ]


FOUR_HOURLY: Curve = [(OPENED + timedelta(hours=4 * n), 700 * n + 1) for n in range(20)]
SWAP = Swap(OPENED + timedelta(hours=30), 5_100, 300, 2)
SWAPPED = FOUR_HOURLY[:8] + [(at, wh - 4_800) for at, wh in FOUR_HOURLY[8:]]


@LAWS
@example(  # an exchange is told while readings from before it are not settled yet
    flat=False,
    first=FOUR_HOURLY,
    second=(SWAPPED, SWAP),
    keeps=[True],
    order=[0],
    acts=[("read", 60, 0), ("settle", 0, 0)],
)
@example(  # what was held apart until an exchange explained it counts on days that close later
    flat=False,
    first=FOUR_HOURLY,
    second=(SWAPPED, SWAP),
    keeps=[True],
    order=[0],
    acts=[("read", 100, 0), ("swap", 0, 0), ("close", 2, 0), ("lie", 3, 0)],
)
@given(
    flat=st.booleans(),
    first=curves(),
    second=swapped(),
    keeps=st.lists(st.booleans(), min_size=1, max_size=5),
    order=st.lists(st.integers(0, 5), min_size=1, max_size=50),
    acts=ACTS,
)
async def test_any_order_of_anything_ends_in_the_same_money(
    folder: Path,
    flat: bool,
    first: Curve,
    second: tuple[Curve, Swap | None],
    keeps: list[bool],
    order: list[int],
    acts: list[tuple[str, int, int]],
) -> None:
    paths, swap = [first, second[0]], second[1]
    read = [slower(path, keeps) for path in paths] if flat else paths
    story = await open_story(folder, read, order, flat=flat, swap=swap)
    for name, number, killed in acts:
        await story.act(name, number, killed)
    await story.act("read", 100, 0)
    await story.act("swap", 0, 0)
    await story.act("agree", 0, 0)
    await story.act("close", 5, 0)
    await story.act("agree", 0, 0)
    await story.recompute()
    wanted = story.reference(paths)  # with a flat price the pace does not matter
    assert await story.days() == wanted
    owned = (await balances(pool(), [story.tenancy_id]))[story.tenancy_id]
    assert owned.available_fen == story.paid_fen - sum(fen for _, fen in wanted.values())


async def test_the_books_of_all_that_are_proved(folder: Path) -> None:
    """Of the sites that the stories above have left."""
    report = await audit(lambda _: None)
    assert (report.violations, report.awaiting_correction) == ([], 0)
    assert await sum_of_all_accounts_fen() == 0
