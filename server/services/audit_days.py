"""Rating every closed day afresh, from the readings that its statement was made from.

What may be taken from elsewhere is: the tenancy's time, the site's timezone, the tariff version of
that day, the energy since the blocks began. A forged document is held against those.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

from server.core.errors import InvalidInputError, NotFoundError
from server.core.settlement.day import settle_day
from server.core.settlement.document import (
    DeviceInputs,
    StatementInputs,
    document_differences,
    read_inputs,
    statement_document,
)
from server.core.settlement.interval import Exchange, MeterPath, path_from_rows
from server.core.tariff.parse import parse_tariff
from server.core.tariff.versions import TariffVersion, block_period_start, version_on
from server.models.database import Connection, Row, from_json, rows
from server.services.audit_report import AuditReport, Progress
from server.services.audit_window import Window
from server.services.site_rules import chinese_holidays

BATCH = 500
READINGS_AT_ONCE = 50_000  # or those of one statement
RULE = "statement_rated"

# In the order of the primary key, from behind the last one seen; $6 to $7: the window's days.
STATEMENTS = """
SELECT statement.site_id, statement.tenancy_id, statement.day, statement.version,
       statement.energy_wh, statement.amount_fen, statement.document, statement.closed_at,
       tenancy.opened_at, tenancy.closed_at AS tenancy_closed_at, tenancy.shop_id, site.timezone,
       statement.day >= least(correction_due.first_day, settlement_due.first_day) AS is_due
FROM (
    SELECT * FROM statement
    WHERE (site_id, tenancy_id, day, version) > ($1::bigint, $2::bigint, $3::date, $4::integer)
      AND version = (SELECT max(version) FROM statement newest
                     WHERE newest.site_id = statement.site_id
                       AND newest.tenancy_id = statement.tenancy_id AND newest.day = statement.day)
      AND day >= $6 AND day < $7
    ORDER BY site_id, tenancy_id, day, version LIMIT $5
) AS statement
LEFT JOIN tenancy ON tenancy.id = statement.tenancy_id
LEFT JOIN correction_due ON correction_due.tenancy_id = statement.tenancy_id
LEFT JOIN settlement_due ON settlement_due.tenancy_id = statement.tenancy_id
LEFT JOIN site ON site.id = statement.site_id
ORDER BY statement.site_id, statement.tenancy_id, statement.day, statement.version
"""
# In which time the meter measured this shop, as imports have written it.
INSTALLATIONS = """
SELECT wanted.number, installed.installed_at, installed.removed_at
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
    AS wanted (number, shop_id, meter_id, starts_at, ends_at)
JOIN meter_installation installed
    ON installed.shop_id = wanted.shop_id AND installed.meter_id = wanted.meter_id
    AND installed.installed_at <= wanted.starts_at
    AND (installed.removed_at IS NULL OR installed.removed_at >= wanted.ends_at)
"""
# Ratios as exchanges and the meter say, so that a statement cannot bring its own; whatever was
# exchanged since the day was closed.
EXCHANGES = """
SELECT wanted.number, meter.transformer_ratio AS ratio_now, exchange.exchanged_at,
       exchange.final_wh, exchange.first_wh, exchange.transformer_ratio AS ratio_then,
       exchange.rollover_wh,
       exchange.created_at > wanted.closed_at AS late
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[])
    AS wanted (number, meter_id, first_at, closed_at)
JOIN meter ON meter.id = wanted.meter_id
LEFT JOIN meter_exchange exchange ON exchange.meter_id = wanted.meter_id
    AND exchange.exchanged_at >= wanted.first_at
ORDER BY wanted.number, exchange.exchanged_at
"""
# Those held apart since the day was closed, too, and which ones came after that.
READINGS = """
SELECT wanted.number, reading.read_at, reading.register_wh, reading.verdict,
       reading.kept_at > wanted.closed_at AS late, reading.judged_at > wanted.closed_at AS judged
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[],
            $6::timestamptz[])
    AS wanted (number, site_id, meter_id, first_at, last_at, closed_at)
