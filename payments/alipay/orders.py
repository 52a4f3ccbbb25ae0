"""Trades at Alipay: what is asked (by the official SDK's models) and what an answer says."""

import re
from collections.abc import Mapping
from datetime import datetime

from payments.alipay.config import AlipayMerchant
from payments.alipay.formats import (
    fen_from_yuan,
    moment_from_shanghai,
    shanghai_text,
    yuan_text,
)
from payments.alipay.sdk import Sdk, asked, params_of
from payments.contract import Method, PaymentRequest, PlatformRefusedError, Trade, TradeStatus

WAP_PAY = "alipay.trade.wap.pay"
PRECREATE = "alipay.trade.precreate"
QUERY = "alipay.trade.query"
CLOSE = "alipay.trade.close"

METHODS = frozenset({Method.ALIPAY_WAP, Method.ALIPAY_QR})
AMOUNT_FEN_MAX = 10_000_000_000  # Alipay's limit for a trade: 100,000,000 yuan
SUBJECT_CHARS_MAX = 128  # the limit is 256 bytes, and a Chinese character counts two

_OUT_TRADE_NO = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
_TRADE_NO = re.compile(r"[0-9A-Za-z]{1,64}", re.ASCII)
_REFUSED_IN_SUBJECT = re.compile(r"[/=&\x00-\x1f\x7f]")
_TROUBLE_IN_BILLS = re.compile(r"""[,"']""")  # cells there are not quoted


def order_params(
    sdk: Sdk, merchant: AlipayMerchant, request: PaymentRequest, now: datetime
) -> dict[str, str]:
    """The parameters of a new trade; raises PlatformRefusedError for what Alipay would refuse."""
    _check(request, now)
    wap = request.method is Method.ALIPAY_WAP
    make_request, make_model = sdk.wap_pay if wap else sdk.precreate
    model = make_model()
    model.out_trade_no = request.out_trade_no
    model.total_amount = yuan_text(request.amount_fen)
    subject = _REFUSED_IN_SUBJECT.sub(" ", request.description)
    model.subject = _TROUBLE_IN_BILLS.sub(" ", subject)[:SUBJECT_CHARS_MAX]
    model.seller_id = merchant.seller_id
    model.time_expire = shanghai_text(request.expires_at)
    wanted = make_request(biz_model=model)
    wanted.notify_url = request.notify_url
    if wap:
        model.product_code = "QUICK_WAP_WAY"
        model.quit_url = request.return_url
        wanted.return_url = request.return_url
    return params_of(wanted)


def query_params(sdk: Sdk, out_trade_no: str) -> dict[str, str]:
    """The parameters of a query."""
    return asked(sdk.query, out_trade_no=out_trade_no)


def close_params(sdk: Sdk, out_trade_no: str) -> dict[str, str]:
    """The parameters of a close."""
    return asked(sdk.close, out_trade_no=out_trade_no)


def _check(request: PaymentRequest, now: datetime) -> None:
    if request.method not in METHODS:
        raise PlatformRefusedError(f"{request.method} is not Alipay's", code="method")
    if not 0 < request.amount_fen <= AMOUNT_FEN_MAX:
        raise PlatformRefusedError("the amount is out of Alipay's limits", code="amount")
    if not is_out_trade_no(request.out_trade_no):
        raise PlatformRefusedError("the order number is out of Alipay's form", code="out_trade_no")
    if request.expires_at <= now:
        raise PlatformRefusedError("the order has expired already", code="expired")


def is_out_trade_no(text: str) -> bool:
    """Whether Alipay takes it for an order number."""
    return _OUT_TRADE_NO.fullmatch(text) is not None


def read_trade(facts: Mapping[str, str], merchant_id: str) -> Trade:
    """The trade that verified facts (an answer's or a notice's) tell of; raises ValueError.

    A trade paid and given back whole ends as TRADE_CLOSED, as one never paid does: the time of
    payment or a refunded sum tells them apart. One given back in part stays TRADE_SUCCESS.
    """
    out_trade_no = facts.get("out_trade_no", "")
    if not is_out_trade_no(out_trade_no):
        raise ValueError("no order number")
    paid_at = facts.get("gmt_payment") or facts.get("send_pay_date")
    refunded = fen_from_yuan(facts.get("refund_fee") or "0") > 0 or bool(facts.get("gmt_refund"))
    status = _status(facts.get("trade_status", ""), paid=bool(paid_at), refunded=refunded)
    if status not in {TradeStatus.PAID, TradeStatus.REFUNDED}:
        return Trade(out_trade_no, status, merchant_id)
    trade_no = facts.get("trade_no", "")
    if _TRADE_NO.fullmatch(trade_no) is None:
        raise ValueError("no trade number")
    return Trade(
        out_trade_no,
        status,
        merchant_id,
        paid_fen=fen_from_yuan(facts.get("total_amount", "")),
        transaction_id=trade_no,
        paid_at=moment_from_shanghai(paid_at) if paid_at else None,
    )


def _status(text: str, *, paid: bool, refunded: bool) -> TradeStatus:
    match text:
        case "WAIT_BUYER_PAY":
            return TradeStatus.WAITING
        case "TRADE_SUCCESS" | "TRADE_FINISHED":
            return TradeStatus.REFUNDED if refunded else TradeStatus.PAID
        case "TRADE_CLOSED":
            return TradeStatus.REFUNDED if refunded or paid else TradeStatus.CLOSED
        case _:
            raise ValueError(f"not a trade status: {text[:32]!r}")
