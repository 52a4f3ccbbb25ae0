"""What the days of tenancies depend on: one SQL a question for the whole batch (decision 13)."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import chain, islice

from server.core.calendar import day_bounds, local_day
from server.core.settlement.day import DaySettlement, settle_day
from server.core.settlement.interval import Exchange, MeterPath, path_from_rows
from server.core.tariff.versions import BlockPeriod, TariffVersion
from server.models.database import Connection, Row, meanwhile, rows
from server.services.gap_registers import with_registers
from server.services.site_rules import SiteRules, rules_of_sites

TENANCIES = """
SELECT tenancy.id, tenancy.site_id, tenancy.shop_id, tenancy.opened_at, tenancy.closed_at,
       tenancy.first_open_day, shop.tariff_code,
       (SELECT max(day) FROM open_day WHERE open_day.tenancy_id = tenancy.id) AS last_projected
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
WHERE tenancy.id = ANY($1::bigint[]) ORDER BY tenancy.id
"""

# Of each meter in the time in which it was installed in the shop:
# from the last trusted reading at or before `since` to the first at or after `until`, and all
# exchanges since that first one: whose ratio a device had, the next one tells. Each edge is
# one step into the primary key and the path between one range of it, whatever the statistics say:
# written as a plain join, the planner reads whole months.
PATHS = """
SELECT wanted.tenancy_id, meter.id, meter.code, meter.transformer_ratio, meter.rollover_wh,
       installed.installed_at, installed.removed_at,
       path.read_ats, path.registers_wh, exchanged.exchanges
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[])
    AS wanted (tenancy_id, shop_id, since, until)
JOIN meter_installation installed ON installed.shop_id = wanted.shop_id
    AND installed.installed_at <= wanted.until
    AND (installed.removed_at IS NULL OR installed.removed_at > wanted.since)
JOIN meter ON meter.id = installed.meter_id
CROSS JOIN LATERAL (
    SELECT greatest(wanted.since, installed.installed_at) AS since,
           least(wanted.until, installed.removed_at) AS until
) AS part
LEFT JOIN LATERAL (
    SELECT read_at FROM reading
    WHERE site_id = meter.site_id AND meter_id = meter.id AND verdict = 'trusted'
      AND read_at <= part.since
    ORDER BY read_at DESC LIMIT 1
) AS before ON true
LEFT JOIN LATERAL (
    SELECT read_at FROM reading
    WHERE site_id = meter.site_id AND meter_id = meter.id AND verdict = 'trusted'
      AND read_at >= part.until
    ORDER BY read_at LIMIT 1
) AS after ON true
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(read_at ORDER BY read_at), '{}') AS read_ats,
           coalesce(array_agg(register_wh ORDER BY read_at), '{}') AS registers_wh
    FROM reading
    WHERE site_id = meter.site_id AND meter_id = meter.id AND verdict = 'trusted'
      AND read_at BETWEEN coalesce(before.read_at, part.since)
                      AND coalesce(after.read_at, 'infinity')
) AS path
LEFT JOIN LATERAL (
    SELECT array_agg(meter_exchange ORDER BY exchanged_at) AS exchanges
    FROM meter_exchange
    WHERE meter_id = meter.id AND exchanged_at >= coalesce(before.read_at, '-infinity')
) AS exchanged ON true
ORDER BY wanted.tenancy_id, meter.id, installed.installed_at
"""

# What a tenancy used since its blocks began, on statements (newest version) and on open days.
BLOCKS = """
SELECT wanted.tenancy_id,
    coalesce((SELECT sum(energy_wh) FROM (
        SELECT DISTINCT ON (day) energy_wh FROM statement
        WHERE site_id = wanted.site_id AND tenancy_id = wanted.tenancy_id
          AND day >= wanted.since AND day < wanted.until
        ORDER BY day, version DESC) AS closed), 0)::bigint
  + coalesce((SELECT sum(energy_wh) FROM open_day
        WHERE tenancy_id = wanted.tenancy_id
          AND day >= wanted.since AND day < wanted.until), 0)::bigint AS energy_wh
FROM unnest($1::bigint[], $2::bigint[], $3::date[], $4::date[])
    AS wanted (site_id, tenancy_id, since, until)
