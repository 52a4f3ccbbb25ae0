"""Topping up from a phone: once a key, for this payer, at this shop."""

from datetime import timedelta

import pytest

from payments.contract import Method, Platform, RefundStatus, TradeStatus
from server.core.refunds.parts import PartEvent
from server.models.database import pool, rows
from server.services.crediting import credit
from server.services.manager_acts import Role
from server.services.managers import Manager
from server.services.refund_parts import Said, take_in
from server.services.refund_starts import RefundWish
from server.services.refunds import ask
from server.services.wakeups import Wakeups
from server.workers.context import WorkContext
from server.workers.refunds import ask_for_refunds
from tests.fakes.refunding import MANAGER
from tests.fakes.town import NOW, Town


@pytest.mark.parametrize(
    ("method", "platform", "shown"),
    [
        (Method.WECHAT_JSAPI, Platform.WECHAT, {"package"}),
        (Method.WECHAT_NATIVE, Platform.WECHAT, {"code_url"}),
        (Method.WECHAT_H5, Platform.WECHAT, {"url"}),
        (Method.ALIPAY_WAP, Platform.ALIPAY, {"url"}),
        (Method.ALIPAY_QR, Platform.ALIPAY, {"code_url"}),
    ],
)
async def test_each_method_is_answered_with_what_it_needs(
    town: Town, method: Method, platform: Platform, shown: set[str]
) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    answer = await ann.order(shop_id, "k-1", method=method)
    assert answer.status_code == 201, answer.text
    ordered = answer.json()
    assert ordered["status"] == "pending"
    assert set(ordered["payment"]) == shown | {"out_trade_no"}
    asked = town.platforms.platforms[platform].requests
    assert [one.out_trade_no for one in asked] == [ordered["payment"]["out_trade_no"]]
    assert asked[0].amount_fen == 5_000
    assert asked[0].notify_url == f"https://mall.example/payments/{platform}/demo/notify"
    assert asked[0].client_ip == "127.0.0.1"
    assert asked[0].payer_id == ("openid-ann" if method is Method.WECHAT_JSAPI else None)


