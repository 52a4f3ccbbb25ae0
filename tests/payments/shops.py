"""Merchants' programs written against the documents alone, apart from SDKs and code under test."""

import json
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256

from payments.contract import Platform
from payments.sandbox.app import SandboxConfig, bind_loopback, public_url, serving
from payments.sandbox.control import Control
from payments.sandbox.keys import SandboxKeys
from payments.sandbox.notifier import Post
from payments.sandbox.state import Pace, Sandbox
from tests.http import http_client
from tests.payments.peer import Received

NATIVE = "/v3/pay/transactions/native"
REFUNDS = "/v3/refund/domestic/refunds"
DOOR = "http://127.0.0.1:9/notify"  # nobody is there
NOON = datetime(2026, 5, 24, 4, 0, tzinfo=UTC)  # in China


@dataclass
class Clock:
    """Time that a test moves."""

    at: datetime = NOON

    def __call__(self) -> datetime:
        return self.at


@dataclass
class WeChatShop:
    """A merchant of WeChat Pay."""

    keys: SandboxKeys
    http: httpx.AsyncClient

    def authorization(
        self,
        method: str,
        target: str,
        body: bytes,
        *,
        key: RSAPrivateKey | None = None,
        at: int | None = None,
        **parameters: str,
    ) -> str:
        timestamp, nonce = str(at or int(time.time())), secrets.token_hex(16)
        message = f"{method}\n{target}\n{timestamp}\n{nonce}\n".encode() + body + b"\n"
        signature = (key or self.keys.wechat_merchant).sign(message, PKCS1v15(), SHA256())
        values = {
            "mchid": self.keys.mchid,
            "nonce_str": nonce,
            "signature": b64encode(signature).decode(),
            "timestamp": timestamp,
            "serial_no": self.keys.cert_serial,
        } | parameters
        joined = ",".join(f'{name}="{value}"' for name, value in values.items())
        return f"WECHATPAY2-SHA256-RSA2048 {joined}"

    async def send(
        self, method: str, target: str, content: object = None, **flaws: Any
    ) -> httpx.Response:
        body = b"" if content is None else json.dumps(content).encode()
        headers = {"Authorization": self.authorization(method, target, body, **flaws)}
        return await self.http.request(method, target, content=body, headers=headers)

    def prove(self, headers: Any, body: bytes) -> None:
        """Raise unless the platform signed this, now."""
        assert headers["wechatpay-serial"] == self.keys.platform_public_key_id
        assert headers["wechatpay-signature-type"] == "WECHATPAY2-SHA256-RSA2048"
        assert abs(int(headers["wechatpay-timestamp"]) - time.time()) < 60
        self.verify(headers, body)

    def verify(self, headers: Any, body: bytes) -> None:
        """Raise unless the platform signed this, whenever."""
        message = f"{headers['wechatpay-timestamp']}\n{headers['wechatpay-nonce']}\n".encode()
        signature = b64decode(headers["wechatpay-signature"])
        public = self.keys.wechat_platform.public_key()
        public.verify(signature, message + body + b"\n", PKCS1v15(), SHA256())

    def open(self, notice: Received) -> dict[str, Any]:
        """The decrypted content of a callback."""
        resource = json.loads(notice.body)["resource"]
        content = AESGCM(self.keys.apiv3_key.encode()).decrypt(
            resource["nonce"].encode(),
            b64decode(resource["ciphertext"]),
            resource["associated_data"].encode(),
        )
        opened: dict[str, Any] = json.loads(content)
        return opened

    async def paid(self, number: str, fen: int = 8880, door: str = DOOR) -> None:
        """An order, paid."""
        body = wechat_order(number, amount={"total": fen, "currency": "CNY"}, notify_url=door)
        assert (await self.send("POST", NATIVE, body)).status_code == 200
        paid = await self.http.post("/control/wechat/pay", json={"out_trade_no": number})
        assert paid.status_code == 200, paid.text

    async def refund(self, number: str, fen: int, **changes: object) -> httpx.Response:
        """Ask for a refund of an order of 88.80."""
        body: dict[str, object] = {
            "out_trade_no": number,
            "out_refund_no": f"R{number}",
            "reason": "多付",
            "amount": {"refund": fen, "total": 8880, "currency": "CNY"},
        }
        wanted = {k: v for k, v in (body | changes).items() if v is not None}
        return await self.send("POST", REFUNDS, wanted)

    async def trade_state(self, number: str) -> str:
        """What a query says of an order."""
        target = f"/v3/pay/transactions/out-trade-no/{number}?mchid={self.keys.mchid}"
        return str((await self.send("GET", target)).json()["trade_state"])


