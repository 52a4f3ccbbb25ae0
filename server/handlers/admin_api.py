"""The managers' API, /api/admin/v1."""

from sanic import Blueprint, HTTPResponse, Request
from sanic.response import empty

from server.core.supply.control_state import ControlState
from server.handlers import (
    admin_kiosks,
    admin_money_shapes,
    admin_reconciliation,
    admin_refund_shapes,
)
from server.handlers.admin_api_shapes import OPERATIONS, PREFIX, LogIn, SupplyWish
from server.handlers.admin_money import add_approvals, add_money
from server.handlers.admin_refunds import add_cases, add_refunds
from server.handlers.admin_regions import asked_binding_code
from server.handlers.admin_sessions import api_manager
from server.handlers.supply_acts import ask_for
from server.http.answers import iso, json_answer
from server.http.bearer import bearer_token
from server.http.bodies import json_body, limited_address, text_argument
from server.http.context import WebContext
from server.http.openapi import attach
from server.services import admin_views, managers
from server.services.admin_views import MeterLine, ShopLine
from server.services.manager_acts import Act
from server.services.managers import Manager


def blueprint(context: WebContext) -> Blueprint:
    """The routes under /api/admin/v1."""
    room = Blueprint("admin_api", url_prefix=PREFIX)
    shapes = (admin_money_shapes, admin_refund_shapes, admin_reconciliation, admin_kiosks)
    attach(room, [*OPERATIONS, *(one for room_ in shapes for one in room_.OPERATIONS)])
    _add_sessions(room, context)
    _add_shops(room, context)
    add_money(room, context)
    add_approvals(room, context)
    add_refunds(room, context)
    add_cases(room, context)
    admin_reconciliation.add_reports(room, context)
    admin_kiosks.add_kiosk_calls(room, context)
    return room


def _add_sessions(room: Blueprint, context: WebContext) -> None:
    @room.post("/sessions")
    async def open_session(request: Request) -> HTTPResponse:
        body = json_body(request, LogIn)
        session = await managers.log_in(
            body.name, body.password, context.clock(), address=limited_address(request)
        )
        answer = {"token": session.token, "expires_at": iso(session.expires_at)}
        return json_answer(answer, status=201)

    @room.delete("/sessions")
    async def end_session(request: Request) -> HTTPResponse:
        await api_manager(request, context, Act.READ)
        await managers.log_out(bearer_token(request))
        return empty()


def _add_shops(room: Blueprint, context: WebContext) -> None:
    @room.get("/shops")
    async def list_shops(request: Request) -> HTTPResponse:
        manager = await api_manager(request, context, Act.READ)
        site_code = text_argument(request, "site")
        site_id = manager.site_id
        if site_code is not None:
            site_id = (await admin_views.site_of_code(site_id, site_code)).id
        lines, cursor = await admin_views.shops(
            site_id, text_argument(request, "q") or "", text_argument(request, "cursor")
        )
        return json_answer({"items": [_listed(line) for line in lines], "next_cursor": cursor})

    @room.get("/shops/<code:str>")
    async def get_shop(request: Request, code: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.READ)
        shop = await _find(request, manager, code)
        meters = [_metered(meter) for meter in await admin_views.meters(shop.shop_id)]
        answer = {**_listed(shop), "shop_token": shop.shop_token, "meters": meters}
        binding_code = await asked_binding_code(request, context, manager, shop)
        if binding_code is not None:
            answer["binding_code"] = binding_code
        return json_answer(answer)

    @room.post("/shops/<code:str>/supply")
    async def set_supply(request: Request, code: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.SUPPLY)
        body = json_body(request, SupplyWish)
        shop = await _find(request, manager, code)
        await ask_for(context, shop, ControlState(body.state), manager.name, body.reason)
        meters = [
            {"code": meter.code, "desired": meter.desired, "confirmed": meter.confirmed}
            for meter in await admin_views.meters(shop.shop_id)
            if meter.has_relay
        ]
        return json_answer({"code": code, "desired": body.state, "meters": meters}, status=202)


async def _find(request: Request, manager: Manager, code: str) -> ShopLine:
    return await admin_views.find_shop(manager.site_id, code, text_argument(request, "site"))


def _listed(shop: ShopLine) -> dict[str, object]:
    return {
        "site": shop.site_code,
        "code": shop.code,
        "name": shop.name,
        "tenancy_id": shop.tenancy_id,
        "balance_fen": shop.balance_fen,
        "control_state": shop.control_state,
        "switching": shop.switching,
        "last_reading_at": iso(shop.last_reading_at),
        "supply_state": shop.supply_state,
        "reasons": list(shop.reasons),
    }


def _metered(meter: MeterLine) -> dict[str, object]:
    hold = None
    if meter.hold_reason is not None:
        hold = {"reason": meter.hold_reason, "by": meter.hold_by, "at": iso(meter.held_at)}
    return {
        "code": meter.code,
        "gateway": meter.gateway_code,
        "profile": meter.profile,
        "has_relay": meter.has_relay,
        "last_reading_at": iso(meter.read_at),
        "energy_wh": meter.register_wh,
        "finding": meter.finding,
        "desired": meter.desired,
        "confirmed": meter.confirmed,
        "confirmed_at": iso(meter.confirmed_at),
        "hold": hold,
        "case": meter.case_code,
    }
