"""Closed days for their tenant: a month of them, and one that explains itself.

What is shown is the kept document, never a new computation: a statement says for ever what it
said. Only the names of a day's periods come from the tariff version that the document names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from server.core.calendar import DayType, minute_text
from server.core.errors import NotFoundError
from server.core.tariff.periods import day_spans
from server.models.database import from_json, pool, rows
from server.services.site_rules import SiteRules, site_rules

MONTH = """
SELECT DISTINCT ON (statement.day) statement.day, statement.version, statement.energy_wh,
       statement.amount_fen, statement.estimated, statement.closed_at
FROM statement JOIN tenancy
    ON tenancy.id = statement.tenancy_id AND tenancy.site_id = statement.site_id
WHERE statement.tenancy_id = $1 AND statement.day >= $2 AND statement.day < $3
ORDER BY statement.day, statement.version DESC
"""
DAY = """
SELECT statement.* FROM statement JOIN tenancy
    ON tenancy.id = statement.tenancy_id AND tenancy.site_id = statement.site_id
WHERE statement.tenancy_id = $1 AND statement.day = $2
ORDER BY statement.version
"""


@dataclass(frozen=True, slots=True)
class StatementSummary:
    """A closed day in a list, by its newest version."""

    day: date
    version: int
    energy_wh: int
    amount_fen: int
    estimated: bool
    closed_at: datetime

    @property
    def corrected(self) -> bool:
        """Whether it took the place of an earlier version."""
        return self.version > 1


@dataclass(frozen=True, slots=True)
class TariffRef:
    """The price version that a day was rated by."""

    code: str
    valid_from: date
    kind: str
    block_period: str | None


@dataclass(frozen=True, slots=True)
class StatementLine:
    """Energy of one period and block at one price; the lines' amounts add up to the day's."""

    period: str | None
    block: int
    block_from_wh: int | None
    block_up_to_wh: int | None
    price_micro_yuan: int
    energy_wh: int
    amount_fen: int


@dataclass(frozen=True, slots=True)
class MeterReadings:
    """A device's readings at the edges of the day, and what lies between them times the ratio.

    A meter that was exchanged is there with each of its devices; the exchange's word is a reading.
    """

    meter: str
    transformer_ratio: int
    first_read_at: datetime | None
    first_register_wh: int | None
    last_read_at: datetime | None
    last_register_wh: int | None
    reading_count: int
    energy_wh: int
    has_gap: bool
    began_by_exchange: bool
    ended_by_exchange: bool


@dataclass(frozen=True, slots=True)
class PeriodOfDay:
    """Which period the tariff has from `begins` to `ends` (local, half-open)."""

    begins: str
    ends: str
    period: str


@dataclass(frozen=True, slots=True)
class StatementDay:
    """A closed day with its working; `versions` are all there ever were, oldest first."""

    day: date
    version: int
    closed_at: datetime
    day_type: str
    timezone: str
    starts_at: datetime
    ends_at: datetime
    energy_wh: int
    amount_fen: int
    estimated: bool
    tariff: TariffRef
    block_start_wh: int
    periods: tuple[PeriodOfDay, ...]
    lines: tuple[StatementLine, ...]
    readings: tuple[MeterReadings, ...]
    versions: tuple[StatementSummary, ...]

    @property
    def corrected(self) -> bool:
        """Whether it took the place of an earlier version."""
        return self.version > 1


async def month_of_statements(tenancy_id: int, first: date) -> list[StatementSummary]:
    """The closed days of the month that begins at `first`, in order."""
    following = (first + timedelta(days=31)).replace(day=1)
    found = await rows(pool(), MONTH, tenancy_id, first, following)
    return [StatementSummary(**one) for one in found]


async def statement_of_day(tenancy_id: int, day: date) -> StatementDay:
    """The newest version of a closed day; raises NotFoundError for a day that is not closed."""
    found = await rows(pool(), DAY, tenancy_id, day)
    if not found:
        raise NotFoundError("no statement of this day")
    newest = found[-1]
    document = from_json(newest["document"])
    rules = await site_rules(pool(), newest["site_id"])
    tariff = msgspec.convert(document["tariff"], TariffRef)
    return StatementDay(
        day=day,
        version=newest["version"],
        closed_at=newest["closed_at"],
        day_type=document["day_type"],
        timezone=document["timezone"],
        starts_at=datetime.fromisoformat(document["starts_at"]),
        ends_at=datetime.fromisoformat(document["ends_at"]),
        energy_wh=newest["energy_wh"],
        amount_fen=newest["amount_fen"],
        estimated=newest["estimated"],
        tariff=tariff,
        block_start_wh=document["block_start_wh"],
        periods=_periods(rules, tariff, document, day),
        lines=msgspec.convert(document["lines"], tuple[StatementLine, ...]),
        readings=msgspec.convert(document["readings"], tuple[MeterReadings, ...]),
        versions=tuple(_summary(one) for one in found),
    )


def _summary(one: Mapping[str, Any]) -> StatementSummary:
    names = StatementSummary.__dataclass_fields__
    return StatementSummary(**{name: one[name] for name in names})


def _periods(
    rules: SiteRules, tariff: TariffRef, document: Mapping[str, Any], day: date
) -> tuple[PeriodOfDay, ...]:
    """The clock of the day's tariff; a version that touches closed days cannot be changed."""
    for version in rules.tariffs.get(tariff.code, ()):
        if version.valid_from == tariff.valid_from and version.rules:
            spans = day_spans(version.rules, day.month, DayType(document["day_type"]))
            return tuple(
                PeriodOfDay(minute_text(span[0]), minute_text(span[1]), span.period.value)
                for span in spans
            )
    return ()
