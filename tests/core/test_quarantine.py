"""Whether a new reading may be charged for, by its neighbours in time: one line a case."""

from datetime import UTC, datetime, timedelta
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidInputError
from server.core.settlement.interval import TrustedReading
from server.core.settlement.quarantine import (
    MeterLimits,
    QuarantineReason,
    Verdict,
    judge,
    most_energy_wh,
)

START = datetime(2026, 3, 4, tzinfo=UTC)
TOP = 1_000_000_000  # 999,999.999 kWh is the last the register can show
LIMITS = MeterLimits(max_power_w=30_000, rollover_wh=TOP)  # 550 Wh a minute + one step of 1 kWh


def at(minutes: int, register_wh: int) -> TrustedReading:
    return TrustedReading(START + timedelta(minutes=minutes), register_wh)


def reason_of(
    before: TrustedReading | None,
    candidate: TrustedReading,
    after: TrustedReading | None = None,
    limits: MeterLimits = LIMITS,
) -> str | None:
    late = START + timedelta(days=400)
    verdict = judge(before, candidate, after, limits, late, witness=None, before_is_alone=False)
    return verdict.reason


@pytest.mark.parametrize(
    ("before", "candidate", "after", "reason"),
    [
        # the first of a meter
        (None, at(1, 0), None, None),
        (None, at(1, 123_456_789), None, None),
        (None, at(1, TOP - 1), None, None),
        (None, at(1, TOP), None, "out_of_range"),
        (None, at(1, -1), None, "out_of_range"),
        # forward
        (at(0, 5_000), at(1, 5_000), None, None),
        (at(0, 5_000), at(1, 9_300), None, None),  # 30 kW x 1.1 for 1 + 5 minutes, and one step
        (at(0, 5_000), at(1, 9_301), None, "jump"),
        (at(0, 5_000), at(60, 41_750), None, None),
        (at(0, 5_000), at(60, 41_751), None, "jump"),
        (at(0, 0), at(1, 0), None, None),
        (at(0, 0), at(1, 100), None, None),
        # backward
        (at(0, 5_000), at(1, 4_999), None, "backward"),
        (at(0, 5_000), at(1, 1), None, "backward"),
        (at(0, 5_000), at(1, 0), None, "zero"),
        # the same instant again
        (at(0, 5_000), at(0, 5_000), None, None),
        (at(0, 5_000), at(0, 5_001), None, "repeated_differently"),
        (at(0, 5_000), at(0, 0), None, "repeated_differently"),
        (None, at(0, 5_000), at(0, 5_000), None),
        (None, at(0, 5_000), at(0, 5_001), "repeated_differently"),
        # rolled over
        (at(0, TOP - 500), at(1, 400), None, None),
        (at(0, TOP - 500), at(1, 3_800), None, None),
        (at(0, TOP - 500), at(1, 3_801), None, "backward"),  # too far for the time
        (at(0, TOP - 500), at(1, 0), None, "zero"),  # perhaps, but the next one proves it
        (at(0, TOP // 10 * 9), at(60 * 24 * 300, 100), None, None),
        (at(0, TOP // 10 * 9 - 1), at(60 * 24 * 300, 100), None, "backward"),  # not near the top
        (at(0, TOP - 1), at(60 * 24 * 300, TOP // 10 - 1), None, None),
        (at(0, TOP - 1), at(60 * 24 * 300, TOP // 10), None, "backward"),  # not small after
        # a late one between two others
        (at(0, 5_000), at(5, 5_500), at(10, 6_000), None),
        (at(0, 5_000), at(5, 6_001), at(10, 6_000), "contradicts_later"),
        (at(0, 5_000), at(9, 5_000), at(10, 9_301), "contradicts_later"),
        (at(0, 5_000), at(5, 4_000), at(10, 6_000), "backward"),
        (None, at(5, 6_001), at(10, 6_000), "contradicts_later"),
        (None, at(5, 0), at(10, 600_000), "contradicts_later"),
        (None, at(5, 5_500), at(10, 6_000), None),
        (at(0, TOP - 500), at(1, TOP - 100), at(2, 300), None),
        (at(0, TOP - 500), at(1, 100), at(2, 300), None),
    ],
)
def test_a_reading_is_judged_by_its_neighbours(
    before: TrustedReading | None,
    candidate: TrustedReading,
    after: TrustedReading | None,
    reason: str | None,
) -> None:
    assert reason_of(before, candidate, after) == reason


@pytest.mark.parametrize(
    ("register_wh", "reason"), [(429_496_728, None), (429_496_729, "backward")]
)
def test_a_register_that_rolls_over_at_no_round_number(
    register_wh: int, reason: str | None
) -> None:
    binary = MeterLimits(max_power_w=None, rollover_wh=2**32)  # a tenth of it is 429,496,729.6
    assert reason_of(at(0, 2**32 - 1), at(60 * 24 * 300, register_wh), limits=binary) == reason


@pytest.mark.parametrize(
    ("ahead_s", "reason"), [(0, None), (60, None), (61, "future"), (86_400, "future")]
)
def test_a_reading_of_tomorrow_is_held_apart(ahead_s: int, reason: str | None) -> None:
    candidate = TrustedReading(START + timedelta(seconds=ahead_s), -1 if reason else 1)
    verdict = judge(None, candidate, None, LIMITS, START, witness=None, before_is_alone=False)
    assert verdict.reason == reason


@pytest.mark.parametrize(
    ("max_power_w", "step_wh", "time", "most_wh"),
    [
        (30_000, 0, timedelta(hours=1), 33_000),
        (30_000, 1_000, timedelta(hours=1), 34_000),
        (30_000, 10, timedelta(0), 10),
        (1, 0, timedelta(microseconds=1), 1),  # rounded up
        (None, 0, timedelta(hours=1), 1_100_000),  # a profile without a limit: 1,000 kW
    ],
)
def test_the_most_that_a_meter_can_count(
    max_power_w: int | None, step_wh: int, time: timedelta, most_wh: int
) -> None:
    limits = MeterLimits(max_power_w, TOP, register_step_wh=step_wh)
    found_wh = most_energy_wh(limits, time)
    assert (found_wh, type(found_wh)) == (most_wh, int)  # never a float


def test_without_a_step_a_register_may_count_whole_kilowatt_hours() -> None:
    assert MeterLimits(30_000, TOP).register_step_wh == 1_000


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (at(6, 5_000), None, "the reading before lies after the candidate"),
        (None, at(4, 5_000), "the reading after lies before the candidate"),
    ],
)
def test_neighbours_on_the_wrong_side_are_a_fault_of_the_caller(
    before: TrustedReading | None, after: TrustedReading | None, why: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        reason_of(before, at(5, 5_000), after)
    assert str(refused.value) == why


@pytest.mark.parametrize(
    ("head", "witness", "candidate", "is_alone", "outvoted"),
    [
        (at(0, 0), at(1, 500_000), at(2, 500_100), True, True),  # a transient zero at the start
        (at(0, 9_000_000), at(1, 500_000), at(2, 500_100), True, True),  # nonsense at the start
        (at(0, 9_000_000), at(1, 1), at(2, 1), True, True),  # a new meter has counted little yet
        (at(0, 0), at(1, 500_000), at(2, 500_100), False, False),  # confirmed: a case for people
        (at(0, 0), at(1, 500_000), at(2, 499_000), True, False),  # the two disagree
        (at(0, 0), at(1, 500_000), at(2, 700_000), True, False),
        (at(0, 500_000), at(1, 0), at(2, 0), True, False),  # zeros never witness
        (at(0, 500_000), at(1, 0), at(2, 100), True, False),
        (at(0, 0), at(1, TOP), at(2, TOP - 1), True, False),  # nor does what cannot be
        (at(1, 0), at(1, 500_000), at(2, 500_100), True, False),  # the witness came after the head
        (at(0, 0), at(2, 500_100), at(2, 500_100), True, False),  # and is not the candidate
        (at(0, 0), None, at(2, 500_100), True, False),
    ],
)
def test_two_that_agree_outvote_a_lone_first_reading(
    head: TrustedReading,
    witness: TrustedReading | None,
    candidate: TrustedReading,
    is_alone: bool,
    outvoted: bool,
) -> None:
    verdict = judge(
        head,
        candidate,
        None,
        LIMITS,
        START + timedelta(days=1),
        witness=witness,
        before_is_alone=is_alone,
    )
    assert verdict.outvotes_before is outvoted
    assert verdict.trusted is outvoted


def test_a_later_reading_keeps_its_say_against_two_that_agree() -> None:
    verdict = judge(
        at(0, 0),
        at(2, 500_100),
        at(3, 50),
        LIMITS,
        START + timedelta(days=1),
        witness=at(1, 500_000),
        before_is_alone=True,
    )
    assert verdict == Verdict(QuarantineReason.JUMP)


def keep(readings: list[TrustedReading], limits: MeterLimits = LIMITS) -> list[TrustedReading]:
    """What stays trusted when readings come one by one, as a service would keep them."""
    trusted: list[TrustedReading] = []
    witness: TrustedReading | None = None
    for reading in readings:
        before = trusted[-1] if trusted else None
        verdict = judge(
            before,
            reading,
            None,
            limits,
            reading.read_at,
            witness=witness,
            before_is_alone=len(trusted) == 1,
        )
        if verdict.outvotes_before and witness is not None:
            trusted = [witness]
        if verdict.trusted:
            trusted.append(reading)
            witness = None
        else:
            witness = reading
    return trusted


STEPS = st.lists(st.integers(0, 500), min_size=4, max_size=20)


def path_from(start_wh: int, steps: list[int]) -> list[TrustedReading]:
    """A reading a minute, all of them good; the register may roll over."""
    registers = accumulate(steps, initial=start_wh)
    return [at(minute, register_wh % TOP) for minute, register_wh in enumerate(registers)]


@given(st.integers(1, TOP - 1), STEPS)
def test_good_readings_are_all_trusted(start_wh: int, steps: list[int]) -> None:
    path = path_from(start_wh, steps)
    assert keep(path) == [reading for reading in path if reading.register_wh]


@given(st.integers(1_000_000, TOP // 2), STEPS, st.data())
def test_one_bad_reading_does_not_shut_out_the_good_ones(
    start_wh: int, steps: list[int], data: st.DataObject
) -> None:
    path = path_from(start_wh, steps)
    index = data.draw(st.integers(0, len(path) - 3))
    bad_wh = data.draw(
        st.sampled_from([0, -1, TOP, 2**31, 2**32 - 1])
        | st.integers(0, TOP).filter(lambda wh: abs(wh - start_wh) > 100_000)
    )
    bad = path[index]._replace(register_wh=bad_wh)
    assert keep([*path[:index], bad, *path[index + 1 :]]) == path[:index] + path[index + 1 :]
