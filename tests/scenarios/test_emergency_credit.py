"""A shop in the dark asks for its emergency credit: light at once, a debt that stays a debt."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from server.core.errors import ConflictError
from server.models.database import pool, rows
from server.services import emergency_credit, money_by_hand, tenancies
from server.services.adjustments import Adjustment
from server.services.audit import audit
from server.services.balances import balances
from server.services.manager_acts import Role
from server.services.managers import Manager
from server.services.money_by_hand import ShopRef
from tests.scenarios.world import CUTS_AT_ONCE, World

POLICY = f"emergency_credit_fen = 3000\nlow_balance_fen = [1000, 500]\n{CUTS_AT_ONCE}"
USER = 7


async def left_fen(world: World) -> int:
    owned = await balances(pool(), [world.tenancy_id])
    return owned[world.tenancy_id].available_fen


async def credit(world: World) -> tuple[int, int]:
    """What runs, and what could be had."""
    seen = await tenancies.overview(world.tenancy_id, world.now)
    return seen.emergency_credit_fen, seen.emergency_credit_offered_fen


async def ask(world: World) -> int:
    granted_fen = await emergency_credit.grant(world.tenancy_id, USER, world.now)
    await world.drive()
    return granted_fen


async def is_refused(world: World) -> str:
    before = await rows(pool(), "SELECT * FROM tenancy")
    with pytest.raises(ConflictError) as refused:
        await ask(world)
    assert await rows(pool(), "SELECT * FROM tenancy") == before
    return refused.value.code


async def test_it_lights_a_dark_shop_once_until_the_debt_is_paid(
    world: World, tmp_path: Path
) -> None:
    await world.open(tmp_path, balance_fen=1_500, policy=POLICY)
    assert await is_refused(world) == "emergency_credit_not_needed"
    await world.use(energy_wh=60_000, over=timedelta(hours=4))
    assert world.meter.is_disconnected()
    dark_fen = await left_fen(world)
    assert dark_fen < 0

    assert await credit(world) == (0, 3_000)
    asked = await asyncio.gather(*(ask(world) for _ in range(3)), return_exceptions=True)
    assert sum(one == 3_000 for one in asked) == 1, "once, however often at once"
    assert world.meter.is_connected()
    assert await left_fen(world) == dark_fen, "it is no money"
    assert await is_refused(world) == "emergency_credit_running"

    await world.use(energy_wh=60_000, over=timedelta(hours=6))
    assert world.meter.is_disconnected()
    assert -3_500 < await left_fen(world) < -3_000
    assert await is_refused(world) == "emergency_credit_running"

    await world.pay(1_000)  # not the debt, but above the moved limit
    assert world.meter.is_connected()
    assert await credit(world) == (3_000, 0)
    await world.pay(-await left_fen(world) + 400, key="the rest")
    assert await left_fen(world) == 400
    assert await credit(world) == (0, 3_000), "paid up, low, and to be had anew"

    await world.use(energy_wh=30_000, over=timedelta(hours=2))
    assert world.meter.is_disconnected(), "what has ended moves no limit"
    await ask(world)
    assert world.meter.is_connected()
    assert (await audit(lambda _: None)).passed
    acts = await rows(pool(), "SELECT DISTINCT actor, act, subject FROM manager_act")
    assert acts == [{"actor": "tenant", "act": "emergency_credit", "subject": "shop:A1"}]


async def test_a_policy_that_gives_none(world: World, tmp_path: Path) -> None:
    await world.open(tmp_path, balance_fen=-50)
    assert await is_refused(world) == "no_emergency_credit"


@pytest.mark.parametrize(("amount_fen", "granted_fen"), [(100, 0), (99, 3_000), (-1, 3_000)])
async def test_money_by_hand_ends_it_as_a_top_up_does(
    world: World, tmp_path: Path, amount_fen: int, granted_fen: int
) -> None:
    await world.open(tmp_path, balance_fen=-100, policy=POLICY)
    await ask(world)
    made = await world.row(
        "INSERT INTO manager (name, password_hash, role, created_at)"
        " VALUES ('boss', '-', 'owner', now()) RETURNING id"
    )
    boss = Manager(made["id"], "boss", Role.OWNER, None)
    wish = Adjustment(world.tenancy_id, amount_fen, "补偿")
    shop = ShopRef(world.site_id, "A1")
    await money_by_hand.adjust(shop, wish, boss, world.now, key="k")
    assert (await credit(world))[0] == granted_fen
