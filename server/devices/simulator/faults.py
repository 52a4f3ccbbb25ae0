"""What goes wrong in the field, on demand: names, and what each does to an answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class FaultName(StrEnum):
    """Faults of the wire (one answer each), then conditions of the meter (until cleared)."""

    MUTE = "mute"
    ANSWER_LOST = "answer_lost"
    EXCEPTION = "exception"
    WRONG_UNIT = "wrong_unit"
    BAD_CHECKSUM = "bad_checksum"
    TRUNCATED = "truncated"
    SPLIT = "split"
    JUNK_BEFORE = "junk_before"
    DOUBLED = "doubled"
    LATE = "late"
    DROPPED_LINK = "dropped_link"

    COUNTER_FROZEN = "counter_frozen"
    ZERO_ONCE = "zero_once"
    WELDED = "welded"
    WELDED_UNSEEN = "welded_unseen"
    STUCK_OPEN = "stuck_open"


CONDITIONS = frozenset(
    {
        FaultName.COUNTER_FROZEN,
        FaultName.ZERO_ONCE,
        FaultName.WELDED,
        FaultName.WELDED_UNSEEN,
        FaultName.STUCK_OPEN,
    }
)

JUNK = bytes.fromhex("00ff0055")


@dataclass(slots=True)
class Fault:
    """One fault; `count` answers are hit (None: until cleared)."""

    name: FaultName
    count: int | None = None
    delay_ms: int = 2_000
    code: int = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes to send after a pause."""

    after_ms: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an answer leaves; `late_ms` does not hold the bus: the next request may overtake it."""

    pieces: tuple[Piece, ...]
    late_ms: int = 0


_SPLIT_PAUSE_MS = 30


def deliver(frame: bytes, faults: Mapping[FaultName, Fault]) -> Delivery:
    """The frame as the faults of the wire let it through."""
    if FaultName.TRUNCATED in faults:
        frame = frame[: max(1, len(frame) // 2)]
    if FaultName.JUNK_BEFORE in faults:
        frame = JUNK + frame
    if FaultName.DOUBLED in faults:
        frame += frame
    pieces: tuple[Piece, ...] = (Piece(0, frame),)
    if FaultName.SPLIT in faults:
        third = max(1, len(frame) // 3)
        parts = (frame[:third], frame[third : 2 * third], frame[2 * third :])
        pieces = tuple(Piece(_SPLIT_PAUSE_MS if i else 0, part) for i, part in enumerate(parts))
    late = faults.get(FaultName.LATE)
    return Delivery(pieces, 0 if late is None else late.delay_ms)
