"""Who sent this form, and from where: cookies, same origin, CSRF, typed fields."""

import hashlib
import hmac
import re
from datetime import datetime
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from sanic import HTTPResponse, Request

from server.core.errors import ForbiddenError, InvalidInputError, UnauthenticatedError
from server.http.bearer import checked_token
from server.http.context import WebContext

MANAGER_COOKIE, KIOSK_COOKIE, FORM_COOKIE = "mw_manager", "mw_kiosk", "mw_form"
FIELD = "csrf"
_YUAN = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,2}))?", re.ASCII)
_KWH = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,3}))?", re.ASCII)
_MINUTE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?", re.ASCII)


def cookie_token(request: Request, name: str) -> str:
    """The token in a session's cookie; UnauthenticatedError where there is none."""
    return checked_token(request.cookies.get(name) or "")


def form_secret(request: Request) -> str | None:
    """The secret that ties a form to a browser without a session; None: it has none yet."""
    try:
        return cookie_token(request, FORM_COOKIE)
    except UnauthenticatedError:
        return None


def csrf_of(context: WebContext, secret: str) -> str:
    """The form token that belongs to a cookie's secret: only we can make it, it tells nothing."""
    key = context.settings.secret_key.encode()
    return hmac.new(key, f"csrf:{secret}".encode(), hashlib.sha256).hexdigest()[:32]


def check_origin(request: Request, context: WebContext) -> None:
    """Refuse what another site's page sent; a browser that says nothing has the token to show."""
    fetch_site = request.headers.get("sec-fetch-site")
    if fetch_site is not None:
        if fetch_site not in {"same-origin", "none"}:
            raise ForbiddenError("sent from another site")
        return
    origin = request.headers.get("origin")
    if origin is None:
        return
    ours = {request.host, urlsplit(context.settings.public_url).netloc}
    try:
        place = urlsplit(origin).netloc
    except ValueError:  # a bracket that never closes
        place = ""
    if place not in ours - {""}:
        raise ForbiddenError("sent from another site")


def check_form(request: Request, context: WebContext, secret: str | None) -> None:
    """Refuse a form without the token of this cookie, and any form without the cookie."""
    check_origin(request, context)
    shown = form_text(request, FIELD, length_max=64).encode()
    if secret is None or not hmac.compare_digest(shown, csrf_of(context, secret).encode()):
        raise ForbiddenError("the form is not of this session")


def form_text(request: Request, name: str, *, length_max: int = 200) -> str:
    """One field of a form, "" where it is missing; twice the same name is refused."""
    form = request.form
    values = [] if form is None else form.getlist(name) or []
    if len(values) > 1 or any(len(value) > length_max for value in values):
        raise InvalidInputError(f"field {name!r} is given twice or too long")
    if values and "\0" in values[0]:
        raise InvalidInputError(f"field {name!r} holds a NUL")  # PostgreSQL's text has none
    return str(values[0]).strip() if values else ""


def fen_from_text(text: str) -> int:
    """An amount as a person types it ("50", "50.5") in fen; raises InvalidInputError."""
    match = _YUAN.fullmatch(text.strip().removeprefix("¥"))
    if match is None:
        raise InvalidInputError("an amount in yuan with up to two decimals")
    return int(match.group(1)) * 100 + int((match.group(2) or "").ljust(2, "0"))


def wh_from_text(text: str) -> int:
    """A register as a meter shows it ("1234.56" kWh) in Wh; raises InvalidInputError."""
    match = _KWH.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError("a register in kWh with up to three decimals")
    return int(match.group(1)) * 1_000 + int((match.group(2) or "").ljust(3, "0"))


def time_from_text(text: str, timezone: str) -> datetime:
    """A time as a browser's field sends it, on the mall's clock; raises InvalidInputError."""
    try:
        if _MINUTE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone))
    except ValueError:
        pass  # the 30th of February is refused like any other text
    raise InvalidInputError("a date with a time")


def set_cookie(
    response: HTTPResponse, context: WebContext, name: str, value: str, *, path: str, life_s: int
) -> None:
    """A cookie that scripts cannot read and other sites' forms do not send."""
    response.add_cookie(
        name,
        value,
        path=path,
        max_age=life_s,
        httponly=True,
        samesite="Lax",
        secure=is_https(context),
    )


def end_cookie(response: HTTPResponse, context: WebContext, name: str, *, path: str) -> None:
    """Make the browser forget a cookie."""
    set_cookie(response, context, name, "", path=path, life_s=0)


def is_https(context: WebContext) -> bool:
    """Whether the public reaches us over TLS."""
    return context.settings.public_url.startswith("https://")
