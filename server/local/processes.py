"""Child processes that end with us, however we end."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import IO, Literal

from server.core.errors import MallwattError

LIFELINE = Path(__file__).with_name("lifeline.py")
POLL_S = 0.02
PAUSES_S = (0.2, 0.5, 1, 2, 4)  # before each new start; all within the promised 5 s

Say = Callable[[str], None]
ErrorsOnly = Literal["errors only"]  # these go where ours do; what it prints is for machines


class LocalServerError(MallwattError):
    """A local server or port cannot be had; the text is one line for a person."""

    code = "local_server"


def say_nothing(_line: str) -> None:
    """The listener of whoever does not want to hear."""


@dataclass(frozen=True, slots=True)
class Account:
    """The system account that a child runs as."""

    uid: int
    gid: int


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    account: Account | None = None,
    output: IO[bytes] | ErrorsOnly | None = None,
    death_signal: Signals = SIGTERM,
    by_kernel: bool = sys.platform == "linux",
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own; it gets `death_signal` when this process dies.

    The kernel ties it to the *thread* that calls this, so that must be the main one. Without
    `output` it writes where we write. `command[0]` is a path.
    """
    who = f"{account.uid}:{account.gid}" if account else "-"
    mode = "kernel" if by_kernel else "pipe"
    prefix = [sys.executable, "-I", "-S", str(LIFELINE), mode, str(int(death_signal))]
    return subprocess.Popen(  # noqa: S603 - our own commands, no shell
        [*prefix, str(os.getpid()), who, *command],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL if by_kernel else subprocess.PIPE,
        stdout=subprocess.DEVNULL if output == "errors only" else output,
        stderr=None if output == "errors only" else output,
        process_group=0,
    )


async def exited(process: subprocess.Popen[bytes], within_s: float | None = None) -> bool:
    """Wait until the process has ended; False when it has not `within_s` seconds."""
    limit = None if within_s is None else time.monotonic() + within_s
    while process.poll() is None:
        if limit is not None and time.monotonic() >= limit:
            return False
        await asyncio.sleep(POLL_S)
    return True


def signal_group(process: subprocess.Popen[bytes], number: Signals) -> None:
    """Send a signal to the process and what it started; no error where all have ended."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        if process.poll() is None:
            process.send_signal(number)


async def end(
    process: subprocess.Popen[bytes], *, first: Signals = SIGTERM, patience_s: float
) -> None:
    """Ask the process to end, wait, then kill what is left of its group."""
    if process.poll() is None:
        signal_group(process, first)
        await exited(process, patience_s)
    signal_group(process, SIGKILL)
    await exited(process, within_s=10)
    if process.stdin is not None:
        process.stdin.close()


async def keep_alive(
    name: str,
    current: Callable[[], subprocess.Popen[bytes]],
    start: Callable[[], Awaitable[None]],
    say: Say,
) -> None:
    """Start a server again whenever it has died; runs until it is cancelled."""
    while True:
        await exited(current())
        say(f"{name} died ({exit_text(current().returncode)}): starting it again")
        for pause_s in chain(PAUSES_S, repeat(PAUSES_S[-1])):
            await asyncio.sleep(pause_s)
            try:
                await start()
            except LocalServerError as error:
                say(f"{error}; trying again")
            else:
                break


async def cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has gone."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def exit_text(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "still running"
    if code < 0:
        return f"killed by {Signals(-code).name}"
    return f"exit code {code}"
