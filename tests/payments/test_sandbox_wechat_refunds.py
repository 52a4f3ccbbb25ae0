"""Giving money back at the sandbox's WeChat Pay: what it allows, answers and tells."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from payments.contract import Platform
from payments.sandbox import notifier
from payments.sandbox.faults import Fault, Kind
from tests.payments.peer import Peer, Received
from tests.payments.shops import REFUNDS, Yard

WECHAT, ALIPAY = Platform.WECHAT, Platform.ALIPAY


def fault(platform: Platform, kind: Kind) -> Fault:
    return Fault(platform, kind, "refund")


def refunds(received: list[Received]) -> list[Received]:
    """The callbacks about refunds at WeChat Pay."""
    return [one for one in received if b'"event_type":"REFUND.' in one.body]


async def test_wechat_a_refund_is_accepted_settled_and_told(
    yard: Yard, peer: Peer, number: str
) -> None:
    shop = yard.wechat
    await shop.paid(number, door=f"{peer.url}/paid")
    accepted = await shop.refund(number, 3000, notify_url=f"{peer.url}/refunded")
    await yard.sandbox.quiet()
    found = await shop.send("GET", f"{REFUNDS}/R{number}")

    shop.verify(accepted.headers, accepted.content)
    assert accepted.status_code == found.status_code == 200
    before, after = accepted.json(), found.json()
    assert (before.pop("status"), after.pop("status")) == ("PROCESSING", "SUCCESS")
    assert after.pop("success_time") == "2026-05-24T12:00:00+08:00"
    assert before == after
    assert (len(after["refund_id"]), after["refund_id"][:3]) == (29, "503")
    assert (after["out_trade_no"], after["out_refund_no"]) == (number, f"R{number}")
    assert (after["channel"], after["funds_account"]) == ("ORIGINAL", "AVAILABLE")
    assert (after["amount"]["refund"], after["amount"]["total"]) == (3000, 8880)
    assert await shop.trade_state(number) == "REFUND"

    [callback] = refunds(peer.received)
    assert callback.target == "/refunded"
    shop.verify(callback.headers, callback.body)
    envelope = json.loads(callback.body)
    assert envelope["event_type"] == "REFUND.SUCCESS"
    assert envelope["resource"]["original_type"] == "refund"
    assert shop.open(callback) == {
        "mchid": "1900000109",
        "out_trade_no": number,
        "transaction_id": after["transaction_id"],
        "out_refund_no": f"R{number}",
        "refund_id": after["refund_id"],
        "refund_status": "SUCCESS",
        "success_time": "2026-05-24T12:00:00+08:00",
        "user_received_account": "支付用户零钱",
        "amount": {"total": 8880, "refund": 3000, "payer_total": 8880, "payer_refund": 3000},
    }


@pytest.mark.parametrize(
    ("kind", "status", "events", "trade_state"),
    [
        (Kind.REFUND_CLOSED, "CLOSED", ["REFUND.CLOSED"], "SUCCESS"),
        (Kind.REFUND_ABNORMAL, "ABNORMAL", ["REFUND.ABNORMAL"], "REFUND"),
        (Kind.REFUND_STUCK, "PROCESSING", [], "REFUND"),
    ],
)
async def test_wechat_a_refund_ends_as_it_is_told(
    yard: Yard,
    peer: Peer,
    number: str,
    kind: Kind,
    status: str,
    events: list[str],
    trade_state: str,
) -> None:
    yard.sandbox.faults.add(fault(WECHAT, kind))
    await yard.wechat.paid(number)
    accepted = await yard.wechat.refund(number, 3000, notify_url=peer.url)
    await yard.sandbox.quiet()
    again = await yard.wechat.refund(number, 3000, notify_url=peer.url)

    assert (accepted.json()["status"], again.json()["status"]) == ("PROCESSING", status)
    assert "success_time" not in again.json()
    told = refunds(peer.received)
    assert [json.loads(one.body)["event_type"] for one in told] == events
    assert [yard.wechat.open(one)["refund_status"] for one in told] == [status] * len(events)
    assert await yard.wechat.trade_state(number) == trade_state
    assert yard.sandbox.faults.rows() == ()


async def test_wechat_a_bank_may_send_back_what_had_succeeded(
    yard: Yard, peer: Peer, number: str
) -> None:
    await yard.wechat.paid(number)
    await yard.wechat.refund(number, 3000, notify_url=peer.url)
    await yard.sandbox.quiet()
    settled = await yard.http.post(
        "/control/wechat/settle", json={"out_refund_no": f"R{number}", "state": "abnormal"}
    )
    await yard.sandbox.quiet()
    assert settled.json() == {"out_refund_no": f"R{number}", "state": "abnormal"}
    told = [yard.wechat.open(one)["refund_status"] for one in refunds(peer.received)]
    assert told == ["SUCCESS", "ABNORMAL"]
    found = await yard.wechat.send("GET", f"{REFUNDS}/R{number}")
    assert found.json()["status"] == "ABNORMAL"


async def test_wechat_a_refund_by_transaction_id_and_without_a_notice(
    yard: Yard, number: str
) -> None:
    await yard.wechat.paid(number)
    order = yard.sandbox.orders.find(WECHAT, number)
    assert order is not None
    named = {"out_trade_no": None, "transaction_id": order.transaction_id}
    given = await yard.wechat.refund(number, 8880, **named)
    await yard.sandbox.quiet()
    assert given.json()["out_trade_no"] == number


def amount(refund: object, total: object = 8880, currency: str = "CNY") -> dict[str, object]:
    return {"amount": {"refund": refund, "total": total, "currency": currency}}


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({}, 200, None),
        ({"reason": "另一个原因"}, 200, None),
        (amount(3001), 400, "INVALID_REQUEST"),
        (amount(3000, 8881), 400, "INVALID_REQUEST"),
    ],
)
async def test_wechat_a_number_names_one_refund(
    yard: Yard, number: str, changes: dict[str, object], status: int, code: str | None
) -> None:
    await yard.wechat.paid(number)
    first = await yard.wechat.refund(number, 3000)
    again = await yard.wechat.refund(number, 3000, **changes)
    assert (again.status_code, again.json().get("code")) == (status, code)
    if status == 200:
        assert again.json()["refund_id"] == first.json()["refund_id"]
    await yard.sandbox.quiet()
    assert yard.sandbox.balances.has(WECHAT, 0)
    order = yard.sandbox.orders.find(WECHAT, number)
    assert order is not None
    assert yard.sandbox.orders.refunded_fen(order) == 3000


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        (amount(0), 400, "PARAM_ERROR"),
        (amount(-1), 400, "PARAM_ERROR"),
        (amount("1"), 400, "PARAM_ERROR"),
        (amount(1, currency="USD"), 400, "PARAM_ERROR"),
        ({"amount": {"refund": 1, "total": 8880}}, 400, "PARAM_ERROR"),
        ({"out_refund_no": ""}, 400, "PARAM_ERROR"),
        ({"out_refund_no": "R" * 65}, 400, "PARAM_ERROR"),
        ({"out_refund_no": "R/1"}, 400, "PARAM_ERROR"),
        ({"reason": "电" * 27}, 400, "PARAM_ERROR"),
        ({"notify_url": "ftp://x/"}, 400, "PARAM_ERROR"),
        ({"out_trade_no": None}, 400, "PARAM_ERROR"),
        ({"transaction_id": "4200000000000000000000000000"}, 400, "PARAM_ERROR"),
        ({"out_trade_no": "T_nobody_made"}, 404, "RESOURCE_NOT_EXISTS"),
        (amount(1, 8881), 400, "INVALID_REQUEST"),
        (amount(8881), 400, "INVALID_REQUEST"),
    ],
)
async def test_wechat_a_refund_that_breaks_a_rule_is_refused(
    yard: Yard, number: str, changes: dict[str, Any], status: int, code: str
) -> None:
    await yard.wechat.paid(number)
    refused = await yard.wechat.refund(number, 1, **changes)
    yard.wechat.verify(refused.headers, refused.content)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert await yard.wechat.trade_state(number) == "SUCCESS"


async def test_wechat_an_unpaid_order_and_an_unknown_refund_do_not_exist(
    yard: Yard, number: str
) -> None:
    refused = await yard.wechat.refund(number, 1)
    found = await yard.wechat.send("GET", f"{REFUNDS}/R{number}")
    for answer in (refused, found):
        assert (answer.status_code, answer.json()["code"]) == (404, "RESOURCE_NOT_EXISTS")


async def test_wechat_a_year_and_the_whole_amount_are_the_end(yard: Yard, number: str) -> None:
    await yard.wechat.paid(number)
    steps = [
        ("R1", 8000, timedelta(0), 200, None),
        ("R2", 881, timedelta(minutes=1), 400, "INVALID_REQUEST"),  # more than is left
        ("R2", 880, timedelta(minutes=1), 200, None),
        ("R3", 1, timedelta(minutes=1), 400, "INVALID_REQUEST"),  # nothing is left
    ]
    for name, fen, later, status, code in steps:
        yard.clock.at += later
        answer = await yard.wechat.refund(number, fen, out_refund_no=f"{name}{number}")
        assert (answer.status_code, answer.json().get("code")) == (status, code), name
    await yard.wechat.paid(f"{number}b")
    yard.pass_time(days=365, seconds=1)
    late = await yard.wechat.refund(f"{number}b", 1)
    assert late.json()["code"] == "INVALID_REQUEST"
    await yard.sandbox.quiet()


async def test_wechat_fifty_refunds_an_order(yard: Yard, number: str) -> None:
    await yard.wechat.paid(number)
    for nth in range(50):
        yard.pass_time(minutes=1)
        answer = await yard.wechat.refund(number, 1, out_refund_no=f"R{nth}{number}")
        assert answer.status_code == 200, nth
    yard.pass_time(minutes=1)
    refused = await yard.wechat.refund(number, 1, out_refund_no=f"R50{number}")
    assert refused.json()["code"] == "INVALID_REQUEST"
    await yard.sandbox.quiet()


async def test_wechat_one_request_a_minute_an_order_failing_ones_too(
    yard: Yard, number: str
) -> None:
    await yard.wechat.paid(number)
    yard.control.balance(WECHAT, 2999)
    tried = [await yard.wechat.refund(number, 3000) for _ in range(2)]
    yard.pass_time(minutes=1)
    told = await yard.http.post("/control/balance", json={"platform": "wechat", "fen": 3000})
    tried.append(await yard.wechat.refund(number, 3000))
    tried.append(await yard.wechat.refund(number, 3000))  # known: no new request
    tried.append(await yard.wechat.refund(number, 1, out_refund_no=f"S{number}"))
    yard.pass_time(minutes=1)
    tried.append(await yard.wechat.refund(number, 1, out_refund_no=f"S{number}"))
    assert told.status_code == 204
    assert [(one.status_code, one.json().get("code")) for one in tried] == [
        (403, "NOT_ENOUGH"),
        (429, "FREQUENCY_LIMITED"),
        (200, None),
        (200, None),
        (429, "FREQUENCY_LIMITED"),
        (403, "NOT_ENOUGH"),  # the first one took it all
    ]
    await yard.sandbox.quiet()


async def test_wechat_twenty_requests_at_once_give_back_once(
    yard: Yard, peer: Peer, number: str
) -> None:
    await yard.wechat.paid(number)
    answers = await asyncio.gather(
        *(yard.wechat.refund(number, 3000, notify_url=peer.url) for _ in range(20))
    )
    await yard.sandbox.quiet()
    assert {(one.status_code, one.json()["refund_id"]) for one in answers} == {
        (200, answers[0].json()["refund_id"])
    }
    order = yard.sandbox.orders.find(WECHAT, number)
    assert order is not None
    assert yard.sandbox.orders.refunded_fen(order) == 3000
    assert len(refunds(peer.received)) == 1


async def test_wechat_a_number_may_have_signs_that_a_path_quotes(yard: Yard, number: str) -> None:
    await yard.wechat.paid(number)
    await yard.wechat.refund(number, 1, out_refund_no=f"R|*@-_{number}")
    found = await yard.wechat.send("GET", f"{REFUNDS}/R%7C%2A%40-_{number}")
    assert found.json()["out_refund_no"] == f"R|*@-_{number}"
    await yard.sandbox.quiet()


async def test_wechat_refunds_under_way_are_bounded(
    yard: Yard, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await yard.wechat.paid(number)
    monkeypatch.setattr(notifier, "ACTS_MAX", 0)
    refused = await yard.wechat.refund(number, 1)
    assert (refused.status_code, refused.json()["code"]) == (429, "RATELIMIT_EXCEEDED")
    assert await yard.wechat.trade_state(number) == "SUCCESS"


async def test_wechat_a_closed_refund_gives_the_balance_back_an_abnormal_one_does_not(
    yard: Yard, number: str
) -> None:
    for kind, left in ((Kind.REFUND_CLOSED, 3000), (Kind.REFUND_ABNORMAL, 0)):
        own = f"{number}{left}"
        await yard.wechat.paid(own)
        yard.sandbox.faults.add(fault(WECHAT, kind))
        yard.control.balance(WECHAT, 3000)
        await yard.wechat.refund(own, 3000)
        await yard.sandbox.quiet()
        assert yard.sandbox.balances.has(WECHAT, left)
        assert not yard.sandbox.balances.has(WECHAT, left + 1)
