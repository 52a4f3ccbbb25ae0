"""From the money to the relay: cut when empty, closed at once when paid, never against the rule."""

import asyncio
import time
from datetime import timedelta

import pytest

from server.core.supply import state
from server.devices.simulator.faults import Fault, FaultName
from server.services.settlement import settle_due
from server.workers.collector import driving
from tests.workers.collected_mall import Mall, one, until, wall_clock


async def test_a_shop_that_runs_empty_is_cut_and_its_neighbour_is_not(mall: Mall) -> None:
    mall.collect()
    await until(lambda: mall.confirmed("M-1", "connected"))
    await mall.run_empty(1)
    await until(lambda: mall.confirmed("M-1", "disconnected"))
    assert not mall.bank.meters["M-1"].contact_connected
    assert mall.bank.meters["M-2"].contact_connected
    control = await mall.control("M-1")
    assert (control["answered_writes"], control["disconnected_by_us"]) == (1, True)
    assert control["confirmed_at"] >= control["commanded_at"]


async def test_who_pays_is_reconnected_within_a_second(mall: Mall) -> None:
    mall.collect()
    await until(lambda: mall.read("M-1"))
    await mall.run_empty(1)
    await until(lambda: mall.confirmed("M-1", "disconnected"))
    began = time.monotonic()
    await mall.pay("A1", 10_000)
    await until(lambda: mall.confirmed("M-1", "connected"), within_s=1.0)
    assert time.monotonic() - began < 1.0
    assert mall.bank.meters["M-1"].contact_connected


async def test_a_payment_that_nobody_announced_still_stops_the_cut(mall: Mall) -> None:
    collector = mall.collect()
    await until(lambda: mall.confirmed("M-1", "connected"))
    await mall.stop(collector)
    # The wish to cut is in the tables, the money for it has just gone away.
    mall.bank.meters["M-1"].shift_counter(500)
    meter_id = await mall.meter_id("M-1")
    await mall.overdraw(meter_id, 500)
    assert (await mall.control("M-1"))["policy_state"] == "disconnected"
    await mall.pay("A1", 10_000, decide=False)
    mall.collect("second")
    await until(lambda: mall.confirmed("M-1", "connected"))
    control = await mall.control("M-1")
    assert (control["policy_state"], control["commanded"]) == ("connected", None)
    assert mall.bank.meters["M-1"].contact_connected


async def test_a_gateway_that_was_down_is_obeyed_the_moment_it_is_back(mall: Mall) -> None:
    mall.collect()
    await until(lambda: mall.read("M-1"))
    await mall.run_empty(1)
    await until(lambda: mall.confirmed("M-1", "disconnected"))
    await mall.bank.gateways["gw-01"].stop()
    await mall.pay("A1", 10_000)
    await asyncio.sleep(1.5)
    assert not mall.bank.meters["M-1"].contact_connected
    await mall.bank.gateways["gw-01"].start()
    await until(lambda: mall.confirmed("M-1", "connected"), within_s=2.5)
    assert mall.bank.meters["M-1"].contact_connected


async def test_a_mute_meter_delays_neither_its_neighbour_nor_itself_once_it_speaks(
    mall: Mall,
) -> None:
    mall.collect()
    await until(lambda: mall.confirmed("M-1", "connected"))
    await until(lambda: mall.confirmed("M-2", "connected"))
    await mall.run_empty(1)
    await mall.run_empty(2)
    await until(lambda: mall.confirmed("M-1", "disconnected"))
    await until(lambda: mall.confirmed("M-2", "disconnected"))
    mall.bank.meters["M-1"].add_fault(Fault(FaultName.MUTE))
    await mall.pay("A1", 10_000)
    await asyncio.sleep(0.3)
    await mall.pay("A2", 10_000)
    await until(lambda: mall.confirmed("M-2", "connected"), within_s=3.0)
    status = await mall.status("M-1")
    await until(lambda: mall.has_finding("M-1", "meter_mute"))
    assert status["register_wh"] == 50_500
    mall.bank.meters["M-1"].clear_faults()
    await until(lambda: mall.confirmed("M-1", "connected"), within_s=4.0)


async def test_a_relay_opened_by_hand_is_a_case_and_stays_open(mall: Mall) -> None:
    mall.collect()
    await until(lambda: mall.confirmed("M-1", "connected"))
    mall.bank.meters["M-1"].command_relay(connect=False)
    await until(lambda: mall.confirmed("M-1", "disconnected"))
    control = await mall.control("M-1")
    assert (control["case_code"], control["commanded"]) == ("opened_outside", None)
    assert not mall.bank.meters["M-1"].contact_connected


async def test_a_welded_relay_gets_three_writes_and_is_a_case(
    mall: Mall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "DEADLINE_S", 0.5)
    monkeypatch.setattr(state, "SETTLE_FOR", timedelta(seconds=0.5))
    mall.collect()
    await until(lambda: mall.confirmed("M-1", "connected"))
    mall.bank.meters["M-1"].add_fault(Fault(FaultName.WELDED))
    await mall.run_empty(1)
    await until(lambda: mall.has_case("M-1", "disconnection_failed"), within_s=10)
    assert (await mall.control("M-1"))["answered_writes"] == 3


async def test_a_top_up_of_a_connected_shop_is_confirmed_by_the_next_poll(mall: Mall) -> None:
    mall.collect()
    await until(lambda: mall.confirmed("M-1", "connected"))
    await mall.credit_top_up("A1", 5_000)

    async def confirmed() -> bool:
        return (await one("SELECT confirmed_at FROM top_up"))["confirmed_at"] is not None

    await until(confirmed)
    assert await settle_due(wall_clock()) in ([], [1])
