"""What goes wrong at the sandbox on demand: each fault as often as it was told, then no more."""

import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature

from payments.contract import Platform
from payments.sandbox.books import RefundState
from payments.sandbox.control import ControlError
from payments.sandbox.faults import BadFaultError, Fault, Kind
from tests.payments.peer import Peer, Received, http_answer
from tests.payments.shops import NATIVE, REFUNDS, Yard, wechat_order

WECHAT, ALIPAY = Platform.WECHAT, Platform.ALIPAY
PAID = {WECHAT: "SUCCESS", ALIPAY: "TRADE_SUCCESS"}
UNPAID = {WECHAT: "NOTPAY", ALIPAY: "WAIT_BUYER_PAY"}
CLOSED = {WECHAT: "CLOSED", ALIPAY: "TRADE_CLOSED"}


@dataclass
class Side:
    """A merchant of one platform, in the words that both share."""

    yard: Yard
    platform: Platform
    peer: Peer
    number: str

    def fault(self, kind: Kind, call: str = "*", times: int = 1, seconds: float = 0) -> None:
        self.yard.sandbox.faults.add(Fault(self.platform, kind, call, times, seconds))

    async def order(self) -> httpx.Response:
        if self.platform is WECHAT:
            body = wechat_order(self.number, notify_url=self.peer.url)
            return await self.yard.wechat.send("POST", NATIVE, body)
        content = {"out_trade_no": self.number, "total_amount": "88.80", "subject": "电费"}
        method = "alipay.trade.precreate"
        return await self.yard.alipay.raw(method, content, notify_url=self.peer.url)

    async def pay(self, fen: int | None = None) -> None:
        await self.yard.control.pay(self.platform, self.number, fen)

    async def ordered_and_opened(self) -> None:
        await self.order()
        await self.yard.http.get(f"/pay/{self.platform}/{self.number}")

    async def query(self) -> httpx.Response:
        if self.platform is WECHAT:
            target = f"/v3/pay/transactions/out-trade-no/{self.number}?mchid=1900000109"
            return await self.yard.wechat.send("GET", target)
        return await self.yard.alipay.raw("alipay.trade.query", {"out_trade_no": self.number})

    async def status(self) -> str:
        found = (await self.query()).json()
        if self.platform is WECHAT:
            return str(found.get("trade_state", found.get("code")))
        inner = found["alipay_trade_query_response"]
        return str(inner.get("trade_status", inner.get("sub_code")))

    async def close(self) -> None:
        if self.platform is WECHAT:
            target = f"/v3/pay/transactions/out-trade-no/{self.number}/close"
            answer = await self.yard.wechat.send("POST", target, {"mchid": "1900000109"})
            assert answer.status_code == 204
        else:
            answer = await self.yard.alipay.raw("alipay.trade.close", {"out_trade_no": self.number})
            assert answer.json()["alipay_trade_close_response"]["code"] == "10000"

    async def refund(self) -> None:
        if self.platform is WECHAT:
            await self.yard.wechat.refund(self.number, 3000, notify_url=self.peer.url)
        else:
            await self.yard.alipay.refund(self.number, "30.00")

    def prove(self, answer: httpx.Response) -> None:
        if self.platform is WECHAT:
            self.yard.wechat.verify(answer.headers, answer.content)
        else:
            public = self.yard.sandbox.keys.alipay_platform.public_key()
            self.yard.alipay.prove(answer.text, public)

    def open(self, received: Received) -> dict[str, Any]:
        """The proved facts of a callback."""
        if self.platform is ALIPAY:
            return dict(self.yard.alipay.open(received))
        self.yard.wechat.verify(received.headers, received.body)
        return self.yard.wechat.open(received)

    async def told(self) -> list[str]:
        """The states that callbacks told, in the order of their coming."""
        await self.yard.sandbox.quiet()
        facts = [self.open(one) for one in self.peer.received]
        return [str(f.get("trade_state") or f.get("trade_status")) for f in facts]


@pytest.fixture(params=list(Platform))
def side(request: pytest.FixtureRequest, yard: Yard, peer: Peer, number: str) -> Side:
    peer.answers(http_answer(200, b"success"))
    return Side(yard, request.param, peer, number)


# Answers


