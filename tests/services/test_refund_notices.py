"""A platform's word about a refund: kept, answered, and looked at once."""

from dataclasses import replace

import pytest

from payments.contract import Refund, RefundStatus
from server.models.database import pool, rows
from server.services import payment_inbox
from server.services.crediting import Credited, Outcome
from server.services.payment_inbox import Kept
from tests.scenarios.world import World, local

FOREIGN = Refund("of-somebody", "trade", RefundStatus.SUCCEEDED, "merchant-wechat", 300)


@pytest.fixture
def world(database: None) -> World:
    return World(local("2026-05-20 10:00"))


async def test_a_refund_that_nobody_here_asked_for_is_a_case_once(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await world.open(tmp_path_factory.mktemp("mall"), balance_fen=0)
    notice = world.platform.refund_notice_of(FOREIGN)
    for repeated in (False, True):
        kept, notice_id = await payment_inbox.keep(world.site_id, world.platform, notice, world.now)
        assert kept is Kept.ACCEPTED
        assert notice_id is not None
        told = await payment_inbox.settle(notice_id, world.now)
        assert told == (None if repeated else Credited(Outcome.REFUND_TOLD))
    case = await world.row("SELECT kind, credit_id FROM payment_case")
    assert case == {"kind": "refunded_outside", "credit_id": None}
    found = await world.row("SELECT out_trade_no, out_refund_no, outcome FROM payment_notice")
    assert found == {
        "out_trade_no": "trade",
        "out_refund_no": "of-somebody",
        "outcome": "refund_told",
    }


async def test_another_merchants_refund_contradicts(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await world.open(tmp_path_factory.mktemp("mall"), balance_fen=0)
    notice = replace(world.platform.refund_notice_of(FOREIGN), merchant_id="somebody-else")
    kept = await payment_inbox.keep(world.site_id, world.platform, notice, world.now)
    assert kept == (Kept.CONTRADICTED, None)
    assert await rows(pool(), "SELECT kind FROM payment_case") == [{"kind": "other_merchant"}]
    assert await rows(pool(), "SELECT 1 AS some FROM payment_notice") == []
