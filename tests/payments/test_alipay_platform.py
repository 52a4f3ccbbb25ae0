"""The Alipay client against the sandbox's gateway, over loopback sockets."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from payments.alipay import config, gateway
from payments.alipay.client import AlipayPlatform, build
from payments.contract import (
    Method,
    PaymentPlatform,
    PaymentRequest,
    PlatformRefusedError,
    PlatformUnavailableError,
    TradeStatus,
)
from payments.sandbox.app import SandboxConfig, bind_loopback, public_url, serving
from payments.sandbox.keys import SandboxKeys
from payments.sandbox.state import Pace, Sandbox
from tests.http import http_client
from tests.payments.shops import QUICK

NOW = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Merchant:
    """Where notices arrive: answers from the list, then `success`."""

    url: str = ""
    answers: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self, _head: bytes, body: bytes) -> bytes:
        self.bodies.append(body)
        word = self.answers.pop(0) if self.answers else b"success"
        if word == b"success":
            self.arrived.set()
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(word), word)


@asynccontextmanager
async def listening(answer: Callable[[bytes, bytes], bytes | None]) -> AsyncIterator[str]:
    """An HTTP server in a few lines: one request a connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        reply = answer(head, await reader.readexactly(sum(lengths)))
        if reply is not None:
            writer.write(reply)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
async def sandbox(
    tmp_path_factory: pytest.TempPathFactory, keys: SandboxKeys, clock: Clock
) -> AsyncIterator[Sandbox]:
    with bind_loopback("127.0.0.1", "0") as place:
        data = tmp_path_factory.mktemp("sandbox")
        config = SandboxConfig(public_url(place), data, keys.folder, clock)
        async with serving(config, place) as running:
            yield running


def merchant_of(sandbox: Sandbox) -> config.AlipayMerchant:
    return config.load(
        app_id=sandbox.keys.alipay_app_id,
        seller_id=sandbox.keys.alipay_seller_id,
        private_key_file=sandbox.keys.folder / "alipay_app.pem",
        alipay_public_key_file=sandbox.keys.folder / "alipay_platform.pem",
    )


@pytest.fixture
async def platform(sandbox: Sandbox) -> AsyncIterator[AlipayPlatform]:
    built = build(merchant_of(sandbox), f"{sandbox.public_url}/gateway.do")
    yield built
    await built.aclose()


@pytest.fixture
async def merchant() -> AsyncIterator[Merchant]:
    receiver = Merchant()
    async with listening(receiver.answer) as url:
        receiver.url = f"{url}/payments/alipay/demo/notify"
        yield receiver


