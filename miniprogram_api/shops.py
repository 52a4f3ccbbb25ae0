"""What a tenant sees of a shop: balance, price, usage, closed days."""

import re
from datetime import date
from typing import get_args

from miniprogram_api import answering, answers
from miniprogram_api.access import tenancy_of
from miniprogram_api.call import Call
from server.core.errors import InvalidInputError, NotFoundError
from server.http.bodies import date_argument, text_argument
from server.services import confirmations, emergency_credit, statements, tenancies
from server.services import usage as usage_of
from server.services.announce import announce_tenancies
from server.services.transactions import read_cursor, write_cursor
from server.services.usage import Step

_STEPS: dict[str, Step] = {step: step for step in get_args(Step)}
_MONTH = re.compile(r"2[01][0-9]{2}-(0[1-9]|1[0-2])", re.ASCII)
_DAY = re.compile(r"2[01][0-9]{2}-[0-9]{2}-[0-9]{2}", re.ASCII)


async def list_shops(call: Call) -> answers.Shops:
    """The bound shops."""
    cursor = text_argument(call.request, "cursor")
    after = 0 if cursor is None else read_cursor(cursor)
    ids = await tenancies.bound_tenancies(call.user.id, after)
    lines = [answering.shop_line(one) for one in await tenancies.summaries(ids)]
    full = len(ids) == tenancies.PAGE_MAX
    return answers.Shops(lines, write_cursor(ids[-1]) if full else None)


async def get_shop(call: Call) -> answers.Shop:
    """What is left now, for how many days, the price now, the supply."""
    tenancy = await tenancy_of(call.user, call.path("id"))
    return answering.shop(await tenancies.overview(tenancy.id, call.now))


async def confirm_reconnection(call: Call) -> answers.Shop:
    """Say that reconnecting is safe, where the shop's policy asks for it."""
    tenancy = await tenancy_of(call.user, call.path("id"))
    await confirmations.confirm_reconnection(tenancy.id, call.now)
    await announce_tenancies(call.context.wakeups, [tenancy.id])
    return answering.shop(await tenancies.overview(tenancy.id, call.now))


async def ask_emergency_credit(call: Call) -> answers.Shop:
    """Ask for the emergency credit of the shop's policy, once until a top-up covers the debt."""
    tenancy = await tenancy_of(call.user, call.path("id"))
    await emergency_credit.grant(tenancy.id, call.user.id, call.now)
    await announce_tenancies(call.context.wakeups, [tenancy.id])
    return answering.shop(await tenancies.overview(tenancy.id, call.now))


async def get_usage(call: Call) -> answers.Usage:
    """Energy and money by hour (31 days at most), day (400) or month (ten years), by period."""
    tenancy = await tenancy_of(call.user, call.path("id"))
    step = _STEPS.get(text_argument(call.request, "step") or "")
    if step is None:
        raise InvalidInputError("step is hour, day or month")
    first, last_exclusive = date_argument(call.request, "from"), date_argument(call.request, "to")
    points = await usage_of.usage(tenancy.id, first, last_exclusive, step, call.now)
    return answers.Usage([answering.usage_line(point) for point in points])


async def list_statements(call: Call) -> answers.Statements:
    """The closed days of a month."""
    tenancy = await tenancy_of(call.user, call.path("id"))
    month = text_argument(call.request, "month") or ""
    if not _MONTH.fullmatch(month):
        raise InvalidInputError("month is YYYY-MM")
    first = date.fromisoformat(f"{month}-01")
    found = await statements.month_of_statements(tenancy.id, first)
    return answers.Statements([answering.statement_line(one, tenancy.zone) for one in found])


async def get_statement(call: Call) -> answers.Statement:
    """A closed day that explains itself: readings, periods, kWh, price version, amounts."""
    tenancy = await tenancy_of(call.user, call.path("id"))
    return answering.statement(await statements.statement_of_day(tenancy.id, _day(call)))


def _day(call: Call) -> date:
    text = call.path("day")
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass  # the 30th of February is answered like any other text
    raise NotFoundError("no statement of this day")
