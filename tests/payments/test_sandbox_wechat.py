"""The sandbox's WeChat Pay on the wire: as strict as the real one, and as forgetful of nothing.

The merchants are of `shops`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from payments.contract import Platform
from payments.sandbox.app import SandboxConfig, bind_loopback, public_url, serving
from payments.sandbox.keys import SandboxKeys
from payments.sandbox.state import Sandbox
from tests.fakes.keys import rsa_key
from tests.http import http_client
from tests.payments.peer import Peer, http_answer
from tests.payments.shops import NATIVE, Clock, WeChatShop
from tests.payments.shops import wechat_order as order


@pytest_asyncio.fixture(scope="module")
async def shop(sandbox: Sandbox) -> AsyncIterator[WeChatShop]:
    """A merchant at the shared sandbox."""
    async with http_client(base_url=sandbox.public_url) as http:
        yield WeChatShop(sandbox.keys, http)


def query(number: str) -> str:
    return f"/v3/pay/transactions/out-trade-no/{number}?mchid=1900000109"


async def test_every_answer_is_signed_errors_and_empty_ones_too(
    shop: WeChatShop, number: str
) -> None:
    made = await shop.send("POST", NATIVE, order(number))
    found = await shop.send("GET", query(number))
    close = f"/v3/pay/transactions/out-trade-no/{number}/close"
    closed = await shop.send("POST", close, {"mchid": "1900000109"})
    absent = await shop.send("GET", query("T20260524999999"))
    assert [a.status_code for a in (made, found, closed, absent)] == [200, 200, 204, 404]
    for answer in (made, found, closed, absent):
        shop.prove(answer.headers, answer.content)
    assert closed.content == b""
    assert absent.json() == {"code": "ORDER_NOT_EXIST", "message": "订单不存在"}


async def test_a_waiting_order_looks_as_documented(shop: WeChatShop, number: str) -> None:
    await shop.send("POST", NATIVE, order(number))
    assert (await shop.send("GET", query(number))).json() == {
        "mchid": "1900000109",
        "appid": "wx0000000000000001",
        "out_trade_no": number,
        "trade_state": "NOTPAY",
        "trade_state_desc": "订单未支付",
        "attach": "",
        "amount": {"total": 8880, "currency": "CNY"},
        "payer": {},
        "promotion_detail": [],
    }


async def test_a_callback_looks_as_documented(shop: WeChatShop, peer: Peer, number: str) -> None:
    body = order(number, notify_url=f"{peer.url}/notify", payer={"openid": "oPayer"}, attach="a")
    await shop.send("POST", "/v3/pay/transactions/jsapi", body)
    paid = await shop.http.post("/control/wechat/pay", json={"out_trade_no": number})

    [callback] = await peer.wait_for(1)

    shop.prove(callback.headers, callback.body)
    envelope, content = json.loads(callback.body), shop.open(callback)
    assert envelope["event_type"] == "TRANSACTION.SUCCESS"
    assert envelope["resource_type"] == "encrypt-resource"
    assert envelope["resource"]["original_type"] == "transaction"
    assert datetime.fromisoformat(envelope["create_time"]).utcoffset() == timedelta(hours=8)
    assert content.pop("success_time").endswith("+08:00")
    transaction_id = content.pop("transaction_id")
    assert transaction_id == paid.json()["transaction_id"]
    assert (len(transaction_id), transaction_id[:5]) == (28, "42000")
    assert content == {
        "mchid": "1900000109",
        "appid": "wx0000000000000001",
        "out_trade_no": number,
        "trade_state": "SUCCESS",
        "trade_state_desc": "支付成功",
        "trade_type": "JSAPI",
        "bank_type": "OTHERS",
        "attach": "a",
        "payer": {"openid": "oPayer"},
        "promotion_detail": [],
        "amount": {
            "total": 8880,
            "payer_total": 8880,
            "currency": "CNY",
            "payer_currency": "CNY",
        },
    }
    assert (await shop.send("GET", query(number))).json()["transaction_id"] == transaction_id


STRANGER = rsa_key("stranger")


@pytest.mark.parametrize(
    ("flaws", "message"),
    [
        ({"key": STRANGER}, "验签失败"),
        ({"signature": "AAAA"}, "验签失败"),
        ({"signature": "!"}, "验签失败"),
        ({"nonce_str": "another"}, "验签失败"),
        ({"at": 1554208460}, "不得超过5分钟"),
        ({"timestamp": "now"}, "timestamp格式错误"),
        ({"mchid": "1900000999"}, "商户号不存在"),
        ({"serial_no": "5157F09EFDC096DE15EBE81A47057A7232F1B8E1"}, "证书序列号有误"),
        ({"extra": "1"}, "格式错误"),
    ],
)
async def test_a_request_that_the_merchant_did_not_sign_is_refused(
    shop: WeChatShop, number: str, flaws: dict[str, Any], message: str
) -> None:
    answer = await shop.send("POST", NATIVE, order(number), **flaws)
    assert answer.status_code == 401
    assert answer.json()["code"] == "SIGN_ERROR"
    assert message in answer.json()["message"]


@pytest.mark.parametrize("authorization", ["", "Bearer x", 'WECHATPAY2-SM2-WITH-SM3 mchid="1"'])
async def test_a_request_without_the_signature_is_refused(
    shop: WeChatShop, number: str, authorization: str
) -> None:
    headers = {"Authorization": authorization}
    answer = await shop.http.post(NATIVE, json=order(number), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "SIGN_ERROR")


async def test_a_signature_covers_path_query_and_body(shop: WeChatShop, number: str) -> None:
    body = json.dumps(order(number)).encode()
    other = json.dumps(order(number, amount={"total": 1, "currency": "CNY"})).encode()
    for target, sent in ((NATIVE, other), (f"{NATIVE}?a=1", body)):
        signed = {"Authorization": shop.authorization("POST", NATIVE, body)}
        answer = await shop.http.post(target, content=sent, headers=signed)
        assert answer.status_code == 401
    assert (await shop.send("GET", query(number))).status_code == 404


@pytest.mark.parametrize(
    ("kind", "changes", "code"),
    [
        ("native", {"appid": "wxother"}, "APPID_MCHID_NOT_MATCH"),
        ("native", {"mchid": "1900000999"}, "APPID_MCHID_NOT_MATCH"),
        ("native", {"description": None}, "PARAM_ERROR"),
        ("native", {"description": ""}, "PARAM_ERROR"),
        ("native", {"description": "电" * 43}, "PARAM_ERROR"),
        ("native", {"out_trade_no": "short"}, "PARAM_ERROR"),
        ("native", {"out_trade_no": "T" * 33}, "PARAM_ERROR"),
        ("native", {"out_trade_no": "T2026/0524"}, "PARAM_ERROR"),
        ("native", {"notify_url": "http://x/?a=1"}, "PARAM_ERROR"),
        ("native", {"notify_url": "ftp://x/"}, "PARAM_ERROR"),
        ("native", {"amount": {"total": 0}}, "PARAM_ERROR"),
        ("native", {"amount": {"total": "1"}}, "PARAM_ERROR"),
        ("native", {"amount": {"total": 1, "currency": "USD"}}, "PARAM_ERROR"),
        ("native", {"time_expire": "2020-01-01T00:00:00+08:00"}, "PARAM_ERROR"),
        ("native", {"time_expire": "2099-01-01T00:00:00"}, "PARAM_ERROR"),
        ("jsapi", {}, "PARAM_ERROR"),
        ("jsapi", {"payer": {}}, "PARAM_ERROR"),
        ("h5", {}, "PARAM_ERROR"),
        ("h5", {"scene_info": {"payer_client_ip": "1.2.3.4"}}, "PARAM_ERROR"),
    ],
)
async def test_an_order_that_breaks_a_rule_is_refused(
    shop: WeChatShop, number: str, kind: str, changes: dict[str, object], code: str
) -> None:
    answer = await shop.send("POST", f"/v3/pay/transactions/{kind}", order(number, **changes))
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize(
    ("kind", "changes", "status", "code"),
    [
        ("native", {}, 200, None),
        ("native", {"amount": {"total": 1, "currency": "CNY"}}, 400, "INVALID_REQUEST"),
        ("native", {"description": "another"}, 400, "INVALID_REQUEST"),
        ("native", {"notify_url": "http://127.0.0.1:9/x"}, 400, "INVALID_REQUEST"),
        ("jsapi", {"payer": {"openid": "o1"}}, 403, "OUT_TRADE_NO_USED"),
    ],
)
async def test_a_number_names_one_order(
    shop: WeChatShop,
    number: str,
    kind: str,
    changes: dict[str, object],
    status: int,
    code: str | None,
) -> None:
    await shop.send("POST", NATIVE, order(number))
    again = await shop.send("POST", f"/v3/pay/transactions/{kind}", order(number, **changes))
    assert (again.status_code, again.json().get("code")) == (status, code)


@pytest.mark.parametrize(
    ("path", "code"), [("/control/wechat/pay", "ORDERPAID"), (None, "ORDER_CLOSED")]
)
async def test_what_is_decided_stays_decided(
    shop: WeChatShop, number: str, path: str | None, code: str
) -> None:
    close = f"/v3/pay/transactions/out-trade-no/{number}/close"
    await shop.send("POST", NATIVE, order(number))
    if path is None:
        await shop.send("POST", close, {"mchid": "1900000109"})
    else:
        await shop.http.post(path, json={"out_trade_no": number})

    attempts = [
        await shop.send("POST", NATIVE, order(number)),
        await shop.send("POST", close, {"mchid": "1900000109"}),
        await shop.http.post("/control/wechat/pay", json={"out_trade_no": number}),
    ]
    assert [(a.status_code, a.json()["code"]) for a in attempts] == [(400, code)] * 3


async def test_closing_an_order_that_nobody_made_succeeds_as_observed(
    shop: WeChatShop, number: str
) -> None:
    close = f"/v3/pay/transactions/out-trade-no/{number}/close"
    assert (await shop.send("POST", close, {"mchid": "1900000109"})).status_code == 204


@pytest.mark.parametrize("mchid", [None, "1900000999", ""])
async def test_a_merchant_sees_only_its_own(
    shop: WeChatShop, number: str, mchid: str | None
) -> None:
    await shop.send("POST", NATIVE, order(number))
    target = f"/v3/pay/transactions/out-trade-no/{number}"
    asked = target if mchid is None else f"{target}?mchid={mchid}"
    assert (await shop.send("GET", asked)).json()["code"] == "PARAM_ERROR"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"out_trade_no": 7}', b'{"out_trade_no": "a", "b": 1}']
)
async def test_the_control_refuses_what_it_cannot_read(shop: WeChatShop, body: bytes) -> None:
    answer = await shop.http.post("/control/wechat/pay", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "PARAM_ERROR")


async def test_twenty_payers_at_once_pay_once(shop: WeChatShop, peer: Peer, number: str) -> None:
    await shop.send("POST", NATIVE, order(number, notify_url=f"{peer.url}/notify"))
    body = {"out_trade_no": number}
    answers = await asyncio.gather(
        *(shop.http.post("/control/wechat/pay", json=body) for _ in range(20))
    )
    assert sorted(a.status_code for a in answers) == [200] + [400] * 19
    await peer.wait_for(1)
    assert len(peer.received) == 1


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("zh-CN,zh", ("立即支付", "支付成功")),
        ("en-GB,en", ("Pay now", "Paid")),
        ("", ("立即支付", "支付成功")),
    ],
)
async def test_the_page_pays_and_says_so(
    shop: WeChatShop, number: str, language: str, words: tuple[str, str]
) -> None:
    made = await shop.send("POST", NATIVE, order(number, description="<b>茶饮</b>"))
    page, headers = made.json()["code_url"], {"Accept-Language": language}
    before = await shop.http.get(page, headers=headers)
    after = await shop.http.post(page, headers=headers, follow_redirects=True)
    again = await shop.http.post(page, headers=headers, follow_redirects=True)

    assert words[0] in before.text
    assert words[1] not in before.text
    assert "88.80" in before.text
    assert "&lt;b&gt;茶饮" in before.text
    for shown in (after, again):
        assert shown.status_code == 200
        assert words[1] in shown.text
        assert words[0] not in shown.text


@pytest.mark.parametrize(
    ("back", "linked"),
    [
        ("https%3A%2F%2Fmall.example%2Fs%2F1", "https://mall.example/s/1"),
        ("javascript%3Aalert(1)", None),
        ("http%3A%2F%2F%5B", None),
    ],
)
async def test_the_h5_page_leads_back_to_the_merchant(
    shop: WeChatShop, number: str, back: str, linked: str | None
) -> None:
    scene = {"payer_client_ip": "1.2.3.4", "h5_info": {"type": "Wap"}}
    made = await shop.send("POST", "/v3/pay/transactions/h5", order(number, scene_info=scene))
    url = f"{made.json()['h5_url']}&redirect_url={back}"
    for shown in (await shop.http.get(url), await shop.http.post(url, follow_redirects=True)):
        assert shown.status_code == 200
        assert ("返回商户" in shown.text) == (linked is not None)
        assert "javascript:" not in shown.text
        if linked:
            assert f'href="{linked}"' in shown.text


async def test_a_prepay_id_opens_the_page_too(shop: WeChatShop, number: str) -> None:
    body = order(number, payer={"openid": "o1"})
    made = await shop.send("POST", "/v3/pay/transactions/jsapi", body)
    prepay_id = made.json()["prepay_id"]
    assert len(prepay_id) == 38
    assert number in (await shop.http.get(f"/pay/wechat/{prepay_id}")).text


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_page_of_no_order_is_not_found(shop: WeChatShop, method: str) -> None:
    for reference in ("nothing", "wx20260524nothing"):
        answer = await shop.http.request(method, f"/pay/wechat/{reference}")
        assert answer.status_code == 404
        assert "没有这笔订单" in answer.text


async def test_an_order_expires(tmp_path: Path, keys: SandboxKeys, number: str) -> None:
    clock = Clock(datetime.now(UTC))
    place = bind_loopback("127.0.0.1", "0")
    config = SandboxConfig(public_url(place), tmp_path, keys.folder, clock)
    expire = (clock.at + timedelta(minutes=5)).isoformat(timespec="seconds")
    async with (
        serving(config, place) as running,
        http_client(base_url=running.public_url) as http,
    ):
        shop = WeChatShop(keys, http)
        assert (await shop.send("POST", NATIVE, order(number, time_expire=expire))).is_success
        clock.at += timedelta(minutes=5)
        found = await shop.send("GET", query(number))
        paid = await http.post("/control/wechat/pay", json={"out_trade_no": number})
        page = await http.get(f"/pay/wechat/{number}")
    assert found.json()["trade_state"] == "CLOSED"
    assert paid.json()["code"] == "ORDER_CLOSED"
    assert "无法支付" in page.text
    assert "立即支付" not in page.text


async def test_a_restart_keeps_orders_and_resumes_their_notices(
    tmp_path: Path, keys: SandboxKeys, peer: Peer, number: str
) -> None:
    peer.answers(http_answer(500))
    for round_ in ("pays, is refused, stops", "resumes, is taken", "has nothing to do"):
        place = bind_loopback("127.0.0.1", "0")
        config = SandboxConfig(public_url(place), tmp_path, keys.folder)
        async with (
            serving(config, place) as running,
            http_client(base_url=running.public_url) as http,
        ):
            shop = WeChatShop(keys, http)
            if round_.startswith("pays"):
                body = order(number, notify_url=f"{peer.url}/notify")
                await shop.send("POST", NATIVE, body)
                await http.post("/control/wechat/pay", json={"out_trade_no": number})
                await peer.wait_for(1)
            elif round_.startswith("resumes"):
                peer.answers(http_answer(200))
                await peer.wait_for(2)
                await _taken(running, number)
            assert (await shop.send("GET", query(number))).json()["trade_state"] == "SUCCESS"
    assert len(peer.received) == 2
    contents = [shop.open(received) for received in peer.received]
    assert contents[0] == contents[1]


async def _taken(sandbox: Sandbox, number: str) -> None:
    async with asyncio.timeout(5):
        while True:
            kept = sandbox.orders.get(Platform.WECHAT, sandbox.keys.mchid, number)
            if kept is not None and kept.notified_at is not None:
                return
            await asyncio.sleep(0.01)
