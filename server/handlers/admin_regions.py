"""What the managers' pages show, gathered once for the first page and for each live look."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sanic import Request

from server.core.calendar import local_day
from server.core.errors import InvalidInputError
from server.handlers.admin_sessions import page_manager
from server.handlers.charts import DayChart, day_chart
from server.handlers.regions import Live, Regions
from server.handlers.rendering import fragment
from server.http.bodies import text_argument
from server.http.context import WebContext
from server.http.locale import locale_of
from server.services import admin_views, approvals, bindings, refund_views, tenancies, usage
from server.services.admin_views import ActLine, Counts, MeterLine, ShopLine, SiteRef
from server.services.desk import Receipt, receipts_of
from server.services.manager_acts import Act, may
from server.services.managers import Manager
from server.services.move_out_standing import Standing, ended_tenancies
from server.services.tenancies import TenancyOverview
from server.services.waiting_days import WaitingDay, waiting_days
from server.services.wakeups import tenancy_topic

SHOPS_ON_PAGE = 60
DAYS_COUNTED = 100


@dataclass(frozen=True, slots=True)
class Overview:
    """The first page: `site` None means all malls of this manager."""

    site: SiteRef | None
    sites: list[SiteRef]
    query: str
    counts: Counts
    shops: list[ShopLine]
    more: bool
    waiting: int  # for a second person
    to_pay: int  # parts of refunds, by hand
    waiting_days: int  # to be closed; no more are counted than DAYS_COUNTED


@dataclass(frozen=True, slots=True)
class ShopFacts:
    """One shop with its day, its money and its meters; `tenancy` None: nobody lives there."""

    shop: ShopLine
    site: SiteRef
    tenancy: TenancyOverview | None
    chart: DayChart | None
    meters: list[MeterLine]
    acts: list[ActLine]
    waiting: list[WaitingDay]
    may_switch: bool
    may_pay: bool
    may_exchange: bool
    stale: bool  # the last reading is too old to show a balance without a word


async def gather_site(request: Request, manager: Manager) -> tuple[int | None, list[SiteRef]]:
    """The mall asked for, None: all of this manager's, and which these are."""
    malls = await admin_views.sites(manager.site_id)
    code = text_argument(request, "site")
    if not code:
        return manager.site_id, malls
    return (await admin_views.site_of_code(manager.site_id, code)).id, malls


async def gather_overview(request: Request, manager: Manager, now: datetime) -> Overview:
    """The overview of the mall asked for, or of all."""
    site_id, malls = await gather_site(request, manager)
    site = next((mall for mall in malls if mall.id == site_id), None)
    query = text_argument(request, "q", length_max=admin_views.QUERY_MAX) or ""
    shops = await admin_views.shops_by_need(site_id, query, SHOPS_ON_PAGE + 1)
    return Overview(
        site=site or (malls[0] if len(malls) == 1 else None),
        sites=malls,
        query=query,
        counts=await admin_views.counts(site_id),
        shops=shops[:SHOPS_ON_PAGE],
        more=len(shops) > SHOPS_ON_PAGE,
        waiting=await approvals.count_waiting(site_id, now),
        to_pay=await refund_views.count_to_pay(site_id),
        waiting_days=len(await waiting_days(site_id, now, limit=DAYS_COUNTED)),
    )


async def gather_shop(
    request: Request, context: WebContext, manager: Manager, code: str
) -> ShopFacts:
    """One shop of this manager's."""
    shop = await admin_views.find_shop(manager.site_id, code, text_argument(request, "site"))
    site = await admin_views.site_of_code(manager.site_id, shop.site_code)
    now = context.clock()
    tenancy, chart = None, None
    if shop.tenancy_id is not None:
        tenancy = await tenancies.overview(shop.tenancy_id, now)
        today = local_day(now, ZoneInfo(site.timezone))
        points = await usage.usage(shop.tenancy_id, today, today + timedelta(days=1), "hour", now)
        chart = day_chart(points, site.timezone)
    meters = await admin_views.meters(shop.shop_id)
    subjects = [f"shop:{shop.code}", *(f"meter:{meter.code}" for meter in meters)]
    return ShopFacts(
        shop=shop,
        site=site,
        tenancy=tenancy,
        chart=chart,
        meters=meters,
        acts=await admin_views.acts(shop.site_id, subjects),
        may_switch=may(manager.role, Act.SUPPLY),
        waiting=await waiting_days(shop.site_id, now, limit=2, shop_id=shop.shop_id),
        may_pay=may(manager.role, Act.MONEY),
        may_exchange=may(manager.role, Act.DEVICES),
        stale=admin_views.is_stale(shop.last_reading_at, now),
    )


async def asked_binding_code(
    request: Request, context: WebContext, manager: Manager, shop: ShopLine
) -> str | None:
    """The binding code where `?show=binding_code` asks for it; raises ForbiddenError."""
    show = text_argument(request, "show")
    if show not in {None, "binding_code"}:
        raise InvalidInputError("show is binding_code")
    if show is None or shop.tenancy_id is None:
        return None
    return await bindings.show_code(shop.tenancy_id, manager, context.clock())


async def receipts_for(manager: Manager, shop: ShopLine) -> list[Receipt]:
    """What was taken at the desk for who lives there, for the roles that may take it back."""
    if shop.tenancy_id is None or not may(manager.role, Act.MONEY):
        return []
    return await receipts_of(shop.tenancy_id)


async def ended_for(manager: Manager, shop: ShopLine) -> list[Standing]:
    """Who has moved out and how their money stands, for the roles that may settle it."""
    if not may(manager.role, Act.MONEY):
        return []
    return await ended_tenancies(shop.site_id, shop.code)


async def overview_live(request: Request, context: WebContext) -> Live:
    """How the overview follows its shops."""
    locale = locale_of(request)

    async def look() -> Regions:
        manager = await page_manager(request, context, Act.READ)
        seen = await gather_overview(request, manager, context.clock())
        return Regions(
            {
                name: fragment(locale, f"region_{name}.html", seen=seen, now=context.clock())
                for name in ("counts", "shops")
            }
        )

    manager = await page_manager(request, context, Act.READ)
    return Live(f"manager:{manager.id}", ["tenancy:*"], look)


async def shop_live(request: Request, context: WebContext, code: str) -> Live:
    """How one shop's page follows it."""
    locale = locale_of(request)

    async def look() -> Regions:
        manager = await page_manager(request, context, Act.READ)
        facts = await gather_shop(request, context, manager, code)
        return Regions(
            {
                name: fragment(locale, f"region_{name}.html", facts=facts, now=context.clock())
                for name in ("supply", "money", "day", "meters")
            }
        )

    manager = await page_manager(request, context, Act.READ)
    shop = await admin_views.find_shop(manager.site_id, code, text_argument(request, "site"))
    topics = [] if shop.tenancy_id is None else [tenancy_topic(shop.tenancy_id)]
    return Live(f"manager:{manager.id}", topics, look)
