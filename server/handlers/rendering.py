"""Turns facts into pages: the Jinja environment, the words, the headers of every page."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache, partial
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import segno
import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from sanic import HTTPResponse, Request
from sanic.response import html, redirect

import web
from server.core.energy import kwh_text
from server.core.money import yuan_text
from server.handlers.assets import asset_url
from server.handlers.guards import FORM_COOKIE, csrf_of, form_secret, is_https, set_cookie
from server.handlers.messages import messages, say
from server.http.answers import request_id, told_of
from server.http.context import WebContext
from server.http.locale import Locale, locale_of, problem_text

log = structlog.get_logger(__name__)

CONTENT_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    # no-referrer would make browsers send "Origin: null" with our own forms
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
YEAR_S = 31_536_000
FORM_LIFE_S = 86_400


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The one Jinja environment: autoescaped, and a missing fact is an error."""
    made = Environment(
        loader=FileSystemLoader(web.FOLDER / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(yuan=yuan, kwh=kwh, clock=clock_text, age_s=age_s)
    made.globals.update(asset=asset_url, qr=qr_svg)
    return made


def fragment(locale: Locale, template: str, **facts: object) -> str:
    """A part of a page, as a live stream sends it."""
    words = partial(say, locale)
    known = messages(locale)
    return (
        environment()
        .get_template(template)
        .render(t=words, known=known, locale=locale.value, **facts)
    )


def page(
    request: Request,
    context: WebContext,
    template: str,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **facts: object,
) -> HTTPResponse:
    """A whole page with the headers of every page; remembers a language chosen by `?lang=`."""
    locale = locale_of(request)
    body = fragment(
        locale, template, now=context.clock(), other_locale=_other_locale(request, locale), **facts
    )
    response = html(body, status=status, headers={**HEADERS, **(headers or {})})
    if request.args.get("lang") in set(Locale):
        response.add_cookie(
            "lang",
            locale.value,
            path="/",
            max_age=YEAR_S,
            samesite="Lax",
            secure=is_https(context),
        )
    return response


def form_page(
    request: Request, context: WebContext, template: str, *, status: int = 200, **facts: object
) -> HTTPResponse:
    """A page with a form for somebody who has no session: its CSRF token hangs on a cookie."""
    secret = form_secret(request) or secrets.token_urlsafe(24)
    facts = {**facts, "csrf": csrf_of(context, secret)}
    response = page(request, context, template, status=status, headers=None, **facts)
    set_cookie(response, context, FORM_COOKIE, secret, path="/", life_s=FORM_LIFE_S)
    return response


def see_other(path: str) -> HTTPResponse:
    """After a POST: look there."""
    return redirect(path, status=303, headers={"Cache-Control": "no-store"})


def error_page(context: WebContext, home: str) -> Callable[[Request, Exception], HTTPResponse]:
    """An exception handler that answers with a page in the caller's words, never a trace."""

    def answer(request: Request, error: Exception) -> HTTPResponse:
        told = told_of(error)
        if told.status >= 500:
            log.error("page failed", request_id=request_id(request), exc_info=error)
        detail = told.detail if told.status == 422 else ""  # what was typed wrong; no ids
        return page(
            request,
            context,
            "error.html",
            status=told.status,
            headers=dict(told.headers),
            words=problem_text(told.code, detail, locale_of(request)),
            error_status=told.status,
            request_id=request_id(request),
            home=home,
        )

    return answer


def _other_locale(request: Request, locale: Locale) -> tuple[str, str]:
    """The other language's code and the address of this page in it."""
    other = Locale.EN if locale is Locale.ZH else Locale.ZH
    query = [(name, value) for name, value in request.query_args if name != "lang"]
    return other.value, f"{request.path}?{urlencode([*query, ('lang', other.value)])}"


def yuan(fen: int) -> str:
    """Fen as a person reads them: 123456 is "¥1,234.56"."""
    whole, _, cents = yuan_text(abs(fen)).partition(".")
    return f"{'−' if fen < 0 else ''}¥{int(whole):,}.{cents}"


def kwh(energy_wh: int) -> str:
    """Watt-hours as kWh with two decimals, cut off: nothing is billed from it."""
    return kwh_text(energy_wh)[:-1]


def clock_text(at: datetime, timezone: str, shape: str = "%H:%M:%S") -> str:
    """A time on the mall's clock."""
    return at.astimezone(ZoneInfo(timezone)).strftime(shape)


def age_s(at: datetime, now: datetime) -> int:
    """Whole seconds since; never negative."""
    return max(int((now.astimezone(UTC) - at).total_seconds()), 0)


@lru_cache(maxsize=256)
def qr_svg(text: str) -> Markup:
    """A QR code as an inline SVG without size or colours: the style sheet gives both."""
    code = segno.make(text, error="m", micro=False)
    drawn = code.svg_inline(omitsize=True, border=2, dark="#000", light="#fff", svgclass="qr")
    return Markup(drawn)  # noqa: S704 - drawn by segno from modules, holds nothing of the text
