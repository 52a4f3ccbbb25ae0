"""WeChat Pay's client against a peer that misbehaves: what is retried, refused, never believed."""

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from payments.contract import (
    MerchantConfigError,
    Method,
    NoticeRejectedError,
    PaymentRequest,
    PlatformRefusedError,
    PlatformUnavailableError,
    Trade,
    TradeStatus,
)
from payments.sandbox.keys import SandboxKeys
from payments.wechat import calls
from payments.wechat.calls import ATTEMPTS_MAX
from payments.wechat.client import WeChatPlatform, build
from payments.wechat.config import WeChatMerchant
from tests.payments.peer import Peer, http_answer
from tests.payments.wechat_wire import refused, signed

NOW = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)
NO = "T20260524000001"
REQUEST = PaymentRequest(
    out_trade_no=NO,
    amount_fen=8880,
    description="示范商场 A101 电费",
    method=Method.WECHAT_NATIVE,
    notify_url="https://mall.example/payments/wechat/demo/notify",
    expires_at=NOW + timedelta(minutes=15),
)
WAITING = {
    "mchid": "1900000109",
    "appid": "wx0000000000000001",
    "out_trade_no": NO,
    "trade_state": "NOTPAY",
    "trade_state_desc": "订单未支付",
    "amount": {"total": 8880},
}


@pytest_asyncio.fixture
async def platform(
    peer: Peer, merchant: WeChatMerchant, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WeChatPlatform]:
    """A client of the peer, with pauses too short to notice."""
    monkeypatch.setattr(calls, "BACKOFF_S", 0.001)
    it = build(merchant, f"{peer.url}/")
    yield it
    await it.aclose()


