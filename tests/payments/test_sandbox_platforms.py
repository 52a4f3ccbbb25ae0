"""Both platforms tell the same story over real sockets: one contract, one set of cases.

The product's own clients speak with the sandbox; notices arrive at a merchant's door.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from payments.alipay.client import AlipayPlatform
from payments.contract import (
    Method,
    NoticeRejectedError,
    PaymentPlatform,
    PaymentRequest,
    Platform,
    PlatformRefusedError,
    TradeStatus,
)
from payments.sandbox.state import Sandbox
from payments.wechat.client import WeChatPlatform
from tests.payments.peer import Peer, Received, http_answer

ACCEPTED = {"wechat": http_answer(204), "alipay": http_answer(200, b"success")}


@dataclass
class Side:
    """One platform as the product and as its payers see it."""

    platform: PaymentPlatform
    method: Method
    sandbox: Sandbox
    payer: httpx.AsyncClient
    number: str

    @property
    def name(self) -> str:
        return self.platform.platform.value

    async def control(self) -> httpx.Response:
        """The payer pays, by the control for scripts."""
        path = f"/control/{self.name}/pay"
        return await self.payer.post(path, json={"out_trade_no": self.number})

    async def pay(self) -> dict[str, Any]:
        """The payer pays, and it works."""
        answer = await self.control()
        assert answer.status_code == 200, answer.text
        fields: dict[str, Any] = answer.json()
        return fields


@pytest.fixture(params=list(Method))
def side(
    request: pytest.FixtureRequest,
    sandbox: Sandbox,
    wechat: WeChatPlatform,
    alipay: AlipayPlatform,
    payer: httpx.AsyncClient,
    number: str,
) -> Side:
    """Each method of each platform."""
    method: Method = request.param
    platforms: dict[Platform, PaymentPlatform] = {
        Platform.WECHAT: wechat,
        Platform.ALIPAY: alipay,
    }
    return Side(platforms[method.platform], method, sandbox, payer, number)


def wanted(side: Side, door: Peer, **changes: object) -> PaymentRequest:
    request = PaymentRequest(
        out_trade_no=side.number,
        amount_fen=8880,
        description="示范商场 A101 电费",
        method=side.method,
        notify_url=f"{door.url}/notify",
        expires_at=side.sandbox.now() + timedelta(minutes=15),
        payer_id="oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
        client_ip="14.23.150.211",
    )
    return replace(request, **changes)  # type: ignore[arg-type]  # a table of changes


async def ordered(side: Side, door: Peer) -> dict[str, str]:
    """An order that the payer has in front of them, where the method has a page."""
    door.answers(ACCEPTED[side.name])
    payment = dict(await side.platform.create(wanted(side, door), side.sandbox.now()))
    page = payment.get("url") or payment.get("code_url")
    if page:
        shown = await side.payer.get(page)
        assert shown.status_code == 200
        assert "88.80" in shown.text
    return payment


def parse(side: Side, received: Received, now: datetime | None = None) -> Any:
    return side.platform.parse_notice(received.headers, received.body, now or side.sandbox.now())


async def test_an_order_is_made_paid_told_and_found_paid(side: Side, peer: Peer) -> None:
    payment = await ordered(side, peer)
    assert payment["out_trade_no"] == side.number
    waiting = await side.platform.query(side.number, side.sandbox.now())
    assert waiting.status is TradeStatus.WAITING

    paid = await side.pay()
    [received] = await peer.wait_for(1)
    notice = parse(side, received)
    found = await side.platform.query(side.number, side.sandbox.now())

    assert (received.method, urlsplit(received.target).path) == ("POST", "/notify")
    assert notice.platform is side.platform.platform
    assert (notice.merchant_id, notice.app_id) == (side.platform.merchant_id, side.platform.app_id)
    for trade in (notice.trade, found):
        assert trade.status is TradeStatus.PAID
        assert (trade.out_trade_no, trade.paid_fen, trade.currency) == (side.number, 8880, "CNY")
        assert trade.transaction_id == paid["transaction_id"]
        assert trade.paid_at is not None
        assert abs(trade.paid_at - side.sandbox.now()) < timedelta(minutes=1)


async def test_the_payer_pays_on_the_page(side: Side, peer: Peer) -> None:
    await ordered(side, peer)
    page = f"/pay/{side.name}/{side.number}"
    assert (await side.payer.get(page)).status_code == 200

    assert (await side.payer.post(page)).status_code == 200

    await peer.wait_for(1)
    assert (await side.platform.query(side.number, side.sandbox.now())).status is TradeStatus.PAID


async def test_a_notice_is_delivered_until_it_is_taken(side: Side, peer: Peer) -> None:
    await ordered(side, peer)
    refusal = side.platform.acknowledge(accepted=False, reason="稍后")
    taken = side.platform.acknowledge(accepted=True)
    peer.answers(http_answer(refusal.status, refusal.body), http_answer(taken.status, taken.body))

    await side.pay()

    first, second = await peer.wait_for(2)
    assert parse(side, first).digest == parse(side, second).digest


async def test_an_unpaid_order_can_be_closed_and_closed_again(side: Side, peer: Peer) -> None:
    await ordered(side, peer)
    await side.platform.close(side.number, side.sandbox.now())
    await side.platform.close(side.number, side.sandbox.now())

    assert (await side.platform.query(side.number, side.sandbox.now())).status is TradeStatus.CLOSED
    answer = await side.control()
    assert answer.status_code in {400, 409}
    assert peer.received == []


async def test_a_paid_order_stays_paid_whoever_closes_it(side: Side, peer: Peer) -> None:
    await ordered(side, peer)
    await side.pay()
    with pytest.raises(PlatformRefusedError):
        await side.platform.close(side.number, side.sandbox.now())
    assert (await side.platform.query(side.number, side.sandbox.now())).status is TradeStatus.PAID


async def test_an_order_that_nobody_made_is_unknown(side: Side) -> None:
    now = side.sandbox.now()
    trade = await side.platform.query(side.number, now)
    assert (trade.status, trade.out_trade_no) == (TradeStatus.UNKNOWN, side.number)
    await side.platform.close(side.number, now)
    assert (await side.control()).status_code == 404


async def test_the_same_number_orders_once(side: Side, peer: Peer) -> None:
    first = await ordered(side, peer)
    again = await ordered(side, peer)
    volatile = {"timeStamp", "nonceStr", "paySign", "url"}  # signed afresh
    assert {k: v for k, v in first.items() if k not in volatile} == {
        k: v for k, v in again.items() if k not in volatile
    }
    await side.pay()
    assert len(await peer.wait_for(1)) == 1


async def test_an_order_is_paid_once(side: Side, peer: Peer) -> None:
    await ordered(side, peer)
    paid = await side.pay()
    again = await side.control()
    assert again.status_code in {200, 400, 409}
    found = await side.platform.query(side.number, side.sandbox.now())
    assert found.transaction_id == paid["transaction_id"]
    await peer.wait_for(1)
    assert len(peer.received) == 1


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda body: body[:-3], id="truncated"),
        pytest.param(lambda body: body.replace(b"0", b"1"), id="altered"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda body: body + b" " * 1_000_000, id="oversized"),
    ],
)
async def test_a_notice_that_was_touched_is_rejected(side: Side, peer: Peer, alter: Any) -> None:
    await ordered(side, peer)
    await side.pay()
    [received] = await peer.wait_for(1)
    assert parse(side, received).trade.paid_fen == 8880
    with pytest.raises(NoticeRejectedError):
        parse(side, replace(received, body=alter(received.body)))
