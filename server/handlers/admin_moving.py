"""The managers' API for who moves out and in, and for what is left of their money."""

from datetime import datetime
from typing import Annotated

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import InvalidInputError, NotFoundError
from server.handlers.admin_api_shapes import PREFIX, SITE, Reason, Time
from server.handlers.admin_money import answer_outcome, idempotency_key, shop_of
from server.handlers.admin_money_shapes import Asked, DeskPaid, Posted, Wallet, WithReason
from server.handlers.admin_sessions import api_manager
from server.handlers.moving_acts import begin_tenancy, end_tenancy
from server.http.answers import iso, json_answer
from server.http.bodies import json_body
from server.http.context import WebContext
from server.http.openapi import Operation, Parameter, attach
from server.services import move_out_money, move_out_payments, move_out_returns, move_out_standing
from server.services.admin_views import ShopLine
from server.services.desk import DeskPayment
from server.services.manager_acts import Act
from server.services.move_out_money import Payout, WriteOff
from server.services.move_out_standing import Leaver, Standing, Waits

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
ID_DIGITS_MAX = 18


class MovesOut(msgspec.Struct, forbid_unknown_fields=True):
    """POST /shops/{code}/move-out; `tenancy_id` refuses the act where another lives there now."""

    at: Instant
    reason: Reason
    tenancy_id: int | None = None


class MovedOutShown(msgspec.Struct):
    """The same `at` again answers the same tenancy; `meters_asked` for their final reading."""

    tenancy_id: int
    at: Time
    bindings_ended: int
    orders_closed: int
    meters_asked: int


class MovesIn(msgspec.Struct, forbid_unknown_fields=True):
    """POST /shops/{code}/move-in."""

    at: Instant
    reason: Reason


class MovedInShown(msgspec.Struct):
    """The binding code is told once; null where the tenancy was opened before."""

    tenancy_id: int
    at: Time
    binding_code: str | None


class Left(msgspec.Struct):
    """What is available in each wallet in fen; below zero it is owed."""

    electricity: int
    fixed_charges: int


class Ended(msgspec.Struct):
    """A tenancy that ended; nothing is paid out while it waits for something."""

    tenancy_id: int
    moved_in_at: Time
    moved_out_at: Time
    waits_for: list[Waits]
    available_fen: Left


class EndedTenancies(msgspec.Struct):
    """The newest first; 20 at most."""

    items: list[Ended]
    next_cursor: None = None


class PaysOut(DeskPaid, forbid_unknown_fields=True, kw_only=True):
    """POST /shops/{code}/move-outs/{tenancy_id}/payouts; the wallet falls by both amounts."""

    rounding_fen: int = 0


class WritesOff(msgspec.Struct, forbid_unknown_fields=True):
    """POST /shops/{code}/move-outs/{tenancy_id}/write-offs; the amount is all that is owed."""

    amount_fen: int
    reason: Reason
    wallet: Wallet = "electricity"


_KEY = Parameter("Idempotency-Key", str, "1 to 255 printable characters, new for each write-off")
_ENDED = f"{PREFIX}/shops/{{code}}/move-outs"

OPERATIONS = (
    Operation(
        method="POST",
        path=f"{PREFIX}/shops/{{code}}/move-out",
        summary="End the tenancy of a shop at an instant",
        tag="manager",
        status=201,
        body=MovesOut,
        answer=MovedOutShown,
        query=(SITE,),
        problems=(403, 409),
    ),
    Operation(
        method="POST",
        path=f"{PREFIX}/shops/{{code}}/move-in",
        summary="Open a new tenancy in a vacant shop",
        tag="manager",
        status=201,
        body=MovesIn,
        answer=MovedInShown,
        query=(SITE,),
        problems=(403, 409),
    ),
    Operation(
        method="GET",
        path=_ENDED,
        summary="The tenancies of a shop that ended, and how their money stands",
        tag="manager",
        answer=EndedTenancies,
        query=(SITE,),
        problems=(409,),
    ),
    Operation(
        method="POST",
        path=f"{_ENDED}/{{tenancy_id}}/payouts",
        summary="Pay out what is left of who has moved out, once a receipt number",
        tag="manager",
        status=201,
        body=PaysOut,
        answer=Posted,
        others={202: Asked},
        query=(SITE,),
        problems=(403, 409),
    ),
    Operation(
        method="POST",
        path=f"{_ENDED}/{{tenancy_id}}/payouts/{{receipt_no}}/reversal",
        summary="Ask a second person to take a payout back",
        tag="manager",
        status=202,
        body=WithReason,
        answer=Asked,
        query=(SITE,),
        problems=(403, 409),
    ),
    Operation(
        method="POST",
        path=f"{_ENDED}/{{tenancy_id}}/payments",
        summary="Take what somebody who has moved out owes, once a receipt number",
        tag="manager",
        status=201,
        body=DeskPaid,
        answer=Posted,
        others={202: Asked},
        query=(SITE,),
        problems=(403, 409),
    ),
    Operation(
        method="POST",
        path=f"{_ENDED}/{{tenancy_id}}/write-offs",
        summary="Write off what somebody who has moved out still owes",
        tag="manager",
        status=201,
        body=WritesOff,
        answer=Posted,
        others={202: Asked},
        query=(SITE,),
        headers=(_KEY,),
        problems=(403, 409),
    ),
)


