"""Another maker's WeChat API, WeChat Pay v3 and Alipay gateway, for this folder's tests alone.

Written from the platforms' public documents and sharing no code with ours: keys in the forms the
platforms hand out, their headers and their habits. Documents: pay.weixin.qq.com/doc/v3/merchant
(4012525095 order, 4013053420 signature; error answers as 4012072427), opendocs.alipay.com/open
(203/105286 notice), developers.weixin.qq.com (code2Session, stable_token).
"""

import asyncio
import json
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.http import http_client

MCHID, APPID = "1900000109", "wx0000000000000001"
CERT_SERIAL = "33DDFEC51BF5412F663B9B56510FD567B625FC68"
PLATFORM_KEY_ID = "PUB_KEY_ID_0119000001092026"
ALIPAY_APP, ALIPAY_SELLER = "2021000000000001", "2088000000000001"
SHANGHAI = timezone(timedelta(hours=8))
WECHAT_METHODS = {"jsapi": "JSAPI", "native": "NATIVE", "h5": "MWEB"}

Answer = tuple[int, Mapping[str, str], bytes]


class RefusedError(Exception):
    """The platform says no: status, code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


@dataclass
class Trade:
    """One order at one platform."""

    out_trade_no: str
    fen: int
    notify_url: str
    subject: str
    kind: str
    created: datetime
    state: str = "NOTPAY"
    paid: datetime | None = None
    number: str = field(default_factory=lambda: f"42000{secrets.randbelow(10**23):023d}")


@dataclass
class Request:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


class Key:
    """An RSA pair: this side's own, or the merchant's that this side knows too."""

    def __init__(self) -> None:
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def sign(self, text: bytes) -> str:
        return b64encode(self.private.sign(text, padding.PKCS1v15(), hashes.SHA256())).decode()

    def check(self, text: bytes, signature: str) -> None:
        """Raises RefusedError where the merchant did not sign this."""
        try:
            self.private.public_key().verify(
                b64decode(signature), text, padding.PKCS1v15(), hashes.SHA256()
            )
        except (InvalidSignature, ValueError) as error:
            raise RefusedError(401, "SIGN_ERROR") from error

    def private_file(self, *, bare: bool) -> str:
        """PKCS#8: in PEM as WeChat's tool writes it, or bare base64 as Alipay's does."""
        form = serialization.Encoding.DER if bare else serialization.Encoding.PEM
        content = self.private.private_bytes(
            form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return b64encode(content).decode() if bare else content.decode()

    def public_file(self, *, bare: bool) -> str:
        form = serialization.Encoding.DER if bare else serialization.Encoding.PEM
        content = self.private.public_key().public_bytes(
            form, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return b64encode(content).decode() if bare else content.decode()


class OtherPlatforms:
    """All three behind one port; `async with`, then `write_keys`."""

    def __init__(self) -> None:
        self.wechat_merchant, self.wechat, self.alipay_app, self.alipay = (Key() for _ in range(4))
        self.apiv3_key = secrets.token_hex(16)
        self.trades: dict[str, Trade] = {}
        self.codes: dict[str, dict[str, str]] = {}  # an alipay QR before anybody scanned it
        self.requests: list[Request] = []
        self.fail_next = 0  # so many requests are answered 500
        self.delay_s = 0.0  # every order's answer waits so long
        self.pay_before_answer = False
        self.url = ""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._http = http_client(timeout=10)

    def write_keys(self, folder: Path) -> None:
        """The merchant's files, as its two platforms gave them."""
        folder.mkdir()
        for name, content in {
            "apiv3.txt": self.apiv3_key + "\n",
            "wechat_merchant.pem": self.wechat_merchant.private_file(bare=False),
            "wechat_platform.pem": self.wechat.public_file(bare=False),
            "alipay_app.pem": self.alipay_app.private_file(bare=True),
            "alipay_platform.pem": self.alipay.public_file(bare=True) + "\n",
        }.items():
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(content)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    # What a payer does

    async def scan(self, code: str) -> str:
        """Alipay: a QR code or a page is opened, and only now there is a trade; its number."""
        asked = self.codes[code] if code in self.codes else self._opened(code)
        self._create_alipay(asked)
        return str(json.loads(asked["biz_content"])["out_trade_no"])

    def _opened(self, url: str) -> dict[str, str]:
        assert url.startswith(f"{self.url}/gateway.do?"), url
        asked = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        self._check_alipay(asked)
        assert asked["method"] == "alipay.trade.wap.pay"
        return asked

    def pay(self, out_trade_no: str) -> Trade:
        """The payer pays; nobody is told yet."""
        trade = self.trades[out_trade_no]
        assert trade.state == "NOTPAY", trade.state
        trade.state, trade.paid = "SUCCESS", datetime.now(SHANGHAI)
        return trade

    async def notify(self, trade: Trade, **changes: Any) -> httpx.Response:
        """Tell the merchant, as the platform would; `changes` make it a forgery."""
        headers, body = (
            self.alipay_notice(trade, **changes)
            if trade.kind.startswith("alipay")
            else self.wechat_notice(trade, **changes)
        )
        return await self._http.post(trade.notify_url, headers=headers, content=body)

    # WeChat Pay

    def wechat_notice(
        self,
        trade: Trade,
        *,
        facts: Mapping[str, Any] | None = None,
        age_s: int = 0,
        key: Key | None = None,
        serial: str = PLATFORM_KEY_ID,
        signature: str | None = None,
        apiv3_key: str | None = None,
        typed: bool = True,
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body of a notice."""
        plain = json.dumps(self._wechat_trade(trade) | dict(facts or {}), ensure_ascii=False)
        nonce, associated = secrets.token_hex(6), "transaction"
        secret = AESGCM((apiv3_key or self.apiv3_key).encode())
        sealed = secret.encrypt(nonce.encode(), plain.encode(), associated.encode())
        body = json.dumps(
            {
                "id": "EV-2018022511223320873",
                "create_time": datetime.now(SHANGHAI).isoformat(timespec="seconds"),
                "resource_type": "encrypt-resource",
                "event_type": "TRANSACTION.SUCCESS",
                "summary": "支付成功",
                "resource": {
                    "original_type": "transaction",
                    "algorithm": "AEAD_AES_256_GCM",
                    "ciphertext": b64encode(sealed).decode(),
                    "associated_data": associated,
                    "nonce": nonce,
                },
            },
            ensure_ascii=False,
        ).encode()
        headers = self._signed(body, age_s, key or self.wechat)
        headers |= {"Wechatpay-Serial": serial, "User-Agent": "Mozilla/4.0", "Pragma": "no-cache"}
        headers |= {"Request-ID": secrets.token_hex(20), "X-B3-Traceid": secrets.token_hex(8)}
        if signature is not None:
            headers["Wechatpay-Signature"] = signature
        if not typed:
            del headers["Wechatpay-Signature-Type"]
        return headers, body

    @staticmethod
    def _signed(body: bytes, age_s: int, key: Key) -> dict[str, str]:
        stamp, nonce = str(int(time.time()) - age_s), secrets.token_hex(16)
        return {
            "Content-Type": "application/json; charset=utf-8",
            "WECHATPAY-TIMESTAMP": stamp,  # proxies on the way change the letters' case
            "Wechatpay-Nonce": nonce,
            "wechatpay-signature": key.sign(f"{stamp}\n{nonce}\n".encode() + body + b"\n"),
            "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
            "Wechatpay-Serial": PLATFORM_KEY_ID,
        }

    def _wechat_trade(self, trade: Trade) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "mchid": MCHID,
            "appid": APPID,
            "out_trade_no": trade.out_trade_no,
            "trade_state": trade.state,
            "trade_state_desc": {"SUCCESS": "支付成功"}.get(trade.state, "订单未支付"),
            "attach": "",
            "amount": {"total": trade.fen, "currency": "CNY"},
            "promotion_detail": [],
        }
        if trade.paid is None:
            return shown
        shown["amount"] |= {"payer_total": trade.fen, "payer_currency": "CNY"}
        return shown | {
            "transaction_id": trade.number,
            "trade_type": WECHAT_METHODS[trade.kind],
            "bank_type": "OTHERS",
            "success_time": trade.paid.isoformat(timespec="seconds"),
            "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
        }

    def _check_wechat(self, request: Request) -> None:
        if request.headers.get("accept") != "application/json":
            raise RefusedError(406, "INVALID_REQUEST")
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        given = {
            name.strip(): value.strip('"')
            for name, _, value in (part.partition("=") for part in rest.split(","))
        }
        signed_now = abs(time.time() - int(given.get("timestamp", "0"))) < 300
        if scheme != "WECHATPAY2-SHA256-RSA2048" or given["mchid"] != MCHID or not signed_now:
            raise RefusedError(401, "SIGN_ERROR")
        head = [request.method, request.target, given["timestamp"], given["nonce_str"], ""]
        text = "\n".join(head).encode() + request.body + b"\n"
        if given["serial_no"] != CERT_SERIAL:
            raise RefusedError(401, "SIGN_ERROR")
        self.wechat_merchant.check(text, given["signature"])

    def _answer_wechat(self, request: Request) -> Answer:
        try:
            self._check_wechat(request)
            content = self._ask_wechat(request)
        except RefusedError as error:
            told = json.dumps({"code": error.code, "message": "参数错误"}).encode()
            return error.status, {"Content-Type": "application/json"}, told
        body = b"" if content is None else json.dumps(content, ensure_ascii=False).encode()
        return 204 if content is None else 200, self._signed(body, 0, self.wechat), body

    def _ask_wechat(self, request: Request) -> dict[str, Any] | None:
        path = urlsplit(request.target).path.removeprefix("/v3/pay/transactions/")
        if request.method == "POST" and path in WECHAT_METHODS:
            return self._order_wechat(path, json.loads(request.body))
        number = path.removeprefix("out-trade-no/").removesuffix("/close")
        trade = self.trades.get(number)
        if trade is None or trade.kind.startswith("alipay"):
            raise RefusedError(404, "ORDER_NOT_EXIST")
        if request.method == "POST" and path.endswith("/close"):
            if trade.state == "SUCCESS":
                raise RefusedError(400, "ORDERPAID")
            trade.state = "CLOSED"
            return None
        if request.query.get("mchid") != MCHID:
            raise RefusedError(400, "PARAM_ERROR")
        return self._wechat_trade(trade)

    def _order_wechat(self, kind: str, asked: dict[str, Any]) -> dict[str, Any]:
        expires = datetime.fromisoformat(asked["time_expire"])
        good = (
            (asked["mchid"], asked["appid"]) == (MCHID, APPID)
            and 6 <= len(asked["out_trade_no"]) <= 32
            and 0 < len(asked["description"].encode()) <= 127
            and isinstance(asked["amount"]["total"], int)
            and "?" not in asked["notify_url"]
            and expires > datetime.now(UTC)
        )
        if kind == "jsapi":
            good = good and bool(asked["payer"]["openid"])
        if kind == "h5":
            scene = asked["scene_info"]
            good = good and bool(scene["payer_client_ip"]) and bool(scene["h5_info"]["type"])
        if not good:
            raise RefusedError(400, "PARAM_ERROR")
        self._keep(asked["out_trade_no"], asked["amount"]["total"], asked, "description", kind)
        prepay = f"wx{secrets.token_hex(17)}"
        return {
            "jsapi": {"prepay_id": prepay},
            "native": {"code_url": f"weixin://wxpay/bizpayurl?pr={asked['out_trade_no']}"},
            "h5": {
                "h5_url": "https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb"
                f"?prepay_id={prepay}&package=2150917749"
            },
        }[kind]

    def _keep(self, number: str, fen: int, asked: Mapping[str, Any], text: str, kind: str) -> None:
        known = self.trades.get(number)
        if known is not None and (known.fen, known.kind) != (fen, kind):
            raise RefusedError(403, "OUT_TRADE_NO_USED")
        if known is None:
            self.trades[number] = Trade(
                number, fen, asked["notify_url"], asked[text], kind, datetime.now(SHANGHAI)
            )

    # Alipay

    def alipay_notice(
        self,
        trade: Trade,
        *,
        facts: Mapping[str, str] | None = None,
        key: Key | None = None,
        signature: str | None = None,
    ) -> tuple[dict[str, str], bytes]:
        """Headers and form of a notice."""
        assert trade.paid is not None
        yuan = f"{Decimal(trade.fen) / 100:.2f}"
        form = {
            "gmt_create": f"{trade.created:%Y-%m-%d %H:%M:%S}",
            "charset": "utf-8",
            "gmt_payment": f"{trade.paid:%Y-%m-%d %H:%M:%S}",
            "notify_time": f"{datetime.now(SHANGHAI):%Y-%m-%d %H:%M:%S}",
            "subject": trade.subject,
            "buyer_id": "2088722033871957",
            "invoice_amount": yuan,
            "version": "1.0",
            "notify_id": f"{trade.created:%Y%m%d}{trade.number}",
            "fund_bill_list": f'[{{"amount":"{yuan}","fundChannel":"ALIPAYACCOUNT"}}]',
            "notify_type": "trade_status_sync",
            "out_trade_no": trade.out_trade_no,
            "total_amount": yuan,
            "trade_status": "TRADE_SUCCESS",
            "trade_no": trade.number,
            "auth_app_id": ALIPAY_APP,
            "receipt_amount": yuan,
            "point_amount": "0.00",
            "buyer_pay_amount": yuan,
            "app_id": ALIPAY_APP,
            "seller_id": ALIPAY_SELLER,
        } | dict(facts or {})
        text = "&".join(f"{name}={form[name]}" for name in sorted(form))
        form["sign"] = signature or (key or self.alipay).sign(text.encode())
        form["sign_type"] = "RSA2"
        kind = "application/x-www-form-urlencoded; text/html; charset=utf-8"  # sic
        return {"Content-Type": kind, "User-Agent": "Mozilla/4.0"}, urlencode(form).encode()

    def _check_alipay(self, asked: Mapping[str, str]) -> None:
        good = (
            (asked["app_id"], asked["sign_type"]) == (ALIPAY_APP, "RSA2")
            and asked["version"] == "1.0"
            and asked["charset"].lower() == "utf-8"
            and len(asked["timestamp"]) == 19
        )
        if not good:
            raise RefusedError(200, "isv.invalid-parameter")
        text = "&".join(f"{name}={asked[name]}" for name in sorted(asked) if name != "sign")
        self.alipay_app.check(text.encode(), asked["sign"])

    def _create_alipay(self, asked: Mapping[str, str]) -> None:
        business = json.loads(asked["biz_content"])
        fen = Decimal(business["total_amount"]) * 100
        assert fen == int(fen)
        asked = {**business, "notify_url": asked["notify_url"]}
        self._keep(business["out_trade_no"], int(fen), asked, "subject", "alipay")

    def _answer_alipay(self, request: Request) -> Answer:
        asked = request.query | dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        try:
            self._check_alipay(asked)
            content = {"code": "10000", "msg": "Success"} | self._ask_alipay(asked)
        except RefusedError as error:
            content = {"code": "40004", "msg": "Business Failed", "sub_code": error.code}
            content |= {"sub_msg": "交易不存在"}
        text = json.dumps(content, ensure_ascii=False).replace("/", "\\/")  # as the real one
        name = asked["method"].replace(".", "_") + "_response"
        sign = self.alipay.sign(text.encode()).replace("/", "\\/")
        body = f'{{"{name}":{text},"sign":"{sign}"}}'.encode()
        return 200, {"Content-Type": "text/html;charset=utf-8"}, body

    def _ask_alipay(self, asked: Mapping[str, str]) -> dict[str, Any]:
        number = json.loads(asked["biz_content"])["out_trade_no"]
        if asked["method"] == "alipay.trade.precreate":
            code = f"https://qr.alipay.com/bax{quote(number)}"
            self.codes[code] = dict(asked)
            return {"out_trade_no": number, "qr_code": code}
        trade = self.trades.get(number)
        if trade is None:
            raise RefusedError(200, "ACQ.TRADE_NOT_EXIST")
        shown: dict[str, Any] = {"out_trade_no": number, "trade_no": trade.number}
        if asked["method"] == "alipay.trade.close":
            trade.state = "CLOSED"
            return shown
        assert asked["method"] == "alipay.trade.query", asked["method"]
        states = {"NOTPAY": "WAIT_BUYER_PAY", "SUCCESS": "TRADE_SUCCESS", "CLOSED": "TRADE_CLOSED"}
        shown |= {"trade_status": states[trade.state], "buyer_logon_id": "159****5620"}
        shown |= {"total_amount": f"{Decimal(trade.fen) / 100:.2f}", "point_amount": "0.00"}
        if trade.paid is not None:
            shown["send_pay_date"] = f"{trade.paid:%Y-%m-%d %H:%M:%S}"
        return shown

    # The WeChat API

    @staticmethod
    def _answer_weixin(request: Request) -> Answer:
        path, content = urlsplit(request.target).path, {"errcode": 40066, "errmsg": "invalid url"}
        told: dict[str, Any] = content
        if path == "/sns/jscode2session":
            code = request.query["js_code"]
            told = {"openid": f"o{code}", "session_key": "tiihtNczf5v6AKRyjwEUhQ=="}
            if code.startswith("bad"):
                told = {"errcode": 40029, "errmsg": "invalid code, rid: 5e7f"}
        elif path == "/cgi-bin/stable_token":
            told = {"access_token": secrets.token_urlsafe(32), "expires_in": 7200}
        elif path == "/cgi-bin/message/subscribe/send":
            told = {"errcode": 43101, "errmsg": "user refuse to accept the msg rid: 1"}
        return 200, {"Content-Type": "text/plain"}, json.dumps(told).encode()

    # HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                request = await _read(reader)
                self.requests.append(request)
                status, headers, body = await self._answer(request)
                head = {"Server": "nginx", "Content-Length": str(len(body))} | dict(headers)
                lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            self._writers.discard(writer)

    async def _answer(self, request: Request) -> Answer:
        path = urlsplit(request.target).path
        if self.fail_next and not path.startswith("/sns/"):
            self.fail_next -= 1
            return 500, {"Content-Type": "text/html"}, b"<html>SYSTEM ERROR</html>"
        if path == "/gateway.do":
            answer = self._answer_alipay(request)
        elif path.startswith("/v3/"):
            answer = self._answer_wechat(request)
        else:
            return self._answer_weixin(request)
        if request.method == "POST" and self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.pay_before_answer and request.method == "POST":
            self.pay_before_answer = False
            number = json.loads(request.body)["out_trade_no"]
            assert (await self.notify(self.pay(number))).status_code in (200, 204)
        return answer


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)
