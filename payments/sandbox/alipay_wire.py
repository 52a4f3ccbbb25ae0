"""How the sandbox's Alipay reads and writes: forms, RSA2, answers, notices.

Written apart from `payments.alipay`, so that a mistake there is not repeated here.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from payments.sandbox.books import Order, Refund
from payments.sandbox.keys import SandboxKeys
from payments.sandbox.signing import Signer

SHANGHAI = ZoneInfo("Asia/Shanghai")

_AMOUNT = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,2}))?", re.ASCII)

_OF_A_PAYMENT = {
    *("gmt_payment", "fund_bill_list", "buyer_pay_amount", "invoice_amount"),
    *("receipt_amount", "point_amount"),
}
_MESSAGES = {
    "20000": "Service Currently Unavailable",
    "40001": "Missing Required Arguments",
    "40002": "Invalid Arguments",
    "40004": "Business Failed",
}
_MISSING = {
    "app_id": "isv.missing-app-id",
    "method": "isv.missing-method",
    "sign_type": "isv.missing-signature-type",
    "sign": "isv.missing-signature",
    "timestamp": "isv.missing-timestamp",
    "version": "isv.missing-version",
}


class Refusal(Exception):  # noqa: N818 - an answer of the gateway, raised to leave early
    """The gateway says no, in its own codes."""

    def __init__(self, code: str, sub_code: str, sub_msg: str) -> None:
        super().__init__(sub_code)
        self.sub_code = sub_code
        self.sub_msg = sub_msg
        self.content = {
            "code": code,
            "msg": _MESSAGES[code],
            "sub_code": sub_code,
            "sub_msg": sub_msg,
        }


class Wire:
    """Verifies what the merchant's app signed and signs what the platform says."""

    def __init__(self, keys: SandboxKeys, signer: Callable[[str], Signer]) -> None:
        """`signer` says who signs an answer to a call, or a notice."""
        self._keys = keys
        self._signer = signer
        self._app_key = keys.alipay_app.public_key()

    def verify(self, params: Mapping[str, str]) -> None:
        """Raise the gateway's refusal unless the app signed exactly these parameters."""
        for name, sub_code in _MISSING.items():
            if not params.get(name):
                raise Refusal("40001", sub_code, f"缺少{name}参数")
        if params["app_id"] != self._keys.alipay_app_id:
            raise Refusal("40002", "isv.invalid-app-id", "无效的AppID参数")
        if params["sign_type"] != "RSA2":
            raise Refusal("40002", "isv.invalid-signature-type", "无效签名类型")
        if params.get("charset", "utf-8").lower() != "utf-8":
            raise Refusal("40002", "isv.invalid-charset", "字符集错误")
        try:
            signature = base64.b64decode(params["sign"], validate=True)
            content = _sorted(params, without={"sign"}).encode()
            self._app_key.verify(signature, content, padding.PKCS1v15(), SHA256())
        except (binascii.Error, ValueError, InvalidSignature):
            raise Refusal("40002", "isv.invalid-signature", "无效签名") from None
        if moment(params["timestamp"]) is None:
            raise Refusal("40002", "isv.invalid-timestamp", "非法的时间戳参数")

    def answer(self, name: str, content: Mapping[str, str], call: str, first_sn: str) -> str:
        """The JSON of a synchronous answer; `first_sn`: see `alipay_certificates`."""
        # Slashes escaped, as the real gateway does: who re-encodes before verifying fails.
        inner = json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("/", "\\/")
        signer = self._signer(call)
        named = f'"alipay_cert_sn":"{signer.serial or first_sn}",' if first_sn else ""
        return f'{{"{name}":{inner},{named}"sign":"{signer.sign(inner.encode())}"}}'

    def notice(self, order: Order, now: datetime) -> bytes:
        """The form that tells the merchant of a payment, as posted at `now`."""
        return self._form(self._paid(order, now), "notice").encode("ascii")

    def unpaid_notice(self, order: Order, now: datetime) -> bytes:
        """The form that says the payer has not paid yet."""
        paid = self._paid(order, now)
        facts = {name: paid[name] for name in paid if name not in _OF_A_PAYMENT}
        facts |= {"trade_status": "WAIT_BUYER_PAY", "notify_id": f"0{paid['notify_id'][1:]}"}
        return self._form(facts, "notice").encode("ascii")

    def refund_notice(
        self, order: Order, refund: Refund, refunded_fen: int, now: datetime
    ) -> bytes:
        """The trade's form after a refund: `refund_fee` is all that was given back so far."""
        finished_at = refund.finished_at or now
        facts = self._paid(order, now) | {
            "gmt_refund": f"{shanghai(finished_at)}.000",
            "notify_id": refund.payload["notify_id"],
            "out_biz_no": refund.out_refund_no,
            "refund_fee": yuan(refunded_fen),
        }
        if refunded_fen >= order.amount_fen:
            facts |= {"trade_status": "TRADE_CLOSED", "gmt_close": shanghai(finished_at)}
        return self._form(facts, "refund_notice").encode("ascii")

    def _paid(self, order: Order, now: datetime) -> dict[str, str]:
        amount = yuan(order.amount_fen)
        return {
            "app_id": self._keys.alipay_app_id,
            "auth_app_id": self._keys.alipay_app_id,
            "buyer_id": "2088000000000002",
            "buyer_logon_id": "san***@sandbox.example",
            "buyer_pay_amount": amount,
            "charset": "utf-8",
            "fund_bill_list": f'[{{"amount":"{amount}","fundChannel":"ALIPAYACCOUNT"}}]',
            "gmt_create": shanghai(order.created_at),
            "gmt_payment": shanghai(order.paid_at or now),
            "invoice_amount": amount,
            "notify_id": order.payload["notify_id"],
            "notify_time": shanghai(now),
            "notify_type": "trade_status_sync",
            "out_trade_no": order.out_trade_no,
            "point_amount": "0.00",
            "receipt_amount": amount,
            "seller_id": order.merchant_id,
            "sign_type": "RSA2",
            "subject": order.payload["subject"],
            "total_amount": amount,
            "trade_no": order.payload["trade_no"],
            "trade_status": "TRADE_SUCCESS",
            "version": "1.0",
        }

    def way_back(self, order: Order, now: datetime) -> str:
        """The signed query with which the payer's browser returns to the merchant."""
        return self._form(
            {
                "app_id": self._keys.alipay_app_id,
                "charset": "utf-8",
                "method": "alipay.trade.wap.pay.return",
                "out_trade_no": order.out_trade_no,
                "seller_id": order.merchant_id,
                "sign_type": "RSA2",
                "timestamp": shanghai(now),
                "total_amount": yuan(order.amount_fen),
                "trade_no": order.payload["trade_no"],
                "version": "1.0",
            },
            "return",
        )

    def _form(self, fields: dict[str, str], call: str) -> str:
        content = _sorted(fields, without={"sign_type"}).encode()
        return urlencode(fields | {"sign": self._signer(call).sign(content)})


