"""Rating every closed day afresh, from the readings that its statement was made from.

What may be taken from elsewhere is: the tenancy's time, the site's timezone, the tariff version of
that day, the energy since the blocks began. A forged document is held against those.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from server.core.errors import InvalidInputError, NotFoundError
from server.core.settlement.day import settle_day
from server.core.settlement.document import (
    StatementInputs,
    document_differences,
    read_inputs,
    statement_document,
)
from server.core.tariff.parse import parse_tariff
from server.core.tariff.versions import TariffVersion, block_period_start, version_on
from server.models.database import Connection, Row, from_json, rows
from server.services.audit_paths import (
    StatementPath,
    gather_installations,
    gather_readings,
    gather_registers,
)
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
class _Closed:
    """One statement that can be read."""

    row: Row
    document: Mapping[str, object]
    inputs: StatementInputs
    paths: list[StatementPath]
    version: TariffVersion | None = None
    versions: Sequence[TariffVersion] = ()
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
    await gather_installations(connection, [path for one in known for path in one.paths])
    await _gather_blocks(connection, known)
    for part in _parts(known):
        await gather_readings(connection, [path for one in part for path in one.paths])
        periods = [one for one in part if any(version.rules for version in one.versions)]
        await gather_registers(connection, [path for one in periods for path in one.paths])
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
    owner = row["site_id"], row["shop_id"], row["closed_at"]
    paths = [StatementPath(*owner, named, named[-1].transformer_ratio) for named in inputs.meters]
    return _Closed(row, document, inputs, paths)


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
        one.versions = tariffs.get(code, ())
        one.version = version_on(one.versions, one.row["day"])
    except NotFoundError as error:
        report.blame(RULE, _subject(one.row), error.detail)
        return False
    if one.version.valid_from != named:
        detail = f"names the version of {named}; that of {one.version.valid_from} was valid"
        report.blame(RULE, _subject(one.row), detail)
        return False
    return True


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
    """What is marked as due, or was judged otherwise since, is not wrong yet: it is late."""
    strange = [path.named[0].meter_code for path in one.paths if path.installed_at is None]
    if strange:
        detail = f"names {', '.join(strange)}, which did not measure this shop then"
        report.blame(RULE, _subject(one.row), detail)
        return
    different = _differences(one)
    lost = sum(path.lost for path in one.paths)
    changed = any(path.changed for path in one.paths)
    if different and lost:
        report.blame(RULE, _subject(one.row), f"was made from {lost} readings that are gone")
    elif different and (one.row["is_due"] or changed or _knows_holidays_since(one)):
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
        versions=one.versions,
    )
    return statement_document(fresh, one.version)


def _subject(one: Row) -> str:
    return f"statement of tenancy {one['tenancy_id']} day {one['day']} version {one['version']}"
