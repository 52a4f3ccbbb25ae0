"""What recording an exchange would do: it is recorded, the days are projected, all is undone.

So a manager sees what the product itself would decide, not an estimate of it beside it.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime

from server.core.errors import NotFoundError
from server.models.database import Connection, Row, pool, row, rows, transaction
from server.services.exchanges import CountedBy, ExchangeWish, apply_within, judge_within
from server.services.locks import lock_tenancies
from server.services.open_days import NOTHING_BEFORE
from server.services.settlement import project_within

METER = """
SELECT meter.id, meter.site_id, site.code AS site_code, site.timezone, meter.code,
       shop.code AS shop_code, gateway.code AS gateway_code, meter.transformer_ratio,
       status.read_at, status.register_wh, status.finding,
       (SELECT max(exchanged_at) FROM meter_exchange WHERE meter_id = meter.id) AS exchanged_at
FROM meter
JOIN site ON site.id = meter.site_id
JOIN gateway ON gateway.id = meter.gateway_id
LEFT JOIN shop ON shop.id = meter.shop_id
LEFT JOIN meter_status status ON status.meter_id = meter.id
WHERE meter.id = $1
"""
# Whose days the meter's readings touch; a mark made by others is as good as ours.
TOUCHED = """
SELECT due.tenancy_id, due.first_day
FROM settlement_due due JOIN tenancy ON tenancy.id = due.tenancy_id
WHERE EXISTS (SELECT 1 FROM meter_installation installed
              WHERE installed.shop_id = tenancy.shop_id AND installed.meter_id = $1)
ORDER BY due.tenancy_id
"""
OPEN = """
SELECT coalesce(sum(day.energy_wh), 0)::bigint AS energy_wh,
       coalesce(sum(day.amount_fen), 0)::bigint AS amount_fen
FROM open_day day JOIN tenancy ON tenancy.id = day.tenancy_id
WHERE EXISTS (SELECT 1 FROM meter_installation installed
              WHERE installed.shop_id = tenancy.shop_id AND installed.meter_id = $1)
"""
CLOSED = """
SELECT count(DISTINCT (statement.tenancy_id, statement.day)) AS days,
       min(statement.day) AS first_day
FROM unnest($1::bigint[], $2::date[]) AS touched (tenancy_id, day)
JOIN tenancy ON tenancy.id = touched.tenancy_id
JOIN statement ON statement.site_id = tenancy.site_id
    AND statement.tenancy_id = touched.tenancy_id AND statement.day >= touched.day
"""


class _Undone(Exception):  # noqa: N818 - nothing is wrong; it only ends the transaction
    """All was done, and is to be forgotten."""


@dataclass(frozen=True, slots=True)
class MeterFacts:
    """A meter as it is; `shop_code` None: a feeder's or the common area's."""

    id: int
    site_id: int
    site_code: str
    timezone: str
    code: str
    shop_code: str | None
    gateway_code: str
    transformer_ratio: int
    read_at: datetime | None
    register_wh: int | None
    finding: str | None
    exchanged_at: datetime | None


@dataclass(frozen=True, slots=True)
class ExchangePreview:
    """What an exchange would change: open days at once, closed ones by their correction."""

    counted: CountedBy
    readings_trusted: int
    open_before: tuple[int, int]  # Wh, fen
    open_after: tuple[int, int]
    closed_days: int
    closed_from: date | None


async def meter_facts(meter_id: int) -> MeterFacts:
    """The meter of this id."""
    found = await row(pool(), METER, meter_id)
    if found is None:
        raise NotFoundError("no such meter")
    return MeterFacts(**found)


async def preview_exchange(meter_id: int, wish: ExchangeWish, now: datetime) -> ExchangePreview:
    """What `record_exchange` would do; raises what it raises, changes nothing."""
    previews: list[ExchangePreview] = []
    with suppress(_Undone):
        async with transaction() as connection:
            previews.append(await _tried(connection, meter_id, wish, now))
            raise _Undone
    return previews[0]


async def _tried(
    connection: Connection, meter_id: int, wish: ExchangeWish, now: datetime
) -> ExchangePreview:
    before = await row(connection, OPEN, meter_id) or {}
    judged = await judge_within(connection, meter_id, wish, now)
    touched = await rows(connection, TOUCHED, meter_id)
    await lock_tenancies(connection, [one["tenancy_id"] for one in touched])
    made = await apply_within(connection, judged, wish, actor="", now=now)
    left = {one["tenancy_id"]: one["first_day"] for one in touched}
    while left:
        left = await project_within(connection, left, now)
    after = await row(connection, OPEN, meter_id) or {}
    closed = await _closed(connection, touched)
    return ExchangePreview(
        counted=made.counted,
        readings_trusted=made.readings_trusted,
        open_before=(before["energy_wh"], before["amount_fen"]),
        open_after=(after["energy_wh"], after["amount_fen"]),
        closed_days=closed["days"],
        closed_from=closed["first_day"],
    )


async def _closed(connection: Connection, touched: list[Row]) -> Row:
    days = {one["tenancy_id"]: one["first_day"] for one in touched}
    known = {one: day for one, day in days.items() if day != NOTHING_BEFORE}
    return await row(connection, CLOSED, list(known), list(known.values())) or {}
