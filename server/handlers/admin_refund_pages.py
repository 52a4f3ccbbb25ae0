"""The managers' pages for giving money back, and for what is still to be paid out by hand."""

from collections.abc import Mapping
from dataclasses import dataclass

from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import ConflictError, InvalidInputError
from server.core.refunds.parts import PartState
from server.handlers.admin_moving import leaver_of
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
from server.services import manager_acts, refund_payouts, refund_views, refunds
from server.services.announce import announce_tenancies
from server.services.manager_acts import REASON_MAX, Act, may
from server.services.managers import Manager
from server.services.move_out_standing import Standing, standing_of
from server.services.refund_payouts import REFERENCE_MAX
from server.services.refund_starts import RefundWish
from server.services.refund_views import RefundView

PATH = "/admin"
REFUND, PAYOUT = "refund", "refund_payout"
TYPED_MAX = 400
FIELDS = ("amount", "wallet", "reason")
EMPTY = {"amount": "", "wallet": "electricity", "reason": ""}

Problem = InvalidInputError | ConflictError


@dataclass(frozen=True, slots=True)
class Asking:
    """The page of one refund that is about to be asked for."""

    manager: Manager
    shop: ShopFacts
    ended: Standing | None  # whose money it is, where nobody who lives there
    typed: Mapping[str, str]

    @property
    def tenancy_id(self) -> int:
        """Whose wallet it is; ConflictError (`vacant`) for nobody's."""
        tenancy_id = self.ended.tenancy_id if self.ended else self.shop.shop.tenancy_id
        if tenancy_id is None:
            raise ConflictError(f"nobody lives in {self.shop.shop.code}", code="vacant")
        return tenancy_id

    @property
    def decided_on(self) -> dict[str, object]:
        """What a person decides on; a change of any of it between look and act refuses the act."""
        tenancy = self.shop.tenancy
        return {
            "shop": self.shop.shop.shop_id,
            "tenancy": self.shop.shop.tenancy_id,
            "wallet_fen": tenancy and tenancy.wallet_fen,
            "fixed_fen": tenancy and tenancy.fixed_charges_balance_fen,
            "reserved_fen": tenancy and tenancy.reserved_fen,
            "ended": self.ended and [self.ended.tenancy_id, *self.ended.available_fen.values()],
        }


def add_refund_pages(room: Blueprint, context: WebContext) -> None:
    """/admin/shops/CODE/refund, /admin/refunds and /admin/refunds/NO."""
    _add_asking(room, context)
    _add_refunds(room, context)


def _add_asking(room: Blueprint, context: WebContext) -> None:
    @room.get("/shops/<code:str>/refund")
    async def ask_for_refund(request: Request, code: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.MONEY)
        asking = await _gather(request, context, manager, code, EMPTY)
        return await _form(request, context, asking)

    @room.post("/shops/<code:str>/refund")
    async def do_refund(request: Request, code: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.MONEY)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        typed = {name: _typed(request, name) for name in FIELDS}
        asking = await _gather(request, context, manager, code, typed)
        try:
            asked = await _ask(request, context, asking)
        except (InvalidInputError, ConflictError) as error:
            return await _form(request, context, asking, error)
        if asked.approval_no is not None:
            return see_other(f"{PATH}/approvals?told=asked")
        return see_other(f"{PATH}/refunds/{asked.refund_no}?told=started")


async def _gather(
    request: Request, context: WebContext, manager: Manager, code: str, typed: Mapping[str, str]
) -> Asking:
    facts = await gather_shop(request, context, manager, code)
    ended = None
    if tenancy_id := text_argument(request, "tenancy"):
        ended = await standing_of(leaver_of(facts.shop, tenancy_id))
    return Asking(manager, facts, ended, typed)


