"""One merchant at Alipay: signed calls over httpx, verified answers."""

import asyncio
import secrets
from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address
from urllib.parse import urlencode, urlsplit

import httpx

from payments.alipay import errors, notice, orders, signing
from payments.alipay.answers import read_answer
from payments.alipay.config import PRIVATE_KEY_SETTING, PUBLIC_KEY_SETTING, AlipayMerchant
from payments.alipay.formats import shanghai_text
from payments.contract import (
    MerchantConfigError,
    Method,
    Notice,
    NoticeAnswer,
    PaymentRequest,
    Platform,
    PlatformRefusedError,
    PlatformUnavailableError,
    Trade,
    TradeStatus,
)
from payments.tls import trusted_roots

ANSWER_BYTES_MAX = 262_144
ATTEMPTS_MAX = 3
BACKOFF_S = 0.2  # doubled each time, with full jitter on top
CALL_TIMEOUT_S = 8.0  # of a whole attempt; a slow trickle ends too
_TIMEOUT = httpx.Timeout(CALL_TIMEOUT_S, connect=3.0)
_LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=8)
_BODY_FIELD = "biz_content"  # the official SDKs post it and put all else in the query


_random = secrets.SystemRandom()


class AlipayPlatform:
    """One app of one merchant at Alipay; see `payments.contract.PaymentPlatform`.

    Every call may be repeated (same out_trade_no, same effect), so what is transient is tried up
    to ATTEMPTS_MAX times.
    """

    platform = Platform.ALIPAY
    methods: frozenset[Method] = orders.METHODS

    def __init__(self, merchant: AlipayMerchant, gateway_url: str) -> None:
        self.merchant_id = merchant.seller_id
        self.app_id = merchant.app_id
        self._merchant = merchant
        self._gateway_url = gateway_url
        self._private_key = signing.private_key(merchant.private_key_pem, PRIVATE_KEY_SETTING)
        self._public_key = signing.public_key(merchant.alipay_public_key_pem, PUBLIC_KEY_SETTING)
        # A proxy of the environment is for the real platform, never for this machine.
        self._http = httpx.AsyncClient(
            verify=trusted_roots(),
            timeout=_TIMEOUT,
            limits=_LIMITS,
            trust_env=not _is_loopback(gateway_url),
        )
        self._sdk: orders.Sdk | None = None

    async def create(self, request: PaymentRequest, now: datetime) -> Mapping[str, str]:
        """`{"url"}` of the page to open (wap) or `{"code_url"}` of the QR code, with the number."""
        params = orders.order_params(await self._models(), self._merchant, request, now)
        if request.method is Method.ALIPAY_WAP:
            url = f"{self._gateway_url}?{urlencode(self._signed(params, now))}"
            return {"url": url, "out_trade_no": request.out_trade_no}
        answer = await self._call(params, request.out_trade_no, now)
        code_url = answer.get("qr_code", "")
        if not code_url:
            raise errors.unproven(orders.PRECREATE, "the answer has no qr_code")
        return {"code_url": code_url, "out_trade_no": request.out_trade_no}

    async def query(self, out_trade_no: str, now: datetime) -> Trade:
        """The trade; UNKNOWN also means that nobody scanned or opened it yet."""
        params = orders.query_params(await self._models(), out_trade_no)
        try:
            answer = await self._call(params, out_trade_no, now)
        except PlatformRefusedError as error:
            if error.code != errors.TRADE_NOT_EXIST:
                raise
            return Trade(out_trade_no, TradeStatus.UNKNOWN, self.merchant_id)
        try:
            return orders.read_trade(answer, self.merchant_id)
        except ValueError as error:
            raise errors.unproven(orders.QUERY, str(error)) from error

    async def close(self, out_trade_no: str, now: datetime) -> None:
        """Close an unpaid trade; a paid one raises PlatformRefusedError."""
        params = orders.close_params(await self._models(), out_trade_no)
        try:
            await self._call(params, out_trade_no, now)
        except PlatformRefusedError as error:
            if error.code in {errors.TRADE_NOT_EXIST, errors.TRADE_HAS_CLOSE}:
                return
            if error.code not in errors.UNCLOSABLE:
                raise
            trade = await self.query(out_trade_no, now)
            if trade.status in {TradeStatus.WAITING, TradeStatus.PAID}:
                raise

    def parse_notice(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Notice:  # noqa: ARG002 - Alipay redelivers for 25 h: no time window
        """Verify and read a notice; raises NoticeRejectedError."""
        return notice.parse_notice(headers, body, self._public_key, self._merchant)

    def acknowledge(self, *, accepted: bool, reason: str = "") -> NoticeAnswer:  # noqa: ARG002 - Alipay's answer has no place for a reason
        """`success`, or `failure` for another delivery."""
        return notice.acknowledge(accepted=accepted)

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()

    async def _models(self) -> orders.Sdk:
        if self._sdk is None:
            self._sdk = await asyncio.to_thread(orders.load_sdk)
        return self._sdk

    def _signed(self, params: Mapping[str, str], now: datetime) -> dict[str, str]:
        asked = {
            **params,
            "app_id": self.app_id,
            "format": "json",
            "charset": "utf-8",
            "sign_type": "RSA2",
            "timestamp": shanghai_text(now),
        }
        content = signing.canonical(asked, without=frozenset({"sign"}))
        asked["sign"] = signing.sign(self._private_key, content.encode("utf-8"))
        return asked

    async def _call(
        self, params: Mapping[str, str], out_trade_no: str, now: datetime
    ) -> Mapping[str, str]:
        """One call; the verified answer with code 10000 that speaks of our trade."""
        for attempt in range(ATTEMPTS_MAX - 1):
            try:
                return await self._call_once(params, out_trade_no, now)
            except PlatformUnavailableError:
                await asyncio.sleep(BACKOFF_S * 2**attempt * (1 + _random.random()))
        return await self._call_once(params, out_trade_no, now)

    async def _call_once(
        self, params: Mapping[str, str], out_trade_no: str, now: datetime
    ) -> Mapping[str, str]:
        method = params["method"]
        asked = self._signed(params, now)
        body = {_BODY_FIELD: asked.pop(_BODY_FIELD)}
        answer = read_answer(await self._post(method, asked, body), method, self._public_key)
        if answer.get("code") != errors.OK:
            raise errors.refusal(method, answer)
        if answer.get("out_trade_no") != out_trade_no:
            raise errors.unproven(method, "the answer is about another trade")
        return answer

    async def _post(self, method: str, query: Mapping[str, str], body: Mapping[str, str]) -> bytes:
        try:
            async with (
                asyncio.timeout(CALL_TIMEOUT_S),
                self._http.stream("POST", self._gateway_url, params=query, data=body) as response,
            ):
                _raise_for_status(method, response.status_code)
                return await _bounded(method, response)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            reason = type(error).__name__
            raise PlatformUnavailableError(f"{method}: no answer ({reason})") from error


def build(config: AlipayMerchant, gateway_url: str) -> AlipayPlatform:
    """A client for one merchant; raises MerchantConfigError. Keep it, and close it at the end."""
    try:
        parts = urlsplit(gateway_url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and not parts.query
    except ValueError:
        usable = False
    if not usable:
        raise MerchantConfigError(("gateway_url", "is not an http(s) URL"))
    return AlipayPlatform(config, gateway_url)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _raise_for_status(method: str, status: int) -> None:
    if status == httpx.codes.OK:
        return
    detail, code = f"{method}: HTTP {status}", f"http_{status}"
    if status >= 500 or status in {408, 425, 429}:
        raise PlatformUnavailableError(detail, code=code)
    raise PlatformRefusedError(detail, code=code)


async def _bounded(method: str, response: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > ANSWER_BYTES_MAX:
            raise errors.unproven(method, f"more than {ANSWER_BYTES_MAX} bytes")
    return bytes(content)
