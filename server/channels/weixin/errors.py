"""WeChat's error codes: which of them may pass on a second try.

Codes: developers.weixin.qq.com, "subscribeMessage.send", "code2Session" and, for shipping,
/miniprogram/dev/platform-capabilities/business-capabilities/order-shipping/order-shipping.html.
"""

from server.channels.contract import ChannelError

# The token has been replaced or has run out; a new one is fetched and the call made once more.
TOKEN_CODES = frozenset({40001, 40014, 42001})

# Busy or too often; 43108 is a second message to the same person at the same moment.
TRANSIENT_CODES = TOKEN_CODES | {-1, -1000, 43108, 44990, 45009, 45011, 50001}

# WeChat's desk learns of a payment some time after it was made: a minute, says its staff.
TRANSIENT_CODES |= {10060001}

# Shipped already; its one correction is used up; nothing else was said than before.
SHIPPED_CODES = frozenset({"10060002", "10060003", "10060023"})

_TEXT_CHARS_MAX = 200


def error_from_code(errcode: int, errmsg: object) -> ChannelError:
    """The error of an answer with an errcode; all others (43101: no consent) are final."""
    detail = f"weixin {errcode}: {errmsg}"[:_TEXT_CHARS_MAX]
    return ChannelError(detail, code=str(errcode), transient=errcode in TRANSIENT_CODES)


def error_from_status(status: int) -> ChannelError:
    """The error of an HTTP status that is not 2xx."""
    transient = status >= 500 or status in {408, 425, 429}
    return ChannelError(f"weixin: HTTP {status}", code=f"http_{status}", transient=transient)


def no_answer(reason: str) -> ChannelError:
    """No answer in time, or none at all."""
    return ChannelError(f"weixin: no answer ({reason})", code="no_answer", transient=True)


def bad_answer(reason: str) -> ChannelError:
    """An answer that is not WeChat's."""
    return ChannelError(f"weixin: {reason}", code="bad_answer", transient=True)
