"""The managers' pages for an exchanged meter: what the two devices showed, then what it does.

The first page asks, by GET; the second shows what would follow and asks for the reason.
"""

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import ConflictError, InvalidInputError
from server.handlers.admin_sessions import page_manager
from server.handlers.guards import (
    MANAGER_COOKIE,
    check_form,
    cookie_token,
    csrf_of,
    form_text,
    time_from_text,
    wh_from_text,
)
from server.handlers.rendering import page, see_other
from server.http.answers import status_of
from server.http.bodies import text_argument
from server.http.context import WebContext
from server.services import exchanges, manager_acts
from server.services.exchange_previews import (
    ExchangePreview,
    MeterFacts,
    meter_facts,
    preview_exchange,
)
from server.services.exchanges import ExchangeWish
from server.services.manager_acts import REASON_MAX, Act
from server.services.managers import Manager
from server.services.wakeups import SETTLE, gateway_topic

PATH = "/admin"
EXCHANGE_ACT = "meter.exchange"
FIELDS = ("at", "final_kwh", "first_kwh", "transformer_ratio")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page is about: who asks, which meter, and what was typed, empty where nothing yet."""

    manager: Manager
    meter: MeterFacts
    typed: dict[str, str]

    def wish(self, reason: str) -> ExchangeWish:
        """What was typed, as the service takes it; raises InvalidInputError."""
        ratio = self.typed["transformer_ratio"]
        if not (
            ratio.isascii() and ratio.isdigit() and len(ratio) <= len(str(exchanges.RATIO_MAX))
        ):
            raise InvalidInputError(f"transformer_ratio: is from 1 to {exchanges.RATIO_MAX}")
        return ExchangeWish(
            time_from_text(self.typed["at"], self.meter.timezone),
            wh_from_text(self.typed["final_kwh"]),
            wh_from_text(self.typed["first_kwh"]),
            reason,
            int(ratio),
        )


def add_exchange_pages(room: Blueprint, context: WebContext) -> None:
    """/admin/meters/CODE/exchange, and what it leads to."""

    @room.get("/meters/<code:str>/exchange")
    async def ask(request: Request, code: str) -> HTTPResponse:
        asked = await _asked(request, context, code)
        if not any(asked.typed.values()):
            asked.typed["transformer_ratio"] = str(asked.meter.transformer_ratio)
            return _form(request, context, asked)
        return await _confirm(request, context, asked)

    @room.post("/meters/<code:str>/exchange")
    async def record(request: Request, code: str) -> HTTPResponse:
        asked = await _asked(request, context, code)
        check_form(request, context, cookie_token(request, MANAGER_COOKIE))
        reason = form_text(request, "reason", length_max=REASON_MAX)
        try:
            wish = asked.wish(reason)
            await _check_token(request, context, asked, wish)
        except (InvalidInputError, ConflictError) as error:
            return await _confirm(request, context, asked, error, reason)
        made = await exchanges.record_exchange(
            asked.meter.id, wish, actor=asked.manager.name, now=context.clock()
        )
        await context.wakeups.tell(SETTLE, gateway_topic(made.gateway_id))
        return see_other(_back(asked.meter, told="exchanged"))


async def _check_token(
    request: Request, context: WebContext, asked: Asked, wish: ExchangeWish
) -> None:
    """Raises where there is no reason, or what would follow is not what was shown."""
    if not wish.reason:
        raise InvalidInputError(code="reason_needed")
    token, now = form_text(request, "act_token", length_max=64), context.clock()
    facts = _decided_on(asked, await preview_exchange(asked.meter.id, wish, now))
    await manager_acts.redeem_token(token, asked.manager.id, EXCHANGE_ACT, facts, now)


async def _asked(request: Request, context: WebContext, code: str) -> Asked:
    manager = await page_manager(request, context, Act.DEVICES)
    meter_id = await exchanges.find_meter(manager.site_id, code, text_argument(request, "site"))
    typed = {name: (text_argument(request, name) or "").strip() for name in FIELDS}
    return Asked(manager, await meter_facts(meter_id), typed)


def _form(
    request: Request,
    context: WebContext,
    asked: Asked,
    problem: InvalidInputError | ConflictError | None = None,
) -> HTTPResponse:
    return page(
        request,
        context,
        "admin_exchange.html",
        status=200 if problem is None else status_of(problem),
        manager=asked.manager,
        csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
        meter=asked.meter,
        typed=asked.typed,
        ratio_max=exchanges.RATIO_MAX,
        back=_back(asked.meter),
        problem=problem and problem.code,
        detail=problem.detail if problem else "",
    )


async def _confirm(
    request: Request,
    context: WebContext,
    asked: Asked,
    problem: InvalidInputError | ConflictError | None = None,
    reason: str = "",
) -> HTTPResponse:
    """What would follow, with a fresh one-use token on it; what cannot be is asked for again."""
    now = context.clock()
    try:
        wish = asked.wish(reason)
        preview = await preview_exchange(asked.meter.id, wish, now)
    except (InvalidInputError, ConflictError) as error:
        return _form(request, context, asked, error)
    return page(
        request,
        context,
        "admin_exchange_confirm.html",
        status=200 if problem is None else status_of(problem),
        manager=asked.manager,
        csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
        meter=asked.meter,
        wish=wish,
        preview=preview,
        query=urlencode({"site": asked.meter.site_code, **asked.typed}),
        back=_back(asked.meter),
        act_token=await manager_acts.issue_token(
            asked.manager.id, EXCHANGE_ACT, _decided_on(asked, preview), now
        ),
        problem=problem and problem.code,
        reason=reason,
    )


def _decided_on(asked: Asked, preview: ExchangePreview) -> dict[str, object]:
    """What a person decides on; a change of any of it between look and act refuses the act.

    Not what the new device shows and costs: that grows with each reading while one looks.
    """
    meter, before = asked.meter, preview.counted.before
    return {
        "meter": meter.id,
        "typed": asked.typed,
        "ratio": meter.transformer_ratio,
        "exchanged_at": _text(meter.exchanged_at),
        "before": before and [_text(before.read_at), before.register_wh],
        "old_wh": preview.counted.old_wh,
        "closed": [preview.closed_days, preview.closed_from and preview.closed_from.isoformat()],
    }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _back(meter: MeterFacts, told: str | None = None) -> str:
    """Where the meter is shown; a feeder's is shown nowhere yet."""
    if meter.shop_code is None:
        return PATH
    query = {"site": meter.site_code} | ({"told": told} if told else {})
    return f"{PATH}/shops/{meter.shop_code}?{urlencode(query)}"
