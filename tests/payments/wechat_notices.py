"""A merchant at WeChat Pay and the notices it is sent; written apart from the code under test."""

import json
import secrets
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import strategies as st

from payments.wechat.client import build
from payments.wechat.config import WeChatMerchant
from tests.fakes.keys import rsa_key

SIGNED_AT = datetime(2019, 4, 2, 12, 59, 40, tzinfo=UTC)  # long ago: only `now` makes it fresh
APIV3_KEY = "0123456789abcdefABCDEF0123456789"
SERIAL = "PUB_KEY_ID_0119000001092026"
MERCHANT_KEY = rsa_key("app")
PLATFORM_KEY = rsa_key("platform")
STRANGERS_KEY = rsa_key("stranger")

PLATFORM = build(
    WeChatMerchant(
        mchid="1900000109",
        appid="wx0000000000000001",
        apiv3_key=APIV3_KEY,
        private_key_pem=MERCHANT_KEY.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ).decode(),
        cert_serial="33DDFEC51BF5412F663B9B56510FD567B625FC68",
        platform_public_key_pem=PLATFORM_KEY.public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        platform_public_key_id=SERIAL,
    )
)


@dataclass
class Delivered:
    """A notice as it arrives; written apart from the code under test."""

    headers: dict[str, str]
    body: bytes


def sealed(content: object, kind: str = "transaction", **resource: str) -> dict[str, Any]:
    """The envelope around an encrypted content."""
    nonce = secrets.token_hex(6)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    ciphertext = AESGCM(APIV3_KEY.encode()).encrypt(nonce.encode(), text.encode(), kind.encode())
    return {
        "id": "EV-2018022511223320873",
        "create_time": "2019-04-02T20:59:31+08:00",
        "resource_type": "encrypt-resource",
        "event_type": "TRANSACTION.SUCCESS",
        "summary": "支付成功",
        "resource": {
            "original_type": kind,
            "algorithm": "AEAD_AES_256_GCM",
            "ciphertext": b64encode(ciphertext).decode(),
            "associated_data": kind,
            "nonce": nonce,
        }
        | resource,
    }


def delivered(
    body: bytes, key: RSAPrivateKey = PLATFORM_KEY, algorithm: HashAlgorithm | None = None
) -> Delivered:
    """The body with headers that sign it."""
    timestamp, nonce = str(int(SIGNED_AT.timestamp())), "c5ac7061fccab6bf3e254dcf98995b8c"
    message = f"{timestamp}\n{nonce}\n".encode() + body + b"\n"
    signature = key.sign(message, PKCS1v15(), algorithm or SHA256())
    return Delivered(
        {
            "wechatpay-serial": SERIAL,
            "wechatpay-timestamp": timestamp,
            "wechatpay-nonce": nonce,
            "wechatpay-signature": b64encode(signature).decode(),
            "wechatpay-signature-type": "WECHATPAY2-SHA256-RSA2048",
        },
        body,
    )


def encoded(envelope: object) -> bytes:
    """The body that a platform would send."""
    return json.dumps(envelope, ensure_ascii=False).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
