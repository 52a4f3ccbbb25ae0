"""One line: a link, its pace, and one request at a time whose answer can be trusted.

After a timeout or a cancellation an answer may still come. It must never be taken for that of a
later request, so the line remembers what was asked in vain and asks nothing that could be confused
with it until the late answer came, or its time is over and the connection is a new one.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from server.devices.errors import DeadlineError, FrameError, LinkDownError, MeterMuteError
from server.devices.links.link import Link
from server.devices.pacing import Pace
from server.devices.protocols.exchange import Answer, Exchange, Hearing, Stray, StrayReason

log = logging.getLogger(__name__)

IDLE_LIMIT = 1_024
SUSPECT_LIMIT = 64
NEVER_QUIET_S = 2.0
AFTER_LOSS_S = 1.0  # a DTU that dialled again brings nothing old but what its meter says now
AFTER_TRAIL_S = 0.05  # what follows an answer may be its second copy: let it end
SILENT_LIMIT = 3  # timeouts in a row without a byte: a dialled connection may be half open
HANG_UP_LIMIT, HANG_UP_S = 6, 120.0  # the same for a DTU, which needs longer to come back


@dataclass(slots=True)
class LineStats:
    """Counts since the start."""

    asked: int = 0
    answered: int = 0
    missed: int = 0
    late: int = 0
    lost: int = 0
    strays: Counter[StrayReason] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A request whose answer may still come until then.

    For the very same request that is only stale, so it may be asked again sooner.
    """

    exchange: Exchange
    until_s: float
    same_until_s: float

    def clear_at_s(self, exchange: Exchange) -> float:
        """From when on this one's late answer does no harm to that request."""
        same = self.exchange.frame == exchange.frame
        return self.same_until_s if same else self.until_s


