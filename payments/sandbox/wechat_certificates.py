"""WeChat Pay's platform certificates, encrypted for the merchant."""

import secrets
from base64 import b64encode
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from payments.contract import Platform
from payments.sandbox.certificates import BEGINS, ENDS, Issued
from payments.sandbox.state import Sandbox
from payments.sandbox.wechat_wire import RefusalError, china_time


def answer(sandbox: Sandbox) -> dict[str, Any]:
    """GET /v3/certificates: all that sign now or later; 404 in pure public-key mode."""
    names = sandbox.signing.planned(Platform.WECHAT)
    if not names:
        raise RefusalError(404, "RESOURCE_NOT_EXISTS", "无可用的平台证书")
    issued = sandbox.signing.certificates.wechat
    key = sandbox.keys.apiv3_key.encode()
    return {"data": [_entry(issued[name], key) for name in names]}


def _entry(issued: Issued, key: bytes) -> dict[str, Any]:
    nonce = secrets.token_hex(6)
    sealed = AESGCM(key).encrypt(nonce.encode(), issued.pem, b"certificate")
    return {
        "serial_no": issued.serial,
        "effective_time": china_time(BEGINS),
        "expire_time": china_time(ENDS),
        "encrypt_certificate": {
            "algorithm": "AEAD_AES_256_GCM",
            "nonce": nonce,
            "associated_data": "certificate",
            "ciphertext": b64encode(sealed).decode(),
        },
    }
