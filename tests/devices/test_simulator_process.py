"""The simulator as a process: ready line, clean end, a kill, and errors that name their cause."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from server.core.errors import InvalidInputError
from server.devices.simulator.config import read_config


def document(folder: Path, **changes: object) -> dict[str, object]:
    meter = {
        "code": "M-1",
        "profile": "example/demo-relay",
        "unit": 1,
        "start_wh": 5_000,
        "loads": [{"trade": "seafood", "seed": 1, "scale": 100_000}],  # 1.6 MW: moves at once
    }
    gateway = {"code": "gw", "mode": "modbus-tcp", "listen": "127.0.0.1:0", "meters": [meter]}
    return {"gateways": [gateway], "state": str(folder / "state"), **changes}


@asynccontextmanager
async def process(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A running simulator and its port."""
    path = folder / "simulator.json"
    path.write_text(json.dumps(document(folder)))
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.devices.simulator", str(path), stdout=asyncio.subprocess.PIPE
    )
    assert running.stdout is not None
    try:
        word, _, ready = (await asyncio.wait_for(running.stdout.readline(), 10)).partition(b" ")
        assert word == b"ready"
        yield running, json.loads(ready)["gateways"]["gw"]
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def read_register(port: int) -> int:
    client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=2, retries=0, reconnect_delay=0)
    assert await client.connect()
    high, low = (await client.read_holding_registers(0, count=2, device_id=1)).registers
    client.close()
    return high << 16 | low


async def test_a_killed_process_goes_on_where_it_was_seen(tmp_path: Path) -> None:
    async with process(tmp_path) as (running, port):
        await asyncio.sleep(0.1)
        seen = await read_register(port)
        running.kill()
        await running.wait()
    assert seen > 500
    await asyncio.sleep(0.3)  # at 1.6 MW that would be 13 hundredths of a kWh
    kept = json.loads((tmp_path / "state" / "M-1.json").read_bytes())
    assert kept["total_watt_us"] // 36_000_000_000 == seen
    async with process(tmp_path) as (_, port):
        assert await read_register(port) >= seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_at_once_and_cleanly(tmp_path: Path, number: int) -> None:
    async with process(tmp_path) as (running, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)  # a link holds up nothing
        running.send_signal(number)
        assert await asyncio.wait_for(running.wait(), 2) == 0
        writer.close()


async def run_to_the_end(*arguments: str) -> tuple[int | None, str]:
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "server.devices.simulator",
        *arguments,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(running.communicate(), 10)
    return running.returncode, said.decode()


async def test_a_busy_port_is_one_line(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    described = document(tmp_path)
    described["gateways"][0]["listen"] = f"127.0.0.1:{port}"  # type: ignore[index] # plain JSON
    (tmp_path / "c.json").write_text(json.dumps(described))
    code, said = await run_to_the_end(str(tmp_path / "c.json"))
    server.close()
    assert code == 1
    assert said.count("\n") == 1
    assert str(port) in said


@pytest.mark.parametrize(("arguments", "code"), [((), 2), (("no-such-file.json",), 1)])
async def test_without_a_configuration_it_says_so(arguments: tuple[str, ...], code: int) -> None:
    returned, said = await run_to_the_end(*arguments)
    assert (returned, said.count("\n")) == (code, 1)


def broken(folder: Path, where: str, value: object) -> bytes:
    """The document with one value elsewhere: "gateways.0.meters.0.unit"."""
    described = json.loads(json.dumps(document(folder)))
    *path, last = where.split(".")
    place = described
    for step in path:
        place = place[int(step)] if step.isdigit() else place[step]
    place[last] = value
    return json.dumps(described).encode()


METER = "gateways.0.meters.0"


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("timezone", "Mars/Olympus", "Mars/Olympus"),
        ("control", "0.0.0.0:0", "loopback"),
        ("colour", 1, "colour"),
        ("gateways", [], "gateways"),
        ("gateways.0.mode", "pigeon", "pigeon"),
        ("gateways.0.listen", "nowhere", "listen"),
        ("gateways.0.meters", [], "meters"),
        (f"{METER}.unit", 300, "unit"),
        (f"{METER}.unit", None, "M-1 needs a unit"),
        (f"{METER}.code", "../M", "code"),
        (f"{METER}.profile", "standard/dlt645-2007-relay", "M-1"),
        (f"{METER}.profile", "acme/none", "acme"),
        (f"{METER}.feeds", ["M-9"], "M-9"),
        (f"{METER}.feeds", ["M-1"], "another feeder"),
        (f"{METER}.start_wh", -1, "start_wh"),
        (f"{METER}.loads", [{"trade": "casino", "seed": 1}], "casino"),
    ],
)
def test_a_bad_configuration_names_its_error(
    tmp_path: Path, where: str, value: object, says: str
) -> None:
    with pytest.raises(InvalidInputError, match=says):
        read_config(broken(tmp_path, where, value))


def test_all_errors_between_the_parts_are_named_at_once(tmp_path: Path) -> None:
    described = json.loads(json.dumps(document(tmp_path, timezone="Mars/Olympus")))
    described["gateways"] *= 2
    with pytest.raises(InvalidInputError) as caught:
        read_config(json.dumps(described).encode())
    for says in ("Mars/Olympus", "gateway gw twice", "meter M-1 twice"):
        assert says in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[]", b" " * (8 * 1024 * 1024 + 1)])
def test_what_is_no_configuration_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        read_config(raw)
