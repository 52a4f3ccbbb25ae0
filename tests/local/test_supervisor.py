"""The supervisor: roles come back within 5 s, and nothing outlives it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from server.local import supervisor as module
from server.local.supervisor import Child, Supervisor
from tests.fakes.processes import lives, until

SLEEPER = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
PARENT_OF_ONE = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(60)
"""
TALKER = """
import pathlib, sys, time
print("ready {}", flush=True)
print("trouble", file=sys.stderr, flush=True)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""
PRODUCT = """
import asyncio, os, sys
from server.local.supervisor import Child, Supervisor

async def main() -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    roles = Supervisor([Child("one", sleeper, os.environ), Child("two", sleeper, os.environ)])
    run = asyncio.create_task(roles.run())
    while roles.pid("one") is None or roles.pid("two") is None:
        await asyncio.sleep(0.01)
    print(roles.pid("one"), roles.pid("two"), flush=True)
    await run

asyncio.run(main())
"""


def child(code: str, *arguments: str, name: str = "role") -> Child:
    """A role that runs a piece of Python."""
    return Child(name, [sys.executable, "-c", code, *arguments], dict(os.environ))


@asynccontextmanager
async def running(roles: Supervisor) -> AsyncIterator[None]:
    """The supervisor at work; stopped at the end."""
    run = asyncio.create_task(roles.run())
    try:
        yield
    finally:
        roles.stop()
        await run


async def test_a_role_that_dies_is_back_within_five_seconds() -> None:
    said: list[str] = []
    roles = Supervisor([child(SLEEPER)], say=said.append)
    async with running(roles):
        await until(lambda: roles.pid("role"))
        first = roles.pid("role")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: roles.pid("role") not in {None, first}, within_s=5)
    assert said == ["role died (killed by SIGKILL): starting it again in 0.5 s"]


async def test_one_that_dies_young_waits_longer_but_never_more_than_the_promise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert max(module.PAUSES_S) < 5
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.02, 0.04))
    said: list[str] = []
    roles = Supervisor([child("raise SystemExit(3)")], say=said.append)
    async with running(roles):
        await until(lambda: len(said) >= 4)
    pauses = [line.removeprefix("role died (exit code 3): starting it again in ") for line in said]
    assert pauses[:4] == ["0.01 s", "0.02 s", "0.04 s", "0.04 s"]


@pytest.mark.parametrize(("mute", "shown"), [(True, ""), (False, "ready {}\n")])
async def test_what_a_role_prints_for_machines_is_not_shown_but_its_errors_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], mute: bool, shown: str
) -> None:
    roles = Supervisor([replace(child(TALKER, str(tmp_path / "talked")), mute=mute)])
    async with running(roles):
        await until((tmp_path / "talked").exists)
    said = capfd.readouterr()
    assert (said.out, said.err) == (shown, "trouble\n")


async def test_one_role_s_death_leaves_the_others_alone() -> None:
    roles = Supervisor([child(SLEEPER, name="a"), child(SLEEPER, name="b")])
    async with running(roles):
        await until(lambda: roles.pid("a") and roles.pid("b"))
        a, b = roles.pid("a"), roles.pid("b")
        assert a is not None
        os.kill(a, signal.SIGKILL)
        await until(lambda: roles.pid("a") not in {None, a})
        assert roles.pid("b") == b


async def test_what_a_dead_role_started_dies_with_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    roles = Supervisor([child(PARENT_OF_ONE, str(file))])
    async with running(roles):
        await until(lambda: file.exists() and file.read_text(encoding="ascii"))
        grandchild, role = int(file.read_text(encoding="ascii")), roles.pid("role")
        assert role is not None
        os.kill(role, signal.SIGKILL)
        await until(lambda: not lives(grandchild))


async def test_stop_ends_roles_and_what_they_started(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    roles = Supervisor([child(PARENT_OF_ONE, str(file)), child(SLEEPER, name="other")])
    async with running(roles):
        await until(lambda: file.exists() and file.read_text(encoding="ascii"))
    assert roles.pid("role") is None
    assert roles.pid("other") is None
    await until(lambda: not lives(int(file.read_text(encoding="ascii"))))


async def test_a_role_that_ignores_the_request_is_killed() -> None:
    roles = Supervisor([child(STUBBORN)], stop_s=0.3)
    async with running(roles):
        await until(lambda: roles.pid("role"))
        await asyncio.sleep(0.3)  # it installs its handler first
    assert roles.pid("role") is None


async def test_a_second_request_is_impatient() -> None:
    roles = Supervisor([child(STUBBORN)], stop_s=60)
    run = asyncio.create_task(roles.run())
    await until(lambda: roles.pid("role"))
    await asyncio.sleep(0.3)
    roles.stop()
    await asyncio.sleep(0.1)
    begun = time.monotonic()
    roles.stop()
    await run
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signals_end_everything(number: signal.Signals) -> None:
    parent, pids = await start_product()
    parent.send_signal(number)
    assert await asyncio.to_thread(parent.wait, 10) == 0
    assert not any(map(lives, pids))


async def test_ctrl_c_reaches_the_roles_once_through_us() -> None:
    parent, pids = await start_product()
    groups = {os.getpgid(pid) for pid in pids}
    assert groups == set(pids), "each role leads a group that the terminal does not signal"
    parent.send_signal(signal.SIGINT)
    await asyncio.to_thread(parent.wait, 10)


async def test_roles_end_with_a_killed_supervisor() -> None:
    parent, pids = await start_product()
    parent.kill()
    parent.wait()
    await until(lambda: not any(map(lives, pids)))


async def start_product() -> tuple[subprocess.Popen[bytes], list[int]]:
    """A process that supervises two roles, and their process ids."""
    parent = _popen([sys.executable, "-c", PRODUCT])
    assert parent.stdout is not None
    line = await asyncio.to_thread(parent.stdout.readline)
    parent.stdout.close()
    pids = [int(word) for word in line.split()]
    assert len(pids) == 2
    assert all(map(lives, pids))
    return parent, pids


def _popen(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - the text above
