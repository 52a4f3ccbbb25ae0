"""Which screens are kiosks, for managers: the list, and the end of an enrolment."""

import msgspec
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import empty

from server.handlers.admin_api_shapes import PREFIX, SITE, Time
from server.handlers.admin_sessions import api_manager, page_manager
from server.handlers.guards import MANAGER_COOKIE, check_form, cookie_token, csrf_of
from server.handlers.rendering import page, see_other
from server.http.answers import iso, json_answer
from server.http.bodies import text_argument
from server.http.context import WebContext
from server.http.openapi import Operation
from server.services import admin_views, kiosks
from server.services.manager_acts import Act, may
from server.services.managers import Manager


class KioskListed(msgspec.Struct):
    """An enrolled kiosk."""

    id: int
    site: str
    name: str
    enrolled_at: Time | None
    enrolled_by: str


class KiosksListed(msgspec.Struct):
    """All of them: there is no next page."""

    items: list[KioskListed]
    next_cursor: None


OPERATIONS = (
    Operation(
        method="GET",
        path=f"{PREFIX}/kiosks",
        summary="The enrolled kiosks that the manager may see",
        tag="manager",
        answer=KiosksListed,
        query=(SITE,),
        problems=(404,),
    ),
    Operation(
        method="DELETE",
        path=f"{PREFIX}/kiosks/{{kiosk_id}}",
        summary="End a kiosk's enrolment: its screen shows nothing from now on",
        tag="manager",
        status=204,
        problems=(403,),
    ),
)


def add_kiosk_calls(room: Blueprint, context: WebContext) -> None:
    """The calls of the managers' API."""

    @room.get("/kiosks")
    async def list_kiosks(request: Request) -> HTTPResponse:
        manager = await api_manager(request, context, Act.READ)
        found = [
            KioskListed(one.id, one.site_code, one.name, iso(one.enrolled_at), one.enrolled_by)
            for one in await _enrolled(request, manager)
        ]
        return json_answer(KiosksListed(found, None))

    @room.delete("/kiosks/<kiosk_id:str>")
    async def end_kiosk(request: Request, kiosk_id: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.KIOSKS)
        await kiosks.end(kiosk_id, manager, context.clock())
        return empty()


def add_kiosk_pages(room: Blueprint, context: WebContext) -> None:
    """The page under /admin."""

    @room.get("/kiosks")
    async def show_kiosks(request: Request) -> HTTPResponse:
        manager = await page_manager(request, context, Act.READ)
        return page(
            request,
            context,
            "admin_kiosks.html",
            manager=manager,
            csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
            kiosks=await _enrolled(request, manager),
            may_end=may(manager.role, Act.KIOSKS),
        )

    @room.post("/kiosks/<kiosk_id:str>/end")
    async def end_kiosk(request: Request, kiosk_id: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.KIOSKS)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        await kiosks.end(kiosk_id, manager, context.clock())
        return see_other("/admin/kiosks")


async def _enrolled(request: Request, manager: Manager) -> list[kiosks.Enrolled]:
    site_code = text_argument(request, "site")
    site_id = manager.site_id
    if site_code is not None:
        site_id = (await admin_views.site_of_code(site_id, site_code)).id
    return await kiosks.enrolled(site_id)
