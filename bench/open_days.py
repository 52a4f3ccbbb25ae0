"""How fast new readings get into open days and balances: 1,000, 10,000 and 100,000 meters'."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from unittest.mock import patch

from tortoise.functions import Sum
from tortoise.transactions import in_transaction

from bench.database import new_database
from bench.measure import Figure, Measured, Result
from bench.read_mall import make_read_mall, readings_at
from server.core.calendar import day_bounds, local_day
from server.core.settlement.continuing import DayNow, MeterSteps
from server.core.settlement.day import settle_day
from server.core.settlement.interval import path_from_rows
from server.core.tariff.versions import version_on
from server.models.database import Row, pool, rows
from server.models.ledger import Wallet
from server.models.metering import OpenDay, SettlementDue
from server.models.sites import Meter, Tenancy
from server.services import open_days
from server.services.readings import keep
from server.services.settlement import BATCH_MAX, settle_due
from server.services.site_rules import SiteRules, site_rules
from server.workers.garbage import search_less

UNIT = "meters"
PER_S = 15_000  # what the issue asks of one process
OF_UNRATED = 0.4
OF_ORM_LOOP = 40
SPREAD = 1.25
PACE = timedelta(minutes=15)
KEPT_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: how many meters at once, how often, and how many by the ORM."""

    # The first time a day begins and takes the whole way: all of them once, then what is asked.
    rounds: Sequence[tuple[int, int]] = ((100_000, 2), (10_000, 3), (1_000, 6))
    unrated: int = 10_000
    orm_loop: int = 200
    kept: int = 5_000


async def results(size: Size | None = None) -> AsyncIterator[Measured]:
    """Each meter was read each hour since midnight, and now each quarter of an hour."""
    async with new_database() as url:
        search_less()  # as a worker does when it starts
        async for found in measured(url, size or Size()):
            yield found


async def measured(url: str, size: Size) -> AsyncIterator[Measured]:
    """As `results`, in an empty database that is open."""
    most = max(meters for meters, _ in size.rounds)
    bench = _Bench(await make_read_mall(url, meters=most, readings=10, minutes=60))
    per_s = {
        meters: max([await bench.settle(meters) for _ in range(rounds)])
        for meters, rounds in size.rounds
    }
    unrated = max([await bench.settle_unrated(size.unrated) for _ in range(3)])
    orm_loop = await bench.orm_loop(size.orm_loop)
    kept = max([await bench.keep(size.kept) for _ in range(3)])
    for meters, found in per_s.items():
        yield Result(
            f"settle {meters:,} meters' new readings", UNIT, found, "asked for", PER_S, target=1
        )
    ours = max(per_s.values())
    limit = f"gather and apply without rating, {size.unrated:,}"
    yield Result("settle new readings", UNIT, ours, limit, unrated, OF_UNRATED)
    limit = f"ORM loop over {size.orm_loop} of them"
    yield Result("settle new readings", UNIT, ours, limit, orm_loop, OF_ORM_LOOP)
    spread = ours / min(per_s.values())
    sizes = ", ".join(f"{meters:,}" for meters in per_s)
    yield Figure(f"cost a meter at {sizes}: dearest by cheapest", spread, "times", SPREAD)
    yield Figure(f"keep {size.kept:,} new readings: each", 1e6 / kept, "µs")


class _Bench:
    """A mall that is read again and again."""

    def __init__(self, last: datetime) -> None:
        self.at = last

    async def settle(self, meters: int) -> float:
        """Meters a second by the worker's own function, batch after batch."""
        await self.keep(meters)
        begun = time.perf_counter()
        while await settle_due(self.at, limit=BATCH_MAX):
            pass
        return meters / (time.perf_counter() - begun)

    async def settle_unrated(self, meters: int) -> float:
        """The same rows are read, and as many written, but nothing is worked out or decided."""
        with patch.object(open_days, "_take_on", _leave_unrated):
            return await self.settle(meters)

    async def keep(self, meters: int) -> float:
        """A quarter of an hour later; readings kept a second."""
        self.at += PACE
        new = readings_at(self.at, meters)
        begun = time.perf_counter()
        for start in range(0, meters, KEPT_AT_ONCE):
            await keep(new[start : start + KEPT_AT_ONCE], self.at)
        return meters / (time.perf_counter() - begun)

    async def orm_loop(self, meters: int) -> float:
        """One tenancy after the other, as an ORM invites to write it."""
        await self.keep(meters)
        rules = await site_rules(pool(), 1)
        begun = time.perf_counter()
        for tenancy_id in range(1, meters + 1):
            await _settle_by_orm(tenancy_id, rules, self.at)
        return meters / (time.perf_counter() - begun)


def _leave_unrated(
    gone: open_days.GoneOn, found: Sequence[Row], _rules: SiteRules, _now: datetime
) -> None:
    one = found[-1]
    day = DayNow(
        day=one["day"],
        block_start_wh=one["block_start_wh"],
        cells_wh=one["cells_wh"],
        energy_wh=0,
        amount_fen=0,
        estimated=False,
        has_later_reading=False,
    )
    meters = [MeterSteps(1, 1, [one["read_at"]], [one["register_wh"]])]
    gone.going.append(open_days.Going(one["open_day_id"], day, (10, 11), meters))


READINGS = """
SELECT read_at, register_wh FROM reading
WHERE site_id = $1 AND meter_id = $2 AND verdict = 'trusted' AND read_at >= $3 ORDER BY read_at
"""


async def _settle_by_orm(tenancy_id: int, rules: SiteRules, now: datetime) -> int:
    """The day of one tenancy from all its readings, and what is left to it."""
    async with in_transaction() as connection:
        due = await SettlementDue.select_for_update().get(tenancy_id=tenancy_id)
        tenancy = await Tenancy.select_for_update().get(id=tenancy_id).prefetch_related("shop")
        day = local_day(now, rules.zone)
        since = day_bounds(day, rules.zone)[0]
        paths = []
        for meter in await Meter.filter(shop_id=tenancy.shop.id, role="shop"):
            found = await rows(connection, READINGS, rules.site_id, meter.id, since)
            read = [(one["read_at"], one["register_wh"]) for one in found]
            ratio, rollover_wh = meter.transformer_ratio, meter.rollover_wh
            paths.append(path_from_rows(meter.id, meter.code, ratio, rollover_wh, read))
        version = version_on(rules.tariffs[tenancy.shop.tariff_code], day)
        settled = settle_day(
            day, rules.zone, paths, version, rules.calendar, block_start_wh=0, gap_s=rules.gap_s
        )
        kept = await OpenDay.get(tenancy_id=tenancy_id, day=day)
        kept.energy_wh, kept.amount_fen = settled.energy_wh, settled.amount_fen
        kept.complete, kept.estimated = settled.complete, settled.estimated
        kept.cells_wh, kept.computed_at = list(settled.cells_wh), now
        await kept.save()
        wallet = await Wallet.get(
            account__tenancy_id=tenancy_id, account__kind="electricity_wallet"
        )
        totals = (
            await OpenDay.filter(tenancy_id=tenancy_id)
            .annotate(fen=Sum("amount_fen"))
            .values("fen")
        )
        await due.delete()
        return int(wallet.balance_fen - sum(one["fen"] for one in totals))
