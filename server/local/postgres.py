"""A PostgreSQL of one's own: made, started, kept alive and stopped beside the product."""

import asyncio
import contextlib
import os
import secrets
import time
from itertools import chain
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT
from typing import Self

import asyncpg

from server.local.embedded import EmbeddedServer
from server.local.ports import LOOPBACK, free_port, is_free
from server.local.postgres_folder import PASSWORD_FOR_INITDB, PostgresFolder
from server.local.postgres_programs import Programs, find_programs
from server.local.processes import (
    LocalServerError,
    Say,
    cancel,
    end,
    exited,
    keep_alive,
    say_nothing,
    signal_group,
    spawn,
)

SUPERUSER = "mallwatt"
DATABASE = "mallwatt"
INITDB_S = 120
START_S = 180  # recovery after a crash may take a while
STOP_S = 30
TELL_EVERY_S = 5
POLL_S = 0.05
CONNECT_S = 5
PORTS_TRIED = 4
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
}


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL in `data_dir`, for as long as the `async with` lasts; a death is repaired.

    Enter it in the main thread. Raises LocalServerError with one line that says why.
    """

    name = "PostgreSQL"

    def __init__(self, data_dir: Path, *, say: Say = say_nothing) -> None:
        super().__init__()
        self._folder = PostgresFolder(data_dir.absolute() / "postgres")
        self._say = say
        self._programs = Programs(Path(), "")
        self._password = ""
        self._port = 0

    @property
    def url(self) -> str:
        """Where the product's database is, with its password."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Where another database of the same server is, or would be."""
        return f"postgres://{SUPERUSER}:{self._password}@{LOOPBACK}:{self._port}/{database}"

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self._folder.make()
            stack.enter_context(self._folder.lock())
            self._programs = await asyncio.to_thread(find_programs)
            await self._end_orphan()
            await self._have_cluster()
            stack.push_async_callback(self._stop)
            await self._start_somewhere()
            await self._have_database()
            keeper = keep_alive("PostgreSQL", lambda: self._running, self._start_again, self._say)
            stack.push_async_callback(cancel, asyncio.create_task(keeper))
            self._stack = stack.pop_all()
        return self

    async def _end_orphan(self) -> None:
        """Stop a server that outlived its parent; ours must be our own child."""
        pid = self._folder.orphan()
        if pid is None:
            return
        self._say(f"PostgreSQL still runs from an earlier start (process {pid}): stopping it")
        for number in (SIGINT, SIGQUIT, SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            limit = time.monotonic() + STOP_S
            while time.monotonic() < limit:
                if self._folder.orphan() != pid:
                    return
                await asyncio.sleep(POLL_S)
        raise LocalServerError(f"PostgreSQL process {pid} of an earlier start does not end")

    async def _have_cluster(self) -> None:
        """Make the data folder unless there is one; a half-made one does not count."""
        exists = self._folder.check_version(self._programs.major)
        password = self._folder.read("password")
        if exists and password is None:
            raise LocalServerError(
                f"{self._folder.home / 'password'} is missing: put it back (the data need it)"
            )
        if password is None:
            password = secrets.token_urlsafe(24)
            self._folder.write("password", password)
        self._password = password
        if not exists:
            self._say("PostgreSQL: making a new database")
            await self._make_cluster()

    async def _make_cluster(self) -> None:
        folder = self._folder
        command = [
            self._programs.path("initdb"),
            *("-D", folder.data_path(folder.draft), "-U", SUPERUSER, "--encoding=UTF8"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *("--auth=scram-sha-256", f"--pwfile=../{PASSWORD_FOR_INITDB}"),
        ]
        try:
            folder.make_draft(self._password, self._programs.account)
            since = self._spawn(command, folder.draft)
            if not await exited(self._running, INITDB_S):
                await end(self._running, patience_s=0)
            if self._running.returncode != 0:
                raise LocalServerError(f"PostgreSQL cannot be set up: {folder.reason(since)}")
            folder.accept_draft()
        except OSError as error:
            raise LocalServerError(f"PostgreSQL cannot be set up: {error}") from error
        finally:
            folder.forget_draft()

    def _spawn(self, command: list[str], cwd: Path) -> int:
        """Start one of the programs; where its words begin in the log."""
        with self._folder.open_log() as log:
            since = log.tell()
            self._process = spawn(
                command,
                env={"LC_ALL": "C", "PATH": os.defpath},
                cwd=cwd,
                account=self._folder.owner(self._programs.account),
                output=log,
                death_signal=SIGINT,
            )
        return since

    async def _start_somewhere(self) -> None:
        """Start on the port of last time, or on another where that is taken."""
        last = int(self._folder.read("port") or 0)
        first = last if last and is_free(last) else free_port()
        for port in chain([first], (free_port() for _ in range(PORTS_TRIED - 1))):
            try:
                await self._start(port)
            except _PortTakenError:
                continue
            self._folder.write("port", str(port))
            return
        raise LocalServerError("PostgreSQL found no free port on the loopback address")

    async def _start(self, port: int) -> None:
        """Start the server and wait until it serves."""
        cluster = self._folder.cluster
        settings = {**SETTINGS, "port": str(port)}
        command = [self._programs.path("postgres"), "-D", self._folder.data_path(cluster)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._port = port
        since = self._spawn(command, cluster)
        begun = told = time.monotonic()
        while not await self._answers():
            now = time.monotonic()
            if self._running.poll() is not None:
                raise self._failure(since)
            if now - begun > START_S:
                await self._stop()
                raise LocalServerError(f"PostgreSQL does not answer within {START_S} s")
            if now - told > TELL_EVERY_S:
                told = now
                self._say(f"PostgreSQL is still starting ({now - begun:.0f} s)")
            await asyncio.sleep(POLL_S)

    def _failure(self, since: int) -> LocalServerError:
        reason = self._folder.reason(since)
        if "TCP/IP socket" in reason:
            return _PortTakenError(reason)
        return LocalServerError(
            f"PostgreSQL does not start: {reason} (see {self._folder.home / 'log'})"
        )

    async def _answers(self) -> bool:
        """Whether our server answers; nobody else knows the password."""
        try:
            connection = await self._connect()
        except (OSError, TimeoutError, asyncpg.PostgresConnectionError):
            return False
        except asyncpg.CannotConnectNowError:
            return False  # it is recovering
        except asyncpg.InvalidAuthorizationSpecificationError as error:
            raise LocalServerError(
                f"PostgreSQL refuses the password in {self._folder.home / 'password'}"
            ) from error
        await connection.close()
        return True

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        url = self.url_of("postgres")
        return await asyncpg.connect(url, ssl=False, timeout=CONNECT_S)

    async def _have_database(self) -> None:
        connection = await self._connect()
        try:
            found = "SELECT 1 FROM pg_database WHERE datname = $1"
            if await connection.fetchval(found, DATABASE) is None:
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    async def _start_again(self) -> None:
        await self._start(self._port)

    async def _stop(self) -> None:
        """Fast shutdown; a server that takes too long is made to recover next time."""
        process = self._running
        if process.poll() is None:
            signal_group(process, SIGINT)
            if not await exited(process, STOP_S):
                self._say(f"PostgreSQL does not stop within {STOP_S} s: it is killed")
        await end(process, first=SIGQUIT, patience_s=5)


class _PortTakenError(LocalServerError):
    """Somebody took the port between our look and PostgreSQL's."""