JOIN reading ON reading.site_id = wanted.site_id AND reading.meter_id = wanted.meter_id
    AND reading.read_at BETWEEN wanted.first_at AND wanted.last_at
"""
BLOCK_STARTS = """
SELECT wanted.number, coalesce(sum(closed.energy_wh), 0)::bigint AS energy_wh
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::date[], $5::date[])
    AS wanted (number, site_id, tenancy_id, since, until)
LEFT JOIN LATERAL (
    SELECT DISTINCT ON (day) energy_wh FROM statement
    WHERE site_id = wanted.site_id AND tenancy_id = wanted.tenancy_id
      AND day >= wanted.since AND day < wanted.until
    ORDER BY day, version DESC
) AS closed ON true
GROUP BY wanted.number
"""
TARIFFS = """
SELECT site_id, code, definition FROM tariff_version WHERE site_id = ANY($1::bigint[])
"""


Tariffs = Mapping[tuple[int, str], Sequence[TariffVersion]]


@dataclass(slots=True)
class _Path:
    """One meter's part of a statement: the devices it names, and what is there of them now."""

    named: list[DeviceInputs]
    transformer_ratio: int
    installed_at: datetime | None = None
    removed_at: datetime | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    trusted: list[tuple[datetime, int]] = field(default_factory=list)
    late: int = 0
    held_apart_since: int = 0
    exchanged_since: bool = False

    @property
    def reading_count(self) -> int:
        """How many readings it was made from, without what exchanges said."""
        said = sum(one.began_by_exchange + one.ended_by_exchange for one in self.named)
        return sum(one.reading_count for one in self.named) - said

    @property
    def lost(self) -> int:
        """How many of the readings it was made from are not there any more."""
        had = len(self.trusted) - self.late + self.held_apart_since
        return max(0, self.reading_count - had)

    @property
    def changed(self) -> bool:
        """Whether other readings count today than did when the day was closed."""
        other = len(self.trusted) != self.reading_count
        return bool(self.late or self.held_apart_since or self.exchanged_since or other)

    def take_exchange(self, found: Row) -> None:
        """An exchange at or after the first reading that is named."""
        at, last_at = found["exchanged_at"], self.named[-1].last_read_at
        before = [one for one in self.named if one.first_read_at and one.first_read_at < at]
        rollover_wh = before[-1].rollover_wh if before else found["rollover_wh"]
        registers = found["final_wh"], found["first_wh"]
        self.exchanges.append(Exchange(at, *registers, found["ratio_then"], rollover_wh))
        if found["late"] and last_at is not None and at <= last_at:
            self.exchanged_since = True

    def take_reading(self, found: Row) -> None:
        """A reading between the first and the last that are named."""
        if found["verdict"] == "trusted":
            at = found["read_at"]
            if self.exchanged_since or all(one.at != at for one in self.exchanges):
                self.trusted.append((at, found["register_wh"]))
                self.late += found["late"]
        elif found["judged"] and not found["late"]:
            self.held_apart_since += 1

    def path(self) -> MeterPath:
        """What is there now."""
        newest = self.named[-1]
        return path_from_rows(
            newest.meter_id,
            newest.meter_code,
            self.transformer_ratio,
            newest.rollover_wh,
            self.trusted,
            self.exchanges,
            installed_at=self.installed_at,
            removed_at=self.removed_at,
        )


@dataclass(slots=True)
class _Closed:
    """One statement that can be read."""

    row: Row
    document: Mapping[str, object]
    inputs: StatementInputs
    paths: list[_Path]
    version: TariffVersion | None = None
    block_start_wh: int = 0


async def audit_days(
    connection: Connection, window: Window, report: AuditReport, progress: Progress
) -> None:
    """Rate every closed day of the window afresh, batch by batch."""
    done = 0
    async for batch in _statements(connection, window):
        await _audit_batch(connection, report, batch)
        done += len(batch)
        progress(f"{done} statements rated afresh")
    report.checked["statements"] = done


