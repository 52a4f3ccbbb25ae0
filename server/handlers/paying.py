"""What the public page and the kiosk share: methods that fit a browser, the watched payment."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
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
from server.services.top_up_views import Payable, TopUpView
from server.services.wakeups import tenancy_topic

QR_METHODS = (Method.WECHAT_NATIVE, Method.ALIPAY_QR)
CODES = "codes"  # the name of both together
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
class Way:
    """What one button of a page stands for: a method, or two codes side by side."""

    name: str
    methods: tuple[Method, ...]

    @property
    def look(self) -> str:
        """Whose colours the button wears."""
        return "both" if len(self.methods) > 1 else self.methods[0].platform.value


@dataclass(frozen=True, slots=True)
class Watched:
    """A payment as its page shows it; `view` holds what it can be paid by at this moment (`at`)."""

    view: TopUpView
    at: datetime
    timezone: str
    shop_code: str
    shop_name: str
    ticks: tuple[Tick, ...]
    glance: str
    reasons: tuple[str, ...]
    settled: bool

    @property
    def left_s(self) -> int:
        """How many seconds are left to pay in; never less than there are."""
        return _left_s(self.view.expires_at, self.at)

    @property
    def payable(self) -> bool:
        """Whether a code or link is still worth showing."""
        return self.view.status == "pending" and self.left_s > 0

    @property
    def codes(self) -> tuple[Payable, ...]:
        """What can be paid by scanning a code."""
        return tuple(one for one in self.view.payables if "code_url" in one.payment)

    @property
    def link(self) -> Payable | None:
        """The platform's own page, if this payment has one."""
        found = [one for one in self.view.payables if _is_link(one.payment.get("url", ""))]
        return found[-1] if found else None

    @property
    def link_left_s(self) -> int:
        """How long that link serves."""
        return _left_s(self.link.good_until, self.at) if self.link else 0

    def others(self, ways: Sequence[Way]) -> list[Way]:
        """The ways that are not open already."""
        opened = {one.method for one in self.view.payables}
        return [way for way in ways if not opened.issuperset(way.methods)]


def _left_s(until: datetime, at: datetime) -> int:
    return max(0, -((at - until) // timedelta(seconds=1)))


def _is_link(url: str) -> bool:
    return url.startswith(("https://", "http://"))


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


def ways_of(methods: Sequence[Method]) -> list[Way]:
    """Methods as buttons: whoever can be shown one code can be shown two."""
    codes = tuple(method for method in methods if method in QR_METHODS)
    together = [Way(CODES, codes)] if len(codes) > 1 else []
    alone = [method for method in methods if not together or method not in codes]
    return together + [Way(method.value, (method,)) for method in alone]


def wanted_way(request: Request, methods: Sequence[Method]) -> Way:
    """What a form's button stands for, if it could be offered."""
    name = form_text(request, "method", length_max=20)
    for way in (*ways_of(methods), *(Way(method.value, (method,)) for method in methods)):
        if way.name == name:
            return way
    raise InvalidInputError("choose how to pay")


async def watch(found: AnonymousTopUp, now: datetime) -> Watched:
    """A payment with its ticks and, where the shop stays dark, the reasons."""
    glance, reasons = await public_page.supply_of(found.shop_id)
    return Watched(
        view=found.view.at(now),
        at=now,
        timezone=found.timezone,
        shop_code=found.shop_code,
        shop_name=found.shop_name,
        ticks=public_page.ticks(found.view, glance),
        glance=glance,
        reasons=reasons,
        settled=public_page.is_settled(found.view, glance),
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
