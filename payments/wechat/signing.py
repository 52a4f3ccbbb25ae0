"""WeChat Pay's signature over an answer or a notice: window, allow-list, then the mathematics.

The SDK checks no timestamp, fetches certificates for a serial it does not know, and fails where
the signature type is left out; here none of that can happen.
"""

import re
from collections.abc import Mapping
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from wechatpayv3.async_.utils import rsa_verify

SIGNATURE_TYPE = "WECHATPAY2-SHA256-RSA2048"
WINDOW_S = 300  # what the official SDKs allow
_HEADER_CHARACTERS_MAX = 1024
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)


class UnprovedError(Exception):
    """The platform did not sign this, or not just now; says why."""


def prove(
    headers: Mapping[str, str],
    text: str,
    keys: Mapping[str, RSAPublicKey],
    now: datetime,
) -> None:
    """Raise UnprovedError unless the platform signed this just now. Header names in lower case.

    `keys` is the allow-list: serial or public key id -> key.
    """
    timestamp, nonce, serial, signature = (
        headers.get(f"wechatpay-{name}", "")
        for name in ("timestamp", "nonce", "serial", "signature")
    )
    if not nonce or not signature:
        raise UnprovedError("a signature header is missing")
    if max(len(nonce), len(signature)) > _HEADER_CHARACTERS_MAX:
        raise UnprovedError("a signature header is too long")
    if not nonce.isascii() or not signature.isascii():
        raise UnprovedError("a signature header is not ASCII")
    if headers.get("wechatpay-signature-type", SIGNATURE_TYPE) != SIGNATURE_TYPE:
        raise UnprovedError("the signature is of another type")
    if _TIMESTAMP.fullmatch(timestamp) is None:
        raise UnprovedError("the timestamp is no number")
    if abs(now.timestamp() - int(timestamp)) > WINDOW_S:
        raise UnprovedError("the timestamp is outside the window")
    key = keys.get(serial)
    if key is None:
        raise UnprovedError("the serial is unknown")
    if not rsa_verify(timestamp, nonce, text, signature, key):
        raise UnprovedError("the signature is wrong")
