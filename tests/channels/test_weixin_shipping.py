"""What was paid for is delivered: WeChat is told, and sets its money free."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from server.channels.contract import ChannelError, Shipment, ShippingDesk
from server.channels.weixin.client import WeixinClient, build
from server.channels.weixin.tokens import MemoryTokenStore
from tests.payments.peer import Peer, http_answer

NOW = datetime(2026, 5, 24, 2, 0, 0, 123456, UTC)
SHIPMENT = Shipment("4200002093202605240001112223", "o-alice", "示范商场 A101 电费")
TOKEN = http_answer(200, b'{"access_token": "T", "expires_in": 7200}')


def said(errcode: int, errmsg: str = "ok") -> bytes:
    return http_answer(200, json.dumps({"errcode": errcode, "errmsg": errmsg}).encode())


@pytest.fixture
async def desk() -> AsyncIterator[Peer]:
    it = Peer(script=[TOKEN, said(0)])
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield it


@pytest.fixture
async def weixin(desk: Peer) -> AsyncIterator[WeixinClient]:
    client = build("wx0000000000000001", "secret", desk.url, MemoryTokenStore())
    yield client
    await client.aclose()


def check_is_a_shipping_desk(weixin: WeixinClient) -> ShippingDesk:
    return weixin


async def test_what_wechat_is_told(desk: Peer, weixin: WeixinClient) -> None:
    china = timezone(timedelta(hours=8))
    await weixin.tell_shipped(SHIPMENT, NOW.astimezone(china))

    told = desk.received[-1]
    assert told.target == "/wxa/sec/order/upload_shipping_info?access_token=T"
    assert json.loads(told.body) == {
        "order_key": {"order_number_type": 2, "transaction_id": SHIPMENT.transaction_id},
        "logistics_type": 3,
        "delivery_mode": 1,
        "shipping_list": [{"item_desc": "示范商场 A101 电费"}],
        "upload_time": "2026-05-24T10:00:00.123+08:00",
        "payer": {"openid": "o-alice"},
    }


@pytest.mark.parametrize("code", [10060002, 10060003, 10060023])
async def test_what_was_told_before_is_told(desk: Peer, weixin: WeixinClient, code: int) -> None:
    desk.answers(TOKEN, said(code, "支付单已完成发货"))

    await weixin.tell_shipped(SHIPMENT, NOW)

    tells = [one for one in desk.received if one.target.startswith("/wxa/sec/order/")]
    assert len(tells) == 1


@pytest.mark.parametrize(
    ("answer", "code", "transient"),
    [
        (said(10060001, "支付单不存在"), "10060001", True),
        (said(-1, "system error"), "-1", True),
        (said(44990), "44990", True),
        (said(10060004, "支付单处于不可发货的状态"), "10060004", False),
        (said(10060031, "支付单不属于该 openid 用户"), "10060031", False),
        (said(48001, "api unauthorized"), "48001", False),
        (http_answer(502), "http_502", True),
        (http_answer(200, b"<html>"), "bad_answer", True),
        (http_answer(200, b"{}"), "bad_answer", True),
    ],
)
async def test_what_may_be_told_later_says_so(
    desk: Peer, weixin: WeixinClient, answer: bytes, code: str, *, transient: bool
) -> None:
    desk.answers(TOKEN, answer)

    with pytest.raises(ChannelError) as error:
        await weixin.tell_shipped(SHIPMENT, NOW)

    assert (error.value.code, error.value.transient) == (code, transient)
