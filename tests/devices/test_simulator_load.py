"""Load curves: exact, additive, deterministic, and plausible by trade."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidInputError
from server.devices.simulator.load import Load, energy_watt_us, energy_wh, noise, power_w
from server.devices.simulator.trades import CURVES, FULL, HOURS, Trade

SHANGHAI = ZoneInfo("Asia/Shanghai")
ZONES = [SHANGHAI, ZoneInfo("Asia/Kathmandu"), ZoneInfo("Europe/Berlin"), UTC]
MOMENTS = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    max_value=datetime(2032, 1, 1),  # noqa: DTZ001 - the same
    timezones=st.just(UTC),
)
STEPS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3))
TRADES = st.sampled_from(Trade)


@given(TRADES, st.integers(0, 2**63 - 1), st.integers(1, 5000), MOMENTS, STEPS, STEPS)
def test_energies_of_adjacent_intervals_add_up(
    trade: Trade, seed: int, scale: int, start: datetime, first: timedelta, second: timedelta
) -> None:
    middle, end = start + first, start + first + second
    before = energy_wh(trade, seed, scale, start, middle, SHANGHAI)
    after = energy_wh(trade, seed, scale, middle, end, SHANGHAI)
    assert before >= 0
    assert after >= 0
    assert before + after == energy_wh(trade, seed, scale, start, end, SHANGHAI)


@given(TRADES, MOMENTS, STEPS, st.sampled_from(ZONES))
def test_energy_is_the_power_over_time(
    trade: Trade, start: datetime, step: timedelta, zone: ZoneInfo
) -> None:
    load = Load(trade, 11)
    exact = energy_watt_us(load, start, start + step, zone)
    curve = CURVES[trade]
    most_w = (curve.base_w + curve.swing_w) * 3 // 2
    assert 0 <= exact <= most_w * (step // timedelta(microseconds=1))
    assert abs(energy_wh(trade, 11, 1000, start, start + step, zone) - exact // 3_600_000_000) <= 1


@given(st.integers(0, 2**63 - 1), st.integers(), st.integers(1, 1000))
def test_noise_stays_in_its_bounds_and_repeats(seed: int, key: int, spread: int) -> None:
    assert -spread <= noise(seed, key, spread) <= spread
    assert noise(seed, key, spread) == noise(seed, key, spread)


def test_the_same_moment_gives_the_same_power_in_any_zone_of_writing() -> None:
    load = Load(Trade.CINEMA, 3)
    at = datetime(2026, 6, 5, 20, 7, tzinfo=SHANGHAI)
    assert power_w(load, at, SHANGHAI) == power_w(load, at.astimezone(UTC), SHANGHAI)


@pytest.mark.parametrize("trade", Trade)
def test_a_curve_is_a_picture_of_24_hours(trade: Trade) -> None:
    curve = CURVES[trade]
    for picture in (curve.workday, curve.weekend):
        assert len(picture) == HOURS
        assert all(0 <= int(digit) <= FULL for digit in picture)


WORKDAY, SATURDAY = 3, 6  # of June 2026: a Wednesday and a Saturday


@pytest.mark.parametrize(
    ("trade", "busy", "quiet", "at_least_times"),
    [
        (Trade.TEA_SHOP, (WORKDAY, 15), (WORKDAY, 4), 4),
        (Trade.RESTAURANT, (WORKDAY, 12), (WORKDAY, 15), 2),
        (Trade.HOTPOT, (WORKDAY, 19), (WORKDAY, 9), 3),
        (Trade.FASHION, (SATURDAY, 16), (SATURDAY, 3), 10),
        (Trade.CINEMA, (SATURDAY, 21), (WORKDAY, 9), 2),
        (Trade.KIDS_PLAY, (SATURDAY, 14), (WORKDAY, 14), 1),
        (Trade.KARAOKE, (SATURDAY, 1), (SATURDAY, 7), 5),
        (Trade.BANK, (WORKDAY, 10), (SATURDAY, 22), 1),
    ],
)
def test_a_trade_is_busy_when_it_is_busy(
    trade: Trade, busy: tuple[int, int], quiet: tuple[int, int], at_least_times: int
) -> None:
    def hour_wh(day: int, hour: int) -> int:
        start = datetime(2026, 6, day, hour, tzinfo=SHANGHAI)
        return energy_wh(trade, 5, 1000, start, start + timedelta(hours=1), SHANGHAI)

    assert hour_wh(*busy) > at_least_times * hour_wh(*quiet)


@pytest.mark.parametrize(
    ("trade", "at_night_w"),
    [(Trade.PHARMACY, 1_700), (Trade.SUPERMARKET, 8_500), (Trade.SEAFOOD, 15_000)],
)
def test_what_must_stay_cold_draws_all_night(trade: Trade, at_night_w: int) -> None:
    for hour in range(24):
        at = datetime(2026, 6, WORKDAY, hour, tzinfo=SHANGHAI)
        assert power_w(Load(trade, 8), at, SHANGHAI) > at_night_w


def test_scale_is_thousandths() -> None:
    start = datetime(2026, 6, WORKDAY, tzinfo=SHANGHAI)
    end = start + timedelta(days=1)
    once = energy_wh(Trade.GYM, 5, 1000, start, end, SHANGHAI)
    twice = energy_wh(Trade.GYM, 5, 2000, start, end, SHANGHAI)
    assert abs(twice - 2 * once) <= 24 * 4 * 2  # each quarter is rounded down to whole watt-hours


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2026, 6, 2, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)),
        (datetime(2026, 6, 2), datetime(2026, 6, 3, tzinfo=UTC)),  # noqa: DTZ001 - the case
        (datetime(2020, 6, 2, tzinfo=UTC), datetime(2026, 6, 3, tzinfo=UTC)),
    ],
)
def test_rejects_what_is_no_interval(start: datetime, end: datetime) -> None:
    with pytest.raises(InvalidInputError):
        energy_wh(Trade.GYM, 1, 1000, start, end, SHANGHAI)
