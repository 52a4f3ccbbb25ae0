"""Giving money back at the sandbox's Alipay: what it allows, answers and tells."""

import asyncio

import pytest

from payments.contract import Platform
from payments.sandbox.books import RefundState
from payments.sandbox.faults import Fault, Kind
from tests.payments.peer import Peer, http_answer
from tests.payments.shops import Yard

WECHAT, ALIPAY = Platform.WECHAT, Platform.ALIPAY


def fault(platform: Platform, kind: Kind) -> Fault:
    return Fault(platform, kind, "refund")


async def test_alipay_a_refund_is_done_at_once_and_told_by_the_trade(
    yard: Yard, peer: Peer, number: str
) -> None:
    shop = yard.alipay
    peer.answers(http_answer(200, b"success"))
    await shop.paid(number, door=f"{peer.url}/notify")
    first = await shop.refund(number, "30.00")
    again = await shop.refund(number, "30.00")
    await peer.wait_for(2)
    second = await shop.refund(number, "58.8", out_request_no=f"S{number}")
    await peer.wait_for(3)

    assert [(one["fund_change"], one["refund_fee"]) for one in (first, again, second)] == [
        ("Y", "30.00"),
        ("N", "30.00"),
        ("Y", "88.80"),
    ]
    told = [shop.open(one) for one in peer.received]
    facts = ("trade_status", "refund_fee", "out_biz_no", "total_amount")
    assert [tuple(one.get(name) for name in facts) for one in told] == [
        ("TRADE_SUCCESS", None, None, "88.80"),
        ("TRADE_SUCCESS", "30.00", f"R{number}", "88.80"),
        ("TRADE_CLOSED", "88.80", f"S{number}", "88.80"),
    ]
    assert len({one["notify_id"] for one in told}) == 3
    assert all(one["gmt_payment"] for one in told)
    assert [one.get("gmt_close") for one in told[:2]] == [None, None]
    assert told[2]["gmt_close"] == "2026-05-24 12:00:00" == told[2]["gmt_refund"][:19]


@pytest.mark.parametrize(
    ("yuan", "status"),
    [(None, "TRADE_SUCCESS"), ("30.00", "TRADE_SUCCESS"), ("88.80", "TRADE_CLOSED")],
)
async def test_alipay_the_trade_shows_what_was_given_back(
    yard: Yard, number: str, yuan: str | None, status: str
) -> None:
    await yard.alipay.paid(number)
    if yuan:
        await yard.alipay.refund(number, yuan)
    found = await yard.alipay.call("alipay.trade.query", out_trade_no=number)
    assert (found["trade_status"], found["send_pay_date"]) == (status, "2026-05-24 12:00:00")


async def test_alipay_a_refund_is_found(yard: Yard, number: str) -> None:
    await yard.alipay.paid(number)
    given = await yard.alipay.refund(number, "30.00")
    method, asked = "alipay.trade.fastpay.refund.query", {"out_request_no": f"R{number}"}
    found = await yard.alipay.call(method, trade_no=given["trade_no"], **asked)
    timed = await yard.alipay.call(
        method, out_trade_no=number, query_options=["gmt_refund_pay"], **asked
    )
    absent = await yard.alipay.call(method, out_trade_no=number, out_request_no="R0")
    unknown = await yard.alipay.call(method, out_trade_no=f"{number}0", **asked)
    assert found == {
        "code": "10000",
        "msg": "Success",
        "trade_no": given["trade_no"],
        "out_trade_no": number,
        "out_request_no": f"R{number}",
        "refund_reason": "多付",
        "total_amount": "88.80",
        "refund_amount": "30.00",
        "refund_status": "REFUND_SUCCESS",
    }
    assert timed == found | {"gmt_refund_pay": "2026-05-24 12:00:00"}
    assert absent == {"code": "10000", "msg": "Success"}
    assert unknown["sub_code"] == "ACQ.TRADE_NOT_EXIST"


