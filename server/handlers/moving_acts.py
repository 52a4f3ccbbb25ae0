"""Moving out and in, the same way by the API and by the pages, and told to whom it concerns."""

from datetime import datetime

from server.http.context import WebContext
from server.services.admin_views import ShopLine
from server.services.announce import announce_tenancies
from server.services.bus_jobs import JobKind, ask_shop
from server.services.managers import Manager
from server.services.moving_in import MovedIn, MoveIn, move_in
from server.services.moving_out import MovedOut, MoveOut, move_out
from server.services.wakeups import INBOX, SETTLE, gateway_topic

READ_WITHIN_S = 60


async def end_tenancy(
    context: WebContext,
    shop: ShopLine,
    manager: Manager,
    at: datetime,
    reason: str,
    tenancy_id: int | None,
) -> tuple[MovedOut, int]:
    """End a tenancy and ask the shop's meters what they show; how many could be asked."""
    now = context.clock()
    wish = MoveOut(shop.site_id, shop.code, _second(at), reason, tenancy_id)
    moved = await move_out(wish, manager, now)
    asked = await ask_shop(
        shop.shop_id, JobKind.READ, requested_by=manager.name, now=now, timeout_s=READ_WITHIN_S
    )
    await context.wakeups.tell(SETTLE, INBOX, *{gateway_topic(one) for one in asked})
    await announce_tenancies(context.wakeups, [moved.tenancy_id])
    return moved, len(asked)


async def begin_tenancy(
    context: WebContext, shop: ShopLine, manager: Manager, at: datetime, reason: str
) -> MovedIn:
    """Open a tenancy; whoever drives the shop's relays hears of it."""
    wish = MoveIn(shop.site_id, shop.code, _second(at), reason)
    moved = await move_in(wish, manager, context.clock())
    await announce_tenancies(context.wakeups, [moved.tenancy_id])
    return moved


def _second(at: datetime) -> datetime:
    """What answers and pages can say: sent back, it is the same instant."""
    return at.replace(microsecond=0)
