"""WeChat Pay as a `PaymentPlatform`: bounded calls, typed errors, verified facts."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import date, datetime
from urllib.parse import urlsplit

import msgspec

from payments.contract import (
    Bill,
    BillNotReadyError,
    MerchantConfigError,
    Method,
    Notice,
    NoticeAnswer,
    NoticeRejectedError,
    PaymentRequest,
    Platform,
    PlatformRefusedError,
    PlatformUnavailableError,
    Refund,
    RefundNotice,
    RefundRequest,
    RefundStatus,
    Trade,
    TradeStatus,
)
from payments.wechat import bills, errors, notice, orders, refunds
from payments.wechat.bills import Offer
from payments.wechat.calls import Answer, content_of, in_time, persist
from payments.wechat.config import API_URL, WeChatMerchant
from payments.wechat.sdk import WeChatSdk, open_sdk

BILL_TIMEOUT_S = 20.0  # one try: to ask, and to fetch up to 16 MB


class WeChatPlatform:
    """One merchant at WeChat Pay; see `payments.contract.PaymentPlatform`.

    Every call may be repeated by the platform's own rules (same number, same effect), so what is
    transient is tried again as `calls.persist` does it.
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
        answer = await _call(sdk, lambda: sdk.pay(**arguments))
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
            answer = await _call(sdk, lambda: sdk.query(out_trade_no=out_trade_no))
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
            await _call(sdk, lambda: sdk.close(out_trade_no=out_trade_no))
        except PlatformRefusedError as error:
            if error.code not in errors.ORDER_UNKNOWN | errors.ORDER_CLOSED:
                raise

    async def refund(self, request: RefundRequest, now: datetime) -> Refund:
        """Ask for money to go back; PROCESSING means no more than accepted.

        A refusal counts only with a code that says so, and if WeChat Pay does not know the number:
        an earlier try, whose answer was lost, may have been accepted. What cannot be told raises
        PlatformUnavailableError.
        """
        arguments = refunds.refund_arguments(request)
        sdk = self._sdk.at(now)
        numbers = (request.out_trade_no, request.out_refund_no)
        async with in_time():
            try:
                answer = await _call(sdk, lambda: sdk.refund(**arguments))
            except PlatformRefusedError as refusal:
                found = await self._despite(refusal, *numbers, now)
                if found.status is RefundStatus.UNKNOWN:
                    raise
                return found
        refund = refunds.refund_from_answer(answer, self.merchant_id, *numbers)
        if refund.refund_fen != request.refund_fen:
            raise PlatformUnavailableError("the answer names another amount", code="BAD_ANSWER")
        return refund

    async def query_refund(self, out_trade_no: str, out_refund_no: str, now: datetime) -> Refund:
        """The refund as WeChat Pay has it (status UNKNOWN where it has none)."""
        orders.check_out_trade_no(out_trade_no)
        refunds.check_out_refund_no(out_refund_no)
        sdk = self._sdk.at(now)
        try:
            answer = await _call(sdk, lambda: sdk.query_refund(out_refund_no=out_refund_no))
        except PlatformRefusedError as error:
            if error.code not in errors.REFUND_UNKNOWN:
                raise
            return Refund(out_refund_no, out_trade_no, RefundStatus.UNKNOWN, self.merchant_id)
        return refunds.refund_from_answer(answer, self.merchant_id, out_trade_no, out_refund_no)

    async def fetch_bill(self, day: date, now: datetime) -> Bill:
        """A Chinese day's bill; without entries where nobody paid.

        Raises BillNotReadyError, BillUnsoundError and the other errors of a call.
        """
        sdk = self._sdk.at(now)

        async def fetched() -> tuple[Offer, bytes]:  # the URL lives 30 s: each try gets a new one
            content = await content_of(sdk.trade_bill(bill_date=day.isoformat()))
            offer = bills.offer_from_answer(content)
            return offer, await content_of(sdk.download_bill(offer.download_url))

        try:
            async with in_time():
                await sdk.ready()
                offer, packed = await persist(fetched, timeout_s=BILL_TIMEOUT_S)
        except PlatformRefusedError as error:
            if error.code == errors.NO_BILL:
                return bills.no_bill(self.merchant_id, day)
            if error.code == errors.BILL_IN_THE_MAKING:
                raise BillNotReadyError(error.detail, code=error.code) from error
            raise
        return await asyncio.to_thread(bills.read_bill, packed, offer, self.merchant_id, day)

    def parse_notice(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> Notice | RefundNotice:
        """Verify and read a notice (header names in lower case); raises NoticeRejectedError.

        One that names an unknown certificate is refused, and certificates are asked for afterwards:
        the platform delivers again.
        """
        keys = self._sdk.keys.at(now)
        try:
            return notice.read_notice(headers, body, keys=keys, apiv3_key=self._apiv3_key, now=now)
        except NoticeRejectedError:
            serial = headers.get("wechatpay-serial", "")
            if serial not in keys:
                self._sdk.keys.missed(serial, now)
            raise

    def acknowledge(self, *, accepted: bool, reason: str = "") -> NoticeAnswer:
        """The answer that stops (or asks for) another delivery."""
        return notice.answer_notice(accepted=accepted, reason=reason)

    async def aclose(self) -> None:
        """Close connections."""
        await self._sdk.aclose()

    async def _despite(
        self, refusal: PlatformRefusedError, out_trade_no: str, out_refund_no: str, now: datetime
    ) -> Refund:
        """What became of a number whose last try was refused; UNKNOWN if that decides it."""
        try:
            found = await self.query_refund(out_trade_no, out_refund_no, now)
        except PlatformRefusedError as error:
            raise PlatformUnavailableError(
                f"refused ({refusal.detail}), and so is the question what became of it",
                code=error.code,
            ) from refusal
        if found.status is RefundStatus.UNKNOWN and refusal.code not in errors.REFUND_REFUSED:
            detail = f"refused, which decides nothing: {refusal.detail}"
            raise PlatformUnavailableError(detail, code=refusal.code) from refusal
        return found

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


async def _call(sdk: WeChatSdk, call: Callable[[], Awaitable[Answer]]) -> bytes:
    async with in_time():
        await sdk.ready()
        return await persist(lambda: content_of(call()))


def _field(answer: bytes, name: str) -> str:
    try:
        value = msgspec.json.decode(answer, type=dict[str, object]).get(name)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        value = None
    if not isinstance(value, str) or not 1 <= len(value) <= 2048:
        raise PlatformUnavailableError(f"the answer has no {name}", code="BAD_ANSWER")
    return value
