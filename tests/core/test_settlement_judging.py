"""Readings are judged beside those of their own device; an exchange that cannot be is refused."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidInputError
from server.core.settlement.interval import Exchange, TrustedReading
from server.core.settlement.judging import MeterJudge, check_exchange
from server.core.settlement.quarantine import MeterLimits, Verdict

START = datetime(2026, 3, 4, tzinfo=UTC)
NOW = START + timedelta(hours=30)
OLD_TOP, TOP = 100_000, 1_000_000
LIMITS = MeterLimits(max_power_w=10_000, rollover_wh=TOP)


def hour(number: float) -> datetime:
    return START + timedelta(hours=number)


def shown(number: float, register_wh: int) -> TrustedReading:
    return TrustedReading(hour(number), register_wh)


def exchange(at: float, final_wh: int, first_wh: int, ratio: int = 1) -> Exchange:
    return Exchange(hour(at), final_wh, first_wh, ratio, OLD_TOP)


NOON = exchange(12, 50_000, 200)
BEFORE, AFTER = shown(11, 49_000), shown(13, 900)


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        # of the old device: between its readings and its final one, whatever the new one shows
        (shown(11.5, 49_500), None),
        (shown(11.5, 48_999), "backward"),
        (shown(11.5, 50_001), "contradicts_later"),
        (shown(11.5, 900), "backward"),
        (shown(11.5, 100_000), "out_of_range"),  # its own rollover
        # of the new one: from its first on
        (shown(12.5, 200), None),
        (shown(12.5, 500), None),
        (shown(12.5, 199), "backward"),
        (shown(12.5, 0), "zero"),
        (shown(12.5, 901), "contradicts_later"),
        (shown(12.5, 50_100), "jump"),
        (shown(14, 150_000), "jump"),  # within the new one's register
        # at the very instant the exchange has said it
        (shown(12, 200), None),
        (shown(12, 201), "repeated_differently"),
        (shown(12, 199), "repeated_differently"),
    ],
)
def test_a_reading_is_judged_beside_those_of_its_own_device(
    reading: TrustedReading, reason: str | None
) -> None:
    judge = MeterJudge(LIMITS, [NOON], [AFTER, BEFORE])
    assert judge.judge(reading, NOW).verdict.reason == reason


def test_at_its_very_instant_only_the_exchange_is_a_neighbour() -> None:
    judge = MeterJudge(LIMITS, [NOON], [shown(12, 49_999), BEFORE])
    assert judge.judge(AFTER, NOW) == (Verdict(), shown(12, 200), None)


def test_each_of_several_devices_has_its_readings() -> None:
    judge = MeterJudge(LIMITS, [exchange(14, 2_000, 70_000), NOON], [shown(15, 71_000), BEFORE])
    verdicts = [
        judge.judge(reading, NOW).verdict.reason
        for reading in (shown(11.5, 49_600), shown(13, 1_500), shown(14.5, 70_500), shown(14.6, 1))
    ]
    assert verdicts == [None, None, None, "backward"]


def test_what_an_exchange_says_is_not_outvoted() -> None:
    """Two readings that agree outvote a lone first reading, but no manager's word."""
    judge = MeterJudge(LIMITS, [NOON])
    assert judge.judge(shown(13, 90_000), NOW).verdict.reason == "jump"
    assert judge.judge(shown(13.1, 90_100), NOW).verdict.reason == "jump"
    assert judge.judge(shown(13.2, 300), NOW).verdict.reason is None
    alone = MeterJudge(LIMITS, [], [BEFORE])
    assert alone.judge(shown(13, 900), NOW).verdict.reason == "backward"
    judged = alone.judge(shown(13.1, 950), NOW)
    assert (judged.before, judged.witness) == (BEFORE, shown(13, 900))
    assert alone.judge(shown(13.2, 970), NOW).before == shown(13.1, 950)


def test_what_was_held_apart_before_speaks_again_the_latest_of_it_first() -> None:
    apart = [shown(13, 900), shown(12.5, 20_000)]  # in any order
    judged = MeterJudge(LIMITS, [], [BEFORE], apart).judge(shown(13.1, 950), NOW)
    assert judged == (Verdict(outvotes_before=True), BEFORE, shown(13, 900))


def test_what_was_held_apart_speaks_for_its_own_device_only() -> None:
    device_before = exchange(10, 50_000, 49_999)
    judge = MeterJudge(LIMITS, [device_before, NOON], [], [shown(13, 49_000)])
    assert judge.judge(shown(11.5, 49_500), NOW).verdict.reason == "backward"


def test_the_touched_interval_begins_at_the_exchange() -> None:
    assert MeterJudge(LIMITS, [NOON], [BEFORE]).judge(AFTER, NOW).before == shown(12, 200)


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 40)), min_size=2, max_size=14),
    st.lists(st.integers(0, 13), max_size=3, unique=True),
    st.data(),
)
def test_in_any_order_good_readings_are_all_trusted(
    steps: list[tuple[int, int]], swaps: list[int], data: st.DataObject
) -> None:
    """Between exchanges that are known; each device's first reading may come at any time."""
    at, register_wh, readings, exchanges = START, 100, [], []
    for number, (minutes, rise_wh) in enumerate(steps):
        at += timedelta(minutes=minutes)
        register_wh += rise_wh
        if number in swaps:
            first_wh = data.draw(st.integers(1, 9_000))
            exchanges.append(Exchange(at, register_wh, first_wh, 1, OLD_TOP))
            register_wh = first_wh
        else:
            readings.append(TrustedReading(at, register_wh))
    judge = MeterJudge(LIMITS, exchanges)
    late = at + timedelta(hours=1)
    for reading in data.draw(st.permutations(readings)):
        assert judge.judge(reading, late).verdict.trusted


@pytest.mark.parametrize(
    ("made", "last_at", "before", "fault"),
    [
        (NOON, None, BEFORE, None),
        (NOON, None, None, None),
        (NOON, 11, BEFORE, None),
        (NOON, 12, BEFORE, "at: not after the exchange of 2026-03-04T12:00:00"),
        (NOON, 13, BEFORE, "at: not after the exchange of 2026-03-04T13:00:00"),
        (exchange(12, OLD_TOP, 0), None, None, "final_wh: the old register shows less than 100000"),
        (exchange(12, -1, 0), None, None, "final_wh: the old register"),
        (exchange(12, 0, TOP), None, None, "first_wh: the new register shows less than 1000000"),
        (exchange(12, 0, -1), None, None, "first_wh: the new register"),
        (exchange(12, 49_000, TOP - 1), None, BEFORE, None),  # each by its own register
        (exchange(12, 48_999, 0), None, BEFORE, "final_wh: cannot follow 49000 Wh .*backward"),
        (exchange(12, 62_918, 0), None, BEFORE, "final_wh: cannot follow 49000 Wh .*jump"),
        (exchange(12, 10, 0), None, shown(11, OLD_TOP - 10), None),  # over its rollover
        (exchange(12, 20_000, 0), None, shown(11, OLD_TOP - 10), "backward"),
    ],
)
def test_an_exchange_that_cannot_have_been_is_refused(
    made: Exchange, last_at: int | None, before: TrustedReading | None, fault: str | None
) -> None:
    last = None if last_at is None else hour(last_at)
    if fault is None:
        check_exchange(made, LIMITS, last_exchange_at=last, before=before)
        return
    with pytest.raises(InvalidInputError, match=fault):
        check_exchange(made, LIMITS, last_exchange_at=last, before=before)
