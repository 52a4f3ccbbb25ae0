"""Time-of-use periods: which one holds at which minute of which day."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from server.core.calendar import MINUTES_PER_DAY, DayType, minute_text

MONTHS = tuple(range(1, 13))


class TouPeriod(StrEnum):
    """尖 峰 平 谷 深谷, dearest first."""

    SHARP = "sharp"
    PEAK = "peak"
    FLAT = "flat"
    VALLEY = "valley"
    DEEP_VALLEY = "deep_valley"


class PeriodSpan(NamedTuple):
    """Half-open minutes of the wall clock that belong to one period; never over midnight."""

    start_minute: int
    end_minute: int
    period: TouPeriod


@dataclass(frozen=True)
class PeriodRule:
    """Spans that hold in these months on days of this type (None: on all days)."""

    months: tuple[int, ...]
    days: DayType | None
    spans: tuple[PeriodSpan, ...]

    def holds(self, month: int, day_type: DayType) -> bool:
        """Whether this rule speaks about such a day."""
        return month in self.months and self.days in {None, day_type}


@lru_cache(maxsize=4_096)
def day_spans(
    rules: tuple[PeriodRule, ...], month: int, day_type: DayType
) -> tuple[PeriodSpan, ...]:
    """The periods of such a day from 00:00 to 24:00, neighbours of one period joined."""
    joined: list[PeriodSpan] = []
    for span in _sorted_spans(rules, month, day_type):
        if joined and joined[-1].period == span.period and joined[-1].end_minute == span[0]:
            joined[-1] = joined[-1]._replace(end_minute=span.end_minute)
        else:
            joined.append(span)
    return tuple(joined)


def _sorted_spans(rules: Sequence[PeriodRule], month: int, day_type: DayType) -> list[PeriodSpan]:
    return sorted(span for rule in rules if rule.holds(month, day_type) for span in rule.spans)


def coverage_faults(rules: Sequence[PeriodRule]) -> tuple[str, ...]:
    """Every minute without a period or with two, by months and day type; none: rules are whole."""
    months_by_fault: dict[tuple[DayType, str], list[int]] = {}
    for month in MONTHS:
        for day_type in DayType:
            for fault in _day_faults(_sorted_spans(rules, month, day_type)):
                months_by_fault.setdefault((day_type, fault), []).append(month)
    return tuple(
        f"{_months_text(months)}: {day_type}: minute {fault}"
        for (day_type, fault), months in months_by_fault.items()
    )


def _day_faults(spans: Sequence[PeriodSpan]) -> Iterator[str]:
    covered, holder = 0, ""
    for start, end, period in spans:
        if start > covered:
            yield f"{_minutes_text(covered, start)} has no period"
        elif start < covered:
            both = f"{holder} and {period}" if holder != period else f"{period} twice"
            yield f"{_minutes_text(start, min(end, covered))} has {both}"
        if end > covered:
            covered, holder = end, period
    if covered < MINUTES_PER_DAY:
        yield f"{_minutes_text(covered, MINUTES_PER_DAY)} has no period"


def _minutes_text(start: int, end: int) -> str:
    return f"{minute_text(start)}-{minute_text(end)}"


def _months_text(months: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for month in months:
        if runs and runs[-1][-1] == month - 1:
            runs[-1].append(month)
        else:
            runs.append([month])
    texts = (f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f"month {', '.join(texts)}"
