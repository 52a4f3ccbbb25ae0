"""The managers' API for refunds and for payments that need a person."""

from collections.abc import Mapping

from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import InvalidInputError, NotFoundError
from server.handlers.admin_money import idempotency_key, lived_in, ref_of
from server.handlers.admin_refund_shapes import CaseVerdict, PartPaidOut, RefundWanted
from server.handlers.admin_sessions import api_manager
from server.http.answers import iso, json_answer
from server.http.bodies import json_body, text_argument
from server.http.context import WebContext
from server.services import admin_views, case_decisions, refund_payouts, refund_views, refunds
from server.services.announce import announce_tenancies
from server.services.case_decisions import Verdict
from server.services.manager_acts import Act
from server.services.managers import Manager
from server.services.move_out_standing import Leaver, standing_of
from server.services.refund_starts import RefundWish
from server.services.refund_views import CaseView, PartView, RefundView

ID_DIGITS_MAX = 18


def add_refunds(room: Blueprint, context: WebContext) -> None:
    """The routes of refunds under the managers' API."""

    @room.post("/shops/<code:str>/refunds")
    async def ask_refund(request: Request, code: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        body = json_body(request, RefundWanted)
        if body.tenancy_id is None:
            shop, tenancy_id = await lived_in(request, manager, code)
        else:
            found = await admin_views.find_shop(
                manager.site_id, code, text_argument(request, "site")
            )
            shop, tenancy_id = ref_of(found), body.tenancy_id
            await standing_of(Leaver(shop.site_id, shop.code, tenancy_id))
        wish = RefundWish(tenancy_id, body.amount_fen, body.reason, body.wallet)
        key = idempotency_key(request)
        asked = await refunds.ask(
            (shop.site_id, shop.code), wish, manager, context.clock(), key=key
        )
        await announce_tenancies(context.wakeups, [tenancy_id])
        if asked.approval_no is not None:
            return json_answer({"approval_no": asked.approval_no}, status=202)
        return json_answer({"refund_no": asked.refund_no}, status=201)

    @room.get("/refunds")
    async def list_refunds(request: Request) -> HTTPResponse:
        manager = await api_manager(request, context, Act.READ)
        site_id = await _site(request, manager)
        only_open = _one_of(request, ("open", "all"), "all") == "open"
        found = await refund_views.list_refunds(site_id, only_open=only_open)
        return json_answer({"items": [_refund(one) for one in found], "next_cursor": None})

    @room.get("/refunds/<no:str>")
    async def get_refund(request: Request, no: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.READ)
        return json_answer(_refund(await refund_views.find_refund(manager.site_id, no)))

    @room.post("/refunds/<no:str>/payouts")
    async def pay_refund_out(request: Request, no: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        refund = await refund_views.find_refund(manager.site_id, no)
        body = json_body(request, PartPaidOut)
        if body.out_refund_no not in {part.out_refund_no for part in refund.parts}:
            raise NotFoundError(f"part {body.out_refund_no!r}")
        done = await refund_payouts.pay_out(
            body.out_refund_no, body.method, body.reference, manager, context.clock()
        )
        if done.approval_no is not None:
            return json_answer({"approval_no": done.approval_no}, status=202)
        found = await refund_views.find_refund(manager.site_id, no)
        return json_answer(_refund(found), status=201)


def add_cases(room: Blueprint, context: WebContext) -> None:
    """The routes of payments that need a person."""

    @room.get("/cases")
    async def list_cases(request: Request) -> HTTPResponse:
        manager = await api_manager(request, context, Act.READ)
        state = _one_of(request, ("open", "closed", "all"), "open")
        is_open = None if state == "all" else state == "open"
        found = await refund_views.list_cases(await _site(request, manager), is_open=is_open)
        return json_answer({"items": [_case(one) for one in found], "next_cursor": None})

    @room.get("/cases/<number:str>")
    async def get_case(request: Request, number: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.READ)
        return json_answer(_case(await refund_views.find_case(manager.site_id, case_id(number))))

    @room.post("/cases/<number:str>")
    async def decide_case(request: Request, number: str) -> HTTPResponse:
        manager = await api_manager(request, context, Act.MONEY)
        case = await refund_views.find_case(manager.site_id, case_id(number))
        body = json_body(request, CaseVerdict)
        tenancy_id = await tenancy_of(case, body.shop)
        verdict = Verdict(body.decision, body.reason, tenancy_id, body.wallet, body.amount_fen)
        done = await case_decisions.decide_case(case.id, manager, verdict, context.clock())
        if done.approval_no is not None:
            return json_answer({"approval_no": done.approval_no}, status=202)
        if done.tenancy_id is not None:
            await announce_tenancies(context.wakeups, [done.tenancy_id])
        return json_answer(_case(await refund_views.find_case(manager.site_id, case.id)))


def case_id(text: str) -> int:
    """A case's number in an address; anything else names no case."""
    if not text.isascii() or not text.isdigit() or len(text) > ID_DIGITS_MAX:
        raise NotFoundError(f"case {text!r}")
    return int(text)


async def tenancy_of(case: CaseView, shop_code: str | None) -> int | None:
    """Who lives in a shop of the case's mall; InvalidInputError for nobody, or no such shop."""
    if shop_code is None:
        return None
    try:
        shop = await admin_views.find_shop(case.site_id, shop_code, case.site_code)
    except NotFoundError as error:
        raise InvalidInputError("no such shop in this mall", code="shop_needed") from error
    if shop.tenancy_id is None:
        raise InvalidInputError(f"nobody lives in {shop_code}", code="shop_needed")
    return shop.tenancy_id


async def _site(request: Request, manager: Manager) -> int | None:
    code = text_argument(request, "site")
    if code is None:
        return manager.site_id
    return (await admin_views.site_of_code(manager.site_id, code)).id


def _one_of(request: Request, words: tuple[str, ...], absent: str) -> str:
    said = text_argument(request, "state") or absent
    if said not in words:
        raise InvalidInputError(f"state is one of {', '.join(words)}")
    return said


def _refund(one: RefundView) -> Mapping[str, object]:
    return {
        "refund_no": one.no,
        "site": one.site_code,
        "shop": one.shop_code,
        "wallet": one.wallet,
        "amount_fen": one.amount_fen,
        "reason": one.reason,
        "asked_by": one.asked_by,
        "approval_no": one.approval_no,
        "status": one.status,
        "asked_at": iso(one.asked_at),
        "finished_at": iso(one.finished_at),
        "parts": [_part(part) for part in one.parts],
    }


def _part(one: PartView) -> Mapping[str, object]:
    return {
        "out_refund_no": one.out_refund_no,
        "amount_fen": one.amount_fen,
        "state": one.state,
        "platform": one.platform,
        "out_trade_no": one.out_trade_no,
        "attempts": one.attempts,
        "finished_at": iso(one.finished_at),
        "code": one.code,
        "method": one.method,
        "reference": one.reference,
        "paid_by": one.paid_by,
    }


def _case(one: CaseView) -> Mapping[str, object]:
    return {
        "id": one.id,
        "site": one.site_code,
        "shop": one.shop_code,
        "kind": one.kind,
        "facts": dict(one.facts),
        "suspended_fen": one.suspended_fen,
        "choices": [choice.value for choice in one.choices],
        "opened_at": iso(one.opened_at),
        "decision": one.decision,
        "decided_by": one.decided_by,
        "decided_at": iso(one.decided_at),
        "reason": one.reason,
        "closed_at": iso(one.closed_at),
    }
