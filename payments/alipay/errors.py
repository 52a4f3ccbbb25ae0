"""Alipay's refusals as errors of the contract: which of them may pass on a second try."""

from collections.abc import Mapping

from payments.contract import PaymentError, PlatformRefusedError, PlatformUnavailableError

OK = "10000"
TRADE_NOT_EXIST = "ACQ.TRADE_NOT_EXIST"
TRADE_HAS_CLOSE = "ACQ.TRADE_HAS_CLOSE"

# "Not in a state that can be closed": closed before, or paid meanwhile. Only a query tells.
UNCLOSABLE = frozenset(
    {"ACQ.TRADE_STATUS_ERROR", "ACQ.REASON_TRADE_STATUS_INVALID", "ACQ.REASON_ILLEGAL_STATUS"}
)

# The gateway's own refusals, made before it knows whose key to sign with: the only answers that
# count unsigned. 40004 (business) and 10000 (success) state facts and must be signed.
UNSIGNED_CODES = frozenset({"20000", "20001", "40001", "40002", "40003", "40005", "40006"})

_BUSY_CODES = frozenset({"20000", "40005"})
_BUSY_WORDS = ("SYSTEM_ERROR", "unknow-error", "system-error", "call-limited", "exceeds-limit")
_DETAIL_CHARS_MAX = 200


def refusal(method: str, answer: Mapping[str, str]) -> PaymentError:
    """The error of an answer whose code is not 10000; `code` is the sub code where there is one."""
    code, sub_code = answer.get("code", ""), answer.get("sub_code", "")
    text = answer.get("sub_msg") or answer.get("msg", "")
    detail = f"{method}: {code} {sub_code} {text}"[:_DETAIL_CHARS_MAX]
    busy = code in _BUSY_CODES or any(word in sub_code for word in _BUSY_WORDS)
    error = PlatformUnavailableError if busy else PlatformRefusedError
    return error(detail, code=sub_code or code)


def unproven(method: str, reason: str) -> PlatformUnavailableError:
    """An answer that proves nothing: nobody knows what the platform did, so ask again."""
    return PlatformUnavailableError(f"{method}: {reason}", code="BAD_ANSWER")
