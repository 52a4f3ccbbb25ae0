"""Crediting at once what a door has just kept, without holding up what comes next."""

import asyncio

import structlog

from server.http.context import WebContext
from server.services import payment_inbox
from server.services.announce import announce_tenancies
from server.services.crediting import Credited
from server.services.wakeups import INBOX

log = structlog.get_logger(__name__)

AT_ONCE = 4  # more is the workers': this process is here to answer
END_S = 5.0


class Settling:
    """A few kept notices under way; of the others, and of those that fail, the workers are told."""

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self._calling: asyncio.Task[None] | None = None
        self._left = False  # something for the workers, of which they were not told yet

    def begin(self, notice_id: int) -> None:
        """Settle a notice that was kept and committed; nobody waits for it here."""
        if len(self._tasks) < AT_ONCE:
            task = asyncio.create_task(self._settle(notice_id))
            self._tasks.add(task)
            task.add_done_callback(self._settled)
            return
        self._left = True
        if self._calling is None or self._calling.done():
            self._calling = asyncio.create_task(self._call())

    async def ended(self) -> None:
        """Wait for what is under way, but not for long: the workers do it, too."""
        under_way = [*self._tasks, *([self._calling] if self._calling is not None else [])]
        if under_way:
            await asyncio.wait(under_way, timeout=END_S)

    async def _settle(self, notice_id: int) -> None:
        credited = await payment_inbox.settle(notice_id, self._context.clock())
        if isinstance(credited, Credited) and credited.tenancy_id is not None:
            await announce_tenancies(self._context.wakeups, [credited.tenancy_id])

    async def _call(self) -> None:
        """Wake the workers, again where something was left to them meanwhile."""
        while self._left:
            self._left = False
            await self._context.wakeups.tell(INBOX)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("not credited at once; a worker does it", exc_info=error)
