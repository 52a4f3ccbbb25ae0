"""The kiosk in the mall, /kiosk: find a shop, pay by QR code, see a receipt. It locks itself."""

import secrets

from sanic import Blueprint, HTTPResponse, Request

from payments.contract import Method
from server.core.errors import ForbiddenError, InvalidInputError, UnauthenticatedError
from server.handlers.guards import (
    KIOSK_COOKIE,
    check_form,
    cookie_token,
    csrf_of,
    form_secret,
    form_text,
    set_cookie,
)
from server.handlers.paying import QR_METHODS, wanted_fen, wanted_way, watch, ways_of
from server.handlers.rendering import YEAR_S, error_page, form_page, page, see_other
from server.http.answers import status_of
from server.http.bodies import client_address, limited_address, text_argument
from server.http.context import WebContext
from server.services import admin_views, kiosks, managers, public_page
from server.services.kiosks import Kiosk
from server.services.manager_acts import Act, may
from server.services.public_page import AnonymousOrder

PATH = "/kiosk"
KEYS = ("1234567890", "QWERTYUIOP", "ASDFGHJKL-", "ZXCVBNM")
TYPED = ("name", "site", "kiosk")  # what an enrolment form keeps on a mistake


def blueprint(context: WebContext) -> Blueprint:
    """The routes under /kiosk."""
    room = Blueprint("kiosk", url_prefix=PATH)
    room.exception(Exception)(error_page(context, PATH))
    _add_enrolment(room, context)
    _add_search(room, context)
    _add_payment(room, context)
    return room


async def known_kiosk(request: Request) -> Kiosk:
    """The kiosk of this browser; UnauthenticatedError where it is none."""
    return await kiosks.kiosk_of(_token(request))


def _token(request: Request) -> str:
    return cookie_token(request, KIOSK_COOKIE)


def _add_enrolment(room: Blueprint, context: WebContext) -> None:
    @room.get("/enrol")
    async def ask_enrolment(request: Request) -> HTTPResponse:
        return form_page(
            request, context, "kiosk_enrol.html", problem=None, typed=dict.fromkeys(TYPED, "")
        )

    @room.post("/enrol")
    async def enrol(request: Request) -> HTTPResponse:
        check_form(request, context, form_secret(request))
        typed = {name: form_text(request, name) for name in TYPED}
        try:
            token = await _enrol(request, context, typed)
        except (UnauthenticatedError, ForbiddenError, InvalidInputError) as error:
            return form_page(
                request,
                context,
                "kiosk_enrol.html",
                status=status_of(error),
                problem=error.code,
                typed=typed,
            )
        response = see_other(PATH)
        set_cookie(response, context, KIOSK_COOKIE, token, path=PATH, life_s=YEAR_S)
        return response


async def _enrol(request: Request, context: WebContext, typed: dict[str, str]) -> str:
    """Log the manager in for this one act; the session ends with it."""
    now = context.clock()
    password = form_text(request, "password", length_max=256)
    session = await managers.log_in(typed["name"], password, now, address=limited_address(request))
    try:
        if not may(session.manager.role, Act.KIOSKS):
            raise ForbiddenError
        malls = await admin_views.sites(session.manager.site_id)
        chosen = [mall for mall in malls if typed["site"] in {mall.code, ""}]
        if len(chosen) != 1:
            raise InvalidInputError(code="site_needed")
        return await kiosks.enrol(chosen[0].id, typed["kiosk"], session.manager, now)
    finally:
        await managers.log_out(session.token)


def _add_search(room: Blueprint, context: WebContext) -> None:
    @room.get("/")
    async def search(request: Request) -> HTTPResponse:
        try:
            kiosk = await known_kiosk(request)
        except UnauthenticatedError:
            return page(request, context, "kiosk_closed.html", status=401)
        query = text_argument(request, "q", length_max=kiosks.QUERY_MAX) or ""
        found = await kiosks.doors(kiosk.site_id, query)
        return page(
            request, context, "kiosk_search.html", kiosk=kiosk, query=query, doors=found, keys=KEYS
        )

    @room.get("/shops/<code:str>")
    async def choose(request: Request, code: str) -> HTTPResponse:
        kiosk = await known_kiosk(request)
        return page(
            request,
            context,
            "kiosk_shop.html",
            kiosk=kiosk,
            door=await kiosks.door(kiosk.site_id, code),
            ways=ways_of(await _methods(context, kiosk)),
            amounts_fen=public_page.AMOUNTS_FEN,
            nonce=secrets.token_hex(16),
            csrf=csrf_of(context, _token(request)),
        )


def _add_payment(room: Blueprint, context: WebContext) -> None:
    @room.post("/shops/<code:str>/top-ups")
    async def order(request: Request, code: str) -> HTTPResponse:
        kiosk = await known_kiosk(request)
        check_form(request, context, _token(request))
        door = await kiosks.door(kiosk.site_id, code)
        way = wanted_way(request, await _methods(context, kiosk))
        wish = AnonymousOrder(
            shop_id=door.shop_id,
            tenancy_id=door.tenancy_id,
            amount_fen=wanted_fen(request),
            method=way.methods[0],
            beside=way.methods[1:],
            nonce=form_text(request, "nonce", length_max=public_page.NONCE_MAX),
            address=f"kiosk:{kiosk.id}",
            public_url=context.settings.public_url,
            return_path=None,
            client_ip=client_address(request),
        )
        view = await public_page.order(wish, context.platforms, context.clock())
        return see_other(f"{PATH}/top-ups/{view.top_up_no}")

    @room.get("/top-ups/<no:str>")
    async def follow(request: Request, no: str) -> HTTPResponse:
        return await _payment_page(request, context, no, "kiosk_top_up.html")

    @room.get("/top-ups/<no:str>/receipt")
    async def receipt(request: Request, no: str) -> HTTPResponse:
        return await _payment_page(request, context, no, "kiosk_receipt.html")


async def _methods(context: WebContext, kiosk: Kiosk) -> list[Method]:
    """The codes that this mall can be paid by."""
    methods = await context.platforms.methods(kiosk.site_id)
    return [method for method in QR_METHODS if method in methods]


async def _payment_page(
    request: Request, context: WebContext, no: str, template: str
) -> HTTPResponse:
    kiosk = await known_kiosk(request)
    found = await public_page.find_site_top_up(kiosk.site_id, no)
    watched = await watch(found, context.clock())
    return page(request, context, template, kiosk=kiosk, watched=watched)