@pytest.fixture
async def web(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(base_url=sandbox.public_url) as browser:
        yield browser


@pytest.fixture
def ask(merchant: Merchant, request: pytest.FixtureRequest) -> PaymentRequest:
    return PaymentRequest(
        out_trade_no=f"T{abs(hash(request.node.nodeid)):020d}"[:32],
        amount_fen=8880,
        description='电费充值/A101 & 一层=1,"茶"',
        method=Method.ALIPAY_QR,
        notify_url=merchant.url,
        expires_at=NOW + timedelta(minutes=15),
        return_url="http://127.0.0.1:9/s/token?x=1",
    )


def check_is_a_platform(platform: AlipayPlatform) -> PaymentPlatform:
    return platform


async def test_a_qr_code_is_scanned_paid_and_told(
    platform: AlipayPlatform, ask: PaymentRequest, merchant: Merchant, web: httpx.AsyncClient
) -> None:
    payment = await platform.create(ask, NOW)
    unscanned = await platform.query(ask.out_trade_no, NOW)
    page = await web.get(payment["code_url"])
    scanned = await platform.query(ask.out_trade_no, NOW)
    await web.post(payment["code_url"])
    await asyncio.wait_for(merchant.arrived.wait(), 5)
    paid = await platform.query(ask.out_trade_no, NOW)
    notice = platform.parse_notice({}, merchant.bodies[0], NOW)

    assert payment["out_trade_no"] == ask.out_trade_no
    assert (unscanned.status, scanned.status) == (TradeStatus.UNKNOWN, TradeStatus.WAITING)
    assert "88.80" in page.text
    assert "电费充值 A101   一层 1  茶" in page.text  # Alipay refuses / & =, and its bills , "
    assert (paid.status, paid.paid_fen, paid.paid_at) == (TradeStatus.PAID, 8880, NOW)
    assert notice.trade == paid
    assert (notice.app_id, notice.merchant_id) == (platform.app_id, platform.merchant_id)


async def test_a_wap_page_is_opened_paid_and_left(
    platform: AlipayPlatform, ask: PaymentRequest, merchant: Merchant, web: httpx.AsyncClient
) -> None:
    payment = await platform.create(replace(ask, method=Method.ALIPAY_WAP), NOW)
    opened = await web.get(payment["url"], follow_redirects=True)
    paid = await web.post(str(opened.url), follow_redirects=True)
    await asyncio.wait_for(merchant.arrived.wait(), 5)

    assert opened.status_code == 200
    assert f'href="{ask.return_url}&amp;app_id=' in paid.text
    assert platform.parse_notice({}, merchant.bodies[0], NOW).trade.paid_fen == 8880


async def test_what_a_wap_url_asks_for(platform: AlipayPlatform, ask: PaymentRequest) -> None:
    payment = await platform.create(replace(ask, method=Method.ALIPAY_WAP), NOW)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(payment["url"]).query).items()}
    content = json.loads(asked.pop("biz_content"))
    asked.pop("sign")

    assert asked == {
        "app_id": platform.app_id,
        "charset": "utf-8",
        "format": "json",
        "method": "alipay.trade.wap.pay",
        "notify_url": ask.notify_url,
        "return_url": ask.return_url,
        "sign_type": "RSA2",
        "timestamp": "2026-05-24 10:00:00",
        "version": "1.0",
    }
    assert content == {
        "out_trade_no": ask.out_trade_no,
        "product_code": "QUICK_WAP_WAY",
        "quit_url": ask.return_url,
        "seller_id": platform.merchant_id,
        "subject": "电费充值 A101   一层 1  茶 ",
        "time_expire": "2026-05-24 10:15:00",
        "total_amount": "88.80",
    }


async def test_a_script_pays_and_the_notice_comes_until_success(
    platform: AlipayPlatform,
    ask: PaymentRequest,
    merchant: Merchant,
    web: httpx.AsyncClient,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "pace", Pace(alipay_notice_s=(0, 0.01, 0.01, 0.01)))
    merchant.answers = [b"failure", b"success, nearly"]
    await platform.create(ask, NOW)

    answers = [
        await web.post("/control/alipay/pay", json={"out_trade_no": ask.out_trade_no})
        for _ in range(2)
    ]
    await asyncio.wait_for(merchant.arrived.wait(), 5)

    digests = {platform.parse_notice({}, body, NOW).digest for body in merchant.bodies}
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(merchant.bodies) == 3
    assert len(digests) == 1  # three deliveries, one notice


async def test_a_restarted_sandbox_still_owes_its_notice(
    ask: PaymentRequest, merchant: Merchant, tmp_path: Path, keys: SandboxKeys, clock: Clock
) -> None:
    merchant.answers = [b"failure"]
    for paying in (True, False):
        with bind_loopback("127.0.0.1", "0") as place:
            told = SandboxConfig(public_url(place), tmp_path, keys.folder, clock, QUICK)
            async with serving(told, place) as it:
                platform = build(merchant_of(it), f"{it.public_url}/gateway.do")
                if paying:
                    await platform.create(ask, NOW)
                    await pay(it, ask.out_trade_no)
                else:
                    await asyncio.wait_for(merchant.arrived.wait(), 5)
                    paid = platform.parse_notice({}, merchant.bodies[-1], NOW)
                await platform.aclose()

    assert paid.trade.out_trade_no == ask.out_trade_no


