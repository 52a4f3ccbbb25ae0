"""The managers' pages for moving out and in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import ConflictError, InvalidInputError
from server.handlers.admin_regions import ShopFacts, gather_shop
from server.handlers.admin_sessions import page_manager
from server.handlers.guards import (
    MANAGER_COOKIE,
    check_form,
    cookie_token,
    csrf_of,
    form_text,
    time_from_text,
)
from server.handlers.moving_acts import begin_tenancy, end_tenancy
from server.handlers.rendering import clock_text, page, see_other
from server.http.answers import status_of
from server.http.context import WebContext
from server.services import manager_acts
from server.services.manager_acts import REASON_MAX, Act
from server.services.managers import Manager
from server.services.move_out_standing import Standing, ended_tenancies
from server.services.moving_out import living_in

PATH = "/admin"
OUT, IN = "move_out", "move_in"
FIELD_SHAPE = "%Y-%m-%dT%H:%M:%S"  # as a browser's field for a date with a time takes it
TYPED_MAX = 400

Problem = InvalidInputError | ConflictError


@dataclass(frozen=True, slots=True)
class Move:
    """What a page of moving is about: who acts, where, and what there is to lose."""

    kind: str
    manager: Manager
    shop: ShopFacts
    ended: list[Standing]
    people: int = 0
    orders: int = 0
    typed: Mapping[str, str] = field(default_factory=dict)

    @property
    def decided_on(self) -> dict[str, object]:
        """What a person decides on; a change of any of it between look and act refuses the act."""
        tenancy = self.shop.tenancy
        return {
            "shop": self.shop.shop.shop_id,
            "tenancy": self.shop.shop.tenancy_id,
            "wallet_fen": tenancy and tenancy.wallet_fen,
            "fixed_fen": tenancy and tenancy.fixed_charges_balance_fen,
            "people": self.people,
            "orders": self.orders,
            "ended": [one.tenancy_id for one in self.ended],
        }


def add_moving_pages(room: Blueprint, context: WebContext) -> None:
    """/admin/shops/CODE/move-out and move-in."""
    _add_move_out(room, context)
    _add_move_in(room, context)


def _add_move_out(room: Blueprint, context: WebContext) -> None:
    @room.get("/shops/<code:str>/move-out")
    async def ask_out(request: Request, code: str) -> HTTPResponse:
        return await _form(request, context, await _gather(request, context, code, OUT))

    @room.post("/shops/<code:str>/move-out")
    async def do_out(request: Request, code: str) -> HTTPResponse:
        move = await _gather(request, context, code, OUT)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        try:
            at, reason = await _confirmed(request, context, move)
            shop = move.shop.shop
            moved, _ = await end_tenancy(context, shop, move.manager, at, reason, shop.tenancy_id)
        except (InvalidInputError, ConflictError) as error:
            return await _form(request, context, move, error)
        return see_other(f"{_place(move.shop)}/move-outs/{moved.tenancy_id}{_site(move.shop)}")


def _add_move_in(room: Blueprint, context: WebContext) -> None:
    @room.get("/shops/<code:str>/move-in")
    async def ask_in(request: Request, code: str) -> HTTPResponse:
        return await _form(request, context, await _gather(request, context, code, IN))

    @room.post("/shops/<code:str>/move-in")
    async def do_in(request: Request, code: str) -> HTTPResponse:
        move = await _gather(request, context, code, IN)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        try:
            at, reason = await _confirmed(request, context, move)
            moved = await begin_tenancy(context, move.shop.shop, move.manager, at, reason)
        except (InvalidInputError, ConflictError) as error:
            return await _form(request, context, move, error)
        return page(  # no redirect: the code is told here and not again
            request,
            context,
            "admin_moved_in.html",
            manager=move.manager,
            csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
            facts=move.shop,
            moved=moved,
        )


def _place(facts: ShopFacts) -> str:
    return f"{PATH}/shops/{facts.shop.code}"


def _site(facts: ShopFacts) -> str:
    return f"?site={facts.site.code}"


async def _gather(request: Request, context: WebContext, code: str, kind: str) -> Move:
    manager = await page_manager(request, context, Act.MONEY)
    facts = await gather_shop(request, context, manager, code)
    ended = await ended_tenancies(facts.shop.site_id, facts.shop.code)
    people = orders = 0
    if facts.shop.tenancy_id is not None:
        people, orders = await living_in(facts.shop.tenancy_id)
    typed = {"at": clock_text(context.clock(), facts.site.timezone, FIELD_SHAPE), "reason": ""}
    if request.method == "POST":
        typed = {name: _typed(request, name) for name in typed}
    return Move(kind, manager, facts, ended, people, orders, typed)


def _typed(request: Request, name: str) -> str:
    # a browser counts a new line as one character and sends two
    return form_text(request, name, length_max=TYPED_MAX).replace("\r\n", "\n")


async def _confirmed(request: Request, context: WebContext, move: Move) -> tuple[datetime, str]:
    """When and why, as typed, where the facts are still those that were shown."""
    reason = move.typed["reason"]
    if not reason:
        raise InvalidInputError("a reason is needed", code="reason_needed")
    at = time_from_text(move.typed["at"], move.shop.site.timezone)
    token = form_text(request, "act_token", length_max=64)
    await manager_acts.redeem_token(
        token, move.manager.id, move.kind, move.decided_on, context.clock()
    )
    return at, reason


async def _form(
    request: Request, context: WebContext, move: Move, problem: Problem | None = None
) -> HTTPResponse:
    """The page of the act, with a fresh one-use token on the facts that it shows."""
    token = await manager_acts.issue_token(
        move.manager.id, move.kind, move.decided_on, context.clock()
    )
    return page(
        request,
        context,
        "admin_move.html",
        status=200 if problem is None else status_of(problem),
        manager=move.manager,
        csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
        facts=move.shop,
        move=move,
        act_token=token,
        problem=problem and problem.code,
        reason_max=REASON_MAX,
    )
