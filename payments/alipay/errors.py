"""Alipay's refusals as errors of the contract: which of them may pass on a second try."""

import re
from collections.abc import Mapping

from payments.contract import PaymentError, PlatformRefusedError, PlatformUnavailableError

OK = "10000"
TRADE_NOT_EXIST = "ACQ.TRADE_NOT_EXIST"
TRADE_HAS_CLOSE = "ACQ.TRADE_HAS_CLOSE"

# "Not in a state that can be closed": closed before, or paid meanwhile. Only a query tells.
UNCLOSABLE = frozenset(
    {"ACQ.TRADE_STATUS_ERROR", "ACQ.REASON_TRADE_STATUS_INVALID", "ACQ.REASON_ILLEGAL_STATUS"}
)

# With these nothing was given back under the number, and a repetition would not change it: the
# codes of alipay.trade.refund (opendocs.alipay.com/open/4b7cc5db_alipay.trade.refund) but for
# ACQ.SYSTEM_ERROR, ACQ.REFUND_CHARGE_ERROR ("later"), ACQ.SELLER_BALANCE_NOT_ENOUGH ("after a
# deposit") and ACQ.DISCORDANT_REPEAT_REQUEST. Whatever is not named here decides nothing: to take
# a refund for dead that is not would give the money back twice.
REFUND_REFUSED = frozenset(
    f"ACQ.{code}"
    for code in (
        "ALLOC_AMOUNT_VALIDATE_ERROR", "BUYER_ENABLE_STATUS_FORBID", "BUYER_ERROR",
        "BUYER_NOT_EXIST", "CURRENCY_NOT_SUPPORT", "CUSTOMER_VALIDATE_ERROR",
        "ENTERPRISE_PAY_BIZ_ERROR", "INVALID_PARAMETER", "NOT_ALLOW_PARTIAL_REFUND",
        "ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND", "OVERDRAFT_AGREEMENT_NOT_MATCH",
        "OVERDRAFT_ASSIGN_ACCOUNT_INVALID", "REASON_TRADE_BEEN_FREEZEN",
        "REASON_TRADE_REFUND_FEE_ERR", "REASON_TRADE_STATUS_INVALID", "REFUNDALLOC_UNAUTH_LIMIT",
        "REFUND_ACCOUNT_NOT_EXIST", "REFUND_AMT_NOT_EQUAL_TOTAL", "REFUND_FEE_ERROR",
        "REFUND_ROYALTY_PAYEE_ACCOUNT_NOT_EXIST", "TRADE_HAS_CLOSE", "TRADE_HAS_FINISHED",
        "TRADE_NOT_ALLOW_REFUND", "TRADE_NOT_EXIST", "TRADE_SETTLE_ERROR", "TRADE_STATUS_ERROR",
        "USER_NOT_MATCH_ERR",
    )
)  # fmt: skip
# The number was given back before, with another amount.
REFUND_REPEATED = "ACQ.DISCORDANT_REPEAT_REQUEST"
REFUND_UNKNOWN = frozenset({TRADE_NOT_EXIST, "TRADE_NOT_EXIST"})

# alipay.data.dataservice.bill.downloadurl.query (opendocs.alipay.com/open/e81ed5f1); the platform
# answers the second where its page says the first, also while a bill is not made yet.
BILL_ABSENT = frozenset({"BILL_NOT_EXIST", "isp.bill_not_exist"})
BILL_EMPTY = frozenset({"NO_BILL_DATA", "BILL_DATE_BEFORE_REGISTRATION"})

# The gateway's own refusals, made before it knows whose key to sign with: the only answers that
# count unsigned. 40004 (business) and 10000 (success) state facts and must be signed, and so must
# whatever has the sub code of a fact, in whichever answer.
UNSIGNED_CODES = frozenset({"20000", "20001", "40001", "40002", "40003", "40005", "40006"})
_UNSIGNED_SUB_CODE = re.compile(r"(?:(?:isv|isp|aop)\.[A-Za-z-]+(?:\.SYSTEM_ERROR)?)?", re.ASCII)

_BUSY_CODES = frozenset({"20000", "40005"})
_BUSY_WORDS = (
    "SYSTEM_ERROR", "unknow-error", "system-error", "call-limited", "exceeds-limit", "RATE_LIMIT",
    "UNKNOWN_ERROR", "UNKNOW_ERROR",
)  # fmt: skip
_DETAIL_CHARS_MAX = 200


def may_be_unsigned(answer: Mapping[str, str]) -> bool:
    """Whether an answer states no fact, so that nobody gains by making it up."""
    sub_code = answer.get("sub_code", "")
    return answer.get("code") in UNSIGNED_CODES and bool(_UNSIGNED_SUB_CODE.fullmatch(sub_code))


def refusal(method: str, answer: Mapping[str, str]) -> PaymentError:
    """The error of an answer whose code is not 10000; `code` is the sub code where there is one."""
    code, sub_code = answer.get("code", ""), answer.get("sub_code", "")
    text = answer.get("sub_msg") or answer.get("msg", "")
    detail = f"{method}: {code} {sub_code} {text}"[:_DETAIL_CHARS_MAX]
    busy = code in _BUSY_CODES or any(word in sub_code for word in _BUSY_WORDS)
    error = PlatformUnavailableError if busy else PlatformRefusedError
    return error(detail, code=sub_code or code)


def undecided(error: PaymentError) -> PlatformUnavailableError:
    """A refusal that does not say what became of the money: ask again."""
    return PlatformUnavailableError(error.detail, code=error.code)


def unproven(method: str, reason: str) -> PlatformUnavailableError:
    """An answer that proves nothing: nobody knows what the platform did, so ask again."""
    return PlatformUnavailableError(f"{method}: {reason}", code="BAD_ANSWER")
