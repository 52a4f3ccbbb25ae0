"""Alipay's notices: a signed form, verified before a single fact in it is believed."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from payments.alipay.config import AlipayMerchant
from payments.alipay.orders import read_trade
from payments.alipay.signing import canonical, is_signed
from payments.contract import Notice, NoticeAnswer, NoticeRejectedError, Platform

BODY_BYTES_MAX = 65_536
FIELDS_MAX = 128
FORM = "application/x-www-form-urlencoded"

_UNSIGNED = frozenset({"sign", "sign_type"})
_CERTIFICATE = "alipay_cert_sn"  # stands beside the signature where there are certificates

# A redelivery is sent later and signed anew; `notify_id` stays and names the notice. So the time
# of sending and the signature take no part in the digest, every other signed field does.
_OF_THE_DELIVERY = _UNSIGNED | {"notify_time", _CERTIFICATE}

_NAME = re.compile(rb"[A-Za-z0-9_]{1,64}")
_CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8", "gbk": "gbk", "gb2312": "gbk"}


def parse_notice(
    headers: Mapping[str, str], body: bytes, keys: Sequence[RSAPublicKey], merchant: AlipayMerchant
) -> Notice:
    """Verify by any of the keys and read; raises NoticeRejectedError and nothing else.

    A notice by a certificate that is not known yet is rejected, and comes again.
    """
    content_type = headers.get("content-type", FORM).partition(";")[0].strip().lower()
    if content_type != FORM:
        raise NoticeRejectedError("not a form", code="form")
    fields, charset = _fields(body)
    if fields.get("sign_type") != "RSA2":
        raise NoticeRejectedError("the signature is not of type RSA2", code="sign_type")
    contents = {
        canonical(fields, without=without).encode(charset)
        for without in (_UNSIGNED, _UNSIGNED | {_CERTIFICATE})
    }
    signature = fields.get("sign", "")
    if not any(is_signed(key, content, signature) for key in keys for content in contents):
        raise NoticeRejectedError("the signature is not Alipay's", code="sign")
    # The key is Alipay's for one app of one merchant; `seller_id` is optional in their notice.
    seller_id = fields.get("seller_id") or merchant.seller_id
    try:
        trade = read_trade(fields, seller_id)
    except ValueError as error:
        raise NoticeRejectedError(f"signed, but no trade: {error}", code="facts") from error
    return Notice(
        platform=Platform.ALIPAY,
        merchant_id=seller_id,
        app_id=fields.get("app_id", ""),
        trade=trade,
        digest=hashlib.sha256(
            canonical(fields, without=_OF_THE_DELIVERY).encode("utf-8")
        ).hexdigest(),
        raw=body.decode("ascii"),
    )


def acknowledge(*, accepted: bool) -> NoticeAnswer:
    """Exactly `success` stops the deliveries; Alipay reads nothing else."""
    return NoticeAnswer(200, b"success" if accepted else b"failure", "text/plain")


def _fields(body: bytes) -> tuple[dict[str, str], str]:
    """The form's fields and the charset it says it is in."""
    if len(body) > BODY_BYTES_MAX:
        raise NoticeRejectedError(f"more than {BODY_BYTES_MAX} bytes", code="size")
    if not body.isascii():
        raise NoticeRejectedError("a form is percent-encoded ASCII", code="form")
    pairs = body.split(b"&")
    if len(pairs) > FIELDS_MAX:
        raise NoticeRejectedError(f"more than {FIELDS_MAX} fields", code="size")
    raw: dict[bytes, bytes] = {}
    for pair in pairs:
        name, mark, value = pair.partition(b"=")
        if not mark or _NAME.fullmatch(name) is None:
            raise NoticeRejectedError("a field is malformed", code="form")
        if name in raw:
            raise NoticeRejectedError("a field comes twice", code="form")
        raw[name] = unquote_to_bytes(value.replace(b"+", b" "))
    said = raw.get(b"charset", b"utf-8").decode("latin-1").lower()
    charset = _CHARSETS.get(said)
    if charset is None:
        raise NoticeRejectedError("the charset is neither UTF-8 nor GBK", code="charset")
    try:
        return {name.decode("ascii"): value.decode(charset) for name, value in raw.items()}, charset
    except UnicodeDecodeError:
        raise NoticeRejectedError(f"a field is not {charset}", code="charset") from None