async def pay(sandbox: Sandbox, out_trade_no: str) -> None:
    """What a script does."""
    async with http_client(base_url=sandbox.public_url) as script:
        await script.post("/control/alipay/pay", json={"out_trade_no": out_trade_no})


async def test_an_unpaid_trade_is_closed_once_and_again(
    platform: AlipayPlatform, ask: PaymentRequest, web: httpx.AsyncClient
) -> None:
    payment = await platform.create(ask, NOW)
    await web.get(payment["code_url"])

    await platform.close(ask.out_trade_no, NOW)
    await platform.close(ask.out_trade_no, NOW)
    late = await web.post("/control/alipay/pay", json={"out_trade_no": ask.out_trade_no})

    assert (await platform.query(ask.out_trade_no, NOW)).status is TradeStatus.CLOSED
    assert late.status_code == 409
    with pytest.raises(PlatformRefusedError) as refused:
        await platform.create(ask, NOW)
    assert refused.value.code == "ACQ.TRADE_HAS_CLOSE"


async def test_a_paid_trade_cannot_be_closed(
    platform: AlipayPlatform, ask: PaymentRequest, web: httpx.AsyncClient
) -> None:
    await platform.create(ask, NOW)
    await web.post("/control/alipay/pay", json={"out_trade_no": ask.out_trade_no})

    with pytest.raises(PlatformRefusedError) as refused:
        await platform.close(ask.out_trade_no, NOW)

    assert refused.value.code == "ACQ.REASON_TRADE_STATUS_INVALID"


async def test_an_unknown_trade_is_unknown_and_closed(platform: AlipayPlatform) -> None:
    await platform.close("T-nowhere", NOW)

    assert (await platform.query("T-nowhere", NOW)).status is TradeStatus.UNKNOWN


async def test_a_code_dies_with_its_order(
    platform: AlipayPlatform, ask: PaymentRequest, web: httpx.AsyncClient, clock: Clock
) -> None:
    payment = await platform.create(ask, NOW)
    await web.get(payment["code_url"])
    clock.now = ask.expires_at
    try:
        late = await web.post("/control/alipay/pay", json={"out_trade_no": ask.out_trade_no})
        status = (await platform.query(ask.out_trade_no, NOW)).status
    finally:
        clock.now = NOW

    assert (late.status_code, status) == (409, TradeStatus.CLOSED)


async def test_the_same_order_again_gives_the_same_code(
    platform: AlipayPlatform, ask: PaymentRequest
) -> None:
    assert await platform.create(ask, NOW) == await platform.create(ask, NOW)

    with pytest.raises(PlatformRefusedError) as refused:
        await platform.create(replace(ask, amount_fen=1), NOW)
    assert refused.value.code == "ACQ.CONTEXT_INCONSISTENT"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"method": Method.WECHAT_NATIVE}, "method"),
        ({"amount_fen": 0}, "amount"),
        ({"amount_fen": 10_000_000_001}, "amount"),
        ({"out_trade_no": "中"}, "out_trade_no"),
        ({"expires_at": NOW}, "expired"),
    ],
)
async def test_what_alipay_would_refuse_is_not_sent(
    platform: AlipayPlatform, ask: PaymentRequest, change: dict[str, object], code: str
) -> None:
    with pytest.raises(PlatformRefusedError) as refused:
        await platform.create(replace(ask, **change), NOW)  # type: ignore[arg-type]  # a table of changes

    assert refused.value.code == code


async def test_a_wrong_app_key_is_refused_by_the_gateway(
    sandbox: Sandbox, ask: PaymentRequest
) -> None:
    pem = (sandbox.keys.folder / "wechat_merchant.pem").read_text()
    other = build(
        replace(merchant_of(sandbox), private_key_pem=pem), f"{sandbox.public_url}/gateway.do"
    )

    with pytest.raises(PlatformRefusedError) as refused:
        await other.create(ask, NOW)
    await other.aclose()

    assert refused.value.code == "isv.invalid-signature"


