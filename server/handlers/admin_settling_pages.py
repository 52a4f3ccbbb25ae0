"""The managers' page for what is left of who has moved out, or owed: paid, taken, written off."""

from collections.abc import Mapping

from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import ConflictError, InvalidInputError
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
from server.services import manager_acts
from server.services.announce import announce_tenancies
from server.services.approvals import Outcome
from server.services.desk import RECEIPT_NO_MAX, DeskPayment, receipts_of
from server.services.manager_acts import REASON_MAX, Act
from server.services.managers import Manager
from server.services.move_out_money import Payout, WriteOff, pay_out, write_off
from server.services.move_out_payments import pay_debt
from server.services.move_out_returns import paid_out, take_back
from server.services.move_out_standing import Leaver, Standing, catch_up, standing_of

PATH, SETTLE = "/admin", "move_out_money"
FIELDS = ("act", "wallet", "amount", "method", "receipt_no", "reason", "act_token")
CHARGE, PAY, PAY_OUT, TAKE_BACK, WRITE_OFF = "charge", "payment", "payout", "return", "write_off"
ROUNDED_FEN_MAX = 9  # what coins cannot pay
TYPED_MAX = 400
NOTHING: Mapping[str, str] = dict.fromkeys(FIELDS, "")

Problem = InvalidInputError | ConflictError


def add_settling_page(room: Blueprint, context: WebContext) -> None:
    """/admin/shops/CODE/move-outs/TENANCY: how it stands, and a form for each thing to do."""
    path = "/shops/<code:str>/move-outs/<tenancy_id:str>"

    @room.get(path)
    async def look(request: Request, code: str, tenancy_id: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.MONEY)
        facts = await gather_shop(request, context, manager, code)
        return await _page(request, context, manager, facts, leaver_of(facts.shop, tenancy_id))

    @room.post(path)
    async def settle(request: Request, code: str, tenancy_id: str) -> HTTPResponse:
        manager = await page_manager(request, context, Act.MONEY)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        facts = await gather_shop(request, context, manager, code)
        leaver = leaver_of(facts.shop, tenancy_id)
        # a browser counts a new line as one character and sends two
        typed = {
            name: form_text(request, name, length_max=TYPED_MAX).replace("\r\n", "\n")
            for name in FIELDS
        }
        try:
            done = await _settle(context, manager, leaver, typed)
        except (InvalidInputError, ConflictError) as error:
            return await _page(request, context, manager, facts, leaver, typed, error)
        if done is not None and done.approval_no is not None:
            return see_other(f"{PATH}/approvals?told=asked")
        told = "" if done is None else "&told=posted"
        await announce_tenancies(context.wakeups, [leaver.tenancy_id])
        place = f"{PATH}/shops/{facts.shop.code}/move-outs/{leaver.tenancy_id}"
        return see_other(f"{place}?site={facts.site.code}{told}")


async def _settle(
    context: WebContext,
    manager: Manager,
    leaver: Leaver,
    typed: Mapping[str, str],
) -> Outcome | None:
    """What a form of the page says; None where there was only something to be charged.

    What a receipt makes once needs no token; nor does what is only asked for.
    """
    now, act, wallet = context.clock(), typed["act"], typed["wallet"]
    if act == CHARGE:
        await catch_up(leaver, now)
        return None
    if act == TAKE_BACK:
        return await take_back(leaver, typed["receipt_no"], typed["reason"], manager, now)
    if act == PAY:
        payment = DeskPayment(
            *(leaver.tenancy_id, fen_from_text(typed["amount"]), typed["method"]),
            *(typed["receipt_no"], wallet),
        )
        return await pay_debt(leaver, payment, manager, now)
    if act not in {PAY_OUT, WRITE_OFF}:
        raise InvalidInputError("no such act")
    await catch_up(leaver, now)
    standing = await standing_of(leaver)
    left_fen = standing.available_fen.get(wallet, 0)
    wish = _payout(typed, left_fen) if act == PAY_OUT else _write_off(typed, left_fen)
    token = typed["act_token"]
    await manager_acts.redeem_token(token, manager.id, SETTLE, _decided_on(standing), now)
    if isinstance(wish, WriteOff):
        return await write_off(leaver, wish, manager, now, key=f"page:{token}")
    return await pay_out(leaver, wish, manager, now)


def _payout(typed: Mapping[str, str], left_fen: int) -> Payout:
    amount_fen, method = fen_from_text(typed["amount"]), typed["method"]
    odd_fen = left_fen - amount_fen
    rounds = method == "cash" and abs(odd_fen) <= ROUNDED_FEN_MAX
    receipt_no = typed["receipt_no"]
    return Payout(typed["wallet"], method, amount_fen, receipt_no, odd_fen if rounds else 0)


def _write_off(typed: Mapping[str, str], left_fen: int) -> WriteOff:
    return WriteOff(typed["wallet"], -left_fen, typed["reason"])


def _decided_on(standing: Standing) -> dict[str, object]:
    return {
        "tenancy": standing.tenancy_id,
        "available_fen": dict(standing.available_fen),
        "waits_for": [one.value for one in standing.waits_for],
    }


async def _page(
    request: Request,
    context: WebContext,
    manager: Manager,
    facts: ShopFacts,
    leaver: Leaver,
    typed: Mapping[str, str] = NOTHING,
    problem: Problem | None = None,
) -> HTTPResponse:
    """How it stands now, what was typed, and one token for whichever form is sent."""
    standing = await standing_of(leaver)
    token = await manager_acts.issue_token(
        manager.id, SETTLE, _decided_on(standing), context.clock()
    )
    return page(
        request,
        context,
        "admin_move_out.html",
        status=200 if problem is None else status_of(problem),
        manager=manager,
        csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
        facts=facts,
        standing=standing,
        paid_out=await paid_out(leaver),
        receipts=await receipts_of(leaver.tenancy_id),
        typed=typed,
        untyped=NOTHING,
        act_token=token,
        problem=problem and problem.code,
        posted=text_argument(request, "told") == "posted",
        receipt_no_max=RECEIPT_NO_MAX,
        reason_max=REASON_MAX,
    )
