import asyncio
import os
from collections.abc import Iterator

import pytest

from server.devices.errors import LinkDownError, MisconfiguredError
from server.devices.gateway import GatewayConfig, MeterTarget, open_bus
from server.devices.links.serial_port import parse_serial_format
from server.devices.profiles.profile import Profile
from tests.devices.fakes import DemoMeter, rtu_bus, until

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def wire() -> Iterator[tuple[int, str]]:
    """A pseudo terminal: the meter's end, and the name of the port that we open."""
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    yield ours, os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


async def test_a_meter_on_a_serial_port_is_read(
    wire: tuple[int, str], demo_profile: Profile
) -> None:
    end, name = wire
    bank, loop = rtu_bus({1: DemoMeter()}), asyncio.get_running_loop()

    def answer() -> None:
        for said in bank(os.read(end, 512)):
            assert isinstance(said, bytes)
            os.write(end, said)

    loop.add_reader(end, answer)
    bus = open_bus(
        GatewayConfig("gw", "serial", name, baud=115_200, turnaround_ms=0), dtu_listener=None
    )
    await bus.start()
    await until(lambda: bus.connected)
    sample = await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=2)
    assert (sample.register_wh, sample.identity) == (123_450, "7001")
    await bus.aclose()
    loop.remove_reader(end)


async def test_a_port_that_is_not_there_is_a_link_that_is_down(demo_profile: Profile) -> None:
    bus = open_bus(GatewayConfig("gw", "serial", "/dev/no-such-port"), dtu_listener=None)
    await bus.start()
    with pytest.raises(LinkDownError, match="no-such-port"):
        await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=2)
    await bus.aclose()


@pytest.mark.parametrize(
    ("text", "expected"), [("8N1", (8, "N", 1)), ("8E1", (8, "E", 1)), ("7O2", (7, "O", 2))]
)
def test_serial_formats(text: str, expected: tuple[int, str, int]) -> None:
    assert parse_serial_format(text) == expected


@pytest.mark.parametrize("text", ["", "8N", "8X1", "9N1", "8N3", "8N11"])
def test_bad_serial_formats(text: str) -> None:
    with pytest.raises(MisconfiguredError):
        parse_serial_format(text)
