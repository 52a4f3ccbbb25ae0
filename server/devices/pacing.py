"""How long frames are on the wire, and when the next may follow."""

from dataclasses import dataclass

# Modbus over serial line V1.02, 2.5.1.1: 3.5 characters; above 19200 baud a fixed 1.75 ms.
SILENCE_CHARACTERS = 3.5
FASTEST_COUNTED_BAUD = 19_200
FIXED_SILENCE_S = 0.00175


@dataclass(frozen=True, slots=True)
class Pace:
    """A bus's timing; all zero where nothing paces it.

    `turnaround_s` is the meter's pause between request and answer. A cycle is then request,
    silence, turnaround, answer, silence: 61.7 ms for ten registers at 9600 8N1 and 20 ms.
    """

    character_s: float = 0.0
    silence_s: float = 0.0
    turnaround_s: float = 0.0

    @classmethod
    def of(cls, baud: int, character_bits: int, turnaround_ms: int) -> "Pace":
        """The timing of a serial bus."""
        character_s = character_bits / baud
        counted = baud <= FASTEST_COUNTED_BAUD
        silence_s = SILENCE_CHARACTERS * character_s if counted else FIXED_SILENCE_S
        return cls(character_s, silence_s, turnaround_ms / 1_000)

    def wire_s(self, request_size: int, answer_size: int) -> float:
        """From sending a request until its answer is complete, for a meter that does not dawdle."""
        return (request_size + answer_size) * self.character_s + self.silence_s + self.turnaround_s

    def cycle_s(self, request_size: int, answer_size: int) -> float:
        """From sending a request until the next may be sent."""
        return self.wire_s(request_size, answer_size) + self.silence_s
