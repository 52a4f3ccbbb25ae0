"""The managers' pages for money by hand: forms at a shop, and what waits for a second person."""

import secrets
from collections.abc import Mapping

from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import ConflictError, ForbiddenError, InvalidInputError
from server.handlers.admin_regions import ShopFacts, gather_shop
from server.handlers.admin_sessions import page_manager
from server.handlers.guards import (
    MANAGER_COOKIE,
    check_form,
    cookie_token,
    csrf_of,
    fen_from_text,
    form_text,
)
from server.handlers.rendering import page, see_other
from server.http.answers import status_of
from server.http.bodies import text_argument
from server.http.context import WebContext
from server.services import approvals, money_by_hand
from server.services.adjustments import Adjustment
from server.services.announce import announce_tenancies
from server.services.approvals import Decision, Outcome
from server.services.desk import RECEIPT_NO_MAX, DeskPayment
from server.services.manager_acts import REASON_MAX, Act, may
from server.services.managers import Manager
from server.services.money_by_hand import ShopRef

PATH = "/admin"
NONCE_MAX, TYPED_MAX = 64, 400
ADJUST, PAY, REVERSE = "adjustment", "desk_payment", "reversal"
FIELDS = ("amount", "method", "wallet", "direction", "receipt_no", "reason", "nonce")
EMPTY = {"method": "cash", "wallet": "electricity", "direction": "up"}

Typed = Mapping[str, str]


def add_money_pages(room: Blueprint, context: WebContext) -> None:
    """The forms of one shop, each a page of its own: /admin/shops/CODE/desk-payment and so on."""
    for kind in (PAY, ADJUST, REVERSE):
        _add_form(room, context, kind)


def _add_form(room: Blueprint, context: WebContext, kind: str) -> None:
    path = f"/shops/<code:str>/{kind.replace('_', '-')}"

    @room.get(path, name=f"ask_{kind}")
    async def ask(request: Request, code: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.MONEY)
        facts = await gather_shop(request, context, manager, code)
        typed = dict.fromkeys(FIELDS, "") | EMPTY | {"nonce": secrets.token_hex(16)}
        typed["receipt_no"] = text_argument(request, "receipt_no") or ""
        return _form(request, context, manager, facts, kind, typed)

    @room.post(path, name=f"do_{kind}")
    async def act(request: Request, code: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.MONEY)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        facts = await gather_shop(request, context, manager, code)
        # a browser counts a new line as one character and sends two
        typed = {
            name: form_text(request, name, length_max=TYPED_MAX).replace("\r\n", "\n")
            for name in FIELDS
        }
        try:
            done = await _act(context, manager, facts, kind, typed)
        except (InvalidInputError, ConflictError) as error:
            return _form(request, context, manager, facts, kind, typed, error)
        if done.approval_no is not None:
            return see_other(f"{PATH}/approvals?told=asked")
        await announce_tenancies(context.wakeups, [_tenancy_id(facts)])
        return see_other(f"{PATH}/shops/{facts.shop.code}?site={facts.site.code}&told=posted")


async def _act(
    context: WebContext, manager: Manager, facts: ShopFacts, kind: str, typed: Typed
) -> Outcome:
    shop, now = ShopRef(facts.shop.site_id, facts.shop.code), context.clock()
    if kind == REVERSE:
        number = typed["receipt_no"]
        return await money_by_hand.reverse_payment(shop, number, typed["reason"], manager, now)
    amount_fen, tenancy_id = fen_from_text(typed["amount"]), _tenancy_id(facts)
    if kind == PAY:
        payment = DeskPayment(
            tenancy_id, amount_fen, typed["method"], typed["receipt_no"], typed["wallet"]
        )
        return await money_by_hand.take_payment(shop, payment, manager, now)
    if typed["direction"] not in {"up", "down"}:
        raise InvalidInputError("direction is up or down")
    sign = -1 if typed["direction"] == "down" else 1
    wish = Adjustment(tenancy_id, sign * amount_fen, typed["reason"], typed["wallet"])
    key = f"page:{typed['nonce'][:NONCE_MAX]}" if typed["nonce"] else None
    return await money_by_hand.adjust(shop, wish, manager, now, key=key)


def _tenancy_id(facts: ShopFacts) -> int:
    if facts.shop.tenancy_id is None:
        raise ConflictError(f"nobody lives in {facts.shop.code}", code="vacant")
    return facts.shop.tenancy_id


def _form(
    request: Request,
    context: WebContext,
    manager: Manager,
    facts: ShopFacts,
    kind: str,
    typed: Typed,
    problem: InvalidInputError | ConflictError | None = None,
) -> HTTPResponse:
    return page(
        request,
        context,
        "admin_money.html",
        status=200 if problem is None else status_of(problem),
        manager=manager,
        csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
        facts=facts,
        kind=kind,
        typed=typed,
        problem=problem and problem.code,
        receipt_no_max=RECEIPT_NO_MAX,
    )


def add_approval_pages(room: Blueprint, context: WebContext) -> None:
    """The page of what waits for a second person."""

    @room.get("/approvals")
    async def show(request: Request) -> HTTPResponse:
        manager = await page_manager(request, context, Act.READ)
        return await _approvals(request, context, manager, told=text_argument(request, "told"))

    @room.post("/approvals/<no:str>")
    async def decide(request: Request, no: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.MONEY)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        reason = form_text(request, "reason", length_max=REASON_MAX)
        try:
            decision = Decision(form_text(request, "decision"))
        except ValueError as error:
            raise InvalidInputError("decision is approve or reject") from error
        try:
            decided = await money_by_hand.decide(
                no, manager, decision, reason=reason, now=context.clock()
            )
        except (InvalidInputError, ConflictError, ForbiddenError) as error:
            return await _approvals(request, context, manager, problem=error)
        if decided.tenancy_id is not None:
            await announce_tenancies(context.wakeups, [decided.tenancy_id])
        return see_other(f"{PATH}/approvals?told={decided.status.value}")


async def _approvals(
    request: Request,
    context: WebContext,
    manager: Manager,
    *,
    told: str | None = None,
    problem: InvalidInputError | ConflictError | ForbiddenError | None = None,
) -> HTTPResponse:
    return page(
        request,
        context,
        "admin_approvals.html",
        status=200 if problem is None else status_of(problem),
        manager=manager,
        csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
        items=await approvals.listed(manager.site_id, context.clock()),
        may_decide=may(manager.role, Act.MONEY),
        told=told if told in {"asked", "approved", "rejected"} else None,
        problem=problem and problem.code,
    )
