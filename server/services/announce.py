"""Waking whoever should hear that a tenancy changed: its pages, and its gateways' owners."""

from collections.abc import Iterable

from server.models.database import pool, rows
from server.services.wakeups import Wakeups, gateway_topic, tenancy_topic

GATEWAYS = """
SELECT DISTINCT meter.gateway_id FROM meter
JOIN tenancy ON tenancy.shop_id = meter.shop_id WHERE tenancy.id = ANY($1::bigint[])
"""


async def announce_tenancies(wakeups: Wakeups, tenancy_ids: Iterable[int]) -> None:
    """Tell pages and collectors to look at these tenancies now."""
    wanted = list(tenancy_ids)
    if not wanted:
        return
    gateways = [one["gateway_id"] for one in await rows(pool(), GATEWAYS, wanted)]
    topics = [tenancy_topic(one) for one in wanted] + [gateway_topic(one) for one in gateways]
    await wakeups.tell(*topics)
