"""One request, its answer, and what was heard besides.

An exchange knows its request exactly, so it looks for the few byte patterns that can answer it and
for nothing else. The answer is the sound frame that belongs and ends first, wherever it starts:
the same for every way in which the bytes arrive, and whatever stands before or after it.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

HEARD_LIMIT = 4_096
KEPT_LIMIT = 1_024
PIECE = 512  # smaller than what is kept, so that no answer is cut by a flood behind it
CHATTER_TRIES = 8


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer's payload: registers, bits or data; empty when a write is acknowledged."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The meter's own no. `permanent`: it will say so again; `beyond`: said by a gateway for it."""

    code: int
    meaning: str
    permanent: bool
    beyond: bool = False


Answer = Answered | Refused


@dataclass(frozen=True, slots=True)
class Found:
    """An answer and where it stands in what was heard."""

    start: int
    end: int
    answer: Answer


class StrayReason(StrEnum):
    """Why bytes were dropped."""

    OTHER = "other"  # a sound frame that answers something else: another unit, a late answer
    BROKEN = "broken"  # began like our answer; truncated, or its checksum is wrong
    NOISE = "noise"  # no frame at all


@dataclass(frozen=True, slots=True)
class Stray:
    """Bytes that were heard, counted and dropped."""

    reason: StrayReason
    data: bytes


class Exchange(Protocol):
    """A request on the wire and how to know its answer."""

    @property
    def frame(self) -> bytes:
        """The request, ready to send."""
        ...

    @property
    def answer_size(self) -> int:
        """Bytes of the answer on the wire, as far as it can be known."""
        ...

    @property
    def shape(self) -> Hashable | None:
        """Answers of one shape cannot be told apart; None where each is unmistakable."""
        ...

    def find(self, heard: bytes) -> Found | None:
        """The first sound frame that belongs to this request."""
        ...

    def strays(self, heard: bytes) -> Sequence[Stray]:
        """What was heard and does not belong, by reason."""
        ...


class Hearing:
    """Collects what is heard after one request until its answer is complete.

    `chatter` is what a gateway says of its own accord (heartbeats): it is taken out where an
    answer shows only without it.
    """

    def __init__(self, exchange: Exchange, chatter: Sequence[bytes] = ()) -> None:
        self._exchange = exchange
        self._chatter = tuple(piece for piece in chatter if piece)
        self._heard = b""
        self._before = b""
        self._after = b""
        self.total = 0
        self.answer: Answer | None = None

    @property
    def overrun(self) -> bool:
        """Far more was heard than any answer is long."""
        return self.total > HEARD_LIMIT

    @property
    def trailed(self) -> bool:
        """Something followed the answer: it may be a second copy of it."""
        return self.answer is not None and bool(self._silence(self._after))

    def feed(self, data: bytes) -> Answer | None:
        """Take bytes in; the answer once it is there. What follows an answer is kept apart."""
        self.total += len(data)
        for at in range(0, len(data), PIECE):
            self._take(data[at : at + PIECE])
        return self.answer

    def _take(self, piece: bytes) -> None:
        if self.answer is not None:
            self._after = (self._after + piece)[-KEPT_LIMIT:]
            return
        self._heard = (self._heard + piece)[-KEPT_LIMIT:]
        for heard in self._versions():
            found = self._exchange.find(heard)
            if found is not None:
                self.answer = found.answer
                self._before, self._after = heard[: found.start], heard[found.end :]
                return

    def rest(self) -> bytes:
        """All that was heard and is neither the answer nor chatter."""
        if self.answer is None:
            return self._silence(self._heard)
        return self._silence(self._before) + self._silence(self._after)

    def _versions(self) -> Iterator[bytes]:
        """What was heard as it is, then without one heartbeat, then without any."""
        yield self._heard
        for piece in self._chatter:
            if piece not in self._heard:
                continue
            at = self._heard.find(piece)
            for _ in range(CHATTER_TRIES):
                if at < 0:
                    break
                yield self._heard[:at] + self._heard[at + len(piece) :]
                at = self._heard.find(piece, at + 1)
            yield self._heard.replace(piece, b"")

    def _silence(self, heard: bytes) -> bytes:
        for piece in self._chatter:
            heard = heard.replace(piece, b"")
        return heard
