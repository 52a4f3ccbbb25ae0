"""Live pages by server-sent events: an event carries a whole region, a connect gets them all."""

import asyncio
from typing import Any

import structlog
from prometheus_client import Gauge
from sanic import Blueprint, Request, Sanic
from sanic.response import HTTPResponse

from server.core.errors import MallwattError, UnavailableError
from server.handlers.admin_regions import overview_live, shop_live
from server.handlers.kiosk import known_kiosk
from server.handlers.paying import payment_live
from server.handlers.public_page import find_shop
from server.handlers.regions import Live
from server.http.bodies import limited_address
from server.http.context import WebContext
from server.services import public_page
from server.services.live import StreamSlots, looks

AnySanic = Sanic[Any, Any]
log = structlog.get_logger(__name__)

HEARTBEAT_S = 15.0
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
OPEN_STREAMS = Gauge("mallwatt_live_streams", "Live pages open in this process")


def blueprint(context: WebContext) -> Blueprint:
    """The event streams of the managers', public and kiosk pages."""
    room = Blueprint("live")
    slots = StreamSlots()

    @room.before_server_stop
    async def end_streams(_app: AnySanic) -> None:
        slots.closed = True

    @room.get("/admin/live")
    async def overview(request: Request) -> None:
        await _stream(request, context, slots, await overview_live(request, context))

    @room.get("/admin/shops/<code:str>/live")
    async def one_shop(request: Request, code: str) -> None:
        await _stream(request, context, slots, await shop_live(request, context, code))

    @room.get("/s/<token:str>/live/<no:str>")
    async def public_top_up(request: Request, token: str, no: str) -> None:
        shop = await find_shop(token)
        live = await payment_live(
            request,
            context,
            lambda: public_page.find_top_up(shop.shop_id, no),
            holder=f"address:{limited_address(request)}",
        )
        await _stream(request, context, slots, live)

    @room.get("/kiosk/live/<no:str>")
    async def kiosk_top_up(request: Request, no: str) -> None:
        kiosk = await known_kiosk(request)
        live = await payment_live(
            request,
            context,
            lambda: public_page.find_site_top_up(kiosk.site_id, no),
            holder=f"kiosk:{kiosk.id}",
        )
        await _stream(request, context, slots, live)

    return room


def event(number: int, name: str, markup: str) -> str:
    """One server-sent event; every line of the markup is a line of data."""
    data = "\n".join(f"data: {line}" for line in markup.splitlines() or [""])
    return f"id: {number}\nevent: {name}\n{data}\n\n"


async def _stream(request: Request, context: WebContext, slots: StreamSlots, live: Live) -> None:
    """Send each region when it changed, until the page is over, gone or unwelcome."""
    if request.method == "HEAD":  # there is nobody to look
        await (await _open(request)).eof()
        return
    loop = asyncio.get_running_loop()
    sent: dict[str, str] = {}
    with slots.take(live.holder), OPEN_STREAMS.track_inprogress():
        response = await _open(request)
        spoken_at = loop.time()
        async for number in looks(context.wakeups, live.topics):
            try:
                regions = await live.look()
            except MallwattError as error:  # logged out, or the object is gone
                log.info("a live page ended", code=error.code)
                break
            for name, markup in regions.markup.items():
                if sent.get(name) != markup:
                    sent[name] = markup
                    await response.send(event(number, "region", markup))
                    spoken_at = loop.time()
            if slots.closed:  # the page reconnects to whoever comes next
                break
            if regions.over:
                await response.send(event(number, "done", ""))
                break
            if loop.time() - spoken_at >= HEARTBEAT_S:
                await response.send(": still here\n\n")
                spoken_at = loop.time()
        await response.eof()


async def _open(request: Request) -> Any:
    response = await request.respond(
        HTTPResponse(headers=HEADERS, content_type="text/event-stream; charset=utf-8")
    )
    if response is None:  # Sanic's type; it answers None only without a stream
        raise UnavailableError
    await response.send("retry: 3000\n\n")
    return response
