"""Work that is asked for one by one and done together: a commit costs a group as much as one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from server.core.errors import UnavailableError

Item = TypeVar("Item")
Done = TypeVar("Done")
_Group = list[tuple[Item, asyncio.Future[Done]]]


class GroupCommit(Generic[Item, Done]):
    """Items that come while a group is under way are the next one; who comes alone goes at once.

    `do` takes items and answers each in its place, all or none of them done. Each caller waits
    until its own item is done, and raises what befell it: where a group fails, each of it is tried
    by itself, so that a bad one fails alone.
    """

    def __init__(
        self,
        do: Callable[[Sequence[Item]], Awaitable[Sequence[Done]]],
        *,
        group_max: int,
        waiting_max: int,
    ) -> None:
        self._do = do
        self._group_max = group_max
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[Item, asyncio.Future[Done]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def done(self, item: Item) -> Done:
        """What became of an item; UnavailableError where too many wait.

        An item whose caller is cancelled before its turn is left out.
        """
        if len(self._waiting) >= self._waiting_max:
            raise UnavailableError("too many wait to be kept")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Done] = loop.create_future()
        self._waiting.append((item, answer))
        if self._working is None:
            self._working = loop.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        """Group after group until nobody waits; should this be cancelled, nobody is left behind."""
        group: _Group[Item, Done] = []
        try:
            while group := self._next():
                await self._answer(group)
        finally:
            self._working = None
            _tell([*group, *self._waiting], UnavailableError("nothing more is kept here"))
            self._waiting.clear()

    def _next(self) -> _Group[Item, Done]:
        group: _Group[Item, Done] = []
        while self._waiting and len(group) < self._group_max:
            one = self._waiting.popleft()
            if not one[1].done():  # who waited was cancelled
                group.append(one)
        return group

    async def _answer(self, group: _Group[Item, Done]) -> None:
        # a failure is handed on to who waits, and raised there
        (done,) = await asyncio.gather(
            self._do([item for item, _ in group]), return_exceptions=True
        )
        if isinstance(done, BaseException):
            if len(group) == 1 or isinstance(done, UnavailableError):
                _tell(group, done)
                return
            for one in group:
                await self._answer([one])
            return
        for (_, answer), result in zip(group, done, strict=True):
            if not answer.done():
                answer.set_result(result)


def _tell(group: _Group[Item, Done], error: BaseException) -> None:
    for _, answer in group:
        if not answer.done():
            answer.set_exception(error)
