"""Notices: size, signature, decryption, form. Nothing here sends or decides anything."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from payments.contract import (
    Notice,
    NoticeAnswer,
    NoticeRejectedError,
    PaymentError,
    Platform,
    RefundNotice,
)
from payments.wechat.orders import trade_from_content
from payments.wechat.refunds import STATUSES, refund_from_notice
from payments.wechat.signing import UnprovedError, prove, unsealed

BODY_BYTES_MAX = 64 * 1024  # a real one is about 1 kB


class Resource(msgspec.Struct):
    """What is sealed with the merchant's APIv3 key."""

    algorithm: str
    ciphertext: str
    nonce: str
    associated_data: str = ""
    original_type: str = "transaction"


class Envelope(msgspec.Struct):
    """What is around a sealed resource."""

    resource_type: str
    resource: Resource
    event_type: str = ""


def read_notice(
    headers: Mapping[str, str],
    body: bytes,
    *,
    keys: Mapping[str, RSAPublicKey],
    apiv3_key: str,
    now: datetime,
) -> Notice | RefundNotice:
    """The notice in a raw callback (header names in lower case); raises NoticeRejectedError."""
    envelope, content = opened(headers, body, keys=keys, apiv3_key=apiv3_key, now=now)
    try:
        if envelope.resource.original_type == "refund":
            return _refund_notice(envelope.event_type, content)
        return _payment_notice(content)
    except PaymentError as error:
        raise NoticeRejectedError(error.detail) from None


def opened(
    headers: Mapping[str, str],
    body: bytes,
    *,
    keys: Mapping[str, RSAPublicKey],
    apiv3_key: str,
    now: datetime,
) -> tuple[Envelope, str]:
    """A notice that proved itself, and what is sealed in it; raises NoticeRejectedError."""
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
    return _unsealed(text, apiv3_key)


def answer_notice(*, accepted: bool, reason: str) -> NoticeAnswer:
    """204 stops the platform's deliveries, anything else with a FAIL body asks for another."""
    if accepted:
        return NoticeAnswer(status=204, body=b"", content_type="application/json")
    body = json.dumps({"code": "FAIL", "message": reason or "失败"}, ensure_ascii=False)
    return NoticeAnswer(status=400, body=body.encode(), content_type="application/json")


def _payment_notice(content: str) -> Notice:
    app_id, trade = trade_from_content(content)
    return Notice(
        platform=Platform.WECHAT,
        merchant_id=trade.merchant_id,
        app_id=app_id,
        trade=trade,
        digest=_digest(content),
        raw=content,
    )


def _refund_notice(event_type: str, content: str) -> RefundNotice:
    refund = refund_from_notice(content)
    if STATUSES.get(event_type.removeprefix("REFUND.")) is not refund.status:
        raise NoticeRejectedError("the event contradicts the refund")
    return RefundNotice(
        platform=Platform.WECHAT,
        merchant_id=refund.merchant_id,
        refund=refund,
        digest=_digest(content),
        raw=content,
    )


def _unsealed(text: str, apiv3_key: str) -> tuple[Envelope, str]:
    try:
        envelope = msgspec.json.decode(text, type=Envelope)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise NoticeRejectedError(f"the body has another form: {type(error).__name__}") from None
    if envelope.resource_type != "encrypt-resource":
        raise NoticeRejectedError("the resource is of another type")
    resource = envelope.resource
    try:
        content = unsealed(
            algorithm=resource.algorithm,
            nonce=resource.nonce,
            ciphertext=resource.ciphertext,
            associated_data=resource.associated_data,
            apiv3_key=apiv3_key,
        )
    except UnprovedError as error:
        raise NoticeRejectedError(str(error)) from None
    return envelope, content


def _digest(content: str) -> str:
    """The same for each delivery of one fact, whatever the order of its keys."""
    try:
        parsed: Any = json.loads(content)
        canonical = json.dumps(parsed, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise NoticeRejectedError(f"the content has another form: {type(error).__name__}") from None
    return hashlib.sha256(canonical.encode()).hexdigest()
