"""Dated versions of tariffs and fixed charges, as frozen values."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import lru_cache

from server.core.calendar import DayType, HolidayCalendar
from server.core.errors import NotFoundError
from server.core.tariff.periods import MONTHS, PeriodRule, PeriodSpan, TouPeriod, day_spans

SINCE_EVER = date(2000, 1, 1)  # valid_from where a table names none


class TariffKind(StrEnum):
    """The shape in which a tariff is written down."""

    FLAT = "flat"
    TOU = "tou"
    BLOCK = "block"


class BlockPeriod(StrEnum):
    """After what a tenancy's blocks start at zero again."""

    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True)
class Block:
    """Prices for the energy from the block before up to here, half-open; None: without end."""

    up_to_wh: int | None
    prices: tuple[tuple[TouPeriod | None, int], ...]  # micro-yuan per kWh; None: all day


@dataclass(frozen=True)
class TariffVersion:
    """One tariff from one day on; flat and time-of-use tariffs have a single block."""

    code: str
    valid_from: date
    kind: TariffKind
    blocks: tuple[Block, ...]
    rules: tuple[PeriodRule, ...] = ()
    block_period: BlockPeriod | None = None

    def __hash__(self) -> int:
        """Cheap, for the caches keyed by a version; equality still compares everything."""
        return hash((self.code, self.valid_from))

    @property
    def depends_on_day_type(self) -> bool:
        """Whether workdays, weekends and holidays have different periods in some month."""
        return any(
            len({day_spans(self.rules, month, day_type) for day_type in DayType}) > 1
            for month in MONTHS
        )

    def spans(self, day: date, calendar: HolidayCalendar) -> tuple[PeriodSpan, ...]:
        """The periods of this day; empty where the price does not depend on the time."""
        return day_spans(self.rules, day.month, calendar.day_type(day))


@lru_cache(maxsize=4_096)
def block_prices(version: TariffVersion) -> tuple[dict[TouPeriod | None, int], ...]:
    """Micro-yuan per kWh by period, for each block."""
    return tuple(dict(block.prices) for block in version.blocks)


def version_on(versions: Iterable[TariffVersion], day: date) -> TariffVersion:
    """The newest version valid on this day; raises NotFoundError where none is yet."""
    valid = [version for version in versions if version.valid_from <= day]
    if not valid:
        raise NotFoundError(f"no tariff version is valid on {day}", code="no_tariff_version")
    return max(valid, key=lambda version: version.valid_from)


def block_period_start(version: TariffVersion, day: date) -> date | None:
    """The day since which the blocks count; None without blocks."""
    if version.block_period is None:
        return None
    start = day.replace(day=1)
    return start if version.block_period is BlockPeriod.MONTH else start.replace(month=1)


class FixedChargePer(StrEnum):
    """How often a fixed charge falls due."""

    DAY = "day"
    MONTH = "month"


class FixedChargeBasis(StrEnum):
    """What a fixed charge is multiplied by."""

    SHOP = "shop"
    M2 = "m2"
    KVA = "kva"


@dataclass(frozen=True)
class FixedCharge:
    """A charge that does not depend on energy, from one day on."""

    code: str
    valid_from: date
    per: FixedChargePer
    basis: FixedChargeBasis
    price_micro_yuan: int


def fixed_charge_on(charges: Iterable[FixedCharge], day: date) -> FixedCharge | None:
    """The newest version valid on this day; None: the charge is not owed yet."""
    valid = [charge for charge in charges if charge.valid_from <= day]
    return max(valid, key=lambda charge: charge.valid_from, default=None)
