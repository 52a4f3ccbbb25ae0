"""The managers' API for a day that waits: POST /api/admin/v1/shops/{code}/estimated-closes."""

from datetime import date

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from server.handlers.admin_api_shapes import PREFIX, Reason
from server.handlers.admin_sessions import api_manager
from server.http.answers import json_answer
from server.http.bodies import json_body, text_argument
from server.http.context import WebContext
from server.http.openapi import Operation, Parameter, attach
from server.services import admin_views
from server.services.announce import announce_tenancies
from server.services.estimated_closes import close_estimated
from server.services.manager_acts import Act


class EstimatedClosing(msgspec.Struct, forbid_unknown_fields=True):
    """POST /shops/{code}/estimated-closes; the day is the next one that has no statement.

    With `tenancy_id` the same again closes nothing of another tenancy that shares the day.
    """

    day: date
    reason: Reason
    tenancy_id: int | None = None


class DayClosed(msgspec.Struct):
    """What the day was closed with; a reading that comes later corrects it."""

    day: date
    energy_wh: int
    amount_fen: int


OPERATIONS = (
    Operation(
        method="POST",
        path=f"{PREFIX}/shops/{{code}}/estimated-closes",
        summary="Close a day that waits for readings with what is known",
        tag="manager",
        status=201,
        body=EstimatedClosing,
        answer=DayClosed,
        query=(Parameter("site", str, "the site's code, where codes are ambiguous", needed=False),),
        problems=(403, 409),
    ),
)


def blueprint(context: WebContext) -> Blueprint:
    """The route."""
    room = Blueprint("admin_days", url_prefix=PREFIX)
    attach(room, OPERATIONS)

    @room.post("/shops/<code:str>/estimated-closes")
    async def close(request: Request, code: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        body = json_body(request, EstimatedClosing)
        shop = await admin_views.find_shop(manager.site_id, code, text_argument(request, "site"))
        closed = await close_estimated(
            *(shop.site_id, shop.code, body.day),
            actor=manager.name,
            reason=body.reason,
            now=context.clock(),
            tenancy_id=body.tenancy_id,
        )
        await announce_tenancies(context.wakeups, [closed.tenancy_id])
        answer = {
            "day": closed.day.isoformat(),
            "energy_wh": closed.energy_wh,
            "amount_fen": closed.amount_fen,
        }
        return json_answer(answer, status=201)

    return room
