"""Payment notices: size, signature, decryption, form. Nothing here sends or decides anything."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from wechatpayv3.async_.utils import aes_decrypt

from payments.contract import (
    Notice,
    NoticeAnswer,
    NoticeRejectedError,
    PaymentError,
    Platform,
)
from payments.wechat.orders import trade_from_content
from payments.wechat.signing import UnprovedError, prove

BODY_BYTES_MAX = 64 * 1024  # a real one is about 1 kB


class _Resource(msgspec.Struct):
    algorithm: str
    ciphertext: str
    nonce: str
    associated_data: str = ""


class _Envelope(msgspec.Struct):
    resource_type: str
    resource: _Resource


def read_notice(
    headers: Mapping[str, str],
    body: bytes,
    *,
    keys: Mapping[str, RSAPublicKey],
    apiv3_key: str,
    now: datetime,
) -> Notice:
    """The notice in a raw callback (header names in lower case); raises NoticeRejectedError."""
    if len(body) > BODY_BYTES_MAX:
        raise NoticeRejectedError("the body is too large")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise NoticeRejectedError("the body is not UTF-8") from None
    try:
        prove(headers, text, keys, now)
    except UnprovedError as error:
        raise NoticeRejectedError(str(error)) from None
    content = _decrypt(text, apiv3_key)
    try:
        app_id, trade = trade_from_content(content)
    except PaymentError as error:
        raise NoticeRejectedError(error.detail) from None
    return Notice(
        platform=Platform.WECHAT,
        merchant_id=trade.merchant_id,
        app_id=app_id,
        trade=trade,
        digest=_digest(content),
        raw=content,
    )


def answer_notice(*, accepted: bool, reason: str) -> NoticeAnswer:
    """204 stops the platform's deliveries, anything else with a FAIL body asks for another."""
    if accepted:
        return NoticeAnswer(status=204, body=b"", content_type="application/json")
    body = json.dumps({"code": "FAIL", "message": reason or "失败"}, ensure_ascii=False)
    return NoticeAnswer(status=400, body=body.encode(), content_type="application/json")


def _decrypt(text: str, apiv3_key: str) -> str:
    try:
        envelope = msgspec.json.decode(text, type=_Envelope)
        resource = envelope.resource
        if envelope.resource_type != "encrypt-resource":
            raise NoticeRejectedError("the resource is of another type")
        if resource.algorithm != "AEAD_AES_256_GCM":
            raise NoticeRejectedError("the resource is encrypted in another way")
        content: str | None = aes_decrypt(
            nonce=resource.nonce,
            ciphertext=resource.ciphertext,
            associated_data=resource.associated_data,
            apiv3_key=apiv3_key,
        )
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise NoticeRejectedError(f"the body has another form: {type(error).__name__}") from None
    if content is None:
        raise NoticeRejectedError("the resource cannot be decrypted with the merchant's key")
    return content


def _digest(content: str) -> str:
    """The same for each delivery of one fact, whatever the order of its keys."""
    try:
        parsed: Any = json.loads(content)
        canonical = json.dumps(parsed, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise NoticeRejectedError(f"the content has another form: {type(error).__name__}") from None
    return hashlib.sha256(canonical.encode()).hexdigest()