@pytest.mark.parametrize(
    ("change", "sub_code"),
    [
        ({"sign": ""}, "isv.missing-signature"),
        ({"sign": "AAAA"}, "isv.invalid-signature"),
        ({"sign_type": "RSA"}, "isv.invalid-signature-type"),
        ({"app_id": "1"}, "isv.invalid-app-id"),
        ({"timestamp": "2026-05-24 10:00:01"}, "isv.invalid-signature"),
        ({"biz_content": "{}"}, "isv.invalid-signature"),
        ({"extra": "1"}, "isv.invalid-signature"),
    ],
)
async def test_the_sandbox_refuses_as_the_gateway_does(
    platform: AlipayPlatform,
    ask: PaymentRequest,
    web: httpx.AsyncClient,
    change: dict[str, str],
    sub_code: str,
) -> None:
    url = (await platform.create(replace(ask, method=Method.ALIPAY_WAP), NOW))["url"]
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}

    page = await web.get("/gateway.do", params=asked | change)
    call = await web.post("/gateway.do", data=asked | change | {"method": "alipay.trade.query"})

    assert (page.status_code, page.text.split(":")[0]) == (400, sub_code)
    assert call.json()["alipay_trade_query_response"]["code"] in {"40001", "40002"}
    assert call.json()["sign"]


async def test_the_sandbox_knows_its_methods(web: httpx.AsyncClient) -> None:
    answer = await web.post("/gateway.do", data={"app_id": "1"})

    assert answer.json()["error_response"]["sub_code"] == "isv.missing-method"


async def test_control_answers_404_for_no_order(web: httpx.AsyncClient) -> None:
    bodies: list[object] = [{"out_trade_no": "none"}, {}, []]
    for body in bodies:
        assert (await web.post("/control/alipay/pay", json=body)).status_code == 404
    assert (await web.get("/pay/alipay/none")).status_code == 404


# A gateway that misbehaves


