"""When the supply is cut, and above all when it is not."""

from datetime import timedelta
from pathlib import Path

import pytest

from server.core.supply.control_state import ControlState
from server.models.database import pool, rows
from server.services.confirmations import NothingToConfirmError, confirm_reconnection
from server.services.controls import authorise
from server.services.readings import NewReading
from server.services.supply_holds import hold_shop, release_shop
from tests.scenarios.world import CUTS_AT_ONCE, World, local


async def test_an_empty_shop_is_not_cut_in_quiet_hours_but_at_nine(
    world: World, tmp_path: Path
) -> None:
    world.now = local("2026-05-20 21:00")
    policy = 'notice_minutes = []\nno_disconnect = ["20:00-09:00"]'
    await world.open(tmp_path, balance_fen=1_000, policy=policy)
    await world.use(energy_wh=20_000, over=timedelta(hours=2))
    assert world.meter.is_connected()
    assert await world.reasons() == ["overdrawn", "quiet_hours"]
    await world.wait(local("2026-05-21 08:50") - world.now)
    assert world.meter.is_connected()
    await world.wait(timedelta(minutes=15))
    assert world.meter.is_disconnected()


async def test_nobody_is_cut_without_a_delivered_notice(world: World, tmp_path: Path) -> None:
    policy = "notice_minutes = [60]\nno_disconnect = []"
    await world.open(tmp_path, balance_fen=1_000, policy=policy)
    await world.use(energy_wh=20_000, over=timedelta(hours=2))
    await world.wait(timedelta(hours=5))
    assert world.meter.is_connected()
    assert await world.reasons() == ["overdrawn", "notice_not_delivered"]

    await rows(pool(), "UPDATE notice SET delivered_at = $1", world.now)
    await world.wait(timedelta(minutes=50))
    assert world.meter.is_connected()
    await world.wait(timedelta(minutes=20))
    assert world.meter.is_disconnected()


async def test_what_was_used_while_the_meter_was_silent_cuts_nobody_untold(
    world: World, tmp_path: Path
) -> None:
    """As if somebody could have looked at the balance in that time."""
    await world.open(tmp_path, balance_fen=1_000)
    world.meter.reachable = False
    await world.use(energy_wh=12_000, over=timedelta(hours=3))
    world.meter.reachable = True
    await world.wait(timedelta(hours=1))
    assert world.meter.is_connected()
    assert await world.reasons() == ["overdrawn", "back_billing"]
    told = await rows(pool(), "SELECT kind FROM notice WHERE kind = 'disconnection_pending'")
    assert len(told) == 1
    await rows(pool(), "UPDATE notice SET delivered_at = $1", world.now)
    await world.wait(timedelta(minutes=10))
    assert world.meter.is_disconnected()


async def test_what_is_used_after_a_gap_cuts_as_ever(world: World, tmp_path: Path) -> None:
    await world.open(tmp_path, balance_fen=1_000)
    world.meter.reachable = False
    await world.use(energy_wh=12_000, over=timedelta(hours=3))
    world.meter.reachable = True
    await world.use(energy_wh=9_900, over=timedelta(hours=1))
    assert world.meter.is_connected()
    await world.use(energy_wh=2_500, over=timedelta(minutes=20))
    assert world.meter.is_disconnected()


async def test_who_paid_while_the_gateway_was_down_is_connected_when_it_is_back(
    world: World, tmp_path: Path
) -> None:
    await world.open(tmp_path, balance_fen=1_000)
    await world.use(energy_wh=20_000, over=timedelta(hours=2))
    assert world.meter.is_disconnected()
    world.meter.reachable = False
    await world.pay(10_000)
    await world.wait(timedelta(hours=1))
    assert world.meter.is_disconnected()
    world.meter.reachable = True
    await world.drive()
    assert world.meter.is_connected()


