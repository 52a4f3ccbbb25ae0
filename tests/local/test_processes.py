"""Lifelines, ports and the words for how a process ended."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import pytest

from server.local.ports import PortBusyError, free_port, is_free, require_free
from server.local.processes import (
    LIFELINE,
    Account,
    LocalServerError,
    cancel,
    end,
    exit_text,
    exited,
    keep_alive,
    spawn,
)
from tests.fakes.processes import until

ENV = {"PATH": os.defpath}
SLEEP = ["/bin/sleep", "60"]
BOTH = pytest.mark.parametrize("by_kernel", [True, False], ids=["kernel", "pipe"])


@BOTH
async def test_a_process_runs_and_ends_on_request(by_kernel: bool) -> None:
    process = spawn(SLEEP, env=ENV, by_kernel=by_kernel)
    assert not await exited(process, within_s=0.3)
    await end(process, patience_s=5)
    assert process.poll() is not None


@BOTH
async def test_its_exit_code_is_passed_on(by_kernel: bool) -> None:
    process = spawn(["/bin/sh", "-c", "exit 7"], env=ENV, by_kernel=by_kernel)
    assert await exited(process, within_s=5)
    assert process.returncode == 7
    await end(process, patience_s=0)


@BOTH
async def test_it_has_our_environment_folder_and_output(tmp_path: Path, by_kernel: bool) -> None:
    with (tmp_path / "out").open("wb") as output:
        process = spawn(
            ["/bin/sh", "-c", "pwd; echo $NAME; echo oops >&2; readlink /proc/self/fd/0"],
            env={**ENV, "NAME": "value"},
            cwd=tmp_path,
            output=output,
            by_kernel=by_kernel,
        )
    assert await exited(process, within_s=5)
    await end(process, patience_s=0)
    said = (tmp_path / "out").read_text(encoding="utf-8").split()
    assert said == [str(tmp_path), "value", "oops", "/dev/null"]


@BOTH
async def test_what_cannot_be_run_is_one_line(tmp_path: Path, by_kernel: bool) -> None:
    with (tmp_path / "out").open("wb") as output:
        process = spawn(["/no/such"], env=ENV, output=output, by_kernel=by_kernel)
    assert await exited(process, within_s=5)
    await end(process, patience_s=0)
    assert process.returncode == 127
    said = (tmp_path / "out").read_text(encoding="utf-8")
    assert said == "FATAL:  cannot run /no/such: No such file or directory\n"


async def test_the_death_of_the_parent_is_noticed_through_the_pipe(tmp_path: Path) -> None:
    file = tmp_path / "ended"
    script = f"trap 'echo asked > {file}; exit 0' INT; while :; do sleep 0.05; done"
    process = spawn(["/bin/sh", "-c", script], env=ENV, death_signal=SIGINT, by_kernel=False)
    assert not await exited(process, within_s=0.3)
    assert process.stdin is not None
    process.stdin.close()  # what the system does for a dead parent
    assert await exited(process, within_s=5)
    assert file.read_text(encoding="ascii") == "asked\n"


def test_a_parent_that_is_gone_already_is_noticed_too() -> None:
    stranger = str(os.getpid() + 1)
    command = [sys.executable, "-I", "-S", str(LIFELINE), "kernel", "15", stranger, "-", *SLEEP]
    begun = time.monotonic()
    assert subprocess.run(command, check=False).returncode == 128 + 15  # noqa: S603 - ours
    assert time.monotonic() - begun < 10


async def test_an_account_is_taken_on_or_refused_in_a_line(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as output:
        process = spawn(
            ["/usr/bin/id", "-u"], env=ENV, account=Account(65_534, 65_534), output=output
        )
    assert await exited(process, within_s=5)
    said = (tmp_path / "out").read_text(encoding="utf-8")
    if os.geteuid() == 0:
        assert (process.returncode, said) == (0, "65534\n")
    else:
        assert said == "FATAL:  cannot run /usr/bin/id: Operation not permitted\n"


async def test_end_kills_what_does_not_listen(tmp_path: Path) -> None:
    deaf = "trap '' TERM; : > \"$0\"; while :; do sleep 0.05; done"
    process = spawn(["/bin/sh", "-c", deaf, str(tmp_path / "deaf")], env=ENV)
    await until((tmp_path / "deaf").exists)
    await end(process, patience_s=0.2)
    assert process.returncode == -SIGKILL


async def test_keep_alive_tries_until_a_start_succeeds() -> None:
    said: list[str] = []
    process = spawn(["/bin/false"], env=ENV)
    starts, started = 0, asyncio.Event()

    async def start() -> None:
        nonlocal process, starts
        starts += 1
        if starts == 1:
            raise LocalServerError("no luck")
        process = spawn(SLEEP, env=ENV)
        started.set()

    keeper = asyncio.create_task(keep_alive("it", lambda: process, start, said.append))
    await asyncio.wait_for(started.wait(), 10)
    await cancel(keeper)
    await end(process, patience_s=5)
    assert said == ["it died (exit code 1): starting it again", "no luck; trying again"]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, "still running"),
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-SIGKILL, "killed by SIGKILL"),
        (-SIGTERM, "killed by SIGTERM"),
    ],
)
def test_exit_text(code: int | None, text: str) -> None:
    assert exit_text(code) == text


class TestPorts:
    """A busy port is one line that names the setting to change."""

    def test_a_free_one(self) -> None:
        port = free_port()
        assert is_free(port)
        require_free("127.0.0.1", port, "--port")

    def test_a_busy_one(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert not is_free(port)
            with pytest.raises(PortBusyError) as busy:
                require_free("127.0.0.1", port, "--port")
        assert str(busy.value) == (
            f"127.0.0.1:{port} is in use by another program: choose another with --port"
        )

    def test_one_that_was_left_a_moment_ago_is_free(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):
                server.accept()[0].close()  # leaves a connection in TIME_WAIT
        assert is_free(port)

    def test_an_address_of_another_machine(self) -> None:
        with pytest.raises(PortBusyError, match="is not an address of this machine"):
            require_free("192.0.2.1", 8000, "MALLWATT_HTTP")

    def test_a_name_that_is_none(self) -> None:
        with pytest.raises(PortBusyError, match="cannot be used"):
            require_free("no.such.host.invalid", 8000, "MALLWATT_HTTP")
