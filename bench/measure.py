"""One way to measure: rounds of fixed length, ours and the limit in turn, the best of each."""

import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 5
ROUND_S = 0.4


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured beside its limit; `ratio` is ours by the limit."""

    name: str
    unit: str
    per_s: float
    limit: str
    limit_per_s: float

    @property
    def ratio(self) -> float:
        """How near the limit: 1 is there."""
        return self.per_s / self.limit_per_s

    def row(self) -> dict[str, str | float]:
        """The result as it is kept."""
        return {
            "name": self.name,
            "unit": self.unit,
            "per_s": round(self.per_s, 1),
            "limit": self.limit,
            "limit_per_s": round(self.limit_per_s, 1),
            "ratio": round(self.ratio, 4),
        }


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
