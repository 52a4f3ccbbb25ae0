"""WeChat Pay's error answers as typed errors.

Codes: pay.weixin.qq.com/doc/v3/merchant/4012556398 (close) and its sister pages; the older
spellings without underscores are still answered (wiki/doc/apiv3/apis/chapter3_4_3.shtml).
"""

import msgspec

from payments.contract import PaymentError, PlatformRefusedError, PlatformUnavailableError

ORDER_UNKNOWN = frozenset({"ORDER_NOT_EXIST", "ORDERNOTEXIST", "RESOURCE_NOT_EXISTS"})
ORDER_CLOSED = frozenset({"ORDER_CLOSED", "ORDERCLOSED"})

_TRANSIENT = frozenset(
    {
        "SYSTEM_ERROR", "SYSTEMERROR", "BANK_ERROR", "BANKERROR", "USER_PAYING", "USERPAYING",
        "FREQUENCY_LIMITED", "FREQUENCY_LIMIT_EXCEED", "RATELIMIT_EXCEEDED", "RATELIMIT_EXCEED",
    }
)  # fmt: skip
_FINAL_DESPITE_500 = frozenset({"OPENID_MISMATCH", "INVALID_TRANSACTIONID"})
_TEXT_CHARACTERS_MAX = 200


class _ErrorBody(msgspec.Struct):
    code: str = ""
    message: str = ""


def error_from_answer(status: int, content: str | bytes) -> PaymentError:
    """What an answer other than 200 or 204 means; never raises."""
    try:
        body = msgspec.json.decode(content, type=_ErrorBody)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        body = _ErrorBody()  # a gateway's page, or nothing: the status alone speaks
    code = body.code[:_TEXT_CHARACTERS_MAX]
    detail = f"HTTP {status} {code} {body.message[:_TEXT_CHARACTERS_MAX]}".strip()
    by_status = (status >= 500 or status == 429) and code not in _FINAL_DESPITE_500
    if by_status or code in _TRANSIENT or status < 400:
        return PlatformUnavailableError(detail, code=code)
    return PlatformRefusedError(detail, code=code)