async def _statements(connection: Connection, window: Window) -> AsyncIterator[Sequence[Row]]:
    last: tuple[int, int, date, int] = (0, 0, date.min, 0)
    while True:
        batch = await rows(connection, STATEMENTS, *last, BATCH, *window.days)
        if not batch:
            return
        yield batch
        end = batch[-1]
        last = (end["site_id"], end["tenancy_id"], end["day"], end["version"])


async def _audit_batch(connection: Connection, report: AuditReport, batch: Sequence[Row]) -> None:
    closed = [one for row in batch if (one := _read(report, row)) is not None]
    tariffs = await _tariffs(connection, report, {one.row["site_id"] for one in closed})
    known = [one for one in closed if _find_version(report, one, tariffs)]
    await _gather_installations(connection, known)
    await _gather_blocks(connection, known)
    for part in _parts(known):
        await _gather_readings(connection, part)
        for one in part:
            _audit_day(report, one)
            one.paths.clear()  # their readings are many


def _parts(closed: Sequence[_Closed]) -> Iterator[Sequence[_Closed]]:
    """A few statements at a time, by how many readings they name."""
    part: list[_Closed] = []
    count = 0
    for one in closed:
        named = sum(path.reading_count for path in one.paths)
        if part and count + named > READINGS_AT_ONCE:
            yield part
            part, count = [], 0
        part.append(one)
        count += named
    if part:
        yield part


def _read(report: AuditReport, row: Row) -> _Closed | None:
    try:
        document = from_json(row["document"])
        inputs = read_inputs(document)
    except InvalidInputError as error:
        report.blame(RULE, _subject(row), error.detail)
        return None
    if row["opened_at"] is None or row["timezone"] is None:
        report.blame(RULE, _subject(row), "is of a tenancy or site that is not there")
        return None
    return _Closed(
        row,
        document,
        inputs,
        [_Path(named, named[-1].transformer_ratio) for named in inputs.meters],
    )


async def _tariffs(connection: Connection, report: AuditReport, site_ids: set[int]) -> Tariffs:
    tariffs: dict[tuple[int, str], list[TariffVersion]] = {}
    for one in await rows(connection, TARIFFS, list(site_ids)):
        try:
            version = parse_tariff(from_json(one["definition"]))
        except InvalidInputError as error:
            report.blame(RULE, f"tariff {one['code']}", f"cannot be read: {error.detail}")
            continue
        tariffs.setdefault((one["site_id"], one["code"]), []).append(version)
    return tariffs


def _find_version(report: AuditReport, one: _Closed, tariffs: Tariffs) -> bool:
    named = one.inputs.tariff_valid_from
    try:
        code = (one.row["site_id"], one.inputs.tariff_code)
        one.version = version_on(tariffs.get(code, ()), one.row["day"])
    except NotFoundError as error:
        report.blame(RULE, _subject(one.row), error.detail)
        return False
    if one.version.valid_from != named:
        detail = f"names the version of {named}; that of {one.version.valid_from} was valid"
        report.blame(RULE, _subject(one.row), detail)
        return False
    return True


async def _gather_installations(connection: Connection, closed: Sequence[_Closed]) -> None:
    """For each statement, for each of its meters, when it was installed in the shop."""
    flat = [(one.row["shop_id"], path) for one in closed for path in one.paths]
    found = await rows(
        connection,
        INSTALLATIONS,
        list(range(len(flat))),
        [shop_id for shop_id, _ in flat],
        [path.named[0].meter_id for _, path in flat],
        [path.named[0].starts_at for _, path in flat],
        [path.named[-1].ends_at for _, path in flat],
    )
    for one in found:
        _, path = flat[one["number"]]
        path.installed_at, path.removed_at = one["installed_at"], one["removed_at"]


