"""Every meter of the demo, read and switched by the product's own links, protocols and profiles."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.core.supply.control_state import ControlState
from server.devices.bus import Bus
from server.devices.gateway import open_bus
from server.devices.links.dtu import DtuListener
from server.devices.samples import MeterSample
from server.devices.simulator.bank import MeterBank
from server.devices.simulator.config import read_config
from server.devices.targets import GatewayConfig, MeterTarget
from server.local.demo.blueprint import Gateway, Meter
from server.local.demo.history import history_start, registers_at
from server.local.demo.mall import DEMO
from server.local.demo.simulators import SimulatorPlaces, simulator_configs
from tests.fakes.profiles import shipped_profiles

PROFILES = shipped_profiles()
NOW = datetime(2026, 6, 18, 6, 37, 12, tzinfo=UTC)
# The same wires, a hundred times faster: the test proves what is said, not how long it takes.
FAST = replace(
    DEMO,
    gateways=tuple(replace(g, baud=g.baud and 960_000, turnaround_ms=0) for g in DEMO.gateways),
)


@pytest.fixture(scope="module")
def registers_wh() -> dict[str, int]:
    return registers_at(DEMO, history_start(DEMO, NOW), NOW)


@pytest.fixture
async def listener() -> AsyncIterator[DtuListener]:
    listener = DtuListener("127.0.0.1", 0)
    await listener.start()
    yield listener
    await listener.aclose()


def bank_of(gateway: Gateway, registers: dict[str, int], dtu_port: int, folder: Path) -> MeterBank:
    dial = f"127.0.0.1:{dtu_port}" if gateway.link == "dtu" else "127.0.0.1:0"
    codes = [g.code for g in FAST.gateways]
    places = SimulatorPlaces(
        addresses=dict.fromkeys(codes, dial),
        state_folders={code: str(folder / code) for code in codes},
    )
    raw = json.dumps(simulator_configs(FAST, registers, places)[gateway.code]).encode()
    return MeterBank(read_config(raw))


def bus_of(gateway: Gateway, port: int | None, listener: DtuListener) -> Bus:
    config = GatewayConfig(
        gateway.code,
        gateway.link,
        address=None if port is None else f"127.0.0.1:{port}",
        registration=(gateway.registration or "").encode() or None,
        heartbeat=(gateway.heartbeat or "").encode() or None,
        allow_from=gateway.allow_from,
        baud=gateway.baud,
        serial_format=gateway.serial_format or "8N1",
        turnaround_ms=0,
    )
    return open_bus(config, dtu_listener=listener)


def target_of(meter: Meter) -> MeterTarget:
    unit = meter.place if isinstance(meter.place, int) else None
    address = meter.place if isinstance(meter.place, str) else None
    return MeterTarget(meter.code, PROFILES[meter.profile], unit=unit, address=address)


async def agree(_sample: MeterSample) -> bool:
    return True


@pytest.mark.parametrize("gateway", FAST.gateways, ids=lambda gateway: gateway.code)
async def test_the_product_reads_and_switches_what_is_simulated(
    gateway: Gateway, registers_wh: dict[str, int], listener: DtuListener, tmp_path: Path
) -> None:
    bank = bank_of(gateway, registers_wh, listener.port, tmp_path)
    meters = [meter for meter in FAST.meters if meter.gateway == gateway.code]
    dtu = gateway.link == "dtu"
    bus = bus_of(gateway, None, listener) if dtu else None
    if bus is not None:
        await bus.start()
    async with bank:
        if bus is None:
            bus = bus_of(gateway, bank.ports[gateway.code], listener)
            await bus.start()
        async with asyncio.timeout(5):
            while not bus.connected:  # noqa: ASYNC110 - a link has no event to wait for
                await asyncio.sleep(0.01)
        for meter in meters:
            sample = await bus.read(target_of(meter), deadline_s=2)
            assert 0 <= sample.register_wh - registers_wh[meter.code] // 10 * 10 <= 100
            assert sample.control_state is ControlState.CONNECTED
        for wanted in (ControlState.DISCONNECTED, ControlState.CONNECTED):
            outcome = await bus.control(target_of(meters[0]), wanted, authorise=agree, deadline_s=2)
            assert outcome.control_state is wanted
            simulated = bank.meters[meters[0].code]
            assert simulated.contact_connected == (wanted is ControlState.CONNECTED)
        await bus.aclose()
