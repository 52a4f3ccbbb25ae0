"""The page behind the printed QR code, /s: top a shop up without a login, watch it arrive."""

import asyncio
import os
import re
import secrets
import stat
from pathlib import Path

from sanic import Blueprint, HTTPResponse, Request
from sanic.response import raw

from server.core.errors import NotFoundError
from server.handlers.guards import check_origin, form_text
from server.handlers.paying import (
    ANONYMOUS_METHODS,
    Browser,
    Way,
    browser_of,
    offered,
    wanted_fen,
    wanted_way,
    watch,
    ways_of,
)
from server.handlers.rendering import error_page, page, see_other
from server.http.bodies import client_address, limited_address
from server.http.context import WebContext
from server.services import order_queries, public_page
from server.services.payment_attempts import Payer
from server.services.public_page import AnonymousChange, AnonymousOrder, PublicShop

DOMAIN_CHECK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.txt", re.ASCII)
CHECK_BYTES_MAX = 4_096
TOKEN_MAX = 64
PAID = "paid"  # the argument of whoever comes back from a platform, or says so
# WeChat's H5 pay asks from which domain its payer came; the token in our path is not its business
REFERRER = {"Referrer-Policy": "strict-origin"}


def blueprint(context: WebContext) -> Blueprint:
    """The routes under /s."""
    room = Blueprint("public_page", url_prefix="/s")
    room.exception(Exception)(error_page(context, "/s"))

    @room.get("/<token:str>")
    async def get_shop(request: Request, token: str) -> HTTPResponse:
        if token.endswith(".txt"):
            return await _domain_check(context.settings.data_dir / "domain-checks", token)
        return await _shop_page(request, context, await find_shop(token), token)

    _add_top_ups(room, context)
    _add_top_up_pages(room, context)
    return room


def _add_top_ups(room: Blueprint, context: WebContext) -> None:
    """What a payer asks for: an order, or another way to pay it."""

    @room.post("/<token:str>/top-ups")
    async def order_top_up(request: Request, token: str) -> HTTPResponse:
        check_origin(request, context)
        shop = await find_shop(token)
        way = await _wanted_way(request, context, shop)
        wish = AnonymousOrder(
            shop_id=shop.shop_id,
            tenancy_id=shop.tenancy_id,
            amount_fen=wanted_fen(request),
            method=way.methods[0],
            beside=way.methods[1:],
            nonce=form_text(request, "nonce", length_max=public_page.NONCE_MAX),
            address=limited_address(request),
            client_ip=client_address(request),
            public_url=context.settings.public_url,
            return_path=f"/s/{token}/returns",
        )
        view = await public_page.order(wish, context.platforms, context.clock())
        return see_other(f"/s/{token}/top-ups/{view.top_up_no}?pay=1")

    @room.post("/<token:str>/top-ups/<no:str>/attempts")
    async def change_method(request: Request, token: str, no: str) -> HTTPResponse:
        check_origin(request, context)
        shop = await find_shop(token)
        here = f"/s/{token}/top-ups/{no}"
        public_url = context.settings.public_url
        wish = AnonymousChange(
            shop_id=shop.shop_id,
            methods=(await _wanted_way(request, context, shop)).methods,
            address=limited_address(request),
            payer=Payer(
                public_url,
                client_ip=client_address(request),
                return_url=f"{public_url}{here}?{PAID}=1",
            ),
        )
        await public_page.change_method(no, wish, context.platforms, context.clock())
        return see_other(f"{here}?pay=1")


def _add_top_up_pages(room: Blueprint, context: WebContext) -> None:
    """What a payer sees of an order, also on the way back from its platform."""

    @room.get("/<token:str>/returns/<key:str>")
    async def come_back(_request: Request, token: str, key: str) -> HTTPResponse:
        shop = await find_shop(token)
        no = await public_page.no_of_key(shop.shop_id, key)
        return see_other(f"/s/{token}/top-ups/{no}?{PAID}=1")

    @room.get("/<token:str>/top-ups/<no:str>")
    async def get_top_up(request: Request, token: str, no: str) -> HTTPResponse:
        shop = await find_shop(token)
        found = await public_page.find_top_up(shop.shop_id, no)
        if PAID in request.args:
            await order_queries.ask_soon(no, context.clock())
        return page(
            request,
            context,
            "public_top_up.html",
            headers=REFERRER,
            shop=shop,
            token=token,
            watched=await watch(found, context.clock()),
            ways=await _offered_ways(request, context, shop),
            at_once=request.args.get("pay") == "1",
        )


async def find_shop(token: str) -> PublicShop:
    """The shop of a code that could be one."""
    if len(token) > TOKEN_MAX or not token.isascii() or not token.isprintable():
        raise NotFoundError("shop token")
    return await public_page.shop_of_token(token)


async def _shop_page(
    request: Request, context: WebContext, shop: PublicShop, token: str
) -> HTTPResponse:
    return page(
        request,
        context,
        "public_shop.html",
        headers=REFERRER,
        shop=shop,
        token=token,
        browser=_browser(request).value,
        ways=await _offered_ways(request, context, shop),
        amounts_fen=public_page.AMOUNTS_FEN,
        page_url=f"{context.settings.public_url}/s/{token}",
        nonce=secrets.token_hex(16),
    )


def _browser(request: Request) -> Browser:
    return browser_of(request.headers.get("user-agent", ""))


async def _offered_ways(request: Request, context: WebContext, shop: PublicShop) -> list[Way]:
    """The buttons that work in this browser."""
    methods = await context.platforms.methods(shop.site_id)
    return ways_of(offered(_browser(request), methods))


async def _wanted_way(request: Request, context: WebContext, shop: PublicShop) -> Way:
    """The chosen button; whatever the site has will do: a browser may lie about itself."""
    methods = await context.platforms.methods(shop.site_id)
    return wanted_way(request, [one for one in ANONYMOUS_METHODS if one in methods])


async def _domain_check(folder: Path, name: str) -> HTTPResponse:
    """A platform's proof that the domain is ours: a small file that the operator put there."""
    if DOMAIN_CHECK.fullmatch(name) is None:
        raise NotFoundError("domain check")
    content = await asyncio.to_thread(_read_small, folder / name)
    return raw(content, content_type="text/plain; charset=utf-8")


def _read_small(path: Path) -> bytes:
    """A small regular file; a link would lead out of the folder, a pipe would never answer."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotFoundError("domain check") from error
    try:
        kind = os.fstat(handle)
        if not stat.S_ISREG(kind.st_mode) or kind.st_size > CHECK_BYTES_MAX:
            raise NotFoundError("domain check")
        return os.read(handle, CHECK_BYTES_MAX)
    finally:
        os.close(handle)
