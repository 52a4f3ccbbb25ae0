"""Telling WeChat that what was paid for in the mini-program is delivered, until it knows.

It holds the money of some mini-programs back until then. Crediting says what is due
(`payment_order.ship_at`); each is claimed and committed before WeChat is told, and told ever more
rarely: a payment is not known there at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from server.channels.contract import ChannelError, Shipment, ShippingDesk
from server.models.database import Connection, pool, rows

log = structlog.get_logger(__name__)

FIRST_PAUSE = timedelta(minutes=1)  # doubled each time
PAUSE_MAX = timedelta(hours=6)
ATTEMPTS_MAX = 16  # over two days

OWE = """
UPDATE payment_order SET transaction_id = credit.transaction_id, ship_at = $2
FROM payment_credit credit, site
WHERE credit.id = $1 AND payment_order.id = credit.order_id AND site.id = payment_order.site_id
  AND site.shipping_information AND payment_order.method = 'wechat_jsapi'
"""
TAKE = """
WITH due AS (
    SELECT id FROM payment_order WHERE ship_at <= $1 ORDER BY ship_at, id
    LIMIT $2 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE payment_order SET ships = coalesce(ships, 0) + 1,
        ship_at = $1::timestamptz
            + least($3::interval * power(2, least(coalesce(ships, 0), 20)), $4::interval)
    FROM due WHERE payment_order.id = due.id
    RETURNING payment_order.id, payment_order.top_up_id, payment_order.site_id,
              payment_order.transaction_id, ships
)
SELECT taken.id, taken.ships, taken.transaction_id, site.name, app_user.openid FROM taken
JOIN site ON site.id = taken.site_id
JOIN top_up ON top_up.id = taken.top_up_id
LEFT JOIN app_user ON app_user.id = top_up.user_id
"""
TOLD = "UPDATE payment_order SET ship_at = NULL, shipped_at = $2 WHERE id = $1"
GIVEN_UP = "UPDATE payment_order SET ship_at = NULL WHERE id = $1"


@dataclass(frozen=True, slots=True)
class DueShipment:
    """What WeChat is to be told of an order; `attempt` counts from one."""

    order_id: int
    attempt: int
    shipment: Shipment


async def owe_within(connection: Connection, credit_id: int, now: datetime) -> None:
    """Money that was in suspense is credited now: its payment is to be told, too."""
    await rows(connection, OWE, credit_id, now)


async def take_due(now: datetime, limit: int) -> Sequence[DueShipment]:
    """Orders whose delivery is to be told now, each claimed until its next turn."""
    found = await rows(pool(), TAKE, now, limit, FIRST_PAUSE, PAUSE_MAX)
    return [
        DueShipment(
            order_id=one["id"],
            attempt=one["ships"],
            shipment=Shipment(
                one["transaction_id"] or "", one["openid"] or "", f"{one['name']} 电费充值"
            ),
        )
        for one in found
    ]


async def tell(due: DueShipment, desk: ShippingDesk, now: datetime) -> None:
    """Tell WeChat once; what it refuses for ever, or was told in vain too often, is given up."""
    try:
        await desk.tell_shipped(due.shipment, now)
    except ChannelError as error:
        over = not error.transient or due.attempt >= ATTEMPTS_MAX
        write = log.error if over else log.info
        write("shipping not told", order_id=due.order_id, code=error.code, over=over)
        if over:
            await rows(pool(), GIVEN_UP, due.order_id)
        return
    await rows(pool(), TOLD, due.order_id, now)
