"""WeChat Pay as a `PaymentPlatform`: bounded calls, typed errors, verified facts."""

import asyncio
import secrets
from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

import httpx
import msgspec

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
from payments.wechat import errors, notice, orders
from payments.wechat.config import API_URL, WeChatMerchant
from payments.wechat.sdk import open_sdk

ATTEMPTS_MAX = 3
BACKOFF_S = 0.2  # doubled each time, with full jitter on top
CALL_TIMEOUT_S = 8.0

_random = secrets.SystemRandom()


class _Call(Protocol):
    def __call__(self) -> Awaitable[tuple[int, str | bytes]]: ...


class WeChatPlatform:
    """One merchant at WeChat Pay; see `payments.contract.PaymentPlatform`.

    Every call may be repeated by the platform's own rules (same out_trade_no, same effect), so
    what is transient is tried up to ATTEMPTS_MAX times.
    """

    platform = Platform.WECHAT
    methods = frozenset({Method.WECHAT_JSAPI, Method.WECHAT_NATIVE, Method.WECHAT_H5})

    def __init__(self, merchant: WeChatMerchant, base_url: str) -> None:
        self.merchant_id = merchant.mchid
        self.app_id = merchant.appid
        self._apiv3_key = merchant.apiv3_key
        self._sdk = open_sdk(merchant, base_url)

    async def create(self, request: PaymentRequest, now: datetime) -> Mapping[str, str]:
        """Order; the arguments of wx.requestPayment, or a code or page to open."""
        arguments = orders.order_arguments(request)
        sdk = self._sdk.at(now)
        answer = await _call(lambda: sdk.pay(**arguments))
        out_trade_no = {"out_trade_no": request.out_trade_no}
        if request.method is Method.WECHAT_NATIVE:
            return {"code_url": _field(answer, "code_url")} | out_trade_no
        if request.method is Method.WECHAT_H5:
            url = orders.with_return_url(_field(answer, "h5_url"), request.return_url)
            return {"url": url} | out_trade_no
        return self._requested_payment(_field(answer, "prepay_id"), now) | out_trade_no

    async def query(self, out_trade_no: str, now: datetime) -> Trade:
        """The trade as WeChat Pay has it (status UNKNOWN where it has none)."""
        orders.check_out_trade_no(out_trade_no)
        sdk = self._sdk.at(now)
        try:
            answer = await _call(lambda: sdk.query(out_trade_no=out_trade_no))
        except PlatformRefusedError as error:
            if error.code in errors.ORDER_UNKNOWN:
                return Trade(out_trade_no, TradeStatus.UNKNOWN, self.merchant_id)
            raise
        _, trade = orders.trade_from_content(answer)
        if trade.out_trade_no != out_trade_no:  # signed, but for another question
            raise PlatformUnavailableError("the answer names another order", code="BAD_ANSWER")
        return trade

    async def close(self, out_trade_no: str, now: datetime) -> None:
        """Make an unpaid order unpayable; a paid one is refused with code ORDERPAID."""
        orders.check_out_trade_no(out_trade_no)
        sdk = self._sdk.at(now)
        try:
            await _call(lambda: sdk.close(out_trade_no=out_trade_no))
        except PlatformRefusedError as error:
            if error.code not in errors.ORDER_UNKNOWN | errors.ORDER_CLOSED:
                raise

    def parse_notice(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Notice:
        """Verify and read a notice (header names in lower case); raises NoticeRejectedError."""
        return notice.read_notice(
            headers, body, keys=self._sdk.keys, apiv3_key=self._apiv3_key, now=now
        )

    def acknowledge(self, *, accepted: bool, reason: str = "") -> NoticeAnswer:
        """The answer that stops (or asks for) another delivery."""
        return notice.answer_notice(accepted=accepted, reason=reason)

    async def aclose(self) -> None:
        """Close connections."""
        await self._sdk.aclose()

    def _requested_payment(self, prepay_id: str, now: datetime) -> dict[str, str]:
        time_stamp, nonce = str(int(now.timestamp())), secrets.token_hex(16)
        package = f"prepay_id={prepay_id}"
        return {
            "timeStamp": time_stamp,
            "nonceStr": nonce,
            "package": package,
            "signType": "RSA",
            "paySign": self._sdk.sign([self.app_id, time_stamp, nonce, package]),
        }


def build(config: WeChatMerchant, base_url: str = API_URL) -> WeChatPlatform:
    """The platform for one merchant; no network yet. Build once, keep, `aclose` at the end."""
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise MerchantConfigError(("wechat_pay_url", "is not an http(s) URL without a query"))
    return WeChatPlatform(config, base_url)


async def _call(call: _Call) -> str | bytes:
    for attempt in range(ATTEMPTS_MAX - 1):
        try:
            return await _call_once(call)
        except PlatformUnavailableError:
            await asyncio.sleep(BACKOFF_S * 2**attempt * (1 + _random.random()))
    return await _call_once(call)


async def _call_once(call: _Call) -> str | bytes:
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            status, content = await call()
    except (httpx.HTTPError, TimeoutError) as error:
        raise PlatformUnavailableError(f"no answer: {type(error).__name__}") from error
    if status not in {200, 204}:
        raise errors.error_from_answer(status, content)
    return content


def _field(answer: str | bytes, name: str) -> str:
    try:
        value = msgspec.json.decode(answer, type=dict[str, object]).get(name)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        value = None
    if not isinstance(value, str) or not 1 <= len(value) <= 2048:
        raise PlatformUnavailableError(f"the answer has no {name}", code="BAD_ANSWER")
    return value
