"""One merchant at Alipay, as `payments.contract.PaymentPlatform`."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import TypeVar
from urllib.parse import urlsplit

from payments.alipay import bills, errors, notice, orders, refunds
from payments.alipay.config import AlipayMerchant
from payments.alipay.downloads import fetch
from payments.alipay.gateway import Gateway, in_time, tried
from payments.contract import (
    Bill,
    MerchantConfigError,
    Method,
    Notice,
    NoticeAnswer,
    NoticeRejectedError,
    PaymentError,
    PaymentRequest,
    Platform,
    PlatformRefusedError,
    Refund,
    RefundRequest,
    RefundStatus,
    Trade,
    TradeStatus,
)

BILL_TOTAL_S = 90.0  # nobody waits for a bill
NO_TRADE = "certificate"
LOOK_PAUSE = timedelta(minutes=1)  # whoever posts forged notices makes no more calls than that
ZIP_BYTES_MAX = 32 * 1024 * 1024

T = TypeVar("T")


class AlipayPlatform:
    """One app of one merchant at Alipay; see `payments.contract.PaymentPlatform`."""

    platform = Platform.ALIPAY
    methods: frozenset[Method] = orders.METHODS

    def __init__(self, merchant: AlipayMerchant, gateway_url: str) -> None:
        self.merchant_id = merchant.seller_id
        self.app_id = merchant.app_id
        self._merchant = merchant
        self._gateway = Gateway(merchant, gateway_url)
        self._looked_at: datetime | None = None
        self._looking: asyncio.Task[None] | None = None

    async def create(self, request: PaymentRequest, now: datetime) -> Mapping[str, str]:
        """`{"url"}` of the page to open (wap) or `{"code_url"}` of the QR code, with the number."""
        params = orders.order_params(await self._gateway.sdk(), self._merchant, request, now)
        if request.method is Method.ALIPAY_WAP:
            url = self._gateway.page_url(params, now)
            return {"url": url, "out_trade_no": request.out_trade_no}
        async with in_time(orders.PRECREATE):
            answer = await self._gateway.call(params, now, out_trade_no=request.out_trade_no)
        code_url = answer.get("qr_code", "")
        if not code_url:
            raise errors.unproven(orders.PRECREATE, "the answer has no qr_code")
        return {"code_url": code_url, "out_trade_no": request.out_trade_no}

    async def query(self, out_trade_no: str, now: datetime) -> Trade:
        """The trade; UNKNOWN also means that nobody scanned or opened it yet."""
        params = orders.query_params(await self._gateway.sdk(), out_trade_no)
        try:
            async with in_time(orders.QUERY):
                answer = await self._gateway.call(params, now, out_trade_no=out_trade_no)
        except PlatformRefusedError as error:
            if error.code != errors.TRADE_NOT_EXIST:
                raise
            return Trade(out_trade_no, TradeStatus.UNKNOWN, self.merchant_id)
        return _read(orders.QUERY, lambda: orders.read_trade(answer, self.merchant_id))

    async def close(self, out_trade_no: str, now: datetime) -> None:
        """Close an unpaid trade; a paid one raises PlatformRefusedError."""
        params = orders.close_params(await self._gateway.sdk(), out_trade_no)
        async with in_time(orders.CLOSE):
            try:
                await self._gateway.call(params, now, out_trade_no=out_trade_no)
            except PlatformRefusedError as error:
                if error.code in {errors.TRADE_NOT_EXIST, errors.TRADE_HAS_CLOSE}:
                    return
                if error.code not in errors.UNCLOSABLE:
                    raise
                trade = await self.query(out_trade_no, now)
                if trade.status in {TradeStatus.WAITING, TradeStatus.PAID}:
                    raise

    async def refund(self, request: RefundRequest, now: datetime) -> Refund:
        """Give back; the same number again is the same refund.

        PROCESSING where Alipay took it and says no more. A refusal counts only after a question
        for the refund: an earlier try may have given it back.
        """
        params = refunds.refund_params(await self._gateway.sdk(), request)
        async with in_time(refunds.REFUND):
            try:
                answer = await self._gateway.call(params, now, out_trade_no=request.out_trade_no)
            except PlatformRefusedError as error:
                return await self._despite(error, request, now)
            told = _read(
                refunds.REFUND, lambda: refunds.read_asked(answer, request, self.merchant_id)
            )
            if told.status is RefundStatus.SUCCEEDED:
                return told
            found = await self._find(request, now)
            return told if found.status is RefundStatus.UNKNOWN else found

    async def query_refund(self, out_trade_no: str, out_refund_no: str, now: datetime) -> Refund:
        """The refund; UNKNOWN also means that it may be on its way (ask after ten seconds)."""
        params = refunds.refund_query_params(await self._gateway.sdk(), out_trade_no, out_refund_no)
        try:
            async with in_time(refunds.REFUND_QUERY):
                answer = await self._gateway.call(params, now)
        except PlatformRefusedError as error:
            if error.code not in errors.REFUND_UNKNOWN:
                raise
            return refunds.unknown(out_trade_no, out_refund_no, self.merchant_id)
        return _read(
            refunds.REFUND_QUERY,
            lambda: refunds.read_found(answer, out_trade_no, out_refund_no, self.merchant_id),
        )

    async def fetch_bill(self, day: date, now: datetime) -> Bill:
        """A Chinese day's bill; without entries where nobody paid. Takes up to BILL_TOTAL_S."""
        bills.check_over(day, now)
        params = bills.bill_params(await self._gateway.sdk(), day)
        async with in_time(bills.BILL_URL, BILL_TOTAL_S):
            try:
                content = await tried(lambda: self._download(params, now))
            except PlatformRefusedError as error:
                if error.code in errors.BILL_ABSENT:
                    return bills.absent(day, self.merchant_id, now)
                if error.code in errors.BILL_EMPTY:
                    return bills.empty(day, self.merchant_id)
                raise
            return await asyncio.to_thread(bills.read_bill, content, day, self.merchant_id)

    def parse_notice(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Notice:
        """Verify and read a notice; raises NoticeRejectedError. Alipay redelivers for 25 h.

        In certificate mode what nobody signed may be signed by a certificate of tomorrow: a call
        in the background, once in LOOK_PAUSE at most, finds out which one Alipay uses now.
        """
        keys = self._gateway.keyring.keys(now)
        try:
            return notice.parse_notice(headers, body, keys, self._merchant)
        except NoticeRejectedError as error:
            if error.code == "sign" and self._gateway.keyring.names:
                self._look_later(now)
            raise

    def acknowledge(self, *, accepted: bool, reason: str = "") -> NoticeAnswer:  # noqa: ARG002 - Alipay's answer has no place for a reason
        """`success`, or `failure` for another delivery."""
        return notice.acknowledge(accepted=accepted)

    async def aclose(self) -> None:
        """Close connections."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        await self._gateway.aclose()

    def _look_later(self, now: datetime) -> None:
        if self._looked_at is not None and abs(now - self._looked_at) < LOOK_PAUSE:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # a notice read outside of a loop: the next call finds out
        self._looked_at = now
        self._looking = loop.create_task(self._look(now))

    async def _look(self, now: datetime) -> None:
        """Ask for a trade that there is not: the answer names the certificate in use."""
        params = orders.query_params(await self._gateway.sdk(), NO_TRADE)
        with suppress(PaymentError):
            await self._gateway.call_once(params, now)

    async def _download(self, params: Mapping[str, str], now: datetime) -> bytes:
        answer = await self._gateway.call_once(params, now)
        return await fetch(
            bills.BILL_URL,
            answer.get("bill_download_url", ""),
            ZIP_BYTES_MAX,
            gateway_is_local=self._gateway.is_local,
        )

    async def _despite(
        self, refusal: PlatformRefusedError, request: RefundRequest, now: datetime
    ) -> Refund:
        """The refund that is given back although this try was refused; else raises."""
        if refusal.code not in errors.REFUND_REFUSED | {errors.REFUND_REPEATED}:
            raise errors.undecided(refusal) from refusal
        found = await self._find(request, now)
        if found.status is not RefundStatus.UNKNOWN:
            return found
        if refusal.code == errors.REFUND_REPEATED:
            raise errors.undecided(refusal) from refusal
        raise refusal

    async def _find(self, request: RefundRequest, now: datetime) -> Refund:
        """As `query_refund`, but no refusal of a question refuses the refund."""
        try:
            return await self.query_refund(request.out_trade_no, request.out_refund_no, now)
        except PlatformRefusedError as error:
            raise errors.undecided(error) from error


def _read(method: str, read: Callable[[], T]) -> T:
    """What `read` makes of an answer; where that makes no sense, it proves nothing."""
    try:
        return read()
    except ValueError as error:
        raise errors.unproven(method, str(error)) from error


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
