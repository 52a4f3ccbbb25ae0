"""The managers' pages for payments that need a person: a list, and a page with a button each."""

from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import ConflictError, ForbiddenError, InvalidInputError
from server.core.refunds.cases import CaseDecision
from server.handlers.admin_refunds import case_id, tenancy_of
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
from server.services import case_decisions, manager_acts, refund_views
from server.services.announce import announce_tenancies
from server.services.case_decisions import Decided, Verdict
from server.services.manager_acts import REASON_MAX, Act, may
from server.services.managers import Manager
from server.services.refund_views import CaseView

PATH = "/admin"
CASE = "case"
TYPED_MAX = 400

Problem = InvalidInputError | ConflictError | ForbiddenError


def add_case_pages(room: Blueprint, context: WebContext) -> None:
    """/admin/cases and /admin/cases/NUMBER."""

    @room.get("/cases")
    async def look_at_cases(request: Request) -> HTTPResponse:
        manager = await page_manager(request, context, Act.READ)
        return page(
            request,
            context,
            "admin_cases.html",
            manager=manager,
            csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
            items=await refund_views.list_cases(manager.site_id, is_open=None),
            told=text_argument(request, "told") == "decided",
        )

    @room.get("/cases/<number:str>")
    async def look_at_case(request: Request, number: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.READ)
        case = await refund_views.find_case(manager.site_id, case_id(number))
        return await _case(request, context, manager, case)

    @room.post("/cases/<number:str>")
    async def decide_on_case(request: Request, number: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.MONEY)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        case = await refund_views.find_case(manager.site_id, case_id(number))
        try:
            done = await _decide(request, context, manager, case)
        except (InvalidInputError, ConflictError) as error:
            return await _case(request, context, manager, case, error)
        if done.approval_no is not None:
            return see_other(f"{PATH}/approvals?told=asked")
        if done.tenancy_id is not None:
            await announce_tenancies(context.wakeups, [done.tenancy_id])
        return see_other(f"{PATH}/cases?told=decided")


async def _decide(
    request: Request, context: WebContext, manager: Manager, case: CaseView
) -> Decided:
    try:
        decision = CaseDecision(form_text(request, "decision"))
    except ValueError as error:
        raise InvalidInputError("no such decision") from error
    credits_ = decision is CaseDecision.CREDIT
    tenancy_id = await tenancy_of(case, form_text(request, "shop") or None) if credits_ else None
    amount = form_text(request, "amount") if decision is CaseDecision.RECORD else ""
    verdict = Verdict(
        decision,
        _reason(request),
        tenancy_id,
        form_text(request, "wallet") or "electricity",
        fen_from_text(amount) if amount else None,
    )
    token = form_text(request, "act_token", length_max=64)
    await manager_acts.redeem_token(token, manager.id, CASE, _decided_on(case), context.clock())
    return await case_decisions.decide_case(case.id, manager, verdict, context.clock())


def _reason(request: Request) -> str:
    # a browser counts a new line as one character and sends two
    return form_text(request, "reason", length_max=TYPED_MAX).replace("\r\n", "\n")


def _decided_on(case: CaseView) -> dict[str, object]:
    """What a person decides on; a change between look and act refuses the act."""
    return {"case": case.id, "choices": list(case.choices), "suspended_fen": case.suspended_fen}


async def _case(
    request: Request,
    context: WebContext,
    manager: Manager,
    case: CaseView,
    problem: Problem | None = None,
) -> HTTPResponse:
    """One case with its buttons, and a fresh one-use token on the facts that it shows."""
    may_decide = may(manager.role, Act.MONEY) and bool(case.choices)
    token = ""
    if may_decide:
        token = await manager_acts.issue_token(manager.id, CASE, _decided_on(case), context.clock())
    typed = request.method == "POST"
    return page(
        request,
        context,
        "admin_case.html",
        status=200 if problem is None else status_of(problem),
        manager=manager,
        csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
        case=case,
        may_decide=may_decide,
        act_token=token,
        problem=problem and problem.code,
        reason=_reason(request) if typed else "",
        shop=form_text(request, "shop") if typed else case.shop_code or "",
        reason_max=REASON_MAX,
    )
