"""Reconciled days for managers: a month, a day, and the workbook by page and by API."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sanic import Blueprint, HTTPResponse, Request

from server.core.errors import InvalidInputError, NotFoundError
from server.core.reconciliation.days import bill_day, days_with_bills
from server.handlers.admin_api_shapes import PREFIX
from server.handlers.admin_regions import gather_site
from server.handlers.admin_sessions import api_manager, page_manager
from server.handlers.guards import MANAGER_COOKIE, cookie_token, csrf_of
from server.handlers.reconciliation_sheet import MEDIA_TYPE, workbook
from server.handlers.rendering import page
from server.http.bodies import date_argument, text_argument
from server.http.context import WebContext
from server.http.openapi import Operation, Parameter
from server.services.manager_acts import Act, may
from server.services.managers import Manager
from server.services.reconciliation_days import Merchant, merchants
from server.services.reconciliation_lines import count_lines
from server.services.reconciliation_views import DayView, days_of, of_names

DAYS_MAX = 31
LINES_MAX = 50_000  # written within half the time that an answer may take
CHUNK_BYTES = 64 * 1024
_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])", re.ASCII)

OPERATIONS = (
    Operation(
        method="GET",
        path=f"{PREFIX}/reports/reconciliation",
        summary="Reconciled days, their differences and all lines as an Excel workbook",
        tag="manager",
        answer=bytes,
        media_type=MEDIA_TYPE,
        query=(
            Parameter("from", date, "the first Chinese day"),
            Parameter("to", date, "the day after the last one; at most 31 days"),
            Parameter("site", str, "the merchants and lines of one mall", needed=False),
        ),
        problems=(403, 404),
    ),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A day of the calendar: `state` is the day's, or `none` where nothing is to be compared."""

    day: date
    state: str
    open_count: int = 0


@dataclass(frozen=True, slots=True)
class Month:
    """A merchant's month: `lead` empty places before its first day, so that weeks are rows."""

    merchant: Merchant
    lead: int
    cells: Sequence[Cell]


def add_reports(room: Blueprint, context: WebContext) -> None:
    """GET /api/admin/v1/reports/reconciliation."""

    @room.get("/reports/reconciliation")
    async def report(request: Request) -> None:
        manager = await api_manager(request, context, Act.MONEY)
        await _send_workbook(request, manager)


def add_reconciliation_pages(room: Blueprint, context: WebContext) -> None:
    """/admin/reconciliation, a day of it, and its workbook."""

    @room.get("/reconciliation")
    async def look_at_month(request: Request) -> HTTPResponse:
        manager = await page_manager(request, context, Act.READ)
        site_id, sites = await gather_site(request, manager)
        now = context.clock()
        first = _month(text_argument(request, "month"), now)
        after = (first + timedelta(days=31)).replace(day=1)
        known = await merchants(site_id)
        return page(
            request,
            context,
            "admin_reconciliation.html",
            manager=manager,
            csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
            months=[await _gather_month(one, first, after, site_id, now) for one in known],
            first=first,
            after=after,
            before=(first - timedelta(days=1)).replace(day=1),
            has_next=after <= bill_day(now),
            site=text_argument(request, "site"),
            sites=sites,
            may_export=may(manager.role, Act.MONEY),
        )

    @room.get("/reconciliation.xlsx")
    async def export(request: Request) -> None:
        manager = await page_manager(request, context, Act.MONEY)
        await _send_workbook(request, manager)

    @room.get("/reconciliation/<platform:str>/<merchant_id:str>/<day_text:str>")
    async def look_at_day(
        request: Request, platform: str, merchant_id: str, day_text: str
    ) -> HTTPResponse:
        manager = await page_manager(request, context, Act.READ)
        site_id, sites = await gather_site(request, manager)
        merchant = of_names(await merchants(site_id), platform, merchant_id)
        day = _day(day_text)
        seen = (await days_of(merchant, day, day + timedelta(days=1), site_id)).get(day)
        if seen is None:
            raise NotFoundError("a day that was not looked at")
        return page(
            request,
            context,
            "admin_reconciliation_day.html",
            manager=manager,
            csrf=csrf_of(context, cookie_token(request, MANAGER_COOKIE)),
            merchant=merchant,
            seen=seen,
            site=text_argument(request, "site"),
            many_sites=len(sites) > 1,
        )


async def _gather_month(
    merchant: Merchant, first: date, after: date, site_id: int | None, now: datetime
) -> Month:
    known = await days_of(merchant, first, after, site_id)
    wanted = set()
    if merchant.first_order_at is not None:
        wanted = set(days_with_bills(merchant.first_order_at, now))
    days = [first + timedelta(days=n) for n in range((after - first).days)]
    return Month(merchant, first.weekday(), [_cell(day, known, wanted) for day in days])


def _cell(day: date, known: Mapping[date, DayView], wanted: set[date]) -> Cell:
    seen = known.get(day)
    if seen is None:
        return Cell(day, "awaited" if day in wanted else "none")
    return Cell(day, seen.state, seen.open_count)


def _month(text: str | None, now: datetime) -> date:
    if text is None:
        return (bill_day(now) - timedelta(days=1)).replace(day=1)
    if _MONTH.fullmatch(text) is None:
        raise InvalidInputError(f"month: not a month YYYY-MM: {text!r}")
    return date.fromisoformat(f"{text}-01")


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise NotFoundError("day") from error
    if day.isoformat() != text:  # one day has one address
        raise NotFoundError("day")
    return day


async def _send_workbook(request: Request, manager: Manager) -> None:
    """Write it whole, then send it piece by piece: who is refused is refused before."""
    since, until = date_argument(request, "from"), date_argument(request, "to")
    if not since < until <= since + timedelta(days=DAYS_MAX):
        raise InvalidInputError(f"from is before to, by at most {DAYS_MAX} days")
    site_id, _ = await gather_site(request, manager)
    known = await merchants(site_id)
    if sum([await count_lines(one, since, until) for one in known]) > LINES_MAX:
        raise InvalidInputError(f"more than {LINES_MAX} lines: ask for fewer days")
    name = f"reconciliation-{since}-{until - timedelta(days=1)}.xlsx"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
    }
    async with workbook(known, since, until, site_id) as path:
        response = await request.respond(content_type=MEDIA_TYPE, headers=headers)
        with await asyncio.to_thread(path.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                await response.send(chunk)
        await response.eof()
