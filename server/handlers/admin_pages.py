"""The managers' pages, /admin."""

from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import (
    ConflictError,
    InvalidInputError,
    LimitedError,
    UnauthenticatedError,
)
from server.core.supply.control_state import ControlState
from server.handlers.admin_case_pages import add_case_pages
from server.handlers.admin_day_pages import add_day_pages
from server.handlers.admin_exchange_pages import add_exchange_pages
from server.handlers.admin_kiosks import add_kiosk_pages
from server.handlers.admin_money_pages import add_approval_pages, add_money_pages
from server.handlers.admin_moving_pages import add_moving_pages
from server.handlers.admin_reconciliation import add_reconciliation_pages
from server.handlers.admin_refund_pages import add_refund_pages
from server.handlers.admin_regions import (
    ShopFacts,
    asked_binding_code,
    ended_for,
    gather_overview,
    gather_shop,
    receipts_for,
)
from server.handlers.admin_sessions import page_manager
from server.handlers.admin_settling_pages import add_settling_page
from server.handlers.guards import (
    MANAGER_COOKIE,
    check_form,
    cookie_token,
    csrf_of,
    end_cookie,
    form_secret,
    form_text,
    set_cookie,
)
from server.handlers.rendering import error_page, form_page, page, see_other
from server.handlers.supply_acts import ask_for, facts_of
from server.http.answers import status_of
from server.http.bodies import limited_address, text_argument
from server.http.context import WebContext
from server.services import manager_acts, managers
from server.services.manager_acts import REASON_MAX, Act, may
from server.services.managers import SESSION_LIFE, Manager

PATH = "/admin"
SUPPLY_ACT = "supply"
TOLD = {"posted", "closed", "exchanged"}


def blueprint(context: WebContext) -> Blueprint:
    """The routes under /admin."""
    room = Blueprint("admin_pages", url_prefix=PATH)
    told = error_page(context, PATH)

    def answer(request: Request, error: Exception) -> HTTPResponse:
        if isinstance(error, UnauthenticatedError):
            return see_other(f"{PATH}/login")
        return told(request, error)

    room.exception(Exception)(answer)
    _add_sessions(room, context)
    _add_views(room, context)
    _add_supply(room, context)
    add_kiosk_pages(room, context)
    add_money_pages(room, context)
    add_approval_pages(room, context)
    add_refund_pages(room, context)
    add_case_pages(room, context)
    add_day_pages(room, context)
    add_exchange_pages(room, context)
    add_moving_pages(room, context)
    add_reconciliation_pages(room, context)
    add_settling_page(room, context)
    return room


def _add_sessions(room: Blueprint, context: WebContext) -> None:
    @room.get("/login")
    async def ask_login(request: Request) -> HTTPResponse:
        return form_page(request, context, "admin_login.html", problem=None, name="")

    @room.post("/login")
    async def log_in(request: Request) -> HTTPResponse:
        check_form(request, context, form_secret(request))
        name = form_text(request, "name", length_max=managers.NAME_MAX)
        password = form_text(request, "password", length_max=managers.PASSWORD_MAX)
        address = limited_address(request)
        try:
            session = await managers.log_in(name, password, context.clock(), address=address)
        except (UnauthenticatedError, LimitedError) as error:
            return form_page(
                request,
                context,
                "admin_login.html",
                status=status_of(error),
                problem=error.code,
                name=name,
            )
        response = see_other(PATH)
        life_s = int(SESSION_LIFE.total_seconds())
        set_cookie(response, context, MANAGER_COOKIE, session.token, path=PATH, life_s=life_s)
        return response

    @room.post("/logout")
    async def log_out(request: Request) -> HTTPResponse:
        token = cookie_token(request, MANAGER_COOKIE)
        check_form(request, context, token)
        await managers.log_out(token)
        response = see_other(f"{PATH}/login")
        end_cookie(response, context, MANAGER_COOKIE, path=PATH)
        return response


def _add_views(room: Blueprint, context: WebContext) -> None:
    @room.get("/")
    async def overview(request: Request) -> HTTPResponse:
        manager = await page_manager(request, context, Act.READ)
        return page(
            request,
            context,
            "admin_overview.html",
            manager=manager,
            csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
            seen=await gather_overview(request, manager, context.clock()),
            search=request.query_string,
        )

    @room.get("/shops/<code:str>")
    async def one_shop(request: Request, code: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.READ)
        facts = await gather_shop(request, context, manager, code)
        told = text_argument(request, "told")
        binding_code = await asked_binding_code(request, context, manager, facts.shop)
        return page(
            request,
            context,
            "admin_shop.html",
            manager=manager,
            csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
            facts=facts,
            binding_code=binding_code,
            may_see_code=may(manager.role, Act.BINDING_CODES),
            receipts=await receipts_for(manager, facts.shop),
            ended=await ended_for(manager, facts.shop),
            told=told if told in TOLD else None,
        )


def _add_supply(room: Blueprint, context: WebContext) -> None:
    @room.get("/shops/<code:str>/supply")
    async def ask_supply(request: Request, code: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.SUPPLY)
        state = _wanted(text_argument(request, "state") or "")
        facts = await gather_shop(request, context, manager, code)
        return await _confirm_page(request, context, manager, facts, state)

    @room.post("/shops/<code:str>/supply")
    async def set_supply(request: Request, code: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.SUPPLY)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        state = _wanted(form_text(request, "state"))
        reason = form_text(request, "reason", length_max=REASON_MAX)
        facts = await gather_shop(request, context, manager, code)
        if not reason:
            return await _confirm_page(
                request, context, manager, facts, state, problem="reason_needed"
            )
        token = form_text(request, "act_token", length_max=64)
        try:
            await manager_acts.redeem_token(
                token, manager.id, SUPPLY_ACT, _decided_on(facts, state), context.clock()
            )
        except ConflictError as error:
            return await _confirm_page(
                request, context, manager, facts, state, problem=error.code, reason=reason
            )
        await ask_for(context, facts.shop, state, manager.name, reason)
        return see_other(f"{PATH}/shops/{facts.shop.code}?site={facts.site.code}")


async def _confirm_page(
    request: Request,
    context: WebContext,
    manager: Manager,
    facts: ShopFacts,
    state: ControlState,
    *,
    problem: str | None = None,
    reason: str = "",
) -> HTTPResponse:
    """The page of a dangerous act, with a fresh one-use token on the facts that it shows."""
    token = await manager_acts.issue_token(
        manager.id, SUPPLY_ACT, _decided_on(facts, state), context.clock()
    )
    return page(
        request,
        context,
        "admin_supply.html",
        status=409 if problem == "facts_changed" else 422 if problem else 200,
        manager=manager,
        csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
        facts=facts,
        state=state.value,
        act_token=token,
        problem=problem,
        reason=reason,
    )


def _decided_on(facts: ShopFacts, state: ControlState) -> dict[str, object]:
    wallet_fen = facts.tenancy.wallet_fen if facts.tenancy else 0
    return facts_of(facts.shop, facts.meters, wallet_fen, state)


def _wanted(text: str) -> ControlState:
    if text not in {ControlState.CONNECTED.value, ControlState.DISCONNECTED.value}:
        raise InvalidInputError("state is connected or disconnected")
    return ControlState(text)