async def test_a_request_is_signed_over_exactly_what_is_sent(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.answers(
        signed({"code_url": "weixin://wxpay/bizpayurl?pr=p4lpSuKzz"}, keys.wechat_platform)
    )

    payment = await platform.create(REQUEST, NOW)

    assert payment == {"code_url": "weixin://wxpay/bizpayurl?pr=p4lpSuKzz", "out_trade_no": NO}
    [request] = peer.received
    assert (request.method, request.target) == ("POST", "/v3/pay/transactions/native")
    assert json.loads(request.body) == {
        "appid": "wx0000000000000001",
        "mchid": "1900000109",
        "description": "示范商场 A101 电费",
        "out_trade_no": NO,
        "notify_url": "https://mall.example/payments/wechat/demo/notify",
        "time_expire": "2026-05-24T10:15:00+08:00",
        "amount": {"total": 8880, "currency": "CNY"},
    }
    scheme, _, rest = request.headers["authorization"].partition(" ")
    assert scheme == "WECHATPAY2-SHA256-RSA2048"
    parts = dict(part.split("=", 1) for part in rest.split(","))
    given = {name: value.strip('"') for name, value in parts.items()}
    assert given["mchid"] == "1900000109"
    assert given["serial_no"] == keys.cert_serial
    message = (
        f"POST\n/v3/pay/transactions/native\n{given['timestamp']}\n{given['nonce_str']}\n".encode()
        + request.body
        + b"\n"
    )
    keys.wechat_merchant.public_key().verify(
        b64decode(given["signature"]), message, PKCS1v15(), SHA256()
    )
    assert request.headers["accept"] == "application/json"
    assert request.headers["wechatpay-serial"] == keys.platform_public_key_id


async def test_jsapi_gives_the_arguments_of_request_payment(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.answers(signed({"prepay_id": "wx26112209580621e9b071b5b5"}, keys.wechat_platform))
    request = _with(method=Method.WECHAT_JSAPI, payer_id="oUpF8uMuAJO_M2pxb1Q9zNjWeS6o")

    payment = await platform.create(request, NOW)

    assert json.loads(peer.received[0].body)["payer"] == {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"}
    names = {"timeStamp", "nonceStr", "package", "signType", "paySign", "out_trade_no"}
    assert set(payment) == names
    assert payment["package"] == "prepay_id=wx26112209580621e9b071b5b5"
    assert (payment["signType"], payment["timeStamp"]) == ("RSA", str(int(NOW.timestamp())))
    message = "\n".join(
        ("wx0000000000000001", payment["timeStamp"], payment["nonceStr"], payment["package"], "")
    )
    keys.wechat_merchant.public_key().verify(
        b64decode(payment["paySign"]), message.encode(), PKCS1v15(), SHA256()
    )


@pytest.mark.parametrize(
    ("h5_url", "return_url", "url"),
    [
        ("https://wx.tenpay.com/x?prepay_id=wx1", None, "https://wx.tenpay.com/x?prepay_id=wx1"),
        (
            "https://wx.tenpay.com/x?prepay_id=wx1",
            "https://mall.example/s/1",
            "https://wx.tenpay.com/x?prepay_id=wx1&redirect_url=https%3A%2F%2Fmall.example%2Fs%2F1",
        ),
        ("https://p.example/1", "https://m.example/", "https://p.example/1?redirect_url=https%3A%2F%2Fm.example%2F"),
    ],
)  # fmt: skip
async def test_h5_gives_the_page_to_open(
    peer: Peer,
    platform: WeChatPlatform,
    keys: SandboxKeys,
    h5_url: str,
    return_url: str | None,
    url: str,
) -> None:
    peer.answers(signed({"h5_url": h5_url}, keys.wechat_platform))
    request = _with(method=Method.WECHAT_H5, client_ip="14.23.150.211", return_url=return_url)

    assert await platform.create(request, NOW) == {"url": url, "out_trade_no": NO}
    assert json.loads(peer.received[0].body)["scene_info"] == {
        "payer_client_ip": "14.23.150.211",
        "h5_info": {"type": "Wap"},
    }


async def test_a_description_is_cut_where_the_platform_would_refuse_it(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.answers(signed({"code_url": "weixin://x"}, keys.wechat_platform))
    await platform.create(_with(description="电" * 100), NOW)
    assert json.loads(peer.received[0].body)["description"] == "电" * 42  # 126 bytes of 127
    await platform.create(_with(description="A`101"), NOW)
    assert json.loads(peer.received[1].body)["description"] == "A'101"  # it divides a bill's cells


@pytest.mark.parametrize(
    "changes",
    [
        {"method": Method.WECHAT_JSAPI, "payer_id": None},
        {"method": Method.WECHAT_JSAPI, "payer_id": ""},
        {"method": Method.WECHAT_H5, "client_ip": None},
        {"method": Method.ALIPAY_QR},
        {"amount_fen": 0},
        {"amount_fen": -1},
        {"out_trade_no": "short"},
        {"out_trade_no": "T" * 33},
        {"out_trade_no": "../../secret"},
        {"out_trade_no": "T1234?mchid=1"},
        {"out_trade_no": "订单12345"},
    ],
)
async def test_what_cannot_be_ordered_is_refused_before_anything_is_sent(
    peer: Peer, platform: WeChatPlatform, changes: dict[str, object]
) -> None:
    with pytest.raises(PlatformRefusedError) as refusal:
        await platform.create(_with(**changes), NOW)
    assert refusal.value.code == "PARAM_ERROR"
    assert not refusal.value.transient
    assert peer.received == []


UNPROVED = [
    pytest.param({"without": "Wechatpay-Signature"}, id="unsigned"),
    pytest.param({"without": "Wechatpay-Nonce"}, id="without a nonce"),
    pytest.param({"at": NOW - timedelta(seconds=301)}, id="old"),
    pytest.param({"at": NOW + timedelta(seconds=301)}, id="from the future"),
    pytest.param({"serial": "PUB_KEY_ID_0119000009999999"}, id="unknown serial"),
    pytest.param({"serial": "5157F09EFDC096DE15EBE81A47057A7232F1B8E1"}, id="a certificate's"),
]


@pytest.mark.parametrize("flaw", UNPROVED)
async def test_an_answer_that_does_not_prove_itself_is_no_answer(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys, flaw: dict[str, str]
) -> None:
    paid = WAITING | {"trade_state": "SUCCESS"}
    peer.answers(signed(paid, keys.wechat_platform, **flaw))  # type: ignore[arg-type]  # a table
    with pytest.raises(PlatformUnavailableError) as error:
        await platform.query(NO, NOW)
    assert error.value.code == "BAD_SIGNATURE"
    assert {r.target for r in peer.received} == {
        f"/v3/pay/transactions/out-trade-no/{NO}?mchid=1900000109"
    }  # and no certificate was fetched for it


async def test_an_answer_of_another_key_is_no_answer(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.answers(signed(WAITING, keys.wechat_merchant))
    with pytest.raises(PlatformUnavailableError, match="signature is wrong"):
        await platform.query(NO, NOW)


async def test_an_answer_without_the_signature_type_is_of_the_usual_one(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.answers(signed(WAITING, keys.wechat_platform, without="Wechatpay-Signature-Type"))
    assert (await platform.query(NO, NOW)).status is TradeStatus.WAITING


async def test_a_signed_answer_to_another_question_is_no_answer(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.answers(signed(WAITING | {"out_trade_no": "T20260524000002"}, keys.wechat_platform))
    with pytest.raises(PlatformUnavailableError, match="another order"):
        await platform.query(NO, NOW)


@pytest.mark.parametrize(
    ("content", "field"),
    [({}, "code_url"), ({"code_url": 7}, "code_url"), ({"code_url": ""}, "code_url")],
)
async def test_an_answer_without_its_field_is_no_answer(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys, content: object, field: str
) -> None:
    peer.answers(signed(content, keys.wechat_platform))
    with pytest.raises(PlatformUnavailableError, match=field):
        await platform.create(REQUEST, NOW)


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (refused(429, "FREQUENCY_LIMITED", "频率超限"), "FREQUENCY_LIMITED"),
        (refused(500, "SYSTEM_ERROR"), "SYSTEM_ERROR"),
        (refused(403, "RATELIMIT_EXCEEDED"), "RATELIMIT_EXCEEDED"),
        (http_answer(502, b"<html>Bad Gateway</html>"), ""),
        (http_answer(503), ""),
        (http_answer(302, b"", {"Location": "http://127.0.0.1:1/"}), ""),
        (b"", ""),
        (b"HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\nshort", ""),
        (b"nonsense\r\n\r\n", ""),
    ],
)
async def test_transient_trouble_is_tried_again_and_then_named(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys, trouble: bytes, code: str
) -> None:
    answer = signed(WAITING, keys.wechat_platform)
    peer.answers(*[trouble] * (ATTEMPTS_MAX - 1), answer)
    assert (await platform.query(NO, NOW)).status is TradeStatus.WAITING
    assert len(peer.received) == ATTEMPTS_MAX

    peer.answers(trouble)
    with pytest.raises(PlatformUnavailableError) as error:
        await platform.query(NO, NOW)
    assert error.value.transient
    assert error.value.code == code
    assert len(peer.received) == 2 * ATTEMPTS_MAX


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "PARAM_ERROR"),
        (400, "APPID_MCHID_NOT_MATCH"),
        (401, "SIGN_ERROR"),
        (403, "NO_AUTH"),
        (403, "OUT_TRADE_NO_USED"),
        (500, "OPENID_MISMATCH"),
    ],
)
async def test_a_refusal_is_final(
    peer: Peer, platform: WeChatPlatform, status: int, code: str
) -> None:
    peer.answers(refused(status, code, "因为"))
    with pytest.raises(PlatformRefusedError, match="因为") as error:
        await platform.create(REQUEST, NOW)
    assert error.value.code == code
    assert not error.value.transient
    assert len(peer.received) == 1


@pytest.mark.parametrize("code", ["ORDER_NOT_EXIST", "ORDERNOTEXIST", "RESOURCE_NOT_EXISTS"])
async def test_an_unknown_order_is_a_status_not_an_error(
    peer: Peer, platform: WeChatPlatform, code: str
) -> None:
    peer.answers(refused(404, code))
    assert await platform.query(NO, NOW) == Trade(NO, TradeStatus.UNKNOWN, "1900000109")


async def test_a_missing_page_is_not_an_unknown_order(peer: Peer, platform: WeChatPlatform) -> None:
    """A wrong URL or a proxy's 404 says nothing of the order."""
    peer.answers(http_answer(404, b"<html>not found</html>"))
    with pytest.raises(PlatformRefusedError, match="HTTP 404"):
        await platform.query(NO, NOW)


@pytest.mark.parametrize(
    "code", ["ORDER_CLOSED", "ORDERCLOSED", "ORDER_NOT_EXIST", "ORDERNOTEXIST"]
)
async def test_closing_what_is_closed_or_unknown_is_no_error(
    peer: Peer, platform: WeChatPlatform, code: str
) -> None:
    peer.answers(refused(400, code))
    await platform.close(NO, NOW)
    assert json.loads(peer.received[0].body) == {"mchid": "1900000109"}


async def test_closing_what_is_paid_is_refused(peer: Peer, platform: WeChatPlatform) -> None:
    peer.answers(refused(400, "ORDERPAID", "该订单已支付"))
    with pytest.raises(PlatformRefusedError) as error:
        await platform.close(NO, NOW)
    assert error.value.code == "ORDERPAID"


async def test_a_silent_platform_is_given_up(
    peer: Peer, platform: WeChatPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "CALL_TIMEOUT_S", 0.05)
    peer.answers(b"HTTP/1.1 200 X\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n")
    peer.hold_s = 0.5
    with pytest.raises(PlatformUnavailableError, match="TimeoutError"):
        await platform.query(NO, NOW)
    assert len(peer.received) == ATTEMPTS_MAX


@pytest.mark.parametrize("framing", ["Content-Length: 3000000", "Transfer-Encoding: chunked"])
async def test_an_endless_answer_is_cut_off(
    peer: Peer, platform: WeChatPlatform, framing: str
) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    body = b" " * 3_000_000 if "Length" in framing else chunk * 40
    peer.answers(f"HTTP/1.1 200 X\r\n{framing}\r\n\r\n".encode() + body)
    with pytest.raises(PlatformUnavailableError, match="too large"):
        await platform.query(NO, NOW)


async def test_a_platform_that_is_not_there_is_unavailable(
    merchant: WeChatMerchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BACKOFF_S", 0.001)
    nowhere = build(merchant, "http://127.0.0.1:1")
    with pytest.raises(PlatformUnavailableError, match="ConnectError"):
        await nowhere.query(NO, NOW)
    await nowhere.aclose()


async def test_a_forged_notice_makes_no_request(peer: Peer, platform: WeChatPlatform) -> None:
    headers = {
        "wechatpay-serial": "5157F09EFDC096DE15EBE81A47057A7232F1B8E1",
        "wechatpay-timestamp": str(int(NOW.timestamp())),
        "wechatpay-nonce": "n",
        "wechatpay-signature": "QUFB",
    }
    with pytest.raises(NoticeRejectedError):
        platform.parse_notice(headers, b"{}", NOW)
    assert peer.received == []


@pytest.mark.parametrize(
    "url", ["", "api.mch.weixin.qq.com", "ftp://x", "http://", "http://x/?a=1"]
)
def test_a_url_that_is_none_is_refused(merchant: WeChatMerchant, url: str) -> None:
    with pytest.raises(MerchantConfigError):
        build(merchant, url)


def _with(**changes: object) -> PaymentRequest:
    fields = {name: getattr(REQUEST, name) for name in PaymentRequest.__slots__}
    return PaymentRequest(**fields | changes)