async def _ask(request: Request, context: WebContext, asking: Asking) -> refunds.Asked:
    shop, typed, now = asking.shop.shop, asking.typed, context.clock()
    wish = RefundWish(
        asking.tenancy_id, fen_from_text(typed["amount"]), typed["reason"], typed["wallet"]
    )
    token = form_text(request, "act_token", length_max=64)
    await manager_acts.redeem_token(token, asking.manager.id, REFUND, asking.decided_on, now)
    place = (shop.site_id, shop.code)
    asked = await refunds.ask(place, wish, asking.manager, now, key=f"page:{token}")
    await announce_tenancies(context.wakeups, [asking.tenancy_id])
    return asked


async def _form(
    request: Request, context: WebContext, asking: Asking, problem: Problem | None = None
) -> HTTPResponse:
    """The page of the act, with a fresh one-use token on the facts that it shows."""
    token = await manager_acts.issue_token(
        asking.manager.id, REFUND, asking.decided_on, context.clock()
    )
    return page(
        request,
        context,
        "admin_refund.html",
        status=200 if problem is None else status_of(problem),
        manager=asking.manager,
        csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
        facts=asking.shop,
        ended=asking.ended,
        typed=asking.typed,
        act_token=token,
        problem=problem and problem.code,
        reason_max=REASON_MAX,
    )


def _add_refunds(room: Blueprint, context: WebContext) -> None:
    @room.get("/refunds")
    async def look_at_refunds(request: Request) -> HTTPResponse:
        manager = await page_manager(request, context, Act.READ)
        return page(
            request,
            context,
            "admin_refunds.html",
            manager=manager,
            csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
            items=await refund_views.list_refunds(manager.site_id),
            to_pay=await refund_views.count_to_pay(manager.site_id),
        )

    @room.get("/refunds/<no:str>")
    async def look_at_refund(request: Request, no: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.READ)
        refund = await refund_views.find_refund(manager.site_id, no)
        return await _refund(request, context, manager, refund)

    @room.post("/refunds/<no:str>")
    async def pay_part_out(request: Request, no: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.MONEY)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        refund = await refund_views.find_refund(manager.site_id, no)
        try:
            approval_no = await _pay_out(request, context, manager, refund)
        except (InvalidInputError, ConflictError) as error:
            return await _refund(request, context, manager, refund, error)
        if approval_no is not None:
            return see_other(f"{PATH}/approvals?told=asked")
        return see_other(f"{PATH}/refunds/{refund.no}?told=paid_out")


async def _pay_out(
    request: Request, context: WebContext, manager: Manager, refund: RefundView
) -> str | None:
    token, number = form_text(request, "act_token", length_max=64), form_text(request, "part")
    if number not in {part.out_refund_no for part in refund.parts}:
        raise InvalidInputError("no part of this refund")
    method, reference = form_text(request, "method"), _typed(request, "reference")
    now = context.clock()
    await manager_acts.redeem_token(token, manager.id, PAYOUT, _to_pay(refund), now)
    done = await refund_payouts.pay_out(number, method, reference, manager, now)
    return done.approval_no


def _to_pay(refund: RefundView) -> dict[str, object]:
    waiting = [one for one in refund.parts if one.state == PartState.TO_PAY]
    return {one.out_refund_no: one.amount_fen for one in waiting}


async def _refund(
    request: Request,
    context: WebContext,
    manager: Manager,
    refund: RefundView,
    problem: Problem | None = None,
) -> HTTPResponse:
    """A refund with its parts; one token for whichever is paid out."""
    may_pay, token = may(manager.role, Act.MONEY), ""
    if may_pay and _to_pay(refund):
        token = await manager_acts.issue_token(manager.id, PAYOUT, _to_pay(refund), context.clock())
    told = text_argument(request, "told")
    return page(
        request,
        context,
        "admin_refund_parts.html",
        status=200 if problem is None else status_of(problem),
        manager=manager,
        csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
        refund=refund,
        may_pay=may_pay,
        act_token=token,
        problem=problem and problem.code,
        told=told if told in {"started", "paid_out"} else None,
        reference_max=REFERENCE_MAX,
    )


def _typed(request: Request, name: str) -> str:
    # a browser counts a new line as one character and sends two
    return form_text(request, name, length_max=TYPED_MAX).replace("\r\n", "\n")
