"""Keeps the roles of `mallwatt run` running, and ends them all with it."""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM

from server.local.processes import Say, end, exit_text, exited, say_nothing, signal_group, spawn

PAUSES_S = (0.5, 1, 2, 4)  # before each new start: a role is back within 5 s
STABLE_S = 30  # who lived this long starts again without a pause
STOP_S = 10


@dataclass(frozen=True, slots=True)
class Child:
    """A role: its name in messages, its command (a path first) and its whole environment.

    `mute`: what it prints is for machines and not shown; its errors are.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    mute: bool = False


class Supervisor:
    """Runs children until a signal or `stop`; one that dies is started again.

    The first SIGINT, SIGTERM or SIGHUP asks the children to end and waits `stop_s`; the second
    kills them. Each child leads a process group, which is killed as a whole in the end.
    """

    def __init__(
        self, children: Sequence[Child], *, say: Say = say_nothing, stop_s: float = STOP_S
    ) -> None:
        self._children = tuple(children)
        self._say = say
        self._stop_s = stop_s
        self._stopping = asyncio.Event()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def stop(self) -> None:
        """End the run; a second call is impatient."""
        if self._stopping.is_set():
            for process in self._processes.values():
                signal_group(process, SIGKILL)
        self._stopping.set()

    def pid(self, name: str) -> int | None:
        """The process id of a child while it runs."""
        process = self._processes.get(name)
        return process.pid if process is not None and process.poll() is None else None

    async def run(self) -> None:
        """Run the children until stopped; when it returns none is left. Main thread only."""
        with self._signals():
            keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
            try:
                stopped = asyncio.create_task(self._stopping.wait())
                await asyncio.wait([stopped, *keepers], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (stopped, *keepers):
                    task.cancel()
                results = await asyncio.gather(*keepers, return_exceptions=True)
                await self._end_all()
            for result in results:
                if isinstance(result, Exception):  # a keeper never ends by itself
                    raise result

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (SIGINT, SIGTERM, SIGHUP):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (SIGINT, SIGTERM, SIGHUP):
                loop.remove_signal_handler(number)

    async def _keep(self, child: Child) -> None:
        """Start a child again and again, a little later each time it dies young."""
        deaths = 0
        while True:
            begun = time.monotonic()
            process = spawn(child.argv, env=child.env, output="errors only" if child.mute else None)
            self._processes[child.name] = process
            await exited(process)
            signal_group(process, SIGKILL)  # what it left behind would hold its ports
            deaths = 0 if time.monotonic() - begun > STABLE_S else deaths
            pause_s = PAUSES_S[min(deaths, len(PAUSES_S) - 1)]
            deaths += 1
            how = exit_text(process.returncode)
            self._say(f"{child.name} died ({how}): starting it again in {pause_s} s")
            await asyncio.sleep(pause_s)

    async def _end_all(self) -> None:
        """End every child at once: none waits for another's patience."""
        patience = [end(p, patience_s=self._stop_s) for p in self._processes.values()]
        await asyncio.gather(*patience)
