"""One top-up, one order a platform attempt: tried again, changed, given up, paid twice."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from payments.contract import Method, PaymentRequest, Platform, TradeStatus
from server.models.database import pool, rows
from server.services import payment_attempts, top_ups
from server.services.audit import audit
from server.services.payment_attempts import (
    MethodUnavailableError,
    Payer,
    PlatformFailedError,
    TooManyAttemptsError,
    TopUpOverError,
    change_method,
)
from server.services.top_up_views import TopUpView, find_top_up
from server.services.wakeups import Wakeups
from server.workers.context import WorkContext
from server.workers.inbox import query_alipay, query_wechat
from tests.scenarios.world import World, local
from tests.services.money import wallet_fen

PAYER = Payer("http://mall.test", client_ip="10.0.0.1", return_url="http://mall.test/s/x")
NATIVE, H5 = Method.WECHAT_NATIVE, Method.WECHAT_H5
QR, WAP = Method.ALIPAY_QR, Method.ALIPAY_WAP


@pytest.fixture
async def world(database: None, tmp_path: Path) -> World:
    """A shop with an empty wallet."""
    made = World(local("2026-05-20 10:00"))
    await made.open(tmp_path, balance_fen=0)
    return made


async def order(world: World, method: Method = H5, *beside: Method) -> TopUpView:
    wish = top_ups.TopUpOrder(
        tenancy_id=world.tenancy_id,
        amount_fen=5_000,
        method=method,
        wallet="electricity",
        idempotency_key="key",
        user_id=None,
        payer_id=None,
        client_ip=PAYER.client_ip,
        public_url=PAYER.public_url,
        return_url=PAYER.return_url,
        beside=beside,
    )
    return await top_ups.order(wish, world.directory, world.now)


async def change(world: World, view: TopUpView, method: Method) -> TopUpView:
    return await change_method(view.top_up_no, method, PAYER, world.directory, world.now)


def number_of(view: TopUpView, method: Method) -> str:
    [found] = [one.payment["out_trade_no"] for one in view.payables if one.method is method]
    return found


async def work(world: World, *, after_s: int = 0) -> None:
    """What the workers do a moment later: ask both platforms, and credit."""
    world.now += timedelta(seconds=after_s)
    context = WorkContext(lambda: world.now, world.directory, {}, Wakeups(None))
    while await query_wechat(context) + await query_alipay(context):
        pass


async def states() -> dict[str, str]:
    found = await rows(pool(), "SELECT method, state FROM payment_order ORDER BY id")
    return {one["method"]: one["state"] for one in found}


async def test_trying_again_is_the_same_order(world: World) -> None:
    first, again = await order(world), await order(world)
    assert first == again
    assert len(world.platform.requests) == 1
    assert await change(world, first, H5) == first  # nothing has become old


async def test_a_link_that_became_old_is_made_anew_under_the_same_number(world: World) -> None:
    first = await order(world)
    world.now += timedelta(minutes=4)
    assert (await find_top_up(first.top_up_no)).at(world.now).payment is None
    fresh = await change(world, first, H5)
    assert number_of(fresh, H5) == number_of(first, H5)
    assert fresh.payables[0].good_until == world.now + timedelta(minutes=4)
    assert world.platform.requests[0] == world.platform.requests[1]


async def test_another_method_closes_the_one_before_first(world: World) -> None:
    first = await order(world)
    changed = await change(world, first, WAP)
    assert [one.method for one in changed.payables] == [WAP]
    assert world.platform.trades[number_of(first, H5)].status is TradeStatus.CLOSED
    assert await states() == {"wechat_h5": "closing", "alipay_wap": "waiting"}
    await work(world)
    assert await states() == {"wechat_h5": "closed", "alipay_wap": "waiting"}
    back = await change(world, first, H5)  # another order: the first cannot be paid any more
    assert number_of(back, H5) != number_of(first, H5)
    assert (await world.top_up())["status"] == "pending"


async def test_paid_meanwhile_no_other_is_offered_and_the_payment_arrives(world: World) -> None:
    first = await order(world)
    world.paid_trade(number_of(first, H5))
    changed = await change(world, first, WAP)
    assert changed.payables == ()
    assert world.directory.alipay.requests == []
    await work(world)
    assert (await world.top_up())["status"] == "paid"
    assert await states() == {"wechat_h5": "paid", "alipay_wap": "closed"}
    assert await wallet_fen(world.tenancy_id) == 5_000
    with pytest.raises(TopUpOverError):
        await change(world, first, WAP)


async def test_a_mute_platform_holds_up_no_other_and_a_second_payment_goes_back(
    world: World,
) -> None:
    first = await order(world)
    world.platform.down = True
    changed = await change(world, first, WAP)
    world.directory.alipay.pay(number_of(changed, WAP), world.now)
    await work(world, after_s=2)
    assert (await world.top_up())["status"] == "paid"
    world.platform.down = False
    world.paid_trade(number_of(first, H5))  # on the page that was still open
    await work(world, after_s=60)
    assert await states() == {"wechat_h5": "paid", "alipay_wap": "paid"}
    case = await world.row("SELECT kind, decision FROM payment_case")
    assert case == {"kind": "second_payment", "decision": "refund"}
    assert await wallet_fen(world.tenancy_id) == 5_000
    assert (await audit(lambda _: None)).passed


async def test_two_codes_stand_side_by_side_until_one_is_paid(world: World) -> None:
    both = await order(world, NATIVE, QR)
    assert [one.method for one in both.payables] == [NATIVE, QR]
    assert await order(world, NATIVE, QR) == both
    world.paid_trade(number_of(both, NATIVE))
    await work(world, after_s=3)
    assert world.directory.alipay.trades[number_of(both, QR)].status is TradeStatus.CLOSED
    assert await states() == {"wechat_native": "paid", "alipay_qr": "closed"}
    paid = await find_top_up(both.top_up_no)
    assert (paid.status, paid.method, paid.payables) == ("paid", NATIVE, ())


@pytest.mark.parametrize("silent", Platform)
async def test_of_two_codes_the_one_that_can_be_had_is_shown(
    world: World, silent: Platform
) -> None:
    world.directory.platforms[silent].down = True
    view = await order(world, NATIVE, QR)
    assert [one.method.platform for one in view.payables] == [p for p in Platform if p != silent]
    for one in Platform:
        world.directory.platforms[one].down = True
    await rows(pool(), "UPDATE payment_order SET payment = NULL, payment_at = NULL")
    with pytest.raises(PlatformFailedError):
        await order(world, NATIVE, QR)


async def test_of_two_codes_a_slow_one_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(request: PaymentRequest, now: Any) -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError(request, now)

    monkeypatch.setattr(payment_attempts, "TOGETHER_S", 0.05)
    monkeypatch.setattr(world.directory.alipay, "create", never)
    assert [one.method for one in (await order(world, NATIVE, QR)).payables] == [NATIVE]


async def test_what_has_expired_is_handed_out_by_nobody(world: World) -> None:
    first = await order(world, NATIVE)
    world.now += timedelta(minutes=30)
    again = await order(world, NATIVE)
    assert (again.top_up_no, again.payment) == (first.top_up_no, None)
    assert len(world.platform.requests) == 1
    with pytest.raises(TopUpOverError):
        await change(world, first, QR)
    await work(world)
    assert (await world.top_up())["status"] == "closed"
    late = world.paid_trade(number_of(first, NATIVE))
    assert (await find_top_up(first.top_up_no)).status == "closed"
    assert late.status is TradeStatus.PAID


async def test_given_up_while_its_platform_makes_it_an_order_is_closed_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = await order(world, NATIVE)
    create = world.directory.alipay.create

    async def overtaken(request: PaymentRequest, now: Any) -> Any:
        made = await create(request, now)
        await change(world, view, H5)
        await work(world)
        return made

    monkeypatch.setattr(world.directory.alipay, "create", overtaken)
    shown = await change(world, view, QR)
    assert [one.method for one in shown.payables] == [H5]
    [made] = world.directory.alipay.trades.values()
    assert made.status is TradeStatus.CLOSED


async def test_many_changes_at_once_leave_one_attempt_a_method(world: World) -> None:
    view = await order(world, NATIVE)
    await asyncio.gather(*(change(world, view, method) for method in (WAP, WAP, QR, WAP, QR, WAP)))
    found = await rows(pool(), "SELECT method FROM payment_order WHERE state = 'waiting'")
    assert len(found) == 1
    assert (await world.top_up())["status"] == "pending"


async def test_nobody_changes_for_ever(world: World) -> None:
    view = await order(world)
    for turn in range(payment_attempts.ATTEMPTS_MAX - 1):
        await change(world, view, (WAP, H5)[turn % 2])
    with pytest.raises(TooManyAttemptsError):
        await change(world, view, H5)
    assert await states() == {"wechat_h5": "closing", "alipay_wap": "waiting"}


async def test_a_method_that_the_merchant_lacks_or_the_payer_cannot_use(world: World) -> None:
    view = await order(world)
    with pytest.raises(MethodUnavailableError):
        await change(world, view, Method.WECHAT_JSAPI)
    del world.directory.platforms[Platform.ALIPAY]
    with pytest.raises(MethodUnavailableError):
        await change(world, view, WAP)
    assert await states() == {"wechat_h5": "waiting"}
