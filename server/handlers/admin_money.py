"""The managers' API for money by hand, and for what a second person says to it."""

import re

from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import ConflictError, InvalidInputError
from server.handlers.admin_money_shapes import Adjust, DeskPaid, Verdict, WithReason
from server.handlers.admin_sessions import api_manager
from server.http.answers import iso, json_answer
from server.http.bodies import json_body, text_argument
from server.http.context import WebContext
from server.services import admin_views, approvals, money_by_hand
from server.services.adjustments import Adjustment
from server.services.admin_views import ShopLine
from server.services.announce import announce_tenancies
from server.services.approvals import Approval, Decision, Outcome
from server.services.desk import DeskPayment
from server.services.manager_acts import Act
from server.services.managers import Manager
from server.services.money_by_hand import ShopRef

_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


def add_money(room: Blueprint, context: WebContext) -> None:
    """The routes of money by hand under the managers' API."""

    @room.post("/shops/<code:str>/desk-payments")
    async def take_payment(request: Request, code: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        body = json_body(request, DeskPaid)
        shop, tenancy_id = await lived_in(request, manager, code)
        payment = DeskPayment(
            tenancy_id, body.amount_fen, body.method, body.receipt_no, body.wallet
        )
        done = await money_by_hand.take_payment(shop, payment, manager, context.clock())
        return await answer_outcome(context, done, tenancy_id)

    @room.post("/shops/<code:str>/desk-payments/<receipt_no:str>/reversal")
    async def reverse_payment(request: Request, code: str, receipt_no: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        shop = ref_of(await shop_of(request, manager, code))
        body = json_body(request, WithReason)
        done = await money_by_hand.reverse_payment(
            shop, receipt_no, body.reason, manager, context.clock()
        )
        return json_answer({"approval_no": done.approval_no}, status=202)

    @room.post("/shops/<code:str>/adjustments")
    async def adjust(request: Request, code: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        body = json_body(request, Adjust)
        shop, tenancy_id = await lived_in(request, manager, code)
        wish = Adjustment(tenancy_id, body.amount_fen, body.reason, body.wallet)
        done = await money_by_hand.adjust(
            shop, wish, manager, context.clock(), key=idempotency_key(request)
        )
        return await answer_outcome(context, done, tenancy_id)


def add_approvals(room: Blueprint, context: WebContext) -> None:
    """The routes of what waits for a second person."""

    @room.get("/approvals")
    async def list_approvals(request: Request) -> HTTPResponse:
        manager = await api_manager(request, context, Act.READ)
        site_code, site_id = text_argument(request, "site"), manager.site_id
        if site_code is not None:
            site_id = (await admin_views.site_of_code(site_id, site_code)).id
        found = await approvals.listed(site_id, context.clock())
        return json_answer({"items": [_shown(one) for one in found], "next_cursor": None})

    @room.get("/approvals/<no:str>")
    async def get_approval(request: Request, no: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.READ)
        return json_answer(_shown(await approvals.find(manager.site_id, no, context.clock())))

    @room.post("/approvals/<no:str>")
    async def decide(request: Request, no: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.READ)  # the kind says who may decide
        await approvals.find(manager.site_id, no, context.clock())
        body = json_body(request, Verdict) if request.body else Verdict()
        decided = await money_by_hand.decide(
            *(no, manager, Decision(body.decision)), reason=body.reason, now=context.clock()
        )
        if decided.tenancy_id is not None:
            await announce_tenancies(context.wakeups, [decided.tenancy_id])
        return json_answer(_shown(decided))


def ref_of(shop: ShopLine) -> ShopRef:
    """The shop as services want it."""
    return ShopRef(shop.site_id, shop.code)


async def lived_in(request: Request, manager: Manager, code: str) -> tuple[ShopRef, int]:
    """A shop of the manager's and who lives in it; ConflictError (`vacant`) for nobody."""
    shop = await shop_of(request, manager, code)
    if shop.tenancy_id is None:
        raise ConflictError(f"nobody lives in {code}", code="vacant")
    return ref_of(shop), shop.tenancy_id


async def shop_of(request: Request, manager: Manager, code: str) -> ShopLine:
    """The shop that a call names, among those of the manager."""
    return await admin_views.find_shop(manager.site_id, code, text_argument(request, "site"))


async def answer_outcome(context: WebContext, done: Outcome, tenancy_id: int) -> HTTPResponse:
    """201 for what is posted, 202 for what waits; whoever watches is told."""
    if done.approval_no is not None:
        return json_answer({"approval_no": done.approval_no}, status=202)
    await announce_tenancies(context.wakeups, [tenancy_id])
    return json_answer({"transaction_id": done.transaction_id}, status=201)


def idempotency_key(request: Request) -> str | None:
    """The header's key, None without one; InvalidInputError for another text."""
    """The header of that name, checked; None where there is none."""
    sent = request.headers.getall("idempotency-key", [])
    if not sent:
        return None
    if len(sent) != 1 or not _KEY.fullmatch(sent[0]):
        raise InvalidInputError(
            "one Idempotency-Key of 1 to 255 printable characters", code="idempotency_key_needed"
        )
    return str(sent[0])


def _shown(one: Approval) -> dict[str, object]:
    return {
        "approval_no": one.no,
        "site": one.site_code,
        "kind": one.kind,
        "status": one.status.value,
        "act": {name: fact for name, fact in one.act.items() if name != "key"},
        "asked_by": one.asked_by,
        "asked_at": iso(one.asked_at),
        "expires_at": iso(one.expires_at),
        "decided_by": one.decided_by,
        "decided_at": iso(one.decided_at),
        "reason": one.decision_reason,
    }