@pytest.mark.parametrize(
    ("kind", "status", "happened"),
    [
        (Kind.RATE_LIMITED, 429, False),
        (Kind.SERVER_ERROR, 500, False),
        (Kind.SERVER_ERROR_AFTER, 500, True),
        (Kind.DROPPED, None, False),
        (Kind.DROPPED_AFTER, None, True),
    ],
)
async def test_a_call_fails_before_or_after_it_took_effect(
    side: Side, kind: Kind, status: int | None, happened: bool
) -> None:
    side.fault(kind, "order", seconds=7)
    if status is None:
        with pytest.raises(httpx.TransportError):
            await side.order()
    else:
        answer = await side.order()
        assert answer.status_code == status
        assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    kept = side.yard.sandbox.orders.find(side.platform, side.number)
    assert (kept is not None) == happened
    again = await side.order()
    assert again.status_code == 200
    side.prove(again)


async def test_a_slow_answer_comes_late_and_took_effect_at_once(side: Side) -> None:
    side.fault(Kind.SLOW, "order", seconds=0.04)
    started = time.monotonic()
    side.prove(await side.order())
    assert time.monotonic() - started >= 0.04
    assert side.yard.sandbox.orders.find(side.platform, side.number) is not None


@pytest.mark.parametrize("kind", [Kind.WRONG_SIGNATURE, Kind.SIGNTEST])
async def test_an_answer_may_not_prove_itself(side: Side, kind: Kind) -> None:
    side.fault(kind, "query", times=2)
    await side.order()
    for _ in range(2):
        with pytest.raises((InvalidSignature, ValueError)):
            side.prove(await side.query())
    side.prove(await side.query())


async def test_a_fault_happens_to_its_call_and_platform_only(side: Side) -> None:
    other = next(one for one in Platform if one is not side.platform)
    side.yard.sandbox.faults.add(Fault(other, Kind.SERVER_ERROR, times=3))
    side.fault(Kind.SERVER_ERROR, "close")
    side.prove(await side.order())
    side.prove(await side.query())
    assert [row.times for row in side.yard.sandbox.faults.rows()] == [3, 1]


async def test_a_query_may_lag_behind_the_notice(side: Side) -> None:
    side.fault(Kind.QUERY_UNPAID, "query")
    await side.ordered_and_opened()
    before = await side.status()
    await side.pay()
    told = await side.told()
    assert (before, told) == (UNPAID[side.platform], [PAID[side.platform]])
    assert [await side.status() for _ in range(2)] == [UNPAID[side.platform], PAID[side.platform]]


# Notices


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        (Kind.NOTICE_LOST, 0),
        (Kind.NOTICE_DELAYED, 1),
        (Kind.NOTICE_REPEATED, 2),
    ],
)
async def test_a_notice_is_lost_delayed_or_repeated(side: Side, kind: Kind, times: int) -> None:
    side.fault(kind, "notice", seconds=0.03)
    await side.order()
    started = time.monotonic()
    await side.pay()
    assert await side.told() == [PAID[side.platform]] * times
    if kind is Kind.NOTICE_DELAYED:
        assert time.monotonic() - started >= 0.03
    kept = side.yard.sandbox.orders.find(side.platform, side.number)
    assert kept is not None
    assert kept.notified_at is not None
    assert await side.status() == PAID[side.platform]


@pytest.mark.parametrize("released", [True, False])
async def test_a_notice_comes_after_a_later_one(side: Side, released: bool) -> None:
    side.fault(Kind.NOTICE_REORDERED, "notice")
    await side.order()
    await side.pay()
    assert await side.told() == []
    later = f"{side.number}later"
    if released:
        answer = await side.yard.http.post(f"/control/{side.platform}/release")
        assert answer.status_code == 204
    else:
        await side.yard.control.stranger(side.platform, later, 1, side.peer.url)
    await side.told()
    numbers = [side.open(one)["out_trade_no"] for one in side.peer.received]
    assert numbers == [side.number] if released else [later, side.number]


@pytest.mark.parametrize(
    ("kind", "mark"), [(Kind.WRONG_SIGNATURE, b""), (Kind.SIGNTEST, b"WECHATPAY/SIGNTEST/")]
)
async def test_a_notice_is_tried_with_a_wrong_signature_first(
    side: Side, kind: Kind, mark: bytes
) -> None:
    side.fault(kind, "notice")
    side.peer.answers(http_answer(401), http_answer(200, b"success"))
    await side.order()
    await side.pay()
    await side.yard.sandbox.quiet()
    forged, genuine = side.peer.received
    with pytest.raises((InvalidSignature, ValueError)):
        side.open(forged)
    assert side.open(genuine)["out_trade_no"] == side.number
    if side.platform is WECHAT:
        assert forged.headers["wechatpay-signature"].encode().startswith(mark)


