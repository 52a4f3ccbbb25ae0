"""The managers' API for a meter that was exchanged: POST /api/admin/v1/meters/{code}/exchanges."""

from datetime import datetime
from typing import Annotated

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from server.handlers.admin_api_shapes import PREFIX, Reason, Time
from server.handlers.admin_sessions import api_manager
from server.http.answers import iso, json_answer
from server.http.bodies import json_body, text_argument
from server.http.context import WebContext
from server.http.openapi import Operation, Parameter, attach
from server.services import exchanges
from server.services.exchanges import RATIO_MAX, ExchangeWish
from server.services.manager_acts import Act
from server.services.wakeups import SETTLE, gateway_topic

Register = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Ratio = Annotated[int, msgspec.Meta(ge=1, le=RATIO_MAX)]


class Exchanged(msgspec.Struct, forbid_unknown_fields=True):
    """POST /meters/{code}/exchanges; registers as the meters show them, in Wh, without the ratio.

    `transformer_ratio` is the new device's; absent: as before. The site file must say the same.
    """

    at: Annotated[datetime, msgspec.Meta(tz=True)]
    final_wh: Register
    first_wh: Register
    reason: Reason
    transformer_ratio: Ratio | None = None


class ExchangeRecorded(msgspec.Struct):
    """The exchange; `readings_trusted` were held apart before, and count now."""

    id: int
    code: str
    at: Time
    final_wh: int
    first_wh: int
    transformer_ratio: int
    readings_trusted: int


OPERATIONS = (
    Operation(
        method="POST",
        path=f"{PREFIX}/meters/{{code}}/exchanges",
        summary="Record that a meter was replaced: what the old one showed last, the new one first",
        tag="manager",
        status=201,
        body=Exchanged,
        answer=ExchangeRecorded,
        query=(Parameter("site", str, "the site's code, where codes are ambiguous", needed=False),),
        problems=(403, 409, 422),
    ),
)


def blueprint(context: WebContext) -> Blueprint:
    """The route."""
    room = Blueprint("admin_exchanges", url_prefix=PREFIX)
    attach(room, OPERATIONS)

    @room.post("/meters/<code:str>/exchanges")
    async def record(request: Request, code: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.DEVICES)
        body = json_body(request, Exchanged)
        site_code = text_argument(request, "site")
        meter_id = await exchanges.find_meter(manager.site_id, code, site_code)
        wish = ExchangeWish(
            body.at, body.final_wh, body.first_wh, body.reason, body.transformer_ratio
        )
        made = await exchanges.record_exchange(
            meter_id, wish, actor=manager.name, now=context.clock()
        )
        for topic in (SETTLE, gateway_topic(made.gateway_id)):
            await context.wakeups.tell(topic)
        answer = {
            "id": made.exchange_id,
            "code": code,
            "at": iso(body.at),
            "final_wh": body.final_wh,
            "first_wh": body.first_wh,
            "transformer_ratio": made.transformer_ratio,
            "readings_trusted": made.readings_trusted,
        }
        return json_answer(answer, status=201)

    return room