async def test_the_same_key_orders_once_and_another_input_is_refused(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    first, again = await ann.order(shop_id, "k-1"), await ann.order(shop_id, "k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    other = await ann.order(shop_id, "k-1", amount_fen=5_001)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")
    assert (await ann.order(shop_id, "k-2")).json()["top_up_no"] != first.json()["top_up_no"]
    assert len(town.platforms.platforms[Platform.WECHAT].requests) == 2


async def test_two_people_of_one_shop_never_meet_on_a_key(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    bob, _ = await town.tenant("bob", "A1")
    hers, his = await ann.order(shop_id, "k-1"), await bob.order(shop_id, "k-1", amount_fen=7)
    assert (hers.status_code, his.status_code) == (201, 201)
    assert hers.json()["top_up_no"] != his.json()["top_up_no"]


async def test_a_silent_platform_costs_nothing_and_the_same_key_goes_on(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    wechat = town.platforms.platforms[Platform.WECHAT]
    wechat.down = True
    silent = await ann.order(shop_id, "k-1")
    assert (silent.status_code, silent.json()["code"]) == (503, "payment_platform")
    wechat.down = False
    assert (await ann.order(shop_id, "k-1")).status_code == 201
    assert len(await rows(pool(), "SELECT id FROM top_up")) == 1


async def test_a_method_without_a_merchant_is_refused(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    del town.platforms.platforms[Platform.ALIPAY]
    answer = await ann.order(shop_id, "k-1", method="alipay_qr")
    assert (answer.status_code, answer.json()["code"]) == (409, "method_unavailable")


async def test_nobody_orders_more_than_a_wallet_may_hold(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    room_fen = 5_000_000 - 100_000
    answer = await ann.order(shop_id, "k-1", amount_fen=room_fen + 1)
    assert (answer.status_code, answer.json()["code"]) == (409, "hoarding_limit")
    assert (await ann.order(shop_id, "k-2", amount_fen=room_fen)).status_code == 201


async def test_a_top_up_is_followed_from_order_to_credit(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    ordered = (await ann.order(shop_id, "k-1")).json()
    path = f"/top-ups/{ordered['top_up_no']}"
    waiting = (await ann.get(path)).json()
    ticks = ("paid_at", "credited_at", "commanded_at", "confirmed_at")
    assert [waiting[tick] for tick in ticks] == [None] * 4
    paid_at = NOW + timedelta(seconds=20)
    wechat = town.platforms.platforms[Platform.WECHAT]
    trade = wechat.pay(ordered["payment"]["out_trade_no"], paid_at)
    await credit(town.site_id, Platform.WECHAT, trade, paid_at + timedelta(seconds=1))
    paid = (await ann.get(path)).json()
    assert paid == waiting | {
        "status": "paid",
        "paid_at": "2026-05-20T10:00:20+08:00",
        "credited_at": "2026-05-20T10:00:21+08:00",
    }
    assert (await ann.get(f"/shops/{shop_id}")).json()["balance_fen"] == 105_000
    newest = (await ann.get(f"/shops/{shop_id}/transactions")).json()["items"][0]
    assert newest["amount_fen"] == 5_000
    assert newest["details"] == {"top_up_no": ordered["top_up_no"]}


async def test_a_refund_is_followed_by_its_tenant(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    ordered = (await ann.order(shop_id, "k-1")).json()
    path, wechat = f"/top-ups/{ordered['top_up_no']}", town.platforms.wechat
    trade = wechat.pay(ordered["payment"]["out_trade_no"], NOW)
    await credit(town.site_id, Platform.WECHAT, trade, NOW)
    wish = RefundWish(shop_id, 5_000, "多充了")
    made = await rows(pool(), MANAGER, "fen", Role.FINANCE.value, town.site_id, NOW)
    fen = Manager(made[0]["id"], "fen", Role.FINANCE, town.site_id)
    no = (await ask((town.site_id, "A1"), wish, fen, NOW, key="k")).refund_no
    found = (await ann.get(path)).json()
    assert (found["status"], found["refunded_fen"]) == ("refunding", 0)
    assert (await ann.get(f"/shops/{shop_id}")).json()["balance_fen"] == 100_000
    context = WorkContext(lambda: NOW, town.platforms, {}, Wakeups(None))
    await ask_for_refunds(context)
    (number,) = wechat.refunds
    said = Said(PartEvent.SUCCEEDED, wechat.finish(number, RefundStatus.SUCCEEDED, NOW))
    await take_in(number, said, NOW)
    found = (await ann.get(path)).json()
    assert (found["status"], found["refunded_fen"]) == ("refunded", 5_000)
    newest = (await ann.get(f"/shops/{shop_id}/transactions")).json()["items"][0]
    assert (newest["kind"], newest["amount_fen"]) == ("refund.started", -5_000)
    assert newest["details"] == {"refund_no": no, "reason": "多充了"}


async def test_the_other_wallet_is_paid_apart(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    ordered = (await ann.order(shop_id, "k-1", wallet="fixed_charges")).json()
    trade = town.platforms.platforms[Platform.WECHAT].pay(ordered["payment"]["out_trade_no"], NOW)
    await credit(town.site_id, Platform.WECHAT, trade, NOW)
    shop = (await ann.get(f"/shops/{shop_id}")).json()
    assert (shop["balance_fen"], shop["fixed_charges_balance_fen"]) == (100_000, 5_000)
    journal = await ann.get(f"/shops/{shop_id}/transactions", params={"wallet": "fixed_charges"})
    assert [one["amount_fen"] for one in journal.json()["items"]] == [5_000]


async def test_another_method_is_another_attempt_on_the_same_top_up(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    ordered = (await ann.order(shop_id, "k-1")).json()
    wechat, alipay = (town.platforms.platforms[one] for one in Platform)
    path = f"/top-ups/{ordered['top_up_no']}"
    changed = await ann.post(f"{path}/attempts", json={"method": "alipay_wap"})
    assert changed.status_code == 201, changed.text
    assert changed.json()["top_up_no"] == ordered["top_up_no"]
    assert set(changed.json()["payment"]) == {"url", "out_trade_no"}
    assert [one.amount_fen for one in alipay.requests] == [5_000]
    assert wechat.trades[ordered["payment"]["out_trade_no"]].status is TradeStatus.CLOSED
    del town.platforms.platforms[Platform.ALIPAY]
    lacking = await ann.post(f"{path}/attempts", json={"method": "alipay_qr"})
    assert (lacking.status_code, lacking.json()["code"]) == (409, "method_unavailable")


async def test_a_top_up_given_up_makes_room_and_takes_no_other_method(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    room_fen = 5_000_000 - 100_000
    path = f"/top-ups/{(await ann.order(shop_id, 'k-1', amount_fen=room_fen)).json()['top_up_no']}"
    assert (await ann.order(shop_id, "k-2")).json()["code"] == "hoarding_limit"
    for _ in range(2):
        closed = await ann.post(f"{path}/close")
        assert (closed.status_code, closed.json()["status"]) == (200, "closed")
    assert (await ann.order(shop_id, "k-2")).status_code == 201
    over = await ann.post(f"{path}/attempts", json={"method": "alipay_qr"})
    assert (over.status_code, over.json()["code"]) == (409, "top_up_over")
    again = await ann.order(shop_id, "k-1", amount_fen=room_fen)
    assert (again.json()["status"], again.json()["payment"]) == ("closed", None)


async def test_what_ann_ordered_bob_pays_by_another_method_than_her_wechat(town: Town) -> None:
    """WeChat's order in the mini-program names its payer, and takes the money from nobody else."""
    ann, shop_id = await town.tenant("ann", "A1")
    bob, _ = await town.tenant("bob", "A1")
    path = f"/top-ups/{(await ann.order(shop_id, 'k-1')).json()['top_up_no']}/attempts"
    refused = await bob.post(path, json={"method": "wechat_jsapi"})
    assert (refused.status_code, refused.json()["code"]) == (409, "method_unavailable")
    assert (await bob.post(path, json={"method": "wechat_native"})).status_code == 201
    back = await ann.post(path, json={"method": "wechat_jsapi"})
    assert set(back.json()["payment"]) == {"package", "out_trade_no"}
