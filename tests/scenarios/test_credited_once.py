"""However often and by whatever way a payment is told, it arrives once."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from payments.contract import Platform
from server.models.database import pool, rows
from server.services import order_queries
from server.services.audit import audit
from server.services.crediting import Outcome, credit
from tests.scenarios.world import World


async def balance_fen() -> int:
    found = await rows(
        pool(),
        "SELECT balance_fen FROM wallet JOIN account ON account.id = account_id"
        " WHERE kind = 'electricity_wallet'",
    )
    return int(found[0]["balance_fen"])


async def test_twenty_notices_at_once_credit_once(world: World, tmp_path: Path) -> None:
    await world.open(tmp_path, balance_fen=0)
    trade = world.paid_trade(await world.order(5_000))
    results = await asyncio.gather(
        *(credit(world.site_id, Platform.WECHAT, trade, world.now) for _ in range(20))
    )
    outcomes = sorted(result.outcome.value for result in results)
    assert outcomes == ["credited"] + ["repeated"] * 19
    assert await balance_fen() == 5_000


async def test_a_lost_callback_is_found_by_asking(world: World, tmp_path: Path) -> None:
    await world.open(tmp_path, balance_fen=0)
    world.paid_trade(await world.order(5_000))
    world.now += timedelta(seconds=2)
    (due,) = await order_queries.take_due(Platform.WECHAT, world.now, 10)
    trade = await order_queries.ask_platform(due, world.platform, world.now)
    assert trade is not None
    credited = await credit(world.site_id, Platform.WECHAT, trade, world.now)
    assert credited.outcome is Outcome.CREDITED
    assert await balance_fen() == 5_000


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"paid_fen": 4_999}, Outcome.OTHER_AMOUNT),
        ({"out_trade_no": "nobody-ordered-this"}, Outcome.UNKNOWN_ORDER),
    ],
)
async def test_money_that_fits_no_order_waits_in_suspense_as_a_case(
    world: World, tmp_path: Path, change: dict[str, object], outcome: Outcome
) -> None:
    await world.open(tmp_path, balance_fen=0)
    trade = replace(world.paid_trade(await world.order(5_000)), **change)  # type: ignore[arg-type]  # one field a case
    credited = await credit(world.site_id, Platform.WECHAT, trade, world.now)
    assert credited.outcome is outcome
    assert await balance_fen() == 0
    case = await world.row("SELECT kind, closed_at FROM payment_case")
    assert case == {"kind": outcome.value, "closed_at": None}
    assert (await audit(lambda _: None)).passed


async def test_a_second_payment_of_one_top_up_is_not_credited(world: World, tmp_path: Path) -> None:
    await world.open(tmp_path, balance_fen=0)
    trade = world.paid_trade(await world.order(5_000))
    await credit(world.site_id, Platform.WECHAT, trade, world.now)
    again = replace(trade, transaction_id="another-transaction")
    second = await credit(world.site_id, Platform.WECHAT, again, world.now)
    assert second.outcome is Outcome.SECOND_PAYMENT
    assert await balance_fen() == 5_000
    assert (await audit(lambda _: None)).passed