class Line:
    """Asks one thing at a time; the caller holds the bus."""

    def __init__(self, link: Link, pace: Pace, chatter: Sequence[bytes] = ()) -> None:
        self.stats = LineStats()
        self.link = link
        self.pace = pace
        self.last_good: Exchange | None = None
        self.last_elapsed_s = 0.0
        self.sent = False  # whether the last request left
        self.outages = 0  # how often the connection was lost without our doing
        self._chatter = tuple(chatter)
        self._hearing: Hearing | None = None
        self._pending: asyncio.Future[Answer] | None = None
        self._suspects: list[_Suspect] = []
        self._last: Exchange | None = None
        self._idle = b""
        self._free_at = 0.0
        self._heard_at = 0.0
        self._silent = 0
        self._restarting = False
        self._cleared = asyncio.Event()
        link.on_bytes = self._on_bytes
        link.on_lost = self._on_lost

    @property
    def suspicious(self) -> bool:
        """Whether anything was asked in vain whose answer may still come."""
        return bool(self._suspects)

    async def until_trusted(self, exchange: Exchange) -> None:
        """Return when no late answer to something else can be taken for this one's.

        To be awaited before the bus is taken, so that others may speak meanwhile.
        """
        while confusable := self._confusable(exchange):
            wait_s = max(each.clear_at_s(exchange) for each in confusable) - self._now()
            if wait_s <= 0:
                return
            self._cleared.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._cleared.wait()

    async def ask(
        self, exchange: Exchange, timeout_s: float, ends_at: float, *, urgent: bool = False
    ) -> Answer:
        """The answer; raises LinkDownError, MeterMuteError, FrameError or DeadlineError.

        `timeout_s` is on top of the wire's own time. Nothing is sent whose answer could not be
        in before `ends_at` (loop time).
        """
        self.sent = False
        wire_s = self.pace.wire_s(len(exchange.frame), exchange.answer_size)
        try:
            async with asyncio.timeout_at(ends_at - wire_s):
                await self.link.ready(urgent=urgent)
                await self._make_trusted(exchange, urgent=urgent)
                await self._wait_until_free()
        except TimeoutError:
            raise DeadlineError("the line was not free before the deadline") from None
        if self._now() + wire_s >= ends_at:
            raise DeadlineError("the deadline is too near")
        self._sort_idle()
        self._hearing = hearing = Hearing(exchange, self._chatter)
        self._pending = pending = asyncio.get_running_loop().create_future()
        self._last = exchange
        sent_at = self._now()
        try:
            self.stats.asked += 1
            self.link.write(exchange.frame)
            self.sent = True
            async with asyncio.timeout_at(min(sent_at + wire_s + timeout_s, ends_at)):
                answer: Answer = await pending
        except TimeoutError:
            raise self._missed(hearing, exchange) from None
        finally:
            self._pending = self._hearing = None
            self._close(exchange, hearing, sent_at, timeout_s)
        self.last_elapsed_s = max(0.0, self._now() - sent_at - wire_s)
        return answer

    def _close(
        self,
        exchange: Exchange,
        hearing: Hearing,
        sent_at: float,
        timeout_s: float,
    ) -> None:
        """Sort what was heard, and note what may still come and when the line is free."""
        now = self._now()
        decided = hearing.answer is not None  # also when its asker was cancelled meanwhile
        answer_size = exchange.answer_size if decided else 0
        cycle_s = self.pace.cycle_s(len(exchange.frame), answer_size)
        self._free_at = max(self._free_at, sent_at + cycle_s, now + self.pace.silence_s)
        if decided:
            self.stats.answered += 1
            self._silent = 0
            self.last_good = exchange
            if hearing.trailed:
                self._free_at = max(self._free_at, now + AFTER_TRAIL_S)
        strays = self._sort(exchange, hearing.rest())
        broken = any(stray.reason is StrayReason.BROKEN for stray in strays)
        if not decided and not broken and self.link.up:  # a broken answer has come: no second one
            self._suspect(exchange, now, timeout_s)

    def _missed(self, hearing: Hearing, exchange: Exchange) -> MeterMuteError | FrameError:
        """What a timeout means, and whether the link still deserves trust."""
        self.stats.missed += 1
        rest = hearing.rest()
        if rest:
            self._silent = 0
            reasons = {stray.reason for stray in exchange.strays(rest)}
            if StrayReason.BROKEN in reasons:
                return FrameError("the answer was damaged")
            if StrayReason.OTHER in reasons:
                return FrameError("something answered, but not what was asked")
            return FrameError("only noise was heard")
        self._silent += 1
        quiet_s = self._now() - self._heard_at
        if self.link.redialable and self._silent >= SILENT_LIMIT:
            self._restart("nothing answers: the connection may be half open")
        elif self._silent >= HANG_UP_LIMIT and quiet_s >= HANG_UP_S:
            self._restart("nothing was heard for two minutes")
        return MeterMuteError("no answer in time")

    async def _make_trusted(self, exchange: Exchange, *, urgent: bool) -> None:
        await self.until_trusted(exchange)
        if self.link.redialable and self._confusable(exchange):
            self._restart("a late answer may be under way")
            await self.link.ready(urgent=urgent)
        self._suspects = [suspect for suspect in self._suspects if suspect.until_s > self._now()]

    async def _wait_until_free(self) -> None:
        last_call_s = max(self._free_at, self._now()) + NEVER_QUIET_S
        while (wait_s := self._free_at - self._now()) > 0:
            if self._free_at > last_call_s:
                self._restart("the line is never quiet")
                raise FrameError("the line is never quiet")
            await asyncio.sleep(wait_s)

    def _confusable(self, exchange: Exchange) -> list[_Suspect]:
        if exchange.shape is None:
            return []
        return [other for other in self._suspects if other.exchange.shape == exchange.shape]

    def _suspect(self, exchange: Exchange, now: float, timeout_s: float) -> None:
        if exchange.shape is not None:
            until_s = now + max(self.link.late_s, timeout_s)
            suspect = _Suspect(exchange, until_s, min(until_s, now + timeout_s))
            self._suspects = [*self._suspects[-SUSPECT_LIMIT:], suspect]

    def _restart(self, reason: str) -> None:
        self._silent = 0
        self._restarting = True
        self.link.restart(reason)
        self._restarting = False

    def _on_bytes(self, data: bytes) -> None:
        now = self._now()
        self._heard_at = now
        pending, hearing = self._pending, self._hearing
        if pending is None or hearing is None:
            self._idle = (self._idle + data)[-IDLE_LIMIT:]
            self._free_at = max(self._free_at, now + self.pace.silence_s)
            if any(suspect.exchange.find(self._idle) for suspect in self._suspects):
                self._sort_idle()
            return
        answer = hearing.feed(data)
        if answer is not None and not pending.done():
            pending.set_result(answer)
        elif hearing.overrun and not pending.done():
            pending.set_exception(FrameError("the gateway does not stop talking"))
            self._restart("flooded")

    def _on_lost(self, reason: str) -> None:
        self.stats.lost += 1
        self.outages += 0 if self._restarting else 1
        # what was under way went down with the connection, but for what a meter has yet to say
        latest_s = self._now() + AFTER_LOSS_S
        self._suspects = [
            replace(suspect, until_s=min(suspect.until_s, latest_s))  # the same one is sooner yet
            for suspect in self._suspects
            if not self.link.redialable
        ]
        self._cleared.set()
        self._idle = b""
        if self._pending is not None and not self._pending.done():
            self._pending.set_exception(LinkDownError(f"lost while waiting: {reason}"))

    def _sort_idle(self) -> None:
        """What came while nothing was asked belongs to nobody, or to a suspect."""
        idle, self._idle = self._idle, b""
        if idle and self._last is not None:
            for piece in self._chatter:
                idle = idle.replace(piece, b"") if piece else idle
            self._sort(self._last, idle)

    def _sort(self, exchange: Exchange, rest: bytes) -> Sequence[Stray]:
        if not rest:
            return ()
        for suspect in self._suspects:
            if suspect.exchange.find(rest) is not None:
                self.stats.late += 1
                self._suspects.remove(suspect)
                self._cleared.set()
                break
        strays = exchange.strays(rest)
        self.stats.strays.update(stray.reason for stray in strays)
        log.debug("dropped %s", strays)
        return strays

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
