"""WeChat Pay's answers as they come over the wire; written apart from the code under test."""

import json
import secrets
from base64 import b64encode
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from tests.payments.peer import http_answer

NOW = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)


def signed(
    content: object,
    key: RSAPrivateKey,
    *,
    status: int = 200,
    at: datetime = NOW,
    serial: str = "PUB_KEY_ID_0119000001092026",
    without: str = "",
) -> bytes:
    """An answer as WeChat Pay signs it."""
    body = b"" if content is None else json.dumps(content, ensure_ascii=False).encode()
    timestamp, nonce = str(int(at.timestamp())), secrets.token_hex(16)
    message = f"{timestamp}\n{nonce}\n".encode() + body + b"\n"
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Wechatpay-Nonce": nonce,
        "Wechatpay-Serial": serial,
        "Wechatpay-Signature": b64encode(key.sign(message, PKCS1v15(), SHA256())).decode(),
        "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
        "Wechatpay-Timestamp": timestamp,
    }
    headers.pop(without, None)
    return http_answer(status, body, headers)


def refused(
    status: int, code: str, message: str = "", headers: dict[str, str] | None = None
) -> bytes:
    """A refusal: unsigned, as the platform sends it."""
    body = json.dumps({"code": code, "message": message}).encode()
    return http_answer(status, body, {"Content-Type": "application/json"} | (headers or {}))
