"""The page "pay now": what a person sees in the demo instead of the platform's own app."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sanic import HTTPResponse
from sanic.response import html

from payments.contract import Platform
from payments.sandbox.books import Order, OrderState

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
_WORDS = {
    "zh": {
        "lang": "zh-CN",
        "wechat": "微信支付",
        "alipay": "支付宝",
        "sandbox": "沙箱：不会产生真实扣款",
        "order": "商户单号",
        "pay": "立即支付",
        "paid": "支付成功",
        "closed": "订单已关闭，无法支付",
        "missing": "没有这笔订单",
        "back": "返回商户",
    },
    "en": {
        "lang": "en",
        "wechat": "WeChat Pay",
        "alipay": "Alipay",
        "sandbox": "Sandbox: no real money moves",
        "order": "Order",
        "pay": "Pay now",
        "paid": "Paid",
        "closed": "This order is closed and cannot be paid",
        "missing": "There is no such order",
        "back": "Back to the merchant",
    },
}
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
)


@dataclass(frozen=True, slots=True)
class PaymentView:
    """What the page shows; its button posts to the page's own address."""

    order: Order
    description: str
    payable: bool  # false once expired; a paid or closed order shows its state anyway
    return_url: str | None = None


def render_payment(view: PaymentView, accept_language: str) -> HTTPResponse:
    """The page of one order, of any platform."""
    order = view.order
    page = _templates.get_template("pay.html").render(
        words=_words(accept_language),
        platform=order.platform.value,
        description=view.description,
        amount=f"{order.amount_fen // 100}.{order.amount_fen % 100:02d}",
        out_trade_no=order.out_trade_no,
        state=_shown_state(view),
        return_url=_safe_url(view.return_url),
    )
    return html(page, headers=_HEADERS)


def render_missing(accept_language: str, platform: Platform = Platform.WECHAT) -> HTTPResponse:
    """The page for an order that does not exist (404)."""
    page = _templates.get_template("pay.html").render(
        words=_words(accept_language), platform=platform.value, state="missing", return_url=None
    )
    return html(page, status=404, headers=_HEADERS)


def _shown_state(view: PaymentView) -> str:
    if view.order.state is OrderState.WAITING:
        return "waiting" if view.payable else "closed"
    return view.order.state.value


def _words(accept_language: str) -> dict[str, str]:
    return _WORDS["en" if accept_language.strip().lower().startswith("en") else "zh"]


def _safe_url(url: str | None) -> str | None:
    """Only what a browser follows as a page; never javascript: and its kin."""
    try:
        return url if url and urlsplit(url).scheme in {"http", "https"} else None
    except ValueError:
        return None
