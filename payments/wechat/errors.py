"""WeChat Pay's error answers as typed errors.

Codes: pay.weixin.qq.com/doc/v3/merchant/4012556398 (close) and its sister pages, those of refunds
at pay.weixin.qq.com/doc/v3/merchant/4013071036 and of bills at .../docs/merchant/apis/
combine-payment-identity/bill-download/get-trade-bill.html; the older spellings without
underscores are still answered (pay.weixin.qq.com/wiki/doc/apiv3/apis/chapter3_4_3.shtml).
"""

import re

import msgspec

from payments.contract import PaymentError, PlatformRefusedError, PlatformUnavailableError

ORDER_UNKNOWN = frozenset({"ORDER_NOT_EXIST", "ORDERNOTEXIST", "RESOURCE_NOT_EXISTS"})
ORDER_CLOSED = frozenset({"ORDER_CLOSED", "ORDERCLOSED"})
REFUND_UNKNOWN = frozenset({"RESOURCE_NOT_EXISTS", "REFUND_NOT_EXIST", "REFUNDNOTEXIST"})
# With these nothing more will be given back under a number that is not known: a repetition would
# meet the same refusal. Whatever is not named here (a signature that is not liked, a page of a
# proxy) decides nothing.
REFUND_REFUSED = frozenset(
    {
        "PARAM_ERROR", "INVALID_REQUEST", "NO_AUTH", "NOAUTH", "USER_ACCOUNT_ABNORMAL",
        "RESOURCE_NOT_EXISTS", "ORDER_NOT_EXIST", "ORDERNOTEXIST", "MCH_NOT_EXISTS",
        "INVALID_TRANSACTIONID", "TRADE_OVERDUE", "REFUND_FEE_MISMATCH",
    }
)  # fmt: skip
NO_BILL = "NO_STATEMENT_EXIST"
BILL_IN_THE_MAKING = "STATEMENT_CREATING"

# These pass, but not within seconds: a balance that is too low, a block after many wrong requests
# (at least a minute), an order that is not ready.
NOT_AT_ONCE = frozenset({"NOT_ENOUGH", "NOTENOUGH", "INVALID_REQ_TOO_MUCH", "ORDER_NOT_READY"})
_TRANSIENT = NOT_AT_ONCE | frozenset(
    {
        "SYSTEM_ERROR", "SYSTEMERROR", "BANK_ERROR", "BANKERROR", "USER_PAYING", "USERPAYING",
        "FREQUENCY_LIMITED", "FREQUENCY_LIMIT_EXCEED", "RATELIMIT_EXCEEDED", "RATELIMIT_EXCEED",
        "BIZERR_NEED_RETRY",
    }
)  # fmt: skip
_FINAL_DESPITE_500 = frozenset({"OPENID_MISMATCH", "INVALID_TRANSACTIONID"})
_TEXT_CHARACTERS_MAX = 200
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)


class _ErrorBody(msgspec.Struct):
    code: str = ""
    message: str = ""


class _LaterError(PlatformUnavailableError):
    """Transient, and the platform said after how many seconds to come back."""

    pause_s = 0.0


def error_from_answer(
    status: int, content: str | bytes, retry_after: str | None = None
) -> PaymentError:
    """What an answer other than 200 or 204 means; never raises."""
    try:
        body = msgspec.json.decode(content, type=_ErrorBody)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        body = _ErrorBody()  # a gateway's page, or nothing: the status alone speaks
    code = body.code[:_TEXT_CHARACTERS_MAX]
    detail = f"HTTP {status} {code} {body.message[:_TEXT_CHARACTERS_MAX]}".strip()
    by_status = (status >= 500 or status == 429) and code not in _FINAL_DESPITE_500
    if by_status or code in _TRANSIENT or status < 400:
        error = _LaterError(detail, code=code)
        if retry_after and _SECONDS.fullmatch(retry_after.strip()):  # the form with a date: no
            error.pause_s = float(retry_after)
        return error
    return PlatformRefusedError(detail, code=code)


def asked_pause_s(error: PlatformUnavailableError) -> float:
    """How long the platform asked to be left alone; 0 where it did not."""
    return error.pause_s if isinstance(error, _LaterError) else 0.0
