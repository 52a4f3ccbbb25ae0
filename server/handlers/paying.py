"""What the public page and the kiosk share: methods that fit a browser, the watched payment."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sanic import Request

from payments.contract import Method
from server.core.errors import InvalidInputError
from server.handlers.guards import fen_from_text, form_text
from server.handlers.regions import Live, Regions
from server.handlers.rendering import fragment
from server.http.context import WebContext
from server.http.locale import locale_of
from server.services import public_page
from server.services.public_page import AnonymousTopUp, Tick
from server.services.top_up_views import TopUpView
from server.services.wakeups import tenancy_topic

QR_METHODS = (Method.WECHAT_NATIVE, Method.ALIPAY_QR)
# wechat_jsapi is the mini-program's: it needs a payer who logged in
ANONYMOUS_METHODS = (*QR_METHODS, Method.WECHAT_H5, Method.ALIPAY_WAP)


class Browser(StrEnum):
    """What kind of browser opened the page; it decides how one can pay there."""

    WECHAT = "wechat"
    ALIPAY = "alipay"
    PHONE = "phone"
    DESKTOP = "desktop"


# WeChat refuses H5 pay inside its own browser and blocks Alipay's links: there only a code for
# another phone is left, beside the mini-program
FITTING: dict[Browser, tuple[Method, ...]] = {
    Browser.WECHAT: (Method.WECHAT_NATIVE,),
    Browser.ALIPAY: (Method.ALIPAY_WAP,),
    Browser.PHONE: (Method.WECHAT_H5, Method.ALIPAY_WAP),
    Browser.DESKTOP: QR_METHODS,
}


@dataclass(frozen=True, slots=True)
class Watched:
    """A payment as its page shows it."""

    view: TopUpView
    method: Method
    timezone: str
    shop_code: str
    shop_name: str
    ticks: tuple[Tick, ...]
    glance: str
    reasons: tuple[str, ...]
    settled: bool
    expired: bool

    @property
    def payable(self) -> bool:
        """Whether the code or the link is still worth showing."""
        return self.view.status == "pending" and not self.expired

    @property
    def code_url(self) -> str | None:
        """The text of the QR code to scan, if this payment has one."""
        return (self.view.payment or {}).get("code_url")

    @property
    def pay_url(self) -> str | None:
        """The platform's own page, if this payment has one."""
        url = (self.view.payment or {}).get("url")
        return url if url and url.startswith(("https://", "http://")) else None


def browser_of(user_agent: str) -> Browser:
    """Which browser this is, by its own words."""
    words = user_agent.lower()
    if "micromessenger" in words:
        return Browser.WECHAT
    if "alipayclient" in words:
        return Browser.ALIPAY
    phone = any(word in words for word in ("mobile", "android", "iphone", "harmonyos"))
    return Browser.PHONE if phone else Browser.DESKTOP


def offered(browser: Browser, methods: Sequence[Method]) -> tuple[Method, ...]:
    """The site's methods that work in this browser; codes for another phone where none does."""
    fitting = tuple(method for method in FITTING[browser] if method in methods)
    return fitting or tuple(method for method in QR_METHODS if method in methods)


def wanted_fen(request: Request) -> int:
    """The amount of a form: what was typed, else the button that was chosen."""
    typed = form_text(request, "other", length_max=12)
    if typed:
        return fen_from_text(typed)
    chosen = form_text(request, "amount_fen", length_max=12)
    if not chosen.isascii() or not chosen.isdigit():
        raise InvalidInputError("choose an amount")
    return int(chosen)


def wanted_method(request: Request, methods: Sequence[Method]) -> Method:
    """The method of a form's button, if it was offered."""
    name = form_text(request, "method", length_max=20)
    for method in methods:
        if method == name:
            return method
    raise InvalidInputError("choose how to pay")


async def watch(found: AnonymousTopUp, now: datetime) -> Watched:
    """A payment with its ticks and, where the shop stays dark, the reasons."""
    glance, reasons = await public_page.supply_of(found.shop_id)
    return Watched(
        view=found.view,
        method=found.method,
        timezone=found.timezone,
        shop_code=found.shop_code,
        shop_name=found.shop_name,
        ticks=public_page.ticks(found.view, glance),
        glance=glance,
        reasons=reasons,
        settled=public_page.is_settled(found.view, glance),
        expired=now >= found.view.expires_at,
    )


async def payment_live(
    request: Request,
    context: WebContext,
    find: Callable[[], Awaitable[AnonymousTopUp]],
    *,
    holder: str,
) -> Live:
    """How a payment's page follows it; raises what `find` raises before anything is sent."""
    locale = locale_of(request)
    first = await find()

    async def look() -> Regions:
        watched = await watch(await find(), context.clock())
        markup = fragment(locale, "region_ticks.html", watched=watched)
        return Regions({"ticks": markup}, over=watched.settled)

    return Live(holder, [tenancy_topic(first.view.tenancy_id)], look)
