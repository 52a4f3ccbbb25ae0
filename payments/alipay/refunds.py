"""Refunds at Alipay: what is asked, and what an answer says of one.

Alipay has no number of its own for a refund, and no state but "given back": a refund that it does
not know may be on its way (opendocs.alipay.com, alipay.trade.fastpay.refund.query, refund_status).
"""

import re
from collections.abc import Mapping
from datetime import datetime

from payments.alipay.formats import fen_from_yuan, moment_from_shanghai, yuan_text
from payments.alipay.orders import is_out_trade_no
from payments.alipay.sdk import Sdk, asked
from payments.contract import PlatformRefusedError, Refund, RefundRequest, RefundStatus

REFUND = "alipay.trade.refund"
REFUND_QUERY = "alipay.trade.fastpay.refund.query"

GIVEN_BACK = "REFUND_SUCCESS"
REASON_CHARS_MAX = 128  # the limit is 256 bytes, and a Chinese character counts two
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def refund_params(sdk: Sdk, request: RefundRequest) -> dict[str, str]:
    """The parameters of a refund; raises PlatformRefusedError for what Alipay would refuse."""
    if not (is_out_trade_no(request.out_trade_no) and is_out_trade_no(request.out_refund_no)):
        raise PlatformRefusedError("a number is out of Alipay's form", code="out_refund_no")
    if not 0 < request.refund_fen <= request.total_fen:
        raise PlatformRefusedError("the amount is not within the payment's", code="amount")
    return asked(
        sdk.refund,
        out_trade_no=request.out_trade_no,
        out_request_no=request.out_refund_no,
        refund_amount=yuan_text(request.refund_fen),
        refund_reason=_CONTROLS.sub(" ", request.reason)[:REASON_CHARS_MAX],
    )


def refund_query_params(sdk: Sdk, out_trade_no: str, out_refund_no: str) -> dict[str, str]:
    """The parameters of a question for a refund and its time."""
    return asked(
        sdk.refund_query,
        out_trade_no=out_trade_no,
        out_request_no=out_refund_no,
        query_options=["gmt_refund_pay"],
    )


def read_asked(answer: Mapping[str, str], request: RefundRequest, merchant_id: str) -> Refund:
    """What the answer to a refund says: given back now (fund_change=Y), or only accepted.

    `refund_fee` there is all that was ever given back of the trade, so the amount is ours.
    """
    given_back = answer.get("fund_change") == "Y"
    return Refund(
        request.out_refund_no,
        request.out_trade_no,
        RefundStatus.SUCCEEDED if given_back else RefundStatus.PROCESSING,
        merchant_id,
        refund_fen=request.refund_fen,
        finished_at=_moment(answer) if given_back else None,
    )


def read_found(
    answer: Mapping[str, str], out_trade_no: str, out_refund_no: str, merchant_id: str
) -> Refund:
    """The refund that the answer to a question tells of; raises ValueError."""
    status = answer.get("refund_status")
    if not status:
        return unknown(out_trade_no, out_refund_no, merchant_id)
    if status != GIVEN_BACK:
        raise ValueError(f"not a refund status: {status[:32]!r}")
    if (answer.get("out_trade_no"), answer.get("out_request_no")) != (out_trade_no, out_refund_no):
        raise ValueError("the answer is about another refund")
    return Refund(
        out_refund_no,
        out_trade_no,
        RefundStatus.SUCCEEDED,
        merchant_id,
        refund_fen=fen_from_yuan(answer.get("refund_amount", "")),
        finished_at=_moment(answer),
    )


def unknown(out_trade_no: str, out_refund_no: str, merchant_id: str) -> Refund:
    """The refund that Alipay does not know (yet)."""
    return Refund(out_refund_no, out_trade_no, RefundStatus.UNKNOWN, merchant_id)


def _moment(answer: Mapping[str, str]) -> datetime | None:
    text = answer.get("gmt_refund_pay")
    return moment_from_shanghai(text) if text else None