async def test_a_payment_just_before_the_cut_stops_it_at_the_bus(
    world: World, tmp_path: Path
) -> None:
    await world.open(tmp_path, balance_fen=1_000)
    world.meter.reachable = False  # the wish to disconnect waits in the queue
    world.meter.register_wh += 20_000
    world.now += timedelta(hours=1)
    world.meter.reachable = True
    reading = NewReading(world.meter_id, world.now, world.meter.register_wh, world.epoch)
    await world.pay(10_000)
    allowed = await authorise(
        world.meter_id, ControlState.DISCONNECTED, reading, ControlState.CONNECTED, world.now
    )
    assert not allowed
    assert world.meter.writes == []


async def test_a_reading_of_a_collector_that_lost_its_lease_cuts_nobody(
    world: World, tmp_path: Path
) -> None:
    await world.open(tmp_path, balance_fen=1_000)
    stale = NewReading(
        world.meter_id, world.now + timedelta(hours=1), world.meter.register_wh + 20_000, 0
    )
    allowed = await authorise(
        world.meter_id,
        ControlState.DISCONNECTED,
        stale,
        ControlState.CONNECTED,
        world.now + timedelta(hours=1),
    )
    assert not allowed
    assert (await world.row("SELECT count(*) AS n FROM reading"))["n"] == 1


async def test_paying_does_not_end_a_managers_disconnection(world: World, tmp_path: Path) -> None:
    await world.open(tmp_path, balance_fen=1_000)
    await hold_shop(world.site_id, "A1", actor="wang", reason="works", now=world.now)
    await world.drive()
    assert world.meter.is_disconnected()
    await world.pay(10_000)
    await world.wait(timedelta(minutes=30))
    assert world.meter.is_disconnected()
    await release_shop(world.site_id, "A1", actor="wang", reason="done", now=world.now)
    await world.drive()
    assert world.meter.is_connected()
    acts = await rows(pool(), "SELECT actor, act, subject, reason FROM manager_act ORDER BY id")
    assert acts == [
        {"actor": "wang", "act": "disconnect", "subject": "shop:A1", "reason": "works"},
        {"actor": "wang", "act": "reconnect", "subject": "shop:A1", "reason": "done"},
    ]


async def test_power_returns_only_after_the_tenant_says_that_it_is_safe(
    world: World, tmp_path: Path
) -> None:
    policy = f'{CUTS_AT_ONCE}\nreconnect = "confirm"'
    await world.open(tmp_path, balance_fen=1_000, policy=policy)
    with pytest.raises(NothingToConfirmError):
        await confirm_reconnection(world.tenancy_id, world.now)
    await world.use(energy_wh=20_000, over=timedelta(hours=2))
    await world.pay(10_000)
    await world.wait(timedelta(minutes=30))
    assert world.meter.is_disconnected()
    assert await world.reasons() == ["paid_up", "awaiting_confirmation"]
    await confirm_reconnection(world.tenancy_id, world.now)
    await world.drive()
    assert world.meter.is_connected()


async def test_a_relay_that_somebody_else_opened_is_not_closed(
    world: World, tmp_path: Path
) -> None:
    await world.open(tmp_path, balance_fen=10_000)
    await world.wait(timedelta(minutes=30))
    world.meter.connected = False  # an electrician at work
    await world.wait(timedelta(minutes=30))
    assert world.meter.writes == []
    control = await world.row("SELECT case_code FROM meter_control")
    assert control == {"case_code": "opened_outside"}


@pytest.mark.parametrize("register_wh", [0, 50_000, 90_000_000])
async def test_a_wrong_reading_costs_nothing_and_cuts_nobody(
    world: World, tmp_path: Path, register_wh: int
) -> None:
    await world.open(tmp_path, balance_fen=1_000)
    right_wh = world.meter.register_wh
    world.meter.register_wh = register_wh
    await world.wait(timedelta(minutes=10))
    world.meter.register_wh = right_wh
    await world.use(energy_wh=100, over=timedelta(minutes=30))
    assert world.meter.is_connected()
    day = await world.row("SELECT energy_wh, amount_fen FROM open_day")
    assert day == {"energy_wh": 100, "amount_fen": 10}