async def test_a_notice_may_say_unpaid_before_the_genuine_one(side: Side) -> None:
    side.fault(Kind.NOTICE_UNPAID, "notice")
    await side.order()
    await side.pay()
    assert await side.told() == [UNPAID[side.platform], PAID[side.platform]]
    assert await side.status() == PAID[side.platform]
    if side.platform is ALIPAY:
        early, genuine = (side.open(one) for one in side.peer.received)
        assert early["notify_id"] != genuine["notify_id"]
        assert "gmt_payment" not in early


# Events


async def test_a_payment_lands_after_a_close(side: Side) -> None:
    side.fault(Kind.CLOSE_RACED, "close")
    await side.ordered_and_opened()
    await side.close()
    assert await side.told() == [PAID[side.platform]]
    assert await side.status() == PAID[side.platform]


async def test_a_close_without_the_fault_holds(side: Side) -> None:
    await side.ordered_and_opened()
    await side.close()
    assert await side.told() == []
    assert await side.status() == CLOSED[side.platform]
    with pytest.raises(ControlError):
        await side.pay()


async def test_a_payment_of_another_amount(side: Side) -> None:
    await side.order()
    path, body = f"/control/{side.platform}/pay", {"out_trade_no": side.number, "fen": 8879}
    assert (await side.yard.http.post(path, json=body)).status_code == 200
    await side.told()
    facts = side.open(side.peer.received[0])
    amount = facts["amount"]["total"] if side.platform is WECHAT else facts["total_amount"]
    assert amount == (8879 if side.platform is WECHAT else "88.79")


async def test_a_payment_of_an_order_that_nobody_made(side: Side) -> None:
    path = f"/control/{side.platform}/stranger"
    body = {"out_trade_no": side.number, "fen": 100, "notify_url": side.peer.url}
    answers = [await side.yard.http.post(path, json=body) for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 400]
    assert await side.told() == [PAID[side.platform]]
    assert side.open(side.peer.received[0])["out_trade_no"] == side.number
    assert await side.status() == PAID[side.platform]


async def test_a_payment_given_back_outside(side: Side) -> None:
    await side.order()
    await side.pay()
    path = f"/control/{side.platform}/refund-outside"
    answers = [
        await side.yard.http.post(path, json={"out_trade_no": side.number, "fen": fen})
        for fen in (3000, 5881, 5880, 1)
    ]
    await side.yard.sandbox.quiet()
    assert [one.status_code for one in answers] == [200, 400, 200, 400]
    assert answers[0].json() == {"out_refund_no": f"OUT1{side.number}"}
    assert await side.status() == ("REFUND" if side.platform is WECHAT else "TRADE_CLOSED")


async def test_a_refund_is_told_and_then_sent_back(side: Side) -> None:
    side.fault(Kind.REFUND_RETURNED, "refund")
    await side.order()
    await side.pay()
    await side.refund()
    await side.yard.sandbox.quiet()
    order = side.yard.sandbox.orders.find(side.platform, side.number)
    assert order is not None
    [refund] = side.yard.sandbox.orders.refunds_of(order)
    history = [state for _, state in refund.payload["history"]]
    facts = [side.open(one) for one in side.peer.received[1:]]
    if side.platform is WECHAT:
        assert history == ["success", "abnormal"]
        assert [one["refund_status"] for one in facts] == ["SUCCESS", "ABNORMAL"]
        found = await side.yard.wechat.send("GET", f"{REFUNDS}/R{side.number}")
        assert found.json()["status"] == "ABNORMAL"
    else:
        assert history == ["success", "closed"]
        assert [one["refund_fee"] for one in facts] == ["30.00"]
        assert refund.state is RefundState.CLOSED
        assert await side.status() == "TRADE_SUCCESS"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("stranger", {"out_trade_no": "T2026/1", "fen": 1, "notify_url": "http://x/"}),
        ("stranger", {"out_trade_no": "T20260524", "fen": 0, "notify_url": "http://x/"}),
        ("stranger", {"out_trade_no": "T20260524", "fen": 1, "notify_url": "x"}),
        ("refund-outside", {"out_trade_no": "T0", "fen": 1}),
        ("refund-outside", {"out_trade_no": "T0"}),
    ],
)
async def test_events_that_cannot_be_are_refused(
    yard: Yard, path: str, body: dict[str, object]
) -> None:
    for platform in Platform:
        answer = await yard.http.post(f"/control/{platform}/{path}", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]


def test_the_table_is_bounded(yard: Yard) -> None:
    yard.sandbox.faults.add(*[Fault(WECHAT, Kind.SLOW)] * 1000)
    with pytest.raises(BadFaultError):
        yard.sandbox.faults.add(Fault(WECHAT, Kind.SLOW))
