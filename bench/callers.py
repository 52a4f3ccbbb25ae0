"""The platforms as a crowd: a process that posts requests made beforehand, over kept connections.

`python -m bench.callers FILE PORT CONNECTIONS [A_SECOND]` reads requests (msgpack) and prints what
it saw (JSON). With a pace each is sent at its time, else as soon as its connection is free.
"""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from pathlib import Path
from typing import cast

import msgspec
import uvloop


class Seen(msgspec.Struct):
    """When each request was sent (seconds of the machine's clock), how long it took, its status."""

    seconds: float
    statuses: dict[int, int]
    sent_at: list[float]
    took_s: list[float]

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return len(self.took_s) / self.seconds


class _Line(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    async def ask(self, request: bytes) -> int:
        """The status of the answer."""
        assert self._transport is not None  # noqa: S101  connected before it is used
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        _, named, rest = head.lower().partition(b"content-length: ")
        length = int(rest.partition(b"\r\n")[0]) if named else 0
        if len(body) >= length and self._answer is not None:
            self._buffer = body[length:]
            self._answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed by the server"))


async def post_all(requests: list[bytes], port: int, lines: int, a_second: float) -> Seen:
    """Post each request once; 0 a second: as fast as answers come."""
    loop = asyncio.get_running_loop()
    waiting = iter(enumerate(requests))
    seen = Seen(0, {}, [0.0] * len(requests), [0.0] * len(requests))
    statuses: Counter[int] = Counter()
    begun = time.monotonic()

    async def talk() -> None:
        _, line = await loop.create_connection(_Line, "127.0.0.1", port)
        for place, request in waiting:
            if a_second:
                await asyncio.sleep(max(0.0, begun + place / a_second - time.monotonic()))
            seen.sent_at[place] = time.monotonic()
            statuses[await line.ask(request)] += 1
            seen.took_s[place] = time.monotonic() - seen.sent_at[place]

    await asyncio.gather(*(talk() for _ in range(lines)))
    seen.seconds = time.monotonic() - begun
    seen.statuses = dict(statuses)
    return seen


async def call(
    folder: Path, requests: list[bytes], port: int, *, lines: int, a_second: float = 0
) -> Seen:
    """The same in a process of its own."""
    file = folder / "requests"
    file.write_bytes(msgspec.msgpack.encode(requests))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.callers", str(file), str(port), str(lines), str(a_second)),
        stdout=PIPE,
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the callers ended with {process.returncode}")
    return msgspec.json.decode(said, type=Seen)


def main(file: str, port: str, lines: str, a_second: str = "0") -> None:
    """As the command does it."""
    requests = msgspec.msgpack.decode(Path(file).read_bytes(), type=list[bytes])
    seen = uvloop.run(post_all(requests, int(port), int(lines), float(a_second)))
    sys.stdout.buffer.write(msgspec.json.encode(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
