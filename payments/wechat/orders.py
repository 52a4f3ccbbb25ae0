"""What is asked of WeChat Pay for an order, and what its answers say about one.

Fields: pay.weixin.qq.com/doc/v3/merchant/4013070356 (query) and its sister pages.
"""

import re
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from wechatpayv3.async_ import WeChatPayType

from payments.contract import (
    Method,
    PaymentRequest,
    PlatformRefusedError,
    PlatformUnavailableError,
    Trade,
    TradeStatus,
)

DESCRIPTION_BYTES_MAX = 127
CHINA = timezone(timedelta(hours=8))

_OUT_TRADE_NO = re.compile(r"[0-9A-Za-z_*-]{6,32}", re.ASCII)
_PAY_TYPES = {
    Method.WECHAT_JSAPI: WeChatPayType.JSAPI,
    Method.WECHAT_NATIVE: WeChatPayType.NATIVE,
    Method.WECHAT_H5: WeChatPayType.H5,
}
_STATUSES = {
    "SUCCESS": TradeStatus.PAID,
    "REFUND": TradeStatus.REFUNDED,
    "NOTPAY": TradeStatus.WAITING,
    "USERPAYING": TradeStatus.WAITING,
    "PAYERROR": TradeStatus.WAITING,
    "CLOSED": TradeStatus.CLOSED,
    "REVOKED": TradeStatus.CLOSED,
}

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class _Amount(msgspec.Struct):
    total: Annotated[int, msgspec.Meta(ge=1, le=10**12)]  # the order's; coupons lower payer_total
    currency: Annotated[str, msgspec.Meta(min_length=1, max_length=16)] = "CNY"


class _Transaction(msgspec.Struct):
    mchid: _Name
    appid: _Name
    out_trade_no: _Name
    trade_state: str
    transaction_id: str | None = None
    success_time: str | None = None
    amount: _Amount | None = None


def check_out_trade_no(out_trade_no: str) -> None:
    """Refuse a number that WeChat Pay would refuse (and that would not be safe in a path)."""
    if _OUT_TRADE_NO.fullmatch(out_trade_no) is None:
        raise PlatformRefusedError("out_trade_no has another form", code="PARAM_ERROR")


def order_arguments(request: PaymentRequest) -> dict[str, Any]:
    """The arguments of the SDK's `pay`; raises PlatformRefusedError for what cannot be ordered."""
    check_out_trade_no(request.out_trade_no)
    pay_type = _PAY_TYPES.get(request.method)
    if pay_type is None:
        raise PlatformRefusedError(f"WeChat Pay has no {request.method}", code="PARAM_ERROR")
    if request.amount_fen <= 0:
        raise PlatformRefusedError("amount_fen must be positive", code="PARAM_ERROR")
    arguments: dict[str, Any] = {
        "pay_type": pay_type,
        "description": _description(request.description),
        "out_trade_no": request.out_trade_no,
        "notify_url": request.notify_url,
        "time_expire": time_text(request.expires_at),
        "amount": {"total": request.amount_fen, "currency": "CNY"},
    }
    if request.method is Method.WECHAT_JSAPI:
        arguments["payer"] = {"openid": _needed(request.payer_id, "payer_id")}
    if request.client_ip or request.method is Method.WECHAT_H5:
        arguments["scene_info"] = {"payer_client_ip": _needed(request.client_ip, "client_ip")}
    if request.method is Method.WECHAT_H5:
        arguments["scene_info"]["h5_info"] = {"type": "Wap"}
    return arguments


def with_return_url(h5_url: str, return_url: str | None) -> str:
    """The page to open, told where to send the payer afterwards (parameter redirect_url)."""
    if return_url is None:
        return h5_url
    joint = "&" if "?" in h5_url else "?"
    return f"{h5_url}{joint}redirect_url={quote(return_url, safe='')}"


def trade_from_content(content: str | bytes) -> tuple[str, Trade]:
    """The appid and trade in an answer or notice; PlatformUnavailableError if unreadable."""
    try:
        transaction = msgspec.json.decode(content, type=_Transaction)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _unreadable(f"the transaction has another form: {error}") from None
    status = _STATUSES.get(transaction.trade_state)
    if status is None:
        raise _unreadable("the transaction has an unknown trade_state")
    if status in {TradeStatus.PAID, TradeStatus.REFUNDED}:
        return transaction.appid, _paid_trade(transaction, status)
    return transaction.appid, Trade(
        out_trade_no=transaction.out_trade_no,
        status=status,
        merchant_id=transaction.mchid,
        currency=transaction.amount.currency if transaction.amount else "CNY",
    )


def time_text(at: datetime) -> str:
    """RFC 3339 with seconds, in Chinese time."""
    return at.astimezone(CHINA).isoformat(timespec="seconds")


def read_time(text: str | None) -> datetime:
    """A time with its offset; PlatformUnavailableError if it is none."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        raise _unreadable("success_time is no time") from None
    if at.utcoffset() is None:
        raise _unreadable("success_time has no offset")
    return at


def _description(text: str) -> str:
    """It comes back as a cell of the bill, where a backtick begins the next one."""
    return cut(text.replace("`", "'"), DESCRIPTION_BYTES_MAX)


def cut(text: str, bytes_max: int) -> str:
    """The longest beginning that fits: WeChat Pay counts bytes."""
    return text.encode()[:bytes_max].decode(errors="ignore")


def _paid_trade(transaction: _Transaction, status: TradeStatus) -> Trade:
    transaction_id = transaction.transaction_id or ""
    if transaction.amount is None or not 1 <= len(transaction_id) <= 64:
        raise _unreadable("a paid transaction lacks its amount or number")
    return Trade(
        out_trade_no=transaction.out_trade_no,
        status=status,
        merchant_id=transaction.mchid,
        paid_fen=transaction.amount.total,
        currency=transaction.amount.currency,
        transaction_id=transaction_id,
        paid_at=read_time(transaction.success_time),
    )


def _needed(value: str | None, name: str) -> str:
    if not value:
        raise PlatformRefusedError(f"this method needs {name}", code="PARAM_ERROR")
    return value


def _unreadable(detail: str) -> PlatformUnavailableError:
    return PlatformUnavailableError(detail, code="BAD_ANSWER")
