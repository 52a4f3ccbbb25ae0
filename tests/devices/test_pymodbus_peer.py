"""The other end is pymodbus's own server: code that is not ours."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from server.core.supply.control_state import ControlState
from server.devices.gateway import GatewayConfig, MeterTarget, open_bus
from server.devices.profiles.profile import Profile
from server.devices.samples import MeterSample


def device() -> SimDevice:
    """The map of example/demo-relay, and nothing around it."""
    power = struct.unpack(">HH", struct.pack(">f", 2_345.5))
    return SimDevice(
        id=3,
        simdata=(
            [SimData(0, values=True, datatype=DataType.BITS)],
            [SimData(0, values=False, datatype=DataType.BITS)],
            [
                SimData(0, values=[1, 57_920], datatype=DataType.REGISTERS),
                SimData(0xF010, values=[0, 4_711], datatype=DataType.REGISTERS),
            ],
            [SimData(0x0C, values=list(power), datatype=DataType.REGISTERS)],
        ),
    )


@asynccontextmanager
async def served(framer: FramerType) -> AsyncIterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ModbusTcpServer(device(), framer=framer, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    yield f"127.0.0.1:{port}"
    await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it untyped


@pytest.mark.parametrize(
    ("framer", "link"), [(FramerType.SOCKET, "modbus-tcp"), (FramerType.RTU, "rtu-over-tcp")]
)
async def test_a_pymodbus_server_is_read_and_controlled(
    framer: FramerType, link: str, demo_profile: Profile
) -> None:
    async def agree(_: MeterSample) -> bool:
        return True

    async with served(framer) as address:
        bus = open_bus(GatewayConfig("gw", link, address), dtu_listener=None)
        await bus.start()
        target = MeterTarget("M", demo_profile, unit=3, identity="4711")
        sample = await bus.read(target, deadline_s=5)
        assert sample.register_wh == 1_234_560
        assert str(sample.points["power_total"].value) == "2.3455"
        for wanted in (ControlState.DISCONNECTED, ControlState.CONNECTED):
            outcome = await bus.control(target, wanted, authorise=agree, deadline_s=5)
            assert (outcome.answered, outcome.control_state) == (True, wanted)
        assert bus.stats.strays.total() == 0
        await bus.aclose()
        await asyncio.sleep(0)