def biz_content(params: Mapping[str, str]) -> dict[str, str]:
    """The business parameters that are text; see `options` for the lists."""
    return {name: value for name, value in _content(params).items() if isinstance(value, str)}


def options(params: Mapping[str, str], name: str) -> frozenset[str]:
    """A business parameter that lists names."""
    value = _content(params).get(name)
    return frozenset(map(str, value)) if isinstance(value, list) else frozenset()


def fen_from_yuan(text: str) -> int | None:
    """Fen from what Alipay reads as money, or None."""
    found = _AMOUNT.fullmatch(text)
    return int(found[1]) * 100 + int((found[2] or "").ljust(2, "0")) if found else None


def yuan(fen: int) -> str:
    """Fen as Alipay writes money."""
    return f"{fen // 100}.{fen % 100:02d}"


def shanghai(at: datetime) -> str:
    """A moment as Alipay writes it."""
    return f"{at.astimezone(SHANGHAI):%Y-%m-%d %H:%M:%S}"


def moment(text: str) -> datetime | None:
    """The moment Alipay reads, or None."""
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=SHANGHAI)
    except ValueError:
        return None


def _content(params: Mapping[str, str]) -> dict[str, object]:
    try:
        content = json.loads(params.get("biz_content", ""))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Refusal("40002", "isv.invalid-parameter", "biz_content 不是 JSON 对象")
    return content


def _sorted(params: Mapping[str, str], *, without: set[str]) -> str:
    pairs = sorted((name, value) for name, value in params.items() if value)
    return "&".join(f"{name}={value}" for name, value in pairs if name not in without)
