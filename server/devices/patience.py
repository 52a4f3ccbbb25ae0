"""How long one meter is waited for, and how long a mute one is left alone. Time is handed in."""

from dataclasses import dataclass

FIRST_TIMEOUT_S = 2.0
SHORTEST_TIMEOUT_S = 1.0
LONGEST_TIMEOUT_S = 5.0
MUTE_TIMEOUT_S = 1.5
SHORTEST_REST_S = 2.0
LONGEST_REST_S = 60.0
GIVEN_UP_AFTER = 3


@dataclass(slots=True)
class Patience:
    """Learns a meter's answer time as TCP learns a round trip (RFC 6298), beyond the wire's."""

    typical_s: float | None = None
    spread_s: float = 0.0
    misses: int = 0
    rest_until_s: float = 0.0

    @property
    def timeout_s(self) -> float:
        """How long to wait beyond the wire's own time."""
        if self.misses >= GIVEN_UP_AFTER:  # rarely long: a slow meter shall be found again too
            return LONGEST_TIMEOUT_S if self.misses % 4 == 0 else MUTE_TIMEOUT_S
        if self.typical_s is None:
            learned_s = FIRST_TIMEOUT_S
        else:
            learned_s = max(SHORTEST_TIMEOUT_S, self.typical_s + 4 * self.spread_s)
        return min(LONGEST_TIMEOUT_S, learned_s * (1 << self.misses))

    def answered(self, elapsed_s: float) -> None:
        """An answer came after this time."""
        self.misses = 0
        self.rest_until_s = 0.0
        if self.typical_s is None:
            self.typical_s, self.spread_s = elapsed_s, elapsed_s / 2
            return
        self.spread_s += (abs(elapsed_s - self.typical_s) - self.spread_s) / 4
        self.typical_s += (elapsed_s - self.typical_s) / 8

    def missed(self, now_s: float) -> None:
        """No answer came."""
        self.misses += 1
        rest_s = SHORTEST_REST_S * (1 << min(self.misses - 1, 10))
        self.rest_until_s = now_s + min(LONGEST_REST_S, rest_s)

    def forgive(self) -> None:
        """The gateway was away, so silence said nothing about the meter: ask again at once."""
        self.misses = min(self.misses, 1)
        self.rest_until_s = 0.0

    def rest_s(self, now_s: float) -> float:
        """How much longer the meter is left alone."""
        return max(0.0, self.rest_until_s - now_s)
