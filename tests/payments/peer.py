"""A small HTTP server for tests: it keeps what it gets and answers what it was told."""

import asyncio
import contextlib
from dataclasses import dataclass, field


@dataclass
class Received:
    """One HTTP request as it came; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Peer:
    """A small HTTP server: keeps what it gets, answers from a script, then with the last one."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    script: list[bytes] = field(default_factory=list)
    pages: dict[str, bytes] = field(default_factory=dict)  # path -> what it always answers
    hold_s: float = 0.0  # after an answer, before hanging up
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def answers(self, *answers: bytes) -> None:
        """The whole answers (status line, headers, body) to give, in order."""
        self.script = list(answers)

    async def wait_for(self, count: int, timeout_s: float = 5.0) -> list[Received]:
        """Everything received, once there is that much."""
        async with asyncio.timeout(timeout_s), self.arrived:
            await self.arrived.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        pairs = (line.partition(": ") for line in head[1:] if line)
        headers = {name.lower(): value for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        answer = self.pages.get(target.partition("?")[0], b"") or self._next()
        async with self.arrived:
            self.received.append(Received(method, target, headers, body))
            self.arrived.notify_all()
        writer.write(answer)
        with contextlib.suppress(ConnectionError):  # the client may have had enough
            await writer.drain()
        await asyncio.sleep(self.hold_s)
        writer.close()

    def _next(self) -> bytes:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


def http_answer(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """An answer as it goes over the wire."""
    lines = [f"HTTP/1.1 {status} X", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if status != 204:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
