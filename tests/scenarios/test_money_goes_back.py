"""Refunds while everything breaks: each fen is with the payer, in the wallet, or on its way."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

from payments.contract import RefundStatus
from server.core.errors import ConflictError
from server.services.audit import audit
from server.workers.refunds import ask_for_refunds
from tests.fakes.refunding import Refunding, refunding
from tests.scenarios.world import World
from tests.services.money import sum_of_all_accounts_fen, wallet_fen

ENDS = (RefundStatus.SUCCEEDED, RefundStatus.CLOSED, RefundStatus.SUCCEEDED)


async def killed(office: Refunding, after_s: float) -> None:
    """A worker that dies somewhere in its step."""
    with suppress(TimeoutError):
        async with asyncio.timeout(after_s):
            await ask_for_refunds(office.context)


def given_back_fen(office: Refunding) -> int:
    """What the platform gave back, as it sees it."""
    refunds = office.wechat.refunds.values()
    return sum(one.refund_fen or 0 for one in refunds if one.status is RefundStatus.SUCCEEDED)


async def test_workers_die_answers_are_lost_and_every_fen_arrives_once(
    world: World, tmp_path: Path
) -> None:
    await world.open(tmp_path, balance_fen=0)
    office, order = await refunding(world), Random(11)  # noqa: S311  an order of faults, no secret
    for number in range(6):
        await world.pay(1_000, f"key-{number}")
        world.now += timedelta(minutes=1)
    for number in range(24):
        world.now += timedelta(seconds=order.choice((10, 30, 90)))
        office.wechat.down = order.random() < 0.2
        office.wechat.loses_answers = order.random() < 0.3
        with suppress(ConflictError):
            await office.ask(order.choice((300, 700, 1_100)), key=f"refund-{number % 12}")
        await killed(office, order.choice((0.0, 0.002, 0.005, 1.0)))
        office.finish(order.choice(ENDS))
    office.wechat.down = office.wechat.loses_answers = False
    for _ in range(6):
        await office.work(after_s=3_600)
        office.finish()
    assert all(state in {"done", "failed", "to_pay"} for state, _, _ in await office.parts())
    by_hand_fen = await office.in_progress_fen()
    given_fen = given_back_fen(office)
    assert given_fen > 0
    assert await wallet_fen(world.tenancy_id) + by_hand_fen + given_fen == 6_000
    assert await sum_of_all_accounts_fen() == 0
    assert (await audit(lambda _: None)).violations == []
