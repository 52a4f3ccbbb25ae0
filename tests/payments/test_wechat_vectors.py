"""Vectors of the platform's own SDKs (their origin stands beside them): old ones, at their time."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import load_pem_x509_certificate

from payments.contract import NoticeRejectedError
from payments.wechat.notice import opened, read_notice
from payments.wechat.signing import SEAL, UnprovedError, unsealed

FILE = Path(__file__).parents[1] / "vectors" / "wechatpay" / "notice.json"
VECTOR: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
SIGNED_AT = datetime.fromtimestamp(VECTOR["signed_at"], UTC)
CERTIFICATE = load_pem_x509_certificate(VECTOR["certificate"].encode())
KEY = CERTIFICATE.public_key()
assert isinstance(KEY, RSAPublicKey)
KEYS = {VECTOR["serial"]: KEY}
BODY: bytes = VECTOR["body"].encode()


def test_the_notice_of_the_go_sdk_verifies_and_opens() -> None:
    envelope, content = opened(
        VECTOR["headers"], BODY, keys=KEYS, apiv3_key=VECTOR["apiv3_key"], now=SIGNED_AT
    )
    assert content == VECTOR["content"]
    assert envelope.event_type == "PAYSCORE.USER_OPEN_SERVICE"
    assert f"{CERTIFICATE.serial_number:X}" == VECTOR["serial"]


@pytest.mark.parametrize("offset_s", [-301, 301, 86_400 * 1000])
def test_it_verifies_at_its_own_time_only(offset_s: int) -> None:
    now = SIGNED_AT + timedelta(seconds=offset_s)
    with pytest.raises(NoticeRejectedError, match="window"):
        opened(VECTOR["headers"], BODY, keys=KEYS, apiv3_key=VECTOR["apiv3_key"], now=now)


def test_it_is_neither_a_payment_nor_a_refund() -> None:
    with pytest.raises(NoticeRejectedError, match="another form"):
        read_notice(
            VECTOR["headers"], BODY, keys=KEYS, apiv3_key=VECTOR["apiv3_key"], now=SIGNED_AT
        )


@pytest.mark.parametrize("sealed", VECTOR["sealed"], ids=lambda sealed: sealed["origin"])
def test_what_other_sdks_seal_is_opened_with_its_own_key_only(sealed: dict[str, str]) -> None:
    seal = {name: sealed[name] for name in ("nonce", "associated_data", "ciphertext")}
    assert unsealed(algorithm=SEAL, apiv3_key=sealed["apiv3_key"], **seal) == sealed["content"]
    with pytest.raises(UnprovedError, match="cannot be decrypted"):
        unsealed(algorithm=SEAL, apiv3_key=sealed["apiv3_key"][::-1], **seal)
