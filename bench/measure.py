"""One way to measure: rounds of fixed length, ours and the limit in turn, the best of each."""

import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 5
ROUND_S = 0.4


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured beside its limit; `ratio` is ours by the limit, `target` its least."""

    name: str
    unit: str
    per_s: float
    limit: str
    limit_per_s: float
    target: float | None = None

    @property
    def ratio(self) -> float:
        """How near the limit: 1 is there."""
        return self.per_s / self.limit_per_s

    @property
    def missed(self) -> bool:
        """Whether there is a target, and this is not it."""
        return self.target is not None and self.ratio < self.target

    def line(self) -> str:
        """The result as it is printed."""
        wanted = "" if self.target is None else f" (at least {self.target:.3g})"
        return (
            f"{self.name}: {self.per_s:,.0f} {self.unit}/s;"
            f" {self.limit}: {self.limit_per_s:,.0f}/s; ratio {self.ratio:.3f}{wanted}"
        )

    def row(self) -> dict[str, str | float | None]:
        """The result as it is kept."""
        return {
            "name": self.name,
            "unit": self.unit,
            "per_s": round(self.per_s, 1),
            "limit": self.limit,
            "limit_per_s": round(self.limit_per_s, 1),
            "ratio": round(self.ratio, 4),
            "target": self.target,
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured alone: seconds, megabytes; `at_most` is its target."""

    name: str
    value: float
    unit: str
    at_most: float | None = None

    @property
    def missed(self) -> bool:
        """Whether there is a target, and this is above it."""
        return self.at_most is not None and self.value > self.at_most

    def line(self) -> str:
        """The figure as it is printed."""
        wanted = "" if self.at_most is None else f" (at most {self.at_most:g})"
        return f"{self.name}: {self.value:,.3g} {self.unit}{wanted}"

    def row(self) -> dict[str, str | float | None]:
        """The figure as it is kept."""
        return {
            "name": self.name,
            "unit": self.unit,
            "value": round(self.value, 4),
            "at_most": self.at_most,
        }


Measured = Result | Figure


def _rate(work: Callable[[], object]) -> float:
    """Calls a second in one round."""
    begun = time.perf_counter()
    calls = 0
    while (spent := time.perf_counter() - begun) < ROUND_S:
        work()
        calls += 1
    return calls / spent


def measure(
    name: str, unit: str, work: Callable[[], object], limit: str, at_best: Callable[[], object]
) -> Result:
    """Measure both in turn, so that a busy machine slows both."""
    ours, best = 0.0, 0.0
    for _ in range(ROUNDS):
        ours = max(ours, _rate(work))
        best = max(best, _rate(at_best))
    return Result(name, unit, ours, limit, best)
