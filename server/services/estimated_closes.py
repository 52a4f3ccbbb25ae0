"""A day that waits in vain for a reading, closed by a manager with what is known (decision 5).

Its statement is marked estimated; a reading that comes later corrects it like any other.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from server.core.calendar import local_day
from server.core.errors import ConflictError, NotFoundError
from server.core.settlement.day import DaySettlement
from server.core.settlement.interval import TrustedReading
from server.core.tariff.versions import version_on
from server.models.database import Connection, pool, rows, transaction
from server.services.day_inputs import Work, gather, settle
from server.services.locks import METERS, lock_tenancies
from server.services.manager_acts import Deed, check_reason, record_act
from server.services.readings import ensure_months
from server.services.settlement import close_within

# Also of who has moved out and has a day left: whose turn it was first comes first.
WAITING = """
SELECT tenancy.id, tenancy.first_open_day FROM tenancy
JOIN shop ON shop.id = tenancy.shop_id JOIN site ON site.id = shop.site_id
WHERE shop.site_id = $1 AND shop.code = $2 AND (tenancy.closed_at IS NULL
    OR tenancy.first_open_day <= (tenancy.closed_at AT TIME ZONE site.timezone)::date)
"""


@dataclass(frozen=True, slots=True)
class EstimatedClose:
    """A day as it was closed."""

    tenancy_id: int
    day: date
    energy_wh: int
    amount_fen: int


@dataclass(frozen=True, slots=True)
class MeterAsKnown:
    """What a day knows of one of its meters: the newest reading at or before its end."""

    code: str
    last: TrustedReading | None
    energy_wh: int
    is_read_later: bool


@dataclass(frozen=True, slots=True)
class KnownDay:
    """A day that waits, as it would be closed now."""

    tenancy_id: int
    day: date
    energy_wh: int
    amount_fen: int
    meters: tuple[MeterAsKnown, ...]


async def preview_close(site_id: int, shop_code: str, day: date, now: datetime) -> KnownDay:
    """What `close_estimated` would close this day with; raises what it raises, changes nothing."""
    async with transaction() as connection:
        work, settled = await _next_day(connection, site_id, shop_code, day, now)
    meters = tuple(
        MeterAsKnown(one.meter_code, one.last, one.energy_wh, one.has_later_reading)
        for one in settled.readings
    )
    return KnownDay(work.tenancy["id"], day, settled.energy_wh, settled.amount_fen, meters)


async def close_estimated(
    site_id: int,
    shop_code: str,
    day: date,
    *,
    actor: str,
    reason: str,
    now: datetime,
    tenancy_id: int | None = None,
) -> EstimatedClose:
    """Close the next day of a shop that waits for readings, once where `tenancy_id` says whose.

    Raises NotFoundError; ConflictError where it is not its turn, or it closes by itself.
    """
    check_reason(reason)
    await _waiting(pool(), site_id, shop_code, day)  # before a month is made for any day there is
    await ensure_months("statement", {datetime(day.year, day.month, day.day, 12, tzinfo=UTC)})
    async with transaction() as connection:
        await rows(connection, METERS, site_id, shop_code)
        work, settled = await _next_day(connection, site_id, shop_code, day, now, tenancy_id)
        await close_within(connection, [(work, settled)], now)
        facts = {
            "tenancy_id": work.tenancy["id"],
            "day": day.isoformat(),
            "energy_wh": settled.energy_wh,
            "amount_fen": settled.amount_fen,
        }
        subject = f"shop:{shop_code}"
        deed = Deed(site_id, actor, "day.close_estimated", subject, reason, facts)
        await record_act(connection, deed, now)
    return EstimatedClose(work.tenancy["id"], day, settled.energy_wh, settled.amount_fen)


async def _waiting(connection: Connection, site_id: int, shop_code: str, day: date) -> list[int]:
    """Whose next day it is."""
    found = await rows(connection, WAITING, site_id, shop_code)
    if not found:
        raise NotFoundError(f"nobody of shop {shop_code!r} has a day left to close")
    mine = [one["id"] for one in found if one["first_open_day"] == day]
    if not mine:
        days = " or ".join(sorted(str(one["first_open_day"]) for one in found))
        raise ConflictError(f"days close in order: next is {days}", code="other_day_first")
    return mine


async def _next_day(
    connection: Connection,
    site_id: int,
    shop_code: str,
    day: date,
    now: datetime,
    tenancy_id: int | None = None,
) -> tuple[Work, DaySettlement]:
    """The tenancy whose turn this day is, locked, and the day as far as it is known.

    Where two share a day and nobody says whose, that of who was there first.
    """
    found = await _waiting(connection, site_id, shop_code, day)
    await lock_tenancies(connection, found)
    waiting = await _waiting(connection, site_id, shop_code, day)
    whose = min(waiting) if tenancy_id is None else tenancy_id
    if whose not in waiting:
        raise ConflictError(f"{day} is not next of tenancy {whose}", code="other_day_first")
    [one] = await gather(connection, {whose: date.min}, 1)
    if day >= local_day(now, one.rules.zone):
        raise ConflictError(f"{day} is not over", code="day_not_over")
    version = version_on(one.versions, day)
    settled = settle(one, day, version, one.used.before(day, version))
    if settled.complete and settled.readings:  # without a meter nothing would ever close it
        raise ConflictError(f"{day} is complete: it closes by itself", code="day_is_complete")
    return one, settled
