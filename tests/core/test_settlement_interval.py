"""Readings as a curve of energy: even in time, over rollovers, behind the transformer."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidInputError
from server.core.settlement.interval import (
    MeterPath,
    Segment,
    TrustedReading,
    energies_until,
    energy_until,
    path_from_rows,
    rise_wh,
)

START = datetime(2026, 3, 4, tzinfo=UTC)
TOP = 1_000_000
Row = tuple[datetime, int]


def row(second: int, register_wh: int) -> Row:
    return START + timedelta(seconds=second), register_wh


def path(*rows: Row, ratio: int = 1) -> MeterPath:
    return path_from_rows(7, "M-1", ratio, TOP, rows)


@pytest.mark.parametrize(
    ("before_wh", "after_wh", "rise"),
    [(0, 0, 0), (5, 9, 4), (TOP - 1, 0, 1), (TOP - 400, 100, 500), (0, TOP - 1, TOP - 1)],
)
def test_a_register_rises_over_its_rollover(before_wh: int, after_wh: int, rise: int) -> None:
    assert rise_wh(before_wh, after_wh, TOP) == rise


@pytest.mark.parametrize(
    ("rows", "ratio", "second", "energy_wh"),
    [
        ([], 1, 0, 0),
        ([row(0, 100)], 1, 60, 0),  # one reading shows no energy
        ([row(0, 100), row(60, 220)], 1, -1, 0),  # nothing before the first
        ([row(0, 100), row(60, 220)], 1, 0, 0),
        ([row(0, 100), row(60, 220)], 1, 30, 60),
        ([row(0, 100), row(60, 220)], 1, 60, 120),
        ([row(0, 100), row(60, 220)], 1, 61, 120),  # nor after the last
        ([row(0, 100), row(60, 220)], 40, 30, 2_400),
        ([row(0, 100), row(60, 101)], 1, 59, 0),  # floored
        ([row(0, 100), row(60, 101)], 40, 59, 39),  # behind the transformer
        ([row(0, TOP - 10), row(60, 20)], 1, 60, 30),  # rolled over
        ([row(0, TOP - 10), row(60, 20)], 1, 20, 10),
        ([row(0, 0), row(60, 60), row(120, 300)], 1, 90, 180),
    ],
)
def test_energy_grows_in_proportion_to_time(
    rows: list[Row], ratio: int, second: int, energy_wh: int
) -> None:
    assert energy_until(path(*rows, ratio=ratio), row(second, 0)[0]) == energy_wh


ROWS = st.lists(
    st.tuples(st.integers(1, 10**9), st.integers(0, TOP - 1)), min_size=1, max_size=12
).map(
    lambda steps: [
        (START + timedelta(microseconds=sum(us for us, _ in steps[: number + 1])), wh)
        for number, (_, wh) in enumerate(steps)
    ]
)
OFFSETS = st.lists(st.integers(-(10**6), 10**10), min_size=2, max_size=12).map(sorted)


@given(ROWS, st.integers(1, 100), OFFSETS)
def test_pieces_add_up_and_are_never_negative(
    rows: list[Row], ratio: int, offsets: list[int]
) -> None:
    instants = [START + timedelta(microseconds=offset) for offset in offsets]
    whole = path(*rows, ratio=ratio)
    until = energies_until(whole, instants)
    assert until == [energy_until(whole, at) for at in instants]
    assert until == sorted(until)
    registers = [register_wh for _, register_wh in rows]
    total = sum(rise_wh(a, b, TOP) for a, b in pairwise(registers))
    assert energy_until(whole, rows[-1][0]) == total * ratio


@given(ROWS, st.data())
def test_rows_in_any_order_and_repeated_make_the_same_path(
    rows: list[Row], data: st.DataObject
) -> None:
    repeated = [*rows, *data.draw(st.lists(st.sampled_from(rows), max_size=5))]
    assert path(*data.draw(st.permutations(repeated))) == path(*rows)


@pytest.mark.parametrize(
    "rows",
    [
        [row(0, 5), row(0, 6)],  # two registers at one instant
        [row(0, -1)],
        [row(0, TOP)],
        [row(0, 5), row(1, TOP + 1)],
    ],
)
def test_rows_that_contradict_are_refused(rows: list[Row]) -> None:
    with pytest.raises(InvalidInputError, match="M-1"):
        path(*rows)


def test_the_smallest_register_and_ratio_are_allowed() -> None:
    assert MeterPath(7, "M-1", (Segment(1, 1, (TrustedReading(START, 0),)),)).curve.totals_wh == [0]


@pytest.mark.parametrize(
    ("ratio", "rollover_wh", "rows"),
    [
        (0, TOP, []),
        (-1, TOP, []),
        (1, 0, []),
        (1, TOP, [row(1, 5), row(0, 5)]),
        (1, TOP, [row(1, 5), row(1, 5)]),
    ],
)
def test_a_path_ascends_and_has_a_ratio_and_a_rollover(
    ratio: int, rollover_wh: int, rows: list[Row]
) -> None:
    with pytest.raises(InvalidInputError):
        MeterPath(7, "M-1", (Segment(ratio, rollover_wh, tuple(TrustedReading(*r) for r in rows)),))