@dataclass
class AlipayShop:
    """A merchant of Alipay."""

    keys: SandboxKeys
    http: httpx.AsyncClient

    def params(self, method: str, content: object, **changes: str) -> dict[str, str]:
        """The signed parameters of a call."""
        params = {
            "app_id": self.keys.alipay_app_id,
            "method": method,
            "charset": "utf-8",
            "sign_type": "RSA2",
            "timestamp": "2026-05-24 12:00:00",
            "version": "1.0",
            "biz_content": json.dumps(content),
        } | changes
        text = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
        signature = self.keys.alipay_app.sign(text.encode(), PKCS1v15(), SHA256())
        return params | {"sign": b64encode(signature).decode()}

    async def raw(self, method: str, content: object, **changes: str) -> httpx.Response:
        return await self.http.post("/gateway.do", data=self.params(method, content, **changes))

    async def call(self, method: str, **content: object) -> dict[str, Any]:
        """The proved inner answer of a call."""
        answer = await self.raw(method, content)
        self.prove(answer.text, self.keys.alipay_platform.public_key())
        found: dict[str, Any] = json.loads(answer.text)[f"{method.replace('.', '_')}_response"]
        return found

    def prove(self, text: str, key: RSAPublicKey) -> None:
        """Raise unless this key signed an answer."""
        marks = (text.find(',"alipay_cert_sn"'), text.find(',"sign"'))
        inner = text[text.index(":") + 1 : min(mark for mark in marks if mark > 0)]
        key.verify(b64decode(json.loads(text)["sign"]), inner.encode(), PKCS1v15(), SHA256())

    def open(self, notice: Received) -> dict[str, str]:
        """The proved fields of a callback."""
        fields = dict(parse_qsl(notice.body.decode("ascii"), strict_parsing=True))
        signed = {k: v for k, v in fields.items() if k not in {"sign", "sign_type"}}
        text = "&".join(f"{name}={value}" for name, value in sorted(signed.items()))
        public = self.keys.alipay_platform.public_key()
        public.verify(b64decode(fields["sign"]), text.encode(), PKCS1v15(), SHA256())
        return fields

    async def paid(self, number: str, fen: int = 8880, door: str = DOOR) -> None:
        """An order, scanned and paid."""
        content = {
            "out_trade_no": number,
            "total_amount": f"{fen // 100}.{fen % 100:02d}",
            "subject": "A101 电费",
        }
        await self.raw("alipay.trade.precreate", content, notify_url=door)
        paid = await self.http.post("/control/alipay/pay", json={"out_trade_no": number})
        assert paid.status_code == 200, paid.text

    async def refund(self, number: str, yuan: str, **changes: object) -> dict[str, Any]:
        """Ask for a refund."""
        content: dict[str, object] = {
            "out_trade_no": number,
            "out_request_no": f"R{number}",
            "refund_amount": yuan,
            "refund_reason": "多付",
        }
        wanted = {k: v for k, v in (content | changes).items() if v is not None}
        return await self.call("alipay.trade.refund", **wanted)


@dataclass
class Yard:
    """A running sandbox, its inside, and a merchant of each platform."""

    sandbox: Sandbox
    control: Control
    wechat: WeChatShop
    alipay: AlipayShop
    http: httpx.AsyncClient
    clock: Clock = field(default_factory=Clock)

    def begin(self) -> None:
        """Noon again, no faults, money enough."""
        self.clock.at = NOON
        self.sandbox.faults.clear()
        self.sandbox.signing.reset()
        for platform in Platform:
            self.control.balance(platform, None)

    def pass_time(self, **by: float) -> None:
        """Time goes on."""
        self.clock.at += timedelta(**by)


# httpx looks at each of its connections for each request: fewer of them are faster.
QUICK = Pace(
    wechat_notice_s=(0, 0.01, 0.01),
    alipay_notice_s=(0, 0.01, 0.01),
    notices_at_once=12,
    refund_s=0,
)


@asynccontextmanager
async def open_yard(
    data: Path, keys: SandboxKeys, pace: Pace = QUICK, post: Post | None = None
) -> AsyncIterator[Yard]:
    """A sandbox at noon that does at once what it does later; `post`: a door in this process."""
    clock, place = Clock(), bind_loopback("127.0.0.1", "0")
    config = SandboxConfig(public_url(place), data, keys.folder, clock, pace, post)
    async with (
        serving(config, place) as running,
        http_client(base_url=running.public_url) as http,
    ):
        shops = WeChatShop(running.keys, http), AlipayShop(running.keys, http)
        yield Yard(running, Control(running), *shops, http, clock)


def wechat_order(number: str, **changes: object) -> dict[str, object]:
    """The body of an order of 88.80."""
    body: dict[str, object] = {
        "appid": "wx0000000000000001",
        "mchid": "1900000109",
        "description": "示范商场 A101 电费",
        "out_trade_no": number,
        "notify_url": DOOR,
        "amount": {"total": 8880, "currency": "CNY"},
    }
    return {k: v for k, v in (body | changes).items() if v is not None}
