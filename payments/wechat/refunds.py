"""What is asked of WeChat Pay for a refund, and what its answers and notices say about one.

Fields: pay.weixin.qq.com/doc/v3/merchant/4013071036 (ask), 4013071041 (query), 4013071196 (notice).
"""

import re
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from payments.contract import (
    PlatformRefusedError,
    PlatformUnavailableError,
    Refund,
    RefundRequest,
    RefundStatus,
)
from payments.wechat.orders import check_out_trade_no, cut, read_time

REASON_BYTES_MAX = 80
STATUSES = {
    "SUCCESS": RefundStatus.SUCCEEDED,
    "CLOSED": RefundStatus.CLOSED,
    "PROCESSING": RefundStatus.PROCESSING,
    "ABNORMAL": RefundStatus.ABNORMAL,
}

_OUT_REFUND_NO = re.compile(r"[0-9A-Za-z_@*-]{1,64}", re.ASCII)  # `|` too, but not in a path

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Fen = Annotated[int, msgspec.Meta(ge=1, le=10**12)]


class _Amount(msgspec.Struct):
    refund: _Fen  # as it was asked for; coupons lower payer_refund
    total: _Fen
    currency: str = "CNY"  # a notice names none


class _Refund(msgspec.Struct):
    out_trade_no: _Name
    out_refund_no: _Name
    refund_id: _Name
    status: str
    amount: _Amount
    success_time: str | None = None


class _Noticed(msgspec.Struct):
    mchid: _Name
    out_trade_no: _Name
    out_refund_no: _Name
    refund_id: _Name
    refund_status: str
    amount: _Amount
    success_time: str | None = None


_Form = TypeVar("_Form", _Refund, _Noticed)


def check_out_refund_no(out_refund_no: str) -> None:
    """Refuse a number that WeChat Pay would refuse (or that would not be safe in a path)."""
    if _OUT_REFUND_NO.fullmatch(out_refund_no) is None:
        raise PlatformRefusedError("out_refund_no has another form", code="PARAM_ERROR")


def refund_arguments(request: RefundRequest) -> dict[str, Any]:
    """The arguments of the SDK's `refund`; raises PlatformRefusedError for what cannot be asked."""
    check_out_trade_no(request.out_trade_no)
    check_out_refund_no(request.out_refund_no)
    if not 0 < request.refund_fen <= request.total_fen:
        raise PlatformRefusedError("refund_fen must be 1 to total_fen", code="PARAM_ERROR")
    return {
        "out_trade_no": request.out_trade_no,
        "out_refund_no": request.out_refund_no,
        "reason": cut(request.reason, REASON_BYTES_MAX),
        "notify_url": request.notify_url,
        "amount": {
            "refund": request.refund_fen,
            "total": request.total_fen,
            "currency": "CNY",
        },
    }


def refund_from_answer(
    content: bytes, merchant_id: str, out_trade_no: str, out_refund_no: str
) -> Refund:
    """The refund that was asked for; PlatformUnavailableError if it says something else."""
    read = _decoded(content, _Refund)
    if (read.out_trade_no, read.out_refund_no) != (out_trade_no, out_refund_no):
        raise _unreadable("the answer names another refund")
    return _refund(read, merchant_id, read.status)


def refund_from_notice(content: str) -> Refund:
    """The refund in a decrypted notice; PlatformUnavailableError if unreadable."""
    read = _decoded(content, _Noticed)
    return _refund(read, read.mchid, read.refund_status)


def _refund(read: _Refund | _Noticed, merchant_id: str, word: str) -> Refund:
    status = STATUSES.get(word)
    if status is None:
        raise _unreadable("the refund has an unknown status")
    if read.amount.currency != "CNY" or read.amount.refund > read.amount.total:
        raise _unreadable("the refund has an impossible amount")
    return Refund(
        out_refund_no=read.out_refund_no,
        out_trade_no=read.out_trade_no,
        status=status,
        merchant_id=merchant_id,
        refund_fen=read.amount.refund,
        refund_id=read.refund_id,
        finished_at=_finished_at(status, read.success_time),
    )


def _finished_at(status: RefundStatus, success_time: str | None) -> datetime | None:
    """Only a refund that succeeded says when."""
    if status is not RefundStatus.SUCCEEDED or not success_time:
        return None
    return read_time(success_time)


def _decoded(content: str | bytes, form: type[_Form]) -> _Form:
    try:
        return msgspec.json.decode(content, type=form)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _unreadable(f"the refund has another form: {error}") from None


def _unreadable(detail: str) -> PlatformUnavailableError:
    return PlatformUnavailableError(detail, code="BAD_ANSWER")
