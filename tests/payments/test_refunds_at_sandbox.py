"""A wallet's refund by the real clients at the sandbox platforms, through all that can go wrong."""

from datetime import timedelta
from pathlib import Path

import pytest

from payments.sandbox.faults import Fault, Kind
from server.core.refunds.cases import CaseDecision
from server.models.database import pool, rows
from server.services import payment_inbox, top_ups
from server.services.audit import audit
from server.services.case_decisions import Verdict, decide_case
from server.services.crediting import credit
from tests.fakes.refunding import Refunding, refunding
from tests.payments.test_sandbox_money_back import Side, side
from tests.scenarios.world import World
from tests.services.money import wallet_fen

__all__ = ["side"]  # a fixture


async def paid(folder: Path, side: Side) -> Refunding:
    """A mall with this platform, where a tenant paid 88.80."""
    world = World(side.now)
    world.directory.platforms = {side.name: side.platform}  # type: ignore[dict-item]  # the real one
    await world.open(folder, balance_fen=0)
    wish = top_ups.TopUpOrder(
        tenancy_id=world.tenancy_id,
        amount_fen=8_880,
        method=side.method,
        wallet="electricity",
        idempotency_key="key",
        user_id=None,
        payer_id=None,
        client_ip=None,
        public_url=side.door.url,
    )
    placed = await top_ups.order(wish, world.directory, world.now)
    assert placed.payment is not None
    number = placed.payment["out_trade_no"]
    await side.yard.http.get(placed.payment["code_url"], follow_redirects=True)
    await side.yard.control.pay(side.name, number)
    await side.yard.sandbox.quiet()
    trade = await side.platform.query(number, side.now)
    await credit(world.site_id, side.name, trade, world.now)
    office = await refunding(world)
    await hear(office, side)
    return office


async def pass_time(office: Refunding, side: Side, **by: int) -> None:
    """The platforms' clock is the mall's."""
    side.yard.clock.at += timedelta(**by)
    office.world.now = side.now
    await office.work()
    await side.yard.sandbox.quiet()
    await hear(office, side)


async def hear(office: Refunding, side: Side) -> None:
    """Every notice that came since, by the door's own way."""
    while side.door.received:
        received = side.door.received.pop(0)
        notice = side.platform.parse_notice(received.headers, received.body, side.now)
        site_id, now = office.world.site_id, office.world.now
        _, notice_id = await payment_inbox.keep(site_id, side.platform, notice, now)
        assert notice_id is not None
        await payment_inbox.settle(notice_id, now)


WRONG: list[tuple[str, list[tuple[Kind, str]]]] = [
    ("nothing", []),
    ("its answer is lost", [(Kind.DROPPED_AFTER, "refund")] * 3),
    ("it never arrives", [(Kind.DROPPED, "refund")] * 3),
    ("too often, then away", [(Kind.RATE_LIMITED, "refund"), (Kind.SERVER_ERROR, "refund_query")]),
]


@pytest.mark.parametrize(("what", "faults"), WRONG)
async def test_it_arrives_once_whatever_goes_wrong(
    database: None, tmp_path: Path, side: Side, what: str, faults: list[tuple[Kind, str]]
) -> None:
    office = await paid(tmp_path, side)
    side.yard.sandbox.faults.add(*(Fault(side.name, kind, call) for kind, call in faults))
    await office.ask(3_000)
    for _ in range(8):
        await pass_time(office, side, minutes=3)
    assert await office.parts() == [("done", 3_000, side.name.value)], what
    top_up = await office.world.top_up()
    assert (top_up["status"], top_up["refunded_fen"]) == ("paid", 3_000)
    assert await wallet_fen(office.world.tenancy_id) == 5_880
    assert await rows(pool(), "SELECT kind FROM payment_case") == []
    assert (await audit(lambda _: None)).violations == []


async def test_what_alipay_and_wechat_give_back_outside_is_a_case(
    database: None, tmp_path: Path, side: Side
) -> None:
    office = await paid(tmp_path, side)
    (order,) = await rows(pool(), "SELECT out_trade_no FROM payment_order")
    await side.yard.control.refund_outside(side.name, order["out_trade_no"], 500)
    await side.yard.sandbox.quiet()
    await hear(office, side)  # Alipay tells it, WeChat Pay says it when asked
    trade = await side.platform.query(order["out_trade_no"], side.now)
    await credit(office.world.site_id, side.name, trade, office.world.now)
    (case,) = await rows(pool(), "SELECT id, kind FROM payment_case")
    assert case["kind"] == "refunded_outside"
    verdict = Verdict(CaseDecision.RECORD, "后台退款", amount_fen=500)
    await decide_case(case["id"], office.people["fen"], verdict, office.world.now)
    assert await wallet_fen(office.world.tenancy_id) == 8_380
    assert (await audit(lambda _: None)).violations == []