def http(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


def signed_answer(key: RSAPrivateKey, content: dict[str, str]) -> bytes:
    inner = json.dumps(content)
    signature = base64.b64encode(key.sign(inner.encode(), padding.PKCS1v15(), SHA256())).decode()
    return http(f'{{"alipay_trade_query_response":{inner},"sign":"{signature}"}}'.encode())


PAID = {
    "code": "10000",
    "msg": "Success",
    "out_trade_no": "T1",
    "total_amount": "1.00",
    "trade_no": "2026052422001400001234567890",
    "trade_status": "TRADE_SUCCESS",
    "send_pay_date": "2026-05-24 10:00:00",
}

Query = Callable[[bytes | None], Awaitable[tuple[object, int]]]


@pytest.fixture
def query_gets(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Query:
    """Query at a gateway that always answers this; the trade or the error, and the attempts."""
    monkeypatch.setattr(gateway, "BACKOFF_S", 0.001)
    monkeypatch.setattr(gateway, "CALL_TIMEOUT_S", 2.0)

    async def query(reply: bytes | None) -> tuple[object, int]:
        heads: list[bytes] = []

        def answer(head: bytes, _body: bytes) -> bytes | None:
            heads.append(head)
            return reply

        async with listening(answer) as url:
            platform = build(merchant_of(sandbox), f"{url}/deep/gateway.do")
            try:
                return await platform.query("T1", NOW), len(heads)
            except (PlatformRefusedError, PlatformUnavailableError) as error:
                return error, len(heads)
            finally:
                await platform.aclose()

    return query


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({}, TradeStatus.PAID),
        ({"trade_status": "TRADE_FINISHED"}, TradeStatus.PAID),
        ({"trade_status": "WAIT_BUYER_PAY"}, TradeStatus.WAITING),
        ({"trade_status": "TRADE_CLOSED", "send_pay_date": ""}, TradeStatus.CLOSED),
        ({"trade_status": "TRADE_CLOSED"}, TradeStatus.REFUNDED),
        ({"code": "40004", "sub_code": "ACQ.TRADE_NOT_EXIST"}, TradeStatus.UNKNOWN),
    ],
)
async def test_signed_answers_are_facts(
    sandbox: Sandbox, query_gets: Query, content: dict[str, str], status: TradeStatus
) -> None:
    trade, attempts = await query_gets(signed_answer(sandbox.keys.alipay_platform, PAID | content))

    assert getattr(trade, "status", trade) is status
    assert attempts == 1


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        pytest.param(None, "", id="hangs up"),
        pytest.param(http(b"", b"502 Bad Gateway"), "http_502", id="HTTP 502"),
        pytest.param(http(b"", b"429 Too Many Requests"), "http_429", id="HTTP 429"),
        pytest.param(http(b"<html>"), "BAD_ANSWER", id="HTML"),
        pytest.param(http(b"x" * 300_000), "BAD_ANSWER", id="too long"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "", id="cut off in the middle"
        ),
        pytest.param(
            http(b'{"error_response":{"code":"20000","sub_code":"isp.unknow-error"}}'),
            "isp.unknow-error",
            id="busy, unsigned",
        ),
    ],
)
async def test_trouble_is_tried_three_times_and_decides_nothing(
    query_gets: Query, reply: bytes | None, code: str
) -> None:
    error, attempts = await query_gets(reply)

    assert isinstance(error, PlatformUnavailableError)
    assert (error.code, attempts) == (code, gateway.ATTEMPTS_MAX)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"out_trade_no": "T2"}, id="of another trade"),
        pytest.param({"code": "40004", "sub_code": "ACQ.SYSTEM_ERROR"}, id="system error"),
        pytest.param({"code": "20000", "sub_code": "aop.ACQ.SYSTEM_ERROR"}, id="unavailable"),
        pytest.param({"code": "40002", "sub_code": "isv.app-call-limited"}, id="too many calls"),
        pytest.param({"trade_status": "TRADE_DREAMT"}, id="a status nobody knows"),
        pytest.param({"total_amount": "1.001"}, id="a tenth of a fen"),
        pytest.param({"trade_no": ""}, id="paid without a number"),
    ],
)
async def test_signed_but_undecided_is_transient(
    sandbox: Sandbox, query_gets: Query, content: dict[str, str]
) -> None:
    error, _ = await query_gets(signed_answer(sandbox.keys.alipay_platform, PAID | content))

    assert isinstance(error, PlatformUnavailableError)


async def test_an_answer_signed_by_another_key_is_no_answer(
    sandbox: Sandbox, query_gets: Query
) -> None:
    error, _ = await query_gets(signed_answer(sandbox.keys.alipay_app, PAID))

    assert isinstance(error, PlatformUnavailableError)
    assert error.code == "BAD_ANSWER"


async def test_a_final_refusal_is_not_repeated(sandbox: Sandbox, query_gets: Query) -> None:
    content = {"code": "40004", "sub_code": "ACQ.INVALID_PARAMETER", "sub_msg": "参数无效"}
    error, attempts = await query_gets(signed_answer(sandbox.keys.alipay_platform, content))
    forbidden, _ = await query_gets(http(b"", b"403 Forbidden"))

    assert isinstance(error, PlatformRefusedError)
    assert (error.code, attempts) == ("ACQ.INVALID_PARAMETER", 1)
    assert isinstance(forbidden, PlatformRefusedError)


async def test_a_silent_gateway_is_left_in_time(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "BACKOFF_S", 0.001)
    monkeypatch.setattr(gateway, "CALL_TIMEOUT_S", 0.05)
    held: list[asyncio.StreamWriter] = []

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)  # never answers

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        platform = build(merchant_of(sandbox), f"http://127.0.0.1:{port}/gateway.do")
        with pytest.raises(PlatformUnavailableError):
            await platform.query("T1", NOW)
        await platform.aclose()
        for writer in held:
            writer.close()
