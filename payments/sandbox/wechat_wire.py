"""WeChat Pay v3's wire format, the platform's side: prove requests, sign answers, encrypt notices.

Rules: wechatpay-api.gitbook.io/wechatpay-api-v3 (signatures), pay.weixin.qq.com
docs/merchant/apis/h5-payment/payment-notice.html (notice),
wiki/doc/apiv3/apis/chapter3_2_5.shtml (pauses between deliveries).
Nothing here knows a server or a clock.
"""

import json
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256

from payments.sandbox.books import Order, OrderState, Refund, RefundState
from payments.sandbox.keys import SandboxKeys
from payments.sandbox.notifier import Posting
from payments.sandbox.signing import Signer

SCHEME = "WECHATPAY2-SHA256-RSA2048"
CHINA = timezone(timedelta(hours=8))
REQUEST_WINDOW_S = 300

_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"', re.ASCII)
_STATE_TEXTS = {
    "SUCCESS": "支付成功",
    "REFUND": "转入退款",
    "NOTPAY": "订单未支付",
    "CLOSED": "订单已关闭",
}
_REFUND_TEXTS = {
    RefundState.SUCCESS: "退款成功",
    RefundState.CLOSED: "退款关闭",
    RefundState.ABNORMAL: "退款异常",
}
_WALLET = "支付用户零钱"
PAYER = "oSandbox00000000000000000001"  # where an order names none


class RefusalError(Exception):
    """An answer in WeChat Pay's own form: status, code, message."""

    def __init__(
        self, status: int, code: str, message: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message} | ({"detail": detail} if detail else {})


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a merchant's signature covers; `target` is path and query exactly as sent."""

    method: str
    target: str
    body: str
    authorization: str


@dataclass(frozen=True, slots=True)
class Seal:
    """What closes a callback: the merchant's key and who signs."""

    apiv3_key: str
    signer: Signer


def prove_request(request: SignedRequest, keys: SandboxKeys, now: datetime) -> None:
    """Raise RefusalError unless the merchant signed this request within the window."""
    scheme, _, parameters_text = request.authorization.partition(" ")
    parameters = dict(_PARAMETER.findall(parameters_text))
    needed = {"mchid", "nonce_str", "signature", "timestamp", "serial_no"}
    if scheme != SCHEME or set(parameters) != needed:
        raise _sign_error("Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》")
    if parameters["mchid"] != keys.mchid:
        raise _sign_error("商户号不存在")
    if parameters["serial_no"].upper() != keys.cert_serial:
        raise _sign_error("商户证书序列号有误。请使用签名私钥匹配的证书序列号")
    timestamp = parameters["timestamp"]
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise _sign_error("Http头Authorization中的timestamp格式错误")
    if abs(now.timestamp() - int(timestamp)) > REQUEST_WINDOW_S:
        raise _sign_error("Http头Authorization中的timestamp与发起请求的时间不得超过5分钟")
    lines = (request.method, request.target, timestamp, parameters["nonce_str"], request.body)
    message = "".join(f"{line}\n" for line in lines).encode()
    try:
        signature = b64decode(parameters["signature"], validate=True)
        keys.wechat_merchant.public_key().verify(signature, message, PKCS1v15(), SHA256())
    except (ValueError, InvalidSignature):
        raise _sign_error("错误的签名，验签失败") from None


def signature_headers(body: bytes, signer: Signer, now: datetime) -> dict[str, str]:
    """The headers that prove `body` to the merchant."""
    timestamp, nonce = str(int(now.timestamp())), secrets.token_hex(16)
    message = f"{timestamp}\n{nonce}\n".encode() + body + b"\n"
    return {
        "Wechatpay-Nonce": nonce,
        "Wechatpay-Serial": signer.serial,
        "Wechatpay-Signature": signer.sign(message),
        "Wechatpay-Signature-Type": SCHEME,
        "Wechatpay-Timestamp": timestamp,
    }


def json_bytes(value: object) -> bytes:
    """JSON as it goes over the wire."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def new_prepay_id(now: datetime) -> str:
    """A prepay_id in the real one's form: wx, the Chinese time, 22 characters."""
    return f"wx{now.astimezone(CHINA):%Y%m%d%H%M%S}{secrets.token_hex(11)}"


def new_transaction_id(now: datetime) -> str:
    """A transaction id in the real one's form: 28 digits, starting 42000."""
    day = f"{now.astimezone(CHINA):%Y%m%d}"
    return f"4200000{secrets.randbelow(1000):03d}{day}{secrets.randbelow(10**10):010d}"


def new_refund_id(now: datetime) -> str:
    """A refund id in the real one's form: 29 digits, starting 503."""
    day = f"{now.astimezone(CHINA):%Y%m%d}"
    return f"503{secrets.randbelow(10**8):08d}{day}{secrets.randbelow(10**10):010d}"


def is_expired(order: Order, now: datetime) -> bool:
    """Whether its time_expire has passed unpaid: WeChat Pay then calls it CLOSED."""
    expire = order.payload.get("time_expire")
    return (
        order.state is OrderState.WAITING
        and isinstance(expire, str)
        and now >= datetime.fromisoformat(expire)
    )


