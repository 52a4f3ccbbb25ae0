"""Loads the demo mall: its site file, a month of readings, ordinary closes, desk payments.

Nothing here is a short cut: readings enter by services/readings, days close by
services/settlement, past top-ups are payments at the desk.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path

from server.local.demo.blueprint import Mall, Shop
from server.local.demo.history import (
    history_start,
    last_top_up_at,
    past_readings,
    top_up_plan,
)
from server.local.demo.pricing import cost_fen, nearly_empty_balance_fen
from server.merchants import unusable_settings
from server.models.database import pool, rows
from server.services.balances import balances
from server.services.desk import take_desk_payment
from server.services.fixed_charges import charge_due
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from server.services.site_file import ProfileFacts
from server.services.site_import import import_site

EVERY = timedelta(minutes=30)
DESK_OPENS_AFTER = timedelta(hours=10)
BATCH = 10_000

TENANCIES = """
SELECT shop.code, tenancy.id FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
JOIN site ON site.id = shop.site_id WHERE site.code = $1
"""
METERS = "SELECT code, meter.id FROM meter WHERE site_id = $1"

Say = Callable[[str], None]
Clock = Callable[[], datetime]


async def load_demo(
    mall: Mall,
    site_path: Path,
    profiles: Mapping[str, ProfileFacts],
    clock: Clock,
    say: Say,
) -> datetime:
    """Load a month up to now; that now, at which the simulated meters have to go on."""
    began = clock()
    start = history_start(mall, began)
    say("demo: the site file")
    check = partial(unusable_settings, is_production=False)  # a demo is paid by the sandbox
    report = await import_site(site_path, profiles, start, check_merchant=check)
    tenancies = {one["code"]: one["id"] for one in await rows(pool(), TENANCIES, mall.code)}
    meters = {one["code"]: one["id"] for one in await rows(pool(), METERS, report.site_id)}
    say("demo: past payments")
    planned = await _pay(mall, tenancies, start, began)
    await _pay_fixed_charges(mall, tenancies, start, began)
    now = clock()
    say("demo: a month of readings")
    readings = (
        NewReading(meters[past.meter], past.read_at, past.register_wh, epoch=0)
        for meter in mall.meters
        for past in past_readings(mall, meter, start, now, EVERY)
    )
    for batch in _batches(readings):
        await keep(batch, now)
    say("demo: closing the days, fixed charges")
    while await settle_due(now):
        pass
    while await close_days(now):
        pass
    while await charge_due(now):
        pass
    await _leave_nearly_empty(mall, tenancies, planned, start, now)
    return now


def _batches(readings: Iterator[NewReading]) -> Iterator[Sequence[NewReading]]:
    while batch := list(islice(readings, BATCH)):
        yield batch


async def _pay(
    mall: Mall, tenancies: Mapping[str, int], start: datetime, now: datetime
) -> dict[str, int]:
    """Every shop's past payments; how many each made."""
    counts = {}
    for shop in mall.shops:
        plan = top_up_plan(mall, shop, cost_fen(mall, shop, start, now), start, now)
        for number, payment in enumerate(plan, 1):
            await _take(tenancies, shop, number, payment.amount_fen, payment.paid_at, now)
        counts[shop.code] = len(plan)
    return counts


async def _pay_fixed_charges(
    mall: Mall, tenancies: Mapping[str, int], start: datetime, now: datetime
) -> None:
    """What shops have transferred for their fixed charges, on the first day."""
    for shop in mall.shops:
        if shop.fixed_paid_fen:
            await take_desk_payment(
                tenancies[shop.code],
                shop.fixed_paid_fen,
                method="bank_transfer",
                receipt_no=f"demo-{shop.code}-fixed",
                paid_at=start + DESK_OPENS_AFTER,
                now=now,
                wallet="fixed_charges",
            )


async def _take(
    tenancies: Mapping[str, int],
    shop: Shop,
    number: int,
    amount_fen: int,
    paid_at: datetime,
    now: datetime,
) -> None:
    await take_desk_payment(
        tenancies[shop.code],
        amount_fen,
        method="cash",
        receipt_no=f"demo-{shop.code}-{number:02d}",
        paid_at=paid_at,
        now=now,
    )


async def _leave_nearly_empty(
    mall: Mall,
    tenancies: Mapping[str, int],
    planned: Mapping[str, int],
    start: datetime,
    now: datetime,
) -> None:
    """The last payment of one shop leaves it what it uses up within minutes."""
    shop = mall.shop(mall.nearly_empty_shop)
    tenancy_id = tenancies[shop.code]
    owned = (await balances(pool(), [tenancy_id]))[tenancy_id]
    missing_fen = nearly_empty_balance_fen(mall, now) - owned.available_fen
    if missing_fen > 0:
        paid_at = last_top_up_at(mall, shop, start, now)
        await _take(tenancies, shop, planned[shop.code] + 1, missing_fen, paid_at, now)