"""


@dataclass(frozen=True, slots=True)
class Used:
    """Energy since the month's and since the year's begin, in which blocks count."""

    month_wh: int
    year_wh: int

    def before(self, day: date, version: TariffVersion) -> int:
        """The figure from which this day's blocks go on."""
        match version.block_period:
            case BlockPeriod.MONTH:
                return 0 if day.day == 1 else self.month_wh
            case BlockPeriod.YEAR:
                return 0 if (day.month, day.day) == (1, 1) else self.year_wh
            case None:
                return 0

    def after(self, day: date, energy_wh: int) -> "Used":
        """With a day's energy added, begun anew where a month or a year begins."""
        new_month, new_year = day.day == 1, (day.month, day.day) == (1, 1)
        return Used(
            energy_wh + (0 if new_month else self.month_wh),
            energy_wh + (0 if new_year else self.year_wh),
        )


NOTHING_USED = Used(0, 0)


@dataclass(frozen=True, slots=True)
class Work:
    """One tenancy with all that its days depend on."""

    tenancy: Row
    rules: SiteRules
    versions: tuple[TariffVersion, ...]
    first_day: date
    paths: tuple[MeterPath, ...] = ()
    used: Used = NOTHING_USED


async def gather(connection: Connection, first_days: Mapping[int, date], days: int) -> list[Work]:
    """What so many days of these tenancies depend on, in the order of their ids.

    To be called under their locks.
    """
    work = await _without_paths(connection, first_days)
    work = await _with_paths(connection, work, days)
    return await _with_blocks(connection, work)


async def gather_in_turn(
    connection: Connection, chunks: Sequence[Sequence[int]], days: int
) -> AsyncGenerator[list[Work]]:
    """As `gather`, from the first open days on, each chunk of tenancies by itself.

    The database reads the next chunk while the caller works on this one.
    """
    first_days = dict.fromkeys(chain.from_iterable(chunks), date.min)
    known = {one.tenancy["id"]: one for one in await _without_paths(connection, first_days)}
    turns = [[known[one] for one in chunk if one in known] for chunk in chunks]
    found = await _path_rows(connection, turns[0], days)
    for work, following in zip(turns, [*turns[1:], []], strict=True):
        async with meanwhile(_path_rows(connection, following, days)) as ahead:
            with_paths = await _with_found(connection, work, found)
            yield await _with_blocks(connection, with_paths)
            found = await ahead


async def gather_closed(
    connection: Connection, first_days: Mapping[int, date], days: int
) -> list[Work]:
    """As `gather`, of so many days from just these on, closed ones, whatever tariff had each."""
    work = []
    for tenancy, mine in await _tenancies(connection, first_days):
        versions = tuple(version for code in mine.tariffs.values() for version in code)
        work.append(Work(tenancy, mine, versions, first_days[tenancy["id"]]))
    work = await _with_paths(connection, work, days)
    return await _with_blocks(connection, work)


async def _without_paths(connection: Connection, first_days: Mapping[int, date]) -> list[Work]:
    work = []
    for tenancy, mine in await _tenancies(connection, first_days):
        first = _first_day(tenancy, first_days[tenancy["id"]])
        work.append(Work(tenancy, mine, mine.tariffs[tenancy["tariff_code"]], first))
    return work


async def _tenancies(
    connection: Connection, tenancy_ids: Iterable[int]
) -> list[tuple[Row, SiteRules]]:
    tenancies = await rows(connection, TENANCIES, list(tenancy_ids))
    rules = await rules_of_sites(connection, {one["site_id"] for one in tenancies})
    return [(one, rules[one["site_id"]]) for one in tenancies]


def _first_day(tenancy: Row, touched: date) -> date:
    """The first open day to compute: from what was touched, without leaving a hole before it."""
    first_open: date = tenancy["first_open_day"]
    last: date | None = tenancy["last_projected"]
    unprojected = first_open if last is None else last + timedelta(days=1)
    return max(first_open, min(touched, unprojected))


async def _with_paths(connection: Connection, work: Sequence[Work], days: int) -> list[Work]:
    return await _with_found(connection, work, await _path_rows(connection, work, days))


