"""What WeChat Pay signs, and what it seals: window, allow-list, then the mathematics.

The SDK checks no timestamp, fetches certificates for a serial it does not know, and fails where
the signature type is left out; here none of that can happen.
"""

import re
from collections.abc import Mapping
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from wechatpayv3.async_.utils import aes_decrypt, rsa_verify

SIGNATURE_TYPE = "WECHATPAY2-SHA256-RSA2048"
SEAL = "AEAD_AES_256_GCM"
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


def unsealed(
    *, algorithm: str, nonce: str, ciphertext: str, associated_data: str, apiv3_key: str
) -> str:
    """What was sealed with the merchant's APIv3 key; UnprovedError if it was not."""
    if algorithm != SEAL:
        raise UnprovedError("the resource is encrypted in another way")
    try:
        content: str | None = aes_decrypt(nonce, ciphertext, associated_data, apiv3_key)
    except ValueError as error:  # no base64, no UTF-8, a nonce of another length
        raise UnprovedError(f"the resource has another form: {type(error).__name__}") from None
    if content is None:
        raise UnprovedError("the resource cannot be decrypted with the merchant's key")
    return content