def blueprint(context: WebContext) -> Blueprint:
    """The routes."""
    room = Blueprint("admin_moving", url_prefix=PREFIX)
    attach(room, OPERATIONS)
    _add_moves(room, context)
    _add_money(room, context)
    _add_debts(room, context)
    return room


def _add_moves(room: Blueprint, context: WebContext) -> None:
    @room.post("/shops/<code:str>/move-out")
    async def leave(request: Request, code: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        body = json_body(request, MovesOut)
        shop = await shop_of(request, manager, code)
        moved, asked = await end_tenancy(
            context, shop, manager, body.at, body.reason, body.tenancy_id
        )
        answer = {
            "tenancy_id": moved.tenancy_id,
            "at": iso(moved.at),
            "bindings_ended": moved.bindings_ended,
            "orders_closed": moved.orders_closed,
            "meters_asked": asked,
        }
        return json_answer(answer, status=201)

    @room.post("/shops/<code:str>/move-in")
    async def come(request: Request, code: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        body = json_body(request, MovesIn)
        shop = await shop_of(request, manager, code)
        moved = await begin_tenancy(context, shop, manager, body.at, body.reason)
        answer = {
            "tenancy_id": moved.tenancy_id,
            "at": iso(moved.at),
            "binding_code": moved.binding_code,
        }
        return json_answer(answer, status=201)


def _add_money(room: Blueprint, context: WebContext) -> None:
    @room.get("/shops/<code:str>/move-outs")
    async def ended(request: Request, code: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.READ)
        shop = await shop_of(request, manager, code)
        found = await move_out_standing.ended_tenancies(shop.site_id, shop.code)
        return json_answer({"items": [_shown(one) for one in found], "next_cursor": None})

    @room.post("/shops/<code:str>/move-outs/<tenancy_id:str>/payouts")
    async def pay(request: Request, code: str, tenancy_id: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        body = json_body(request, PaysOut)
        leaver = leaver_of(await shop_of(request, manager, code), tenancy_id)
        payout = Payout(
            body.wallet, body.method, body.amount_fen, body.receipt_no, body.rounding_fen
        )
        done = await move_out_money.pay_out(leaver, payout, manager, context.clock())
        return await answer_outcome(context, done, leaver.tenancy_id)

    @room.post("/shops/<code:str>/move-outs/<tenancy_id:str>/payouts/<receipt_no:str>/reversal")
    async def take_back(
        request: Request, code: str, tenancy_id: str, receipt_no: str
    ) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        body = json_body(request, WithReason)
        leaver = leaver_of(await shop_of(request, manager, code), tenancy_id)
        done = await move_out_returns.take_back(
            leaver, receipt_no, body.reason, manager, context.clock()
        )
        return json_answer({"approval_no": done.approval_no}, status=202)


def _add_debts(room: Blueprint, context: WebContext) -> None:
    @room.post("/shops/<code:str>/move-outs/<tenancy_id:str>/payments")
    async def take(request: Request, code: str, tenancy_id: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        body = json_body(request, DeskPaid)
        leaver = leaver_of(await shop_of(request, manager, code), tenancy_id)
        payment = DeskPayment(
            leaver.tenancy_id, body.amount_fen, body.method, body.receipt_no, body.wallet
        )
        done = await move_out_payments.pay_debt(leaver, payment, manager, context.clock())
        return await answer_outcome(context, done, leaver.tenancy_id)

    @room.post("/shops/<code:str>/move-outs/<tenancy_id:str>/write-offs")
    async def forgive(request: Request, code: str, tenancy_id: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        body = json_body(request, WritesOff)
        key = idempotency_key(request)
        if key is None:
            raise InvalidInputError("none was sent", code="idempotency_key_needed")
        leaver = leaver_of(await shop_of(request, manager, code), tenancy_id)
        wish = WriteOff(body.wallet, body.amount_fen, body.reason)
        done = await move_out_money.write_off(leaver, wish, manager, context.clock(), key=key)
        return await answer_outcome(context, done, leaver.tenancy_id)


def leaver_of(shop: ShopLine, tenancy_id: str) -> Leaver:
    """Who is meant by a path; NotFoundError where it holds no number."""
    digits = tenancy_id.isascii() and tenancy_id.isdigit()
    if not digits or len(tenancy_id) > ID_DIGITS_MAX:
        raise NotFoundError("tenancy")
    return Leaver(shop.site_id, shop.code, int(tenancy_id))


def _shown(one: Standing) -> dict[str, object]:
    return {
        "tenancy_id": one.tenancy_id,
        "moved_in_at": iso(one.moved_in_at),
        "moved_out_at": iso(one.moved_out_at),
        "waits_for": [wait.value for wait in one.waits_for],
        "available_fen": dict(one.available_fen),
    }
