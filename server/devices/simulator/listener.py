"""A listening socket with a limited number of links, all of which end with it."""

import asyncio
from collections.abc import Awaitable, Callable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Serves each link in a task of its own; the link is cut when `serve` returns."""

    def __init__(self, host: str, port: int, serve: Serve, *, links_max: int) -> None:
        self._host = host
        self._serve = serve
        self._links_max = links_max
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.port = port

    @property
    def link_count(self) -> int:
        """How many links are open now."""
        return len(self._links)

    async def start(self) -> None:
        """Listens, again on the same port after a stop; raises OSError."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self._host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cuts every link and listens no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = tuple(self._links)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def drop_links(self) -> None:
        """Cuts every link."""
        for writer in self._links.values():
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._links) >= self._links_max:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._run(reader, writer))
        self._links[task] = writer
        task.add_done_callback(self._links.pop)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        finally:
            writer.transport.abort()
