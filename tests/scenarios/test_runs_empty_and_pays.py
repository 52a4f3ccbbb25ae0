"""The product's whole promise: used up, warned, disconnected, paid, connected, proved."""

from datetime import timedelta
from pathlib import Path

from server.models.database import pool, rows
from server.services.audit import audit
from server.services.crediting import Outcome
from tests.scenarios.world import World


async def test_a_shop_runs_empty_and_is_connected_as_soon_as_it_pays(
    world: World, tmp_path: Path
) -> None:
    await world.open(tmp_path, balance_fen=12_000)
    await world.use(energy_wh=25_000, over=timedelta(hours=2))
    assert world.meter.is_connected()
    warned = await rows(pool(), "SELECT kind, level FROM notice ORDER BY id")
    assert warned == [{"kind": "low_balance", "level": 10_000}]

    await world.use(energy_wh=100_000, over=timedelta(hours=6))
    assert world.meter.is_disconnected()
    assert await world.reasons() == ["overdrawn"]
    owed = await world.row("SELECT sum(amount_fen)::bigint AS fen FROM open_day")
    assert 12_000 < owed["fen"] < 12_300  # cut at the first reading that showed it overdrawn

    credited = await world.pay(5_000)
    assert credited.outcome is Outcome.CREDITED
    assert world.meter.is_connected()
    top_up = await world.top_up()
    assert top_up["status"] == "paid"
    assert top_up["paid_at"] <= top_up["credited_at"] <= top_up["commanded_at"]
    assert top_up["commanded_at"] <= top_up["confirmed_at"]
    assert (await audit(lambda _: None)).passed


async def test_a_payment_too_small_to_end_the_debt_leaves_the_shop_disconnected(
    world: World, tmp_path: Path
) -> None:
    await world.open(tmp_path, balance_fen=1_000)
    await world.use(energy_wh=30_000, over=timedelta(hours=2))
    assert world.meter.is_disconnected()
    debt_fen = (await world.row("SELECT sum(amount_fen)::bigint - 1000 AS fen FROM open_day"))[
        "fen"
    ]

    await world.pay(debt_fen)  # exactly zero is still below reconnect_at_fen = 1
    assert world.meter.is_disconnected()
    await world.pay(1, key="one fen more")
    assert world.meter.is_connected()
