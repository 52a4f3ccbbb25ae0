"""What every payment platform offers: integer fen in, verified facts out.

`now` is always handed in; URLs and keys come with the merchant's configuration. A provider never
decides anything about money: it says what the platform said, verified, and lets services decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol


class Platform(StrEnum):
    """A payment platform."""

    WECHAT = "wechat"
    ALIPAY = "alipay"


class Method(StrEnum):
    """How a payer pays; the prefix names the platform."""

    WECHAT_JSAPI = "wechat_jsapi"
    WECHAT_NATIVE = "wechat_native"
    WECHAT_H5 = "wechat_h5"
    ALIPAY_WAP = "alipay_wap"
    ALIPAY_QR = "alipay_qr"

    @property
    def platform(self) -> Platform:
        """The platform that offers this method."""
        return Platform(self.value.partition("_")[0])


class TradeStatus(StrEnum):
    """What became of one out_trade_no at its platform."""

    UNKNOWN = "unknown"  # the platform never heard of it
    WAITING = "waiting"
    PAID = "paid"
    CLOSED = "closed"
    REFUNDED = "refunded"  # paid, and wholly or partly given back


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """One attempt to be paid. `amount_fen` > 0; `payer_id` is the openid for wechat_jsapi."""

    out_trade_no: str
    amount_fen: int
    description: str
    method: Method
    notify_url: str
    expires_at: datetime
    payer_id: str | None = None
    client_ip: str | None = None
    return_url: str | None = None


@dataclass(frozen=True, slots=True)
class Trade:
    """What the platform says of one out_trade_no; `paid_fen`, `transaction_id` once paid."""

    out_trade_no: str
    status: TradeStatus
    merchant_id: str
    paid_fen: int | None = None
    currency: str = "CNY"
    transaction_id: str | None = None
    paid_at: datetime | None = None


class RefundStatus(StrEnum):
    """What became of one out_refund_no at its platform."""

    UNKNOWN = "unknown"  # the platform never heard of it
    PROCESSING = "processing"  # accepted, which is not yet given back
    SUCCEEDED = "succeeded"
    CLOSED = "closed"  # nothing was given back, and this number never will
    ABNORMAL = "abnormal"  # the payer's account cannot take it: the money waits at the platform


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """Giving back `refund_fen` > 0 of a payment of `total_fen`; the same number on every try."""

    out_trade_no: str
    out_refund_no: str
    refund_fen: int
    total_fen: int
    reason: str
    notify_url: str


@dataclass(frozen=True, slots=True)
class Refund:
    """What the platform says of one out_refund_no; `refund_fen` unless UNKNOWN."""

    out_refund_no: str
    out_trade_no: str
    status: RefundStatus
    merchant_id: str
    refund_fen: int | None = None
    refund_id: str | None = None  # the platform's number, where it has one
    finished_at: datetime | None = None  # None also where the platform does not say


@dataclass(frozen=True, slots=True)
class RefundNotice:
    """A verified notice about a refund. `digest` names its decrypted content."""

    platform: Platform
    merchant_id: str
    refund: Refund
    digest: str
    raw: str


class BillEntryKind(StrEnum):
    """Money that came, or money that went back."""

    PAYMENT = "payment"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class BillEntry:
    """A line of a platform's bill: `amount_fen` > 0, whichever way it went.

    `out_refund_no` and `status` only for a refund; a refund still PROCESSING stands there too.
    """

    kind: BillEntryKind
    out_trade_no: str
    transaction_id: str
    amount_fen: int
    at: datetime
    fee_fen: int = 0
    out_refund_no: str | None = None
    refund_id: str | None = None
    status: RefundStatus | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """All that one merchant was paid and gave back on a Chinese day, agreeing with its summary."""

    platform: Platform
    merchant_id: str
    day: date
    entries: Sequence[BillEntry]
    digest: str  # sha256 over the bytes as they were fetched and unpacked; "" where there is none


@dataclass(frozen=True, slots=True)
class Notice:
    """A verified payment notice. `digest` names its decrypted content; `app_id` as it says."""

    platform: Platform
    merchant_id: str
    app_id: str
    trade: Trade
    digest: str
    raw: str


@dataclass(frozen=True, slots=True)
class NoticeAnswer:
    """The HTTP answer in the platform's own form."""

    status: int
    body: bytes
    content_type: str


class PaymentError(Exception):
    """Base of what a platform can do wrong; `transient`: the same call may succeed later."""

    transient = False

    def __init__(self, detail: str, *, code: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code


class PlatformUnavailableError(PaymentError):
    """No answer, a 5xx or a 429: try again."""

    transient = True


class PlatformRefusedError(PaymentError):
    """The platform understood and said no; `code` is its own."""


class BillNotReadyError(PlatformUnavailableError):
    """The platform has not made this day's bill yet: ask later."""


class BillUnsoundError(PaymentError):
    """A bill that contradicts its own hash, form or summary: nothing of it is believed."""


class NoticeRejectedError(PaymentError):
    """A notice that does not prove itself: signature, serial, time, decryption or form."""


class MerchantConfigError(PaymentError):
    """A merchant's keys or ids cannot be used; names each setting, never its content."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{setting}: {problem}" for setting, problem in problems))
        self.problems = problems


class PaymentPlatform(Protocol):
    """One merchant at one platform; built once, cached, closed at the end."""

    platform: Platform
    merchant_id: str  # mchid, seller_id
    app_id: str
    methods: frozenset[Method]

    async def create(self, request: PaymentRequest, now: datetime) -> Mapping[str, str]:
        """Order at the platform; the payer's `payment` object of the API contract."""
        ...

    async def query(self, out_trade_no: str, now: datetime) -> Trade:
        """The trade as the platform has it (status UNKNOWN where it has none)."""
        ...

    async def close(self, out_trade_no: str, now: datetime) -> None:
        """Make an unpaid trade unpayable; closing twice, or an unknown one, is no error."""
        ...

    async def refund(self, request: RefundRequest, now: datetime) -> Refund:
        """Ask for money to go back; the answer may mean no more than accepted.

        The same number again is the same refund. Raises PlatformRefusedError where nothing was,
        and with this number never will be, given back; PlatformUnavailableError: try it again.
        """
        ...

    async def query_refund(self, out_trade_no: str, out_refund_no: str, now: datetime) -> Refund:
        """The refund as the platform has it (status UNKNOWN where it has none)."""
        ...

    async def fetch_bill(self, day: date, now: datetime) -> Bill:
        """A Chinese day's bill; without entries where nobody paid.

        Raises BillNotReadyError, BillUnsoundError and the other errors of a call.
        """
        ...

    def parse_notice(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> Notice | RefundNotice:
        """Verify and read a notice (header names in lower case); raises NoticeRejectedError."""
        ...

    def acknowledge(self, *, accepted: bool, reason: str = "") -> NoticeAnswer:
        """The answer that stops (or asks for) another delivery."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
