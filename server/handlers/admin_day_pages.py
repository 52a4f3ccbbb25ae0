"""The managers' pages for days that wait: which and why, and closing one with what is known."""

from datetime import date

from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import ConflictError, InvalidInputError
from server.handlers.admin_regions import ShopFacts, gather_shop, gather_site
from server.handlers.admin_sessions import page_manager
from server.handlers.guards import MANAGER_COOKIE, check_form, cookie_token, csrf_of, form_text
from server.handlers.rendering import page, see_other
from server.http.answers import status_of
from server.http.bodies import date_argument
from server.http.context import WebContext
from server.services import manager_acts
from server.services.announce import announce_tenancies
from server.services.estimated_closes import KnownDay, close_estimated, preview_close
from server.services.manager_acts import REASON_MAX, Act, may
from server.services.managers import Manager
from server.services.waiting_days import waiting_days

PATH = "/admin"
CLOSE_ACT = "day.close_estimated"
LISTED_MAX = 100


def add_day_pages(room: Blueprint, context: WebContext) -> None:
    """/admin/waiting-days, and /admin/shops/CODE/estimated-close?day=YYYY-MM-DD."""

    @room.get("/waiting-days")
    async def waiting(request: Request) -> HTTPResponse:
        manager = await page_manager(request, context, Act.READ)
        site_id, sites = await gather_site(request, manager)
        found = await waiting_days(site_id, context.clock(), limit=LISTED_MAX + 1)
        return page(
            request,
            context,
            "admin_waiting_days.html",
            manager=manager,
            csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
            days=found[:LISTED_MAX],
            more=LISTED_MAX if len(found) > LISTED_MAX else 0,
            many_sites=len(sites) > 1,
            may_close=may(manager.role, Act.MONEY),
        )

    @room.get("/shops/<code:str>/estimated-close")
    async def ask_close(request: Request, code: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.MONEY)
        day = date_argument(request, "day")
        facts = await gather_shop(request, context, manager, code)
        return await _close_page(request, context, manager, facts, day)

    @room.post("/shops/<code:str>/estimated-close")
    async def close(request: Request, code: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.MONEY)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        day = date_argument(request, "day")
        facts = await gather_shop(request, context, manager, code)
        reason = form_text(request, "reason", length_max=REASON_MAX)
        try:
            tenancy_id = await _close(request, context, manager, facts, day, reason)
        except (ConflictError, InvalidInputError) as error:
            return await _close_page(request, context, manager, facts, day, error, reason)
        await announce_tenancies(context.wakeups, [tenancy_id])
        return see_other(f"{PATH}/shops/{facts.shop.code}?site={facts.site.code}&told=closed")


async def _close(
    request: Request,
    context: WebContext,
    manager: Manager,
    facts: ShopFacts,
    day: date,
    reason: str,
) -> int:
    """Close the day as it was shown; whose it was."""
    if not reason:
        raise InvalidInputError(code="reason_needed")
    shop, now = facts.shop, context.clock()
    known = await preview_close(shop.site_id, shop.code, day, now)
    token = form_text(request, "act_token", length_max=64)
    await manager_acts.redeem_token(token, manager.id, CLOSE_ACT, _decided_on(known), now)
    closed = await close_estimated(
        *(shop.site_id, shop.code, day),
        actor=manager.name,
        reason=reason,
        now=now,
        tenancy_id=known.tenancy_id,
    )
    return closed.tenancy_id


async def _close_page(
    request: Request,
    context: WebContext,
    manager: Manager,
    facts: ShopFacts,
    day: date,
    problem: ConflictError | InvalidInputError | None = None,
    reason: str = "",
) -> HTTPResponse:
    """The day as it would be closed now, with a fresh one-use token on just that."""
    now = context.clock()
    known = await preview_close(facts.shop.site_id, facts.shop.code, day, now)
    token = await manager_acts.issue_token(manager.id, CLOSE_ACT, _decided_on(known), now)
    waiting = await waiting_days(facts.site.id, now, limit=2, shop_id=facts.shop.shop_id)
    return page(
        request,
        context,
        "admin_estimated_close.html",
        status=200 if problem is None else status_of(problem),
        manager=manager,
        csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
        facts=facts,
        closing=known,
        waiting=[one for one in waiting if one.day == day],
        act_token=token,
        problem=problem and problem.code,
        reason=reason,
    )


def _decided_on(known: KnownDay) -> dict[str, object]:
    """What a person decides on; a reading that came meanwhile refuses the act."""
    return {
        "tenancy": known.tenancy_id,
        "day": known.day.isoformat(),
        "energy_wh": known.energy_wh,
        "amount_fen": known.amount_fen,
        "meters": [
            [one.code, one.last and one.last.read_at.isoformat(), one.last and one.last.register_wh]
            for one in known.meters
        ],
    }
