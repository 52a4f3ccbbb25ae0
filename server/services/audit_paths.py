"""What a statement's meters were made from, and what is there of it now: for the audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from server.core.errors import InvalidInputError
from server.core.settlement.document import DeviceInputs
from server.core.settlement.interval import (
    Exchange,
    MeterPath,
    PeriodRegisters,
    path_from_rows,
)
from server.models.database import Connection, Row, rows
from server.services.gap_registers import with_registers

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


@dataclass(slots=True)
class StatementPath:
    """One meter's part of a statement: the devices it names, and what is there of them now."""

    site_id: int
    shop_id: int
    closed_at: datetime
    named: Sequence[DeviceInputs]
    transformer_ratio: int
    installed_at: datetime | None = None
    removed_at: datetime | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    trusted: list[tuple[datetime, int]] = field(default_factory=list)
    trusted_since: int = 0
    held_apart_since: int = 0
    exchanged_since: bool = False
    registers_wh: Mapping[datetime, PeriodRegisters] = field(default_factory=dict)

    @property
    def reading_count(self) -> int:
        """How many readings it was made from, without what exchanges said."""
        said = sum(one.began_by_exchange + one.ended_by_exchange for one in self.named)
        return sum(one.reading_count for one in self.named) - said

    @property
    def lost(self) -> int:
        """How many of the readings it was made from are not there any more, at the least.

        Not less those that came since: by the clocks of several machines nobody knows which did.
        """
        return max(0, self.reading_count - len(self.trusted) - self.held_apart_since)

    @property
    def changed(self) -> bool:
        """Whether readings were judged otherwise since; what came late is marked as due."""
        return bool(self.trusted_since or self.held_apart_since or self.exchanged_since)

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
                self.trusted_since += bool(found["judged"] and not found["late"])
        elif found["judged"] and not found["late"]:
            self.held_apart_since += 1

    def path(self) -> MeterPath:
        """What is there now."""
        newest = self.named[-1]
        path = path_from_rows(
            newest.meter_id,
            newest.meter_code,
            self.transformer_ratio,
            newest.rollover_wh,
            self.trusted,
            self.exchanges,
            installed_at=self.installed_at,
            removed_at=self.removed_at,
        )
        return replace(path, registers_wh=self.registers_wh)


async def gather_installations(connection: Connection, paths: Sequence[StatementPath]) -> None:
    """When each meter was installed in the statement's shop."""
    found = await rows(
        connection,
        INSTALLATIONS,
        list(range(len(paths))),
        [path.shop_id for path in paths],
        [path.named[0].meter_id for path in paths],
        [path.named[0].starts_at for path in paths],
        [path.named[-1].ends_at for path in paths],
    )
    for one in found:
        path = paths[one["number"]]
        path.installed_at, path.removed_at = one["installed_at"], one["removed_at"]


async def gather_readings(connection: Connection, paths: Sequence[StatementPath]) -> None:
    """The readings and exchanges between those that each statement names."""
    numbers = list(range(len(paths)))
    meters = [path.named[0].meter_id for path in paths]
    closed_ats = [path.closed_at for path in paths]
    # where it had none at an edge, one may have come since
    firsts, lasts = [], []
    for path in paths:
        begin, end = path.named[0], path.named[-1]
        firsts.append(min(begin.first_read_at or begin.starts_at, begin.starts_at))
        lasts.append(max(end.last_read_at or end.ends_at, end.ends_at))
    for found in await rows(connection, EXCHANGES, numbers, meters, firsts, closed_ats):
        path = paths[found["number"]]
        path.transformer_ratio = found["ratio_now"]
        if found["exchanged_at"] is not None:
            path.take_exchange(found)
    sites = [path.site_id for path in paths]
    wanted = numbers, sites, meters, firsts, lasts, closed_ats
    for found in await rows(connection, READINGS, *wanted):
        paths[found["number"]].take_reading(found)


async def gather_registers(connection: Connection, paths: Sequence[StatementPath]) -> None:
    """The registers of the periods, where a statement names a gap."""
    known = []
    for path in paths:
        try:
            if any(device.has_gap for device in path.named):
                known.append((path, path.path()))
        except InvalidInputError:
            continue  # the rating will say so
    found = await with_registers(connection, [(path.site_id, one) for path, one in known])
    for (path, _), one in zip(known, found, strict=True):
        path.registers_wh = one.registers_wh