async def _path_rows(connection: Connection, work: Sequence[Work], days: int) -> list[Row]:
    if not work:
        return []
    last_days = [one.first_day + timedelta(days=days - 1) for one in work]
    return await rows(
        connection,
        PATHS,
        [one.tenancy["id"] for one in work],
        [one.tenancy["shop_id"] for one in work],
        [day_bounds(one.first_day, one.rules.zone)[0] for one in work],
        [_until(one, last) for one, last in zip(work, last_days, strict=True)],
    )


async def _with_found(
    connection: Connection, work: Sequence[Work], found: Sequence[Row]
) -> list[Work]:
    paths: dict[int, list[MeterPath]] = {}
    for one in found:
        paths.setdefault(one["tenancy_id"], []).append(_path(one))
    found_paths = [tuple(paths.get(one.tenancy["id"], ())) for one in work]
    return await _with_registers(connection, work, found_paths)


async def _with_registers(
    connection: Connection, work: Sequence[Work], paths: Sequence[tuple[MeterPath, ...]]
) -> list[Work]:
    """The paths, with the registers of the periods beside gaps where a tariff has periods."""
    flat = [
        (one.tenancy["site_id"], path)
        for one, mine in zip(work, paths, strict=True)
        for path in mine
        if _has_periods(one)
    ]
    known = iter(await with_registers(connection, flat))
    return [
        replace(one, paths=tuple(islice(known, len(mine))))
        if _has_periods(one)
        else replace(one, paths=mine)
        for one, mine in zip(work, paths, strict=True)
    ]


def _has_periods(work: Work) -> bool:
    return any(version.rules for version in work.versions)


def _path(found: Row) -> MeterPath:
    return path_from_rows(
        found["id"],
        found["code"],
        found["transformer_ratio"],
        found["rollover_wh"],
        zip(found["read_ats"], found["registers_wh"], strict=True),
        [exchange_of(exchange) for exchange in found["exchanges"] or ()],
        installed_at=found["installed_at"],
        removed_at=found["removed_at"],
    )


def exchange_of(found: Row) -> Exchange:
    """A row of meter_exchange as core's value."""
    return Exchange(
        found["exchanged_at"],
        found["final_wh"],
        found["first_wh"],
        found["transformer_ratio"],
        found["rollover_wh"],
    )


def _until(work: Work, last: date) -> datetime:
    end = day_bounds(last, work.rules.zone)[1]
    closed_at: datetime | None = work.tenancy["closed_at"]
    return end if closed_at is None else min(end, closed_at)


async def _with_blocks(connection: Connection, work: Sequence[Work]) -> list[Work]:
    """The energy used since the month's and the year's begin, where a tariff has blocks."""
    wanted = [one for one in work if any(version.block_period for version in one.versions)]
    if not wanted:
        return list(work)
    used: list[dict[int, int]] = []
    for start in (_month_start, _year_start):
        found = await rows(
            connection,
            BLOCKS,
            [one.tenancy["site_id"] for one in wanted],
            [one.tenancy["id"] for one in wanted],
            [start(one.first_day) for one in wanted],
            [one.first_day for one in wanted],
        )
        used.append({one["tenancy_id"]: one["energy_wh"] for one in found})
    month, year = used
    return [
        replace(one, used=Used(month.get(one.tenancy["id"], 0), year.get(one.tenancy["id"], 0)))
        for one in work
    ]


def _month_start(day: date) -> date:
    return day.replace(day=1)


def _year_start(day: date) -> date:
    return day.replace(month=1, day=1)


def last_day(work: Work) -> date:
    """The last day that a tenancy can have; one that goes on has none."""
    closed_at = work.tenancy["closed_at"]
    return date.max if closed_at is None else local_day(closed_at, work.rules.zone)


def settle(
    work: Work,
    day: date,
    version: TariffVersion,
    block_start_wh: int,
    *,
    gap_s: int | None = None,
) -> DaySettlement:
    """One day of a tenancy, rated; a closed one with the `gap_s` that it was closed with."""
    return settle_day(
        day,
        work.rules.zone,
        work.paths,
        version,
        work.rules.calendar,
        block_start_wh=block_start_wh,
        gap_s=work.rules.gap_s if gap_s is None else gap_s,
        opened_at=work.tenancy["opened_at"],
        closed_at=work.tenancy["closed_at"],
        versions=[one for one in work.versions if one.code == version.code],
    )
