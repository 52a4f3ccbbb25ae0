"""The demo mall is a mall: whole, consistent, and empty on time."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.money import fen_from_nano_yuan
from server.local.demo import mall as mall_module
from server.local.demo.blueprint import Tariff
from server.local.demo.mall import DEMO
from server.local.demo.pricing import cost_fen, cost_nano_yuan, nearly_empty_balance_fen


def test_it_has_24_shops_and_30_meters_on_three_gateways() -> None:
    assert (len(DEMO.shops), len(DEMO.meters), len(DEMO.gateways)) == (24, 30, 3)
    assert Counter(meter.gateway for meter in DEMO.meters) == {"gw-01": 12, "gw-02": 10, "gw-03": 8}
    assert Counter(meter.role for meter in DEMO.meters) == {
        "shop": 27,
        "common_area": 2,
        "feeder": 1,
    }


@pytest.mark.parametrize(
    "codes",
    [
        [shop.code for shop in DEMO.shops],
        [shop.binding_code for shop in DEMO.shops],
        [shop.name for shop in DEMO.shops],
        [meter.code for meter in DEMO.meters],
        [(meter.gateway, meter.place) for meter in DEMO.meters],
    ],
)
def test_names_are_unique(codes: list[object]) -> None:
    assert [code for code, count in Counter(codes).items() if count > 1] == []


def test_every_name_is_known() -> None:
    for shop in DEMO.shops:
        assert DEMO.tariff(shop.tariff).code == shop.tariff
        assert shop.supply_policy in {policy.code for policy in DEMO.policies}
        assert set(shop.fixed_charges) <= {charge.code for charge in DEMO.fixed_charges}
        assert DEMO.meters_of(shop)
    for meter in DEMO.meters:
        assert meter.gateway in {gateway.code for gateway in DEMO.gateways}
        assert (meter.shop is not None) == (meter.role == "shop")
        if meter.shop is not None:
            assert DEMO.shop(meter.shop).trade in {load.trade for load in meter.loads}
        assert DEMO.loads_behind(meter)


def test_no_two_loads_move_in_step() -> None:
    seeds = Counter(load.seed for meter in DEMO.meters for load in meter.loads)
    assert set(seeds.values()) == {1}


def test_it_shows_what_the_product_can() -> None:
    policies = {shop.code: shop.supply_policy for shop in DEMO.shops}
    assert [code for code, policy in policies.items() if policy == "immediate"] == ["A111"]
    assert [code for code, policy in policies.items() if policy == "confirm"] == ["C304"]
    assert [shop.code for shop in DEMO.shops if shop.supply_protection] == ["A109"]
    assert {shop.tariff for shop in DEMO.shops} == {"commercial", "flat"}
    owing = DEMO.fixed_charges
    assert {charge.per for charge in owing} == {"day", "month"}
    assert {charge.basis for charge in owing} == {"shop", "m2", "kva"}
    owed = {code for shop in DEMO.shops for code in shop.fixed_charges}
    assert owed == {charge.code for charge in owing}
    assert sum(len(DEMO.meters_of(shop)) == 2 for shop in DEMO.shops) == 3
    assert {meter.ratio for meter in DEMO.meters} == {1, 10, 20}


@pytest.mark.parametrize("tariff", DEMO.tariffs, ids=lambda tariff: tariff.code)
def test_every_hour_has_one_price(tariff: Tariff) -> None:
    hours = [hour for spans in tariff.hours.values() for span in spans for hour in range(*span)]
    assert sorted(hours) == ([] if tariff.is_flat else list(range(24)))
    assert set(tariff.hours) <= set(tariff.prices)


@pytest.mark.parametrize(
    ("hour", "price"),
    [(0, "0.2891"), (8, "0.6172"), (11, "1.0288"), (12, "0.6172"), (21, "1.2345"), (23, "0.6172")],
)
def test_the_commercial_price_follows_the_hour(hour: int, price: str) -> None:
    assert DEMO.tariff("commercial").price_text_at(hour) == price
    assert DEMO.tariff("flat").price_text_at(hour) == "0.6883"


NEARLY_EMPTY = DEMO.shop(DEMO.nearly_empty_shop)
MOMENTS = st.datetimes(
    min_value=datetime(2026, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    max_value=datetime(2028, 1, 1),  # noqa: DTZ001 - the same
    timezones=st.just(UTC),
)


@given(MOMENTS, st.integers(0, 45), st.integers(0, DEMO.poll_seconds))
def test_the_nearly_empty_shop_is_overdrawn_within_three_minutes_at_any_hour(
    now: datetime, starts_after_s: int, read_before_s: int
) -> None:
    left_fen = nearly_empty_balance_fen(DEMO, now)
    started = now + timedelta(seconds=starts_after_s)
    not_shown_yet = timedelta(seconds=5)  # the register shows hundredths of a kWh
    seen = now + timedelta(seconds=180 - read_before_s) - not_shown_yet
    used = cost_nano_yuan(DEMO, NEARLY_EMPTY, started, seen)
    assert fen_from_nano_yuan(used) > left_fen > 0


@given(MOMENTS)
def test_it_is_not_overdrawn_from_the_start(now: datetime) -> None:
    soon = now + timedelta(seconds=30)
    assert cost_fen(DEMO, NEARLY_EMPTY, now, soon) < nearly_empty_balance_fen(DEMO, now)


def test_the_readme_tells_every_binding_code() -> None:
    readme = (Path(mall_module.__file__).parent / "README.md").read_text(encoding="utf-8")
    for shop in DEMO.shops:
        assert f"| {shop.code} | {shop.name} | {shop.binding_code} |" in readme