@pytest.mark.parametrize(
    ("yuan", "changes", "sub_code"),
    [
        ("0.00", {}, "ACQ.INVALID_PARAMETER"),
        ("-1", {}, "ACQ.INVALID_PARAMETER"),
        ("1.001", {}, "ACQ.INVALID_PARAMETER"),
        ("1.00", {"out_request_no": "R" * 65}, "ACQ.INVALID_PARAMETER"),
        ("88.79", {"out_request_no": None}, "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL"),
        ("88.81", {}, "ACQ.REASON_TRADE_REFUND_FEE_ERR"),
        ("1.00", {"out_trade_no": "T0"}, "ACQ.TRADE_NOT_EXIST"),
    ],
)
async def test_alipay_a_refund_that_breaks_a_rule_is_refused(
    yard: Yard, number: str, yuan: str, changes: dict[str, object], sub_code: str
) -> None:
    await yard.alipay.paid(number)
    answer = await yard.alipay.refund(number, yuan, **changes)
    assert (answer["code"], answer["sub_code"]) == ("40004", sub_code)


async def test_alipay_a_refund_has_its_limits(yard: Yard, number: str) -> None:
    shop = yard.alipay
    await shop.paid(number)
    yard.control.balance(ALIPAY, 2999)
    poor = await shop.refund(number, "30.00")
    yard.control.balance(ALIPAY, None)
    done = await shop.refund(number, "30.00")
    other = await shop.refund(number, "30.01")
    over = await shop.refund(number, "58.81", out_request_no="S1")
    whole = await shop.refund(number, "58.80", out_request_no="S2")
    after = await shop.refund(number, "0.01", out_request_no="S3")
    await shop.paid(f"{number}b")
    yard.pass_time(days=365, seconds=1)
    late = await shop.refund(f"{number}b", "1.00")
    assert [one.get("sub_code") for one in (poor, done, other, over, whole, after, late)] == [
        "ACQ.SELLER_BALANCE_NOT_ENOUGH",
        None,
        "ACQ.DISCORDANT_REPEAT_REQUEST",
        "ACQ.REASON_TRADE_REFUND_FEE_ERR",
        None,
        "ACQ.TRADE_STATUS_ERROR",
        "ACQ.TRADE_HAS_FINISHED",
    ]


async def test_alipay_twenty_requests_at_once_give_back_once(yard: Yard, number: str) -> None:
    await yard.alipay.paid(number)
    answers = await asyncio.gather(*(yard.alipay.refund(number, "30.00") for _ in range(20)))
    assert sorted(one["fund_change"] for one in answers) == ["N"] * 19 + ["Y"]
    assert {one["refund_fee"] for one in answers} == {"30.00"}


async def test_alipay_an_unpaid_trade_gives_nothing_back(yard: Yard, number: str) -> None:
    content = {"out_trade_no": number, "total_amount": "1.00", "subject": "电费"}
    await yard.alipay.raw("alipay.trade.precreate", content, notify_url="http://127.0.0.1:9/")
    unopened = await yard.alipay.refund(number, "1.00")
    await yard.http.get(f"/pay/alipay/{number}")
    opened = await yard.alipay.refund(number, "1.00")
    assert unopened["sub_code"] == "ACQ.TRADE_NOT_EXIST"
    assert opened["sub_code"] == "ACQ.TRADE_STATUS_ERROR"


@pytest.mark.parametrize("kind", [Kind.REFUND_STUCK, Kind.REFUND_CLOSED])
async def test_alipay_a_refund_may_not_happen_yet_or_not_at_all(
    yard: Yard, number: str, kind: Kind
) -> None:
    await yard.alipay.paid(number)
    yard.sandbox.faults.add(fault(ALIPAY, kind))
    first = await yard.alipay.refund(number, "30.00")
    method, asked = "alipay.trade.fastpay.refund.query", f"R{number}"
    unfound = await yard.alipay.call(method, out_trade_no=number, out_request_no=asked)
    again = await yard.alipay.refund(number, "30.00")
    if kind is Kind.REFUND_STUCK:
        await yard.control.settle(ALIPAY, asked, RefundState.SUCCESS)
    found = await yard.alipay.call(method, out_trade_no=number, out_request_no=asked)

    assert (first["fund_change"], first["refund_fee"]) == ("N", "0.00")
    assert "refund_status" not in unfound
    assert again["fund_change"] == ("N" if kind is Kind.REFUND_STUCK else "Y")
    assert found["refund_status"] == "REFUND_SUCCESS"