def transaction(order: Order, state: str) -> dict[str, Any]:
    """The order as query and notice show it; `state` is WeChat Pay's own word."""
    shown: dict[str, Any] = {
        "mchid": order.merchant_id,
        "appid": order.payload["appid"],
        "out_trade_no": order.out_trade_no,
        "trade_state": state,
        "trade_state_desc": _STATE_TEXTS[state],
        "attach": order.payload.get("attach", ""),
        "amount": {"total": order.amount_fen, "currency": "CNY"},
        "payer": {},
        "promotion_detail": [],
    }
    if state in {"SUCCESS", "REFUND"} and order.paid_at is not None:
        shown |= {
            "transaction_id": order.transaction_id,
            "trade_type": order.payload["trade_type"],
            "bank_type": "OTHERS",
            "success_time": china_time(order.paid_at),
            "payer": {"openid": order.payload.get("openid") or PAYER},
        }
        shown["amount"] |= {"payer_total": order.amount_fen, "payer_currency": "CNY"}
    return shown


def refund(refund: Refund, order: Order) -> dict[str, Any]:
    """The refund as its request and its query are answered."""
    done = {} if refund.state is not RefundState.SUCCESS else _success_time(refund)
    return done | {
        "refund_id": refund.payload["refund_id"],
        "out_refund_no": refund.out_refund_no,
        "transaction_id": order.transaction_id,
        "out_trade_no": order.out_trade_no,
        "channel": "ORIGINAL",
        "user_received_account": _WALLET,
        "create_time": china_time(refund.created_at),
        "status": refund.state.name,
        "funds_account": "AVAILABLE",
        "amount": {
            "total": order.amount_fen,
            "refund": refund.amount_fen,
            "from": [],
            "payer_total": order.amount_fen,
            "payer_refund": refund.amount_fen,
            "settlement_total": order.amount_fen,
            "settlement_refund": refund.amount_fen,
            "discount_refund": 0,
            "currency": "CNY",
            "refund_fee": 0,
        },
        "promotion_detail": [],
    }


def payment_notice(order: Order, seal: Seal, now: datetime, state: str = "SUCCESS") -> Posting:
    """The encrypted and signed callback that says an order was paid (or, as a fault, is not)."""
    told_as = order.payload["notice_id"]
    event = Event(
        id=told_as if state == "SUCCESS" else f"0{told_as[1:]}",
        type="TRANSACTION.SUCCESS",
        summary="支付成功",
        at=order.paid_at or now,
        resource="transaction",
        content=transaction(order, state),
    )
    return notice(order.notify_url, event, seal, now)


def refund_notice(refund: Refund, order: Order, seal: Seal, now: datetime) -> Posting:
    """The encrypted and signed callback that says what became of a refund."""
    done = {} if refund.state is not RefundState.SUCCESS else _success_time(refund)
    content = done | {
        "mchid": refund.merchant_id,
        "out_trade_no": order.out_trade_no,
        "transaction_id": order.transaction_id,
        "out_refund_no": refund.out_refund_no,
        "refund_id": refund.payload["refund_id"],
        "refund_status": refund.state.name,
        "user_received_account": _WALLET,
        "amount": {
            "total": order.amount_fen,
            "refund": refund.amount_fen,
            "payer_total": order.amount_fen,
            "payer_refund": refund.amount_fen,
        },
    }
    event = Event(
        id=refund.payload["notice_id"],
        type=f"REFUND.{refund.state.name}",
        summary=_REFUND_TEXTS[refund.state],
        at=refund.finished_at or now,
        resource="refund",
        content=content,
    )
    return notice(refund.notify_url, event, seal, now)


@dataclass(frozen=True, slots=True)
class Event:
    """What a callback tells, before it is encrypted."""

    id: str
    type: str
    summary: str
    at: datetime
    resource: str
    content: Mapping[str, Any]


def notice(url: str, event: Event, seal: Seal, now: datetime) -> Posting:
    """A callback, encrypted for the merchant and signed by the platform at `now`."""
    nonce = secrets.token_hex(6)
    ciphertext = AESGCM(seal.apiv3_key.encode()).encrypt(
        nonce.encode(), json_bytes(event.content), event.resource.encode()
    )
    body = json_bytes(
        {
            "id": event.id,
            "create_time": china_time(event.at),
            "resource_type": "encrypt-resource",
            "event_type": event.type,
            "summary": event.summary,
            "resource": {
                "original_type": event.resource,
                "algorithm": "AEAD_AES_256_GCM",
                "ciphertext": b64encode(ciphertext).decode(),
                "associated_data": event.resource,
                "nonce": nonce,
            },
        }
    )
    headers = signature_headers(body, seal.signer, now) | {
        "Content-Type": "application/json",
        "Accept": "*/*",
        "User-Agent": "Mozilla/4.0",
    }
    return Posting(url=url, headers=headers, body=body)


def china_time(at: datetime) -> str:
    """A moment as WeChat Pay writes it."""
    return at.astimezone(CHINA).isoformat(timespec="seconds")


def _success_time(refund: Refund) -> dict[str, Any]:
    return {"success_time": china_time(refund.finished_at or refund.created_at)}


def _sign_error(message: str) -> RefusalError:
    return RefusalError(401, "SIGN_ERROR", message)