async def _gather_readings(connection: Connection, closed: Sequence[_Closed]) -> None:
    """For each statement, for each of its meters, the readings between those it names."""
    flat: list[_Path] = []
    asked: list[tuple[int, int, int, datetime, datetime, datetime]] = []
    for one in closed:
        for path in one.paths:
            # where it had none at an edge, one may have come since
            begin, end = path.named[0], path.named[-1]
            first = min(begin.first_read_at or begin.starts_at, begin.starts_at)
            last = max(end.last_read_at or end.ends_at, end.ends_at)
            site_id, closed_at = one.row["site_id"], one.row["closed_at"]
            asked.append((len(flat), site_id, begin.meter_id, first, last, closed_at))
            flat.append(path)
    if not asked:
        return
    numbers, sites, meters, firsts, lasts, closed_ats = (list(x) for x in zip(*asked, strict=True))
    for found in await rows(connection, EXCHANGES, numbers, meters, firsts, closed_ats):
        path = flat[found["number"]]
        path.transformer_ratio = found["ratio_now"]
        if found["exchanged_at"] is not None:
            path.take_exchange(found)
    wanted = numbers, sites, meters, firsts, lasts, closed_ats
    for found in await rows(connection, READINGS, *wanted):
        flat[found["number"]].take_reading(found)


async def _gather_blocks(connection: Connection, closed: Sequence[_Closed]) -> None:
    """The energy since the blocks began, as the statements before say."""
    wanted = []
    for one in closed:
        since = one.version and block_period_start(one.version, one.row["day"])
        if since is not None:
            wanted.append((one, since))
    if not wanted:
        return
    found = await rows(
        connection,
        BLOCK_STARTS,
        list(range(len(wanted))),
        [one.row["site_id"] for one, _ in wanted],
        [one.row["tenancy_id"] for one, _ in wanted],
        [since for _, since in wanted],
        [one.row["day"] for one, _ in wanted],
    )
    for row in found:
        wanted[row["number"]][0].block_start_wh = row["energy_wh"]


def _audit_day(report: AuditReport, one: _Closed) -> None:
    """What is marked as due, or has other readings since, is not wrong yet: it is late."""
    lost = sum(path.lost for path in one.paths)
    strange = [path.named[0].meter_code for path in one.paths if path.installed_at is None]
    if strange:
        detail = f"names {', '.join(strange)}, which did not measure this shop then"
        report.blame(RULE, _subject(one.row), detail)
        return
    if lost:
        report.blame(RULE, _subject(one.row), f"was made from {lost} readings that are gone")
        return
    different = _differences(one)
    changed = any(path.changed for path in one.paths)
    if different and (one.row["is_due"] or changed or _knows_holidays_since(one)):
        report.awaiting_correction += 1
    elif different:
        detail = f"differs in {', '.join(different)}"
        report.blame(RULE, _subject(one.row), detail)


def _knows_holidays_since(one: _Closed) -> bool:
    """Whether the day was closed before its year's holidays were known, and they are now."""
    unknown = one.document.get("holidays_known") is False
    return unknown and chinese_holidays().knows(one.row["day"])


def _differences(one: _Closed) -> list[str]:
    try:
        fresh = _rate(one)
    except InvalidInputError as error:
        return [error.detail]
    different = list(document_differences(one.document, fresh))
    for name in ("energy_wh", "amount_fen"):
        if one.row[name] != fresh[name] and name not in different:
            different.append(name)
    return different


def _rate(one: _Closed) -> dict[str, object]:
    assert one.version is not None  # noqa: S101  _find_version has seen to it
    fresh = settle_day(
        one.row["day"],
        ZoneInfo(one.row["timezone"]),
        [path.path() for path in one.paths],
        one.version,
        chinese_holidays(),
        block_start_wh=one.block_start_wh,
        gap_s=one.inputs.gap_s,
        opened_at=one.row["opened_at"],
        closed_at=one.row["tenancy_closed_at"],
    )
    return statement_document(fresh, one.version)


def _subject(one: Row) -> str:
    return f"statement of tenancy {one['tenancy_id']} day {one['day']} version {one['version']}"
