"""What the embedded servers share: one process of ours, for as long as an `async with` lasts."""

import contextlib
import subprocess
from types import TracebackType

from server.local.processes import LocalServerError


class EmbeddedServer:
    """A server's process; `_stack` holds what has to be undone at the end."""

    name: str

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise LocalServerError(f"{self.name} was not started")
        return self._process
