"""A month that the demo's meters and shops could have had."""

from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise

import pytest

from server.core.errors import InvalidInputError
from server.devices.simulator.load import energy_wh
from server.local.demo.blueprint import Meter, Shop
from server.local.demo.history import (
    HUNDRED_YUAN_FEN,
    history_start,
    last_top_up_at,
    past_readings,
    registers_at,
    top_up_plan,
)
from server.local.demo.mall import DEMO
from server.local.demo.pricing import cost_fen

NOW = datetime(2026, 6, 18, 6, 37, 12, 345_678, tzinfo=UTC)
START = history_start(DEMO, NOW)
SHOPS = pytest.mark.parametrize("shop", DEMO.shops, ids=lambda shop: shop.code)

OTHER_SHOPS = pytest.mark.parametrize(
    "shop",
    [shop for shop in DEMO.shops if shop.code != DEMO.nearly_empty_shop],
    ids=lambda shop: shop.code,
)


@pytest.fixture(scope="module")
def registers() -> dict[str, int]:
    return registers_at(DEMO, START, NOW)


@lru_cache
def month_fen(code: str) -> int:
    return cost_fen(DEMO, DEMO.shop(code), START, NOW)


def test_it_begins_thirty_local_midnights_ago() -> None:
    assert START.isoformat() == "2026-05-19T00:00:00+08:00"
    late = datetime(2026, 6, 17, 16, 0, tzinfo=UTC)  # midnight in Shanghai
    assert history_start(DEMO, late, days=1).isoformat() == "2026-06-17T00:00:00+08:00"


@pytest.mark.parametrize("code", ["M-A101", "M-F01", "M-C301-1", "M-P02"])
def test_readings_come_each_quarter_and_now(code: str) -> None:
    readings = past_readings(DEMO, DEMO.meter(code), START, NOW)
    times = [reading.read_at for reading in readings]
    assert times[0] == START
    assert times[-1] == NOW
    assert {b - a for a, b in pairwise(times[:-1])} == {timedelta(minutes=15)}
    assert times[-1] - times[-2] < timedelta(minutes=15)
    local_hours = {moment.astimezone(DEMO.zone).time() for moment in times}
    assert {time(hour) for hour in (0, 8, 10, 12, 18, 22)} <= local_hours


@pytest.mark.parametrize("meter", DEMO.meters, ids=lambda meter: meter.code)
def test_a_register_never_goes_back_and_moves(meter: Meter) -> None:
    registers = [reading.register_wh for reading in past_readings(DEMO, meter, START, NOW)]
    assert registers == sorted(registers)
    assert registers[-1] > registers[0] + 30_000
    assert all(register % 10 == 0 for register in registers)
    steepest = max(b - a for a, b in pairwise(registers))
    assert steepest * 4 < 30_000  # the demo-relay profile's largest power


def test_readings_agree_with_the_curve() -> None:
    meter = DEMO.meter("M-A103")
    [load] = meter.loads
    for reading in past_readings(DEMO, meter, START, NOW)[::97]:
        used = energy_wh(load.trade, load.seed, load.scale, START, reading.read_at, DEMO.zone)
        assert reading.register_wh == (meter.start_wh + used) // 10 * 10


def test_a_feeder_reads_what_its_shops_do_and_the_losses(registers: dict[str, int]) -> None:
    feeder = DEMO.meter("M-F01")
    used = sum(registers[code] - DEMO.meter(code).start_wh for code in feeder.feeds)
    fed = (registers["M-F01"] - feeder.start_wh) * feeder.ratio
    assert abs(fed - used * 1015 // 1000) <= 2 * feeder.ratio


def test_the_simulators_go_on_where_the_readings_end(registers: dict[str, int]) -> None:
    for meter in DEMO.meters:
        last = past_readings(DEMO, meter, START, NOW)[-1]
        assert 0 <= registers[meter.code] - last.register_wh < 10


def test_readings_may_be_further_apart() -> None:
    meter = DEMO.meter("M-A101")
    hourly = past_readings(DEMO, meter, START, NOW, timedelta(hours=1))
    quarterly = past_readings(DEMO, meter, START, NOW)
    assert set(hourly) < set(quarterly)
    assert (hourly[0], hourly[-1]) == (quarterly[0], quarterly[-1])


@pytest.mark.parametrize("every", [timedelta(0), timedelta(minutes=10), timedelta(minutes=20)])
def test_rejects_a_pace_that_misses_borders(every: timedelta) -> None:
    with pytest.raises(InvalidInputError):
        past_readings(DEMO, DEMO.meter("M-A101"), START, NOW, every)


def test_rejects_a_start_between_quarters() -> None:
    with pytest.raises(InvalidInputError):
        registers_at(DEMO, START + timedelta(seconds=1), NOW)


@SHOPS
def test_payments_are_hundreds_of_yuan_at_the_desk(shop: Shop) -> None:
    cost = month_fen(shop.code)
    plan = top_up_plan(DEMO, shop, cost, START, NOW)
    assert plan
    for top_up in plan:
        assert top_up.amount_fen > 0
        assert top_up.amount_fen % HUNDRED_YUAN_FEN == 0
        assert START < top_up.paid_at < NOW
        assert time(10) <= top_up.paid_at.astimezone(DEMO.zone).time() < time(20)
    assert sorted(plan, key=lambda top_up: top_up.paid_at) == list(plan)
    assert plan[0].paid_at < START + timedelta(days=1)


def left_fen(shop: Shop) -> int:
    """What the plan leaves of the payments."""
    cost = month_fen(shop.code)
    return sum(top_up.amount_fen for top_up in top_up_plan(DEMO, shop, cost, START, NOW)) - cost


@OTHER_SHOPS
def test_payments_leave_what_the_shop_is_known_for(shop: Shop) -> None:
    day = month_fen(shop.code) // 30
    left = left_fen(shop)
    assert day * shop.days_left - HUNDRED_YUAN_FEN < left
    assert left <= day * (shop.days_left + 1) + HUNDRED_YUAN_FEN


def test_the_nearly_empty_shops_last_payment_is_left_to_the_loader() -> None:
    shop = DEMO.shop(DEMO.nearly_empty_shop)
    assert left_fen(shop) < -HUNDRED_YUAN_FEN
    plan = top_up_plan(DEMO, shop, month_fen(shop.code), START, NOW)
    assert plan[-1].paid_at < last_top_up_at(DEMO, shop, START, NOW) < NOW


@OTHER_SHOPS
def test_a_shop_that_paid_is_not_overdrawn_on_the_way(shop: Shop) -> None:
    plan = top_up_plan(DEMO, shop, month_fen(shop.code), START, NOW)
    used = 0
    for day in range(1, 31):
        at = START + timedelta(days=day)
        used += cost_fen(DEMO, shop, at - timedelta(days=1), at)
        assert sum(top_up.amount_fen for top_up in plan if top_up.paid_at <= at) > used


def test_a_history_of_no_days_has_no_payments() -> None:
    with pytest.raises(InvalidInputError):
        top_up_plan(DEMO, DEMO.shops[0], 10_000, START, START + timedelta(hours=5))
