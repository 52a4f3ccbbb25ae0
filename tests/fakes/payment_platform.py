"""A payment platform and a directory of them, in memory; tests pay by `pay()`."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from payments.contract import (
    Bill,
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

TAKEN = (RefundStatus.PROCESSING, RefundStatus.SUCCEEDED, RefundStatus.ABNORMAL)
SIGNATURE = "x-fake-signature"


class FakePlatform:
    """One merchant; takes every order while it is not `down`, and remembers what it was asked."""

    def __init__(self, platform: Platform, methods: frozenset[Method]) -> None:
        self.platform = platform
        self.methods = methods
        self.merchant_id = f"merchant-{platform}"
        self.app_id = f"app-{platform}"
        self.down = False
        self.requests: list[PaymentRequest] = []
        self.trades: dict[str, Trade] = {}
        self.refund_requests: list[RefundRequest] = []
        self.refunds: dict[str, Refund] = {}
        self.bills: dict[date, Bill] = {}
        self.fetched: list[date] = []
        self.refuses = ""  # the code with which it refuses every refund
        self.loses_answers = False  # it does what it is asked, and its answer never arrives
        self._key = secrets.token_bytes(16)

    async def create(self, request: PaymentRequest, now: datetime) -> Mapping[str, str]:
        """The payment object of the method; the same out_trade_no twice is one order."""
        self._answer()
        assert now < request.expires_at
        self.requests.append(request)
        number = request.out_trade_no
        waiting = Trade(number, TradeStatus.WAITING, self.merchant_id)
        self.trades.setdefault(number, waiting)
        if request.method is Method.WECHAT_JSAPI:
            assert request.payer_id is not None
            return {"package": f"prepay_id={request.payer_id}", "out_trade_no": number}
        if request.method in {Method.WECHAT_NATIVE, Method.ALIPAY_QR}:
            return {"code_url": f"fake://pay/{number}", "out_trade_no": number}
        return {"url": f"https://pay.example/{number}", "out_trade_no": number}

    async def query(self, out_trade_no: str, now: datetime) -> Trade:
        """What became of it."""
        self._answer()
        assert now.tzinfo is not None
        unknown = Trade(out_trade_no, TradeStatus.UNKNOWN, self.merchant_id)
        return self.trades.get(out_trade_no, unknown)

    async def close(self, out_trade_no: str, now: datetime) -> None:
        """What is not paid can no longer be."""
        trade = await self.query(out_trade_no, now)
        if trade.status is TradeStatus.WAITING:
            self.trades[out_trade_no] = replace(trade, status=TradeStatus.CLOSED)

    def pay(self, out_trade_no: str, now: datetime, *, paid_fen: int | None = None) -> Trade:
        """Somebody pays (what was asked, or another amount)."""
        asked = next(one for one in self.requests if one.out_trade_no == out_trade_no)
        trade = replace(
            self.trades[out_trade_no],
            status=TradeStatus.PAID,
            paid_fen=asked.amount_fen if paid_fen is None else paid_fen,
            transaction_id=f"{self.platform}-{out_trade_no}",
            paid_at=now,
        )
        self.trades[out_trade_no] = trade
        return trade

    async def refund(self, request: RefundRequest, now: datetime) -> Refund:
        """Taken, to be finished by `finish`; the same number again is the same refund."""
        self._answer()
        self.refund_requests.append(request)
        paid = await self.query(request.out_trade_no, now)
        known = [one for one in self.refunds.values() if one.out_trade_no == paid.out_trade_no]
        taken_fen = sum(one.refund_fen or 0 for one in known if one.status in TAKEN)
        if request.out_refund_no not in self.refunds:
            if self.refuses or paid.paid_fen is None:
                raise PlatformRefusedError("refused for a test", code=self.refuses or "NO_TRADE")
            assert request.total_fen == paid.paid_fen
            assert request.refund_fen <= paid.paid_fen - taken_fen
            self.refunds[request.out_refund_no] = Refund(
                out_refund_no=request.out_refund_no,
                out_trade_no=request.out_trade_no,
                status=RefundStatus.PROCESSING,
                merchant_id=self.merchant_id,
                refund_fen=request.refund_fen,
                refund_id=f"refund-{len(self.refunds) + 1}",
            )
            self.trades[paid.out_trade_no] = replace(paid, status=TradeStatus.REFUNDED)
        if self.loses_answers:
            raise PlatformUnavailableError("lost for a test", code="TIMEOUT")
        return self.refunds[request.out_refund_no]

    async def query_refund(self, out_trade_no: str, out_refund_no: str, now: datetime) -> Refund:
        """What became of it."""
        self._answer()
        assert now.tzinfo is not None
        unknown = Refund(out_refund_no, out_trade_no, RefundStatus.UNKNOWN, self.merchant_id)
        return self.refunds.get(out_refund_no, unknown)

    def finish(self, out_refund_no: str, status: RefundStatus, now: datetime) -> Refund:
        """The bank has done its part, or could not."""
        at = now if status is RefundStatus.SUCCEEDED else None
        refund = replace(self.refunds[out_refund_no], status=status, finished_at=at)
        self.refunds[out_refund_no] = refund
        return refund

    async def fetch_bill(self, day: date, now: datetime) -> Bill:
        """The bill that a test put there, or one of a day on which nobody paid."""
        self._answer()
        self.fetched.append(day)
        assert now.tzinfo is not None
        return self.bills.get(day, Bill(self.platform, self.merchant_id, day, (), ""))

    def notice_of(self, out_trade_no: str) -> tuple[dict[str, str], bytes]:
        """Headers and body of the notice that the platform would send."""
        body = json.dumps({"out_trade_no": out_trade_no}).encode()
        return {SIGNATURE: self._sign(body)}, body

    def parse_notice(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Notice:
        """Only what `notice_of` made is believed."""
        assert now.tzinfo is not None
        if not hmac.compare_digest(headers.get(SIGNATURE, ""), self._sign(body)):
            raise NoticeRejectedError("the signature is not ours")
        trade = self.trades[json.loads(body)["out_trade_no"]]
        digest = hashlib.sha256(body).hexdigest()
        return Notice(self.platform, self.merchant_id, self.app_id, trade, digest, body.decode())

    def refund_notice_of(self, refund: Refund) -> RefundNotice:
        """The notice that the platform would send, verified."""
        raw = json.dumps([refund.out_refund_no, refund.status])
        digest = hashlib.sha256(raw.encode()).hexdigest()
        return RefundNotice(self.platform, self.merchant_id, refund, digest, raw)

    def acknowledge(self, *, accepted: bool, reason: str = "") -> NoticeAnswer:
        """Plain words."""
        return NoticeAnswer(200 if accepted else 400, reason.encode(), "text/plain")

    async def aclose(self) -> None:
        """Nothing is open."""

    def _answer(self) -> None:
        if self.down:
            raise PlatformUnavailableError("down for a test", code="SYSTEM_ERROR")

    def _sign(self, body: bytes) -> str:
        return hmac.new(self._key, body, hashlib.sha256).hexdigest()


@dataclass
class FakeDirectory:
    """The merchants of every site: WeChat and Alipay, unless a test takes one away."""

    platforms: dict[Platform, FakePlatform] = field(
        default_factory=lambda: {
            platform: FakePlatform(
                platform,
                frozenset(method for method in Method if method.platform is platform),
            )
            for platform in Platform
        }
    )

    @property
    def wechat(self) -> FakePlatform:
        """WeChat Pay, as long as no test has taken it away."""
        return self.platforms[Platform.WECHAT]

    @property
    def alipay(self) -> FakePlatform:
        """Alipay, likewise."""
        return self.platforms[Platform.ALIPAY]

    async def of_site(self, site_id: int, platform: Platform) -> FakePlatform | None:
        """The same for every site."""
        assert site_id > 0
        return self.platforms.get(platform)

    async def methods(self, site_id: int) -> Sequence[Method]:
        """All methods of the platforms that are left."""
        assert site_id > 0
        return sorted(method for one in self.platforms.values() for method in one.methods)
