import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from server.core.supply.control_state import ControlState
from server.devices.bus import Bus
from server.devices.errors import (
    ControlRefusedError,
    DeadlineError,
    DeviceError,
    IdentityChangedError,
    LinkDownError,
)
from server.devices.gateway import GatewayConfig, MeterTarget, open_bus
from server.devices.profiles.profile import Profile
from server.devices.samples import MeterSample
from tests.devices.fakes import DemoMeter, FakeGateway, Said, Script, dlt645, rtu, rtu_bus, until
from tests.fakes.profiles import shipped_profiles

pytestmark = pytest.mark.usefixtures("impatient")

CONNECTED, DISCONNECTED = ControlState.CONNECTED, ControlState.DISCONNECTED
READY = ControlState.READY_FOR_RECONNECTION


@asynccontextmanager
async def bus_to(script: Script) -> AsyncIterator[tuple[Bus, FakeGateway]]:
    """A bus at a speed at which the wire does not matter."""
    async with FakeGateway(script) as gateway:
        config = GatewayConfig("gw", "rtu-over-tcp", gateway.address, baud=115_200, turnaround_ms=0)
        bus = open_bus(config, dtu_listener=None)
        await bus.start()
        yield bus, gateway
        await bus.aclose()


async def agree(_: MeterSample) -> bool:
    return True


@pytest.fixture
def target(demo_profile: Profile) -> MeterTarget:
    return MeterTarget("M", demo_profile, unit=1, identity="7001")


@pytest.mark.parametrize("wanted", [DISCONNECTED, CONNECTED])
async def test_a_control_ends_with_the_read_back(wanted: ControlState, target: MeterTarget) -> None:
    meter = DemoMeter(connected=wanted is DISCONNECTED)
    async with bus_to(rtu_bus({1: meter})) as (bus, _):
        outcome = await bus.control(target, wanted, authorise=agree, deadline_s=5)
    assert (outcome.answered, outcome.control_state, outcome.authorised) == (True, wanted, True)
    assert outcome.sample.register_wh == 123_450
    assert meter.connected == (wanted is CONNECTED)
    assert [pdu[0] for pdu in meter.requests] == [
        3,
        3,
        1,
        5,
        1,
    ]  # who, how much, state; write; look


async def test_the_caller_decides_on_the_fresh_sample_and_may_say_no(target: MeterTarget) -> None:
    meter, seen = DemoMeter(), list[MeterSample]()

    async def refuse(sample: MeterSample) -> bool:
        seen.append(sample)
        return False

    async with bus_to(rtu_bus({1: meter})) as (bus, _):
        outcome = await bus.control(target, DISCONNECTED, authorise=refuse, deadline_s=5)
    assert (outcome.answered, outcome.control_state, outcome.authorised) == (None, CONNECTED, False)
    assert [(s.register_wh, s.control_state) for s in seen] == [(123_450, CONNECTED)]
    assert meter.writes() == 0


async def test_what_is_so_already_is_not_written(target: MeterTarget) -> None:
    meter = DemoMeter(connected=True)
    async with bus_to(rtu_bus({1: meter})) as (bus, _):
        outcome = await bus.control(target, CONNECTED, authorise=agree, deadline_s=5)
    assert (outcome.answered, outcome.control_state, outcome.authorised) == (None, CONNECTED, True)
    assert meter.writes() == 0


async def test_another_meter_at_this_address_is_never_written(target: MeterTarget) -> None:
    meter = DemoMeter(identity=8_002)
    async with bus_to(rtu_bus({1: meter})) as (bus, _):
        with pytest.raises(IdentityChangedError, match="expected meter 7001, found 8002"):
            await bus.control(target, DISCONNECTED, authorise=agree, deadline_s=5)
        sample = await bus.read(target, deadline_s=5)
    assert sample.identity == "8002"  # a reading is kept apart by who asked for it
    assert meter.writes() == 0


async def test_a_welded_relay_is_written_once_and_looked_at_until_the_deadline(
    target: MeterTarget,
) -> None:
    meter = DemoMeter(stuck=True)
    async with bus_to(rtu_bus({1: meter})) as (bus, _):
        outcome = await bus.control(target, DISCONNECTED, authorise=agree, deadline_s=0.6)
    assert (outcome.answered, outcome.control_state) == (True, CONNECTED)
    assert meter.writes() == 1
    assert sum(pdu[0] == 1 for pdu in meter.requests) >= 3


@pytest.mark.parametrize("obeyed", [True, False])
async def test_an_unanswered_write_is_read_back_and_not_repeated(
    obeyed: bool, target: MeterTarget
) -> None:
    meter = DemoMeter(stuck=not obeyed)
    bank = rtu_bus({1: meter})

    def script(request: bytes) -> Said:
        answers = list(bank(request))
        return [] if request[1] == 5 else answers

    async with bus_to(script) as (bus, _):
        outcome = await bus.control(target, DISCONNECTED, authorise=agree, deadline_s=1)
    expected = DISCONNECTED if obeyed else CONNECTED
    assert (outcome.answered, outcome.control_state) == (False, expected)
    assert meter.writes() == 1


async def test_a_slow_relay_is_waited_for_while_others_are_served(target: MeterTarget) -> None:
    meter, neighbour = DemoMeter(), DemoMeter(identity=7_002)
    bank = rtu_bus({1: meter, 2: neighbour})
    looks = list[bytes]()

    def script(request: bytes) -> Said:
        answers = list(bank(request))
        if request[:2] == b"\x01\x01" and meter.writes():
            looks.append(request)
            if len(looks) <= 3:  # still on its way
                answers = [rtu(1, b"\x01\x01\x01")]
        return answers

    async with bus_to(script) as (bus, _):
        control = asyncio.create_task(
            bus.control(target, DISCONNECTED, authorise=agree, deadline_s=5)
        )
        await until(lambda: len(looks) == 2)
        other = replace(target, code="N", unit=2, identity="7002")
        assert (await bus.read(other, deadline_s=1)).identity == "7002"
        assert not control.done()
        assert (await control).control_state is DISCONNECTED


async def test_a_refused_write_is_an_error(target: MeterTarget) -> None:
    meter = DemoMeter()
    bank = rtu_bus({1: meter})

    def script(request: bytes) -> Said:
        return [rtu(1, b"\x85\x04")] if request[1] == 5 else bank(request)

    async with bus_to(script) as (bus, _):
        with pytest.raises(ControlRefusedError, match="device failure"):
            await bus.control(target, DISCONNECTED, authorise=agree, deadline_s=5)


async def test_a_link_lost_in_the_write_is_an_unanswered_write(target: MeterTarget) -> None:
    meter = DemoMeter()
    bank = rtu_bus({1: meter})
    gateways = list[FakeGateway]()

    def script(request: bytes) -> Said:
        answers = list(bank(request))
        if request[1] == 5:
            gateways[0].hang_up()
        return answers

    async with bus_to(script) as (bus, gateway):
        gateways.append(gateway)
        outcome = await bus.control(target, DISCONNECTED, authorise=agree, deadline_s=5)
    assert (outcome.answered, outcome.control_state) == (False, DISCONNECTED)
    assert meter.writes() == 1


async def test_nothing_is_written_without_a_link(target: MeterTarget) -> None:
    bus = open_bus(GatewayConfig("gw", "rtu-over-tcp", "127.0.0.1:1"), dtu_listener=None)
    await bus.start()
    with pytest.raises(LinkDownError):
        await bus.control(target, DISCONNECTED, authorise=agree, deadline_s=5)
    await bus.aclose()


async def test_a_decision_that_takes_too_long_is_a_no(target: MeterTarget) -> None:
    meter = DemoMeter()

    async def ponder(_: MeterSample) -> bool:
        await asyncio.sleep(60)
        return True

    async with bus_to(rtu_bus({1: meter})) as (bus, _):
        with pytest.raises(DeadlineError, match="decision"):
            await bus.control(target, DISCONNECTED, authorise=ponder, deadline_s=0.3)
    assert meter.writes() == 0


async def test_a_yes_from_before_a_pause_writes_nothing(target: MeterTarget) -> None:
    """A collector that was stopped between the decision and the write."""
    meter = DemoMeter()

    async def agree_and_pause(_: MeterSample) -> bool:
        time.sleep(0.4)  # noqa: ASYNC251  the whole process stands still
        return True

    async with bus_to(rtu_bus({1: meter})) as (bus, _):
        with pytest.raises(DeadlineError):
            await bus.control(target, DISCONNECTED, authorise=agree_and_pause, deadline_s=0.3)
    assert meter.writes() == 0


async def test_a_failing_decision_frees_the_bus(target: MeterTarget) -> None:
    async def fail(_: MeterSample) -> bool:
        raise RuntimeError("the database is away")

    async with bus_to(rtu_bus({1: DemoMeter()})) as (bus, _):
        with pytest.raises(RuntimeError):
            await bus.control(target, DISCONNECTED, authorise=fail, deadline_s=5)
        assert (await bus.read(target, deadline_s=1)).control_state is CONNECTED


async def test_a_control_overtakes_the_polls_that_wait(demo_profile: Profile) -> None:
    """It waits for the request under way and for nothing else."""
    meters = {unit: DemoMeter(identity=unit) for unit in range(1, 21)}
    targets = [MeterTarget(f"M{unit}", demo_profile, unit=unit) for unit in meters]
    async with bus_to(rtu_bus(meters)) as (bus, gateway):
        polls = [asyncio.create_task(bus.read(each, deadline_s=10)) for each in targets]
        await until(lambda: len(gateway.heard) >= 2)
        await bus.control(targets[-1], DISCONNECTED, authorise=agree, deadline_s=5)
        requests = [request for _, request in gateway.heard]
        first = next(at for at, request in enumerate(requests) if request[0] == 20)
        assert first <= 5
        assert [request[:2] for request in requests[first : first + 5]] == [
            b"\x14\x03", b"\x14\x03", b"\x14\x01", b"\x14\x05", b"\x14\x01",
        ]  # fmt: skip
        assert not any(poll.done() for poll in polls[5:])
        await asyncio.gather(*polls)


async def test_two_controls_of_one_meter_follow_each_other(target: MeterTarget) -> None:
    meter = DemoMeter()
    async with bus_to(rtu_bus({1: meter})) as (bus, _):
        off, on = await asyncio.gather(
            bus.control(target, DISCONNECTED, authorise=agree, deadline_s=5),
            bus.control(target, CONNECTED, authorise=agree, deadline_s=5),
        )
    assert (off.control_state, on.control_state) == (DISCONNECTED, CONNECTED)
    assert meter.connected


async def test_a_meter_without_a_relay_is_not_controlled() -> None:
    profile = shipped_profiles()["eastron/sdm120"]
    bus = open_bus(GatewayConfig("gw", "modbus-tcp", "127.0.0.1:1"), dtu_listener=None)
    with pytest.raises(ControlRefusedError, match="has no relay"):
        await bus.control(
            MeterTarget("M", profile, unit=1), DISCONNECTED, authorise=agree, deadline_s=1
        )


async def test_several_registers_and_a_masked_state(
    read_profile: Callable[[str], Profile],
) -> None:
    """As Acrel's older map has it: force and action in two registers, the relay in bit 13."""
    profile = read_profile(
        """
        {maker: a, model: b, protocol: modbus,
         points: {energy_total: {function: 3, address: 21, type: u32, scale: "0.01", unit: kWh}},
         supply: {disconnect: {function: 16, address: 87, values: [1, 1]},
                  reconnect: {function: 16, address: 87, values: [1, 0]},
                  state: {function: 3, address: 36, mask: 0x2000, connected: 0x2000}}}
        """
    )
    written = list[str]()

    def script(request: bytes) -> Said:
        match request[1], request[3]:
            case 16, _:
                written.append(request[2:-2].hex(" "))
                yield rtu(1, request[1:6])
            case 3, 36:
                yield rtu(1, b"\x03\x02" + (b"\x1f\xff" if written else b"\x20\x00"))
            case _:
                yield rtu(1, b"\x03\x04\x00\x00\x30\x39")

    async with bus_to(script) as (bus, _):
        outcome = await bus.control(
            MeterTarget("M", profile, unit=1), DISCONNECTED, authorise=agree, deadline_s=5
        )
    assert (outcome.answered, outcome.control_state) == (True, DISCONNECTED)
    assert written == ["00 57 00 02 04 00 01 00 01"]


ADDRESS = "202605240001"


class NationalMeter:
    """A DL/T 645 meter with a relay; `button`: it only permits closing until it is pressed."""

    def __init__(self, *, button: bool) -> None:
        self.connected = False
        self.commands = list[str]()
        self._button = button

    def script(self, request: bytes) -> Iterator[bytes]:
        frame = request[4:]
        data = bytes((byte - 0x33) % 256 for byte in frame[10:-2])
        if frame[8] == 0x1C:
            self.commands.append(data.hex())
            if data[1:4] != bytes.fromhex("123456"):
                yield dlt645(ADDRESS, 0xDC, b"\x04")
                return
            self.connected = data[8] != 0x1A and not self._button
            yield b"\xfe\xfe" + dlt645(ADDRESS, 0x9C, b"")
            return
        answers = {
            "00000100": "45230100",
            "03050004": "0000" if self.connected else "5000",
            "00010102": "ffff",
        }
        di = data.hex()
        if di in answers:
            yield b"\xfe\xfe" + dlt645(ADDRESS, 0x91, data + bytes.fromhex(answers[di]))
        else:
            yield dlt645(ADDRESS, 0xD1, b"\x02")


@asynccontextmanager
async def national_bus(meter: NationalMeter, password: str) -> AsyncIterator[Bus]:
    async with FakeGateway(meter.script) as gateway:
        config = GatewayConfig(
            "gw",
            "rtu-over-tcp",
            gateway.address,
            baud=115_200,
            serial_format="8E1",
            dlt645_password=bytes.fromhex(password),
            operator=bytes.fromhex("00000001"),
        )
        bus = open_bus(config, dtu_listener=None)
        await bus.start()
        yield bus
        await bus.aclose()


def national_target(model: str) -> MeterTarget:
    return MeterTarget("N", shipped_profiles()[f"standard/{model}"], address=ADDRESS)


async def test_dlt645_absent_phase_and_missing_data_are_left_out() -> None:
    async with national_bus(NationalMeter(button=False), "02123456") as bus:
        sample = await bus.read(national_target("dlt645-2007-relay"), deadline_s=5)
    assert set(sample.points) == {"energy_total"}
    assert (sample.register_wh, sample.control_state) == (123_450, DISCONNECTED)


async def test_dlt645_1c_closes_and_1a_trips() -> None:
    meter = NationalMeter(button=False)
    async with national_bus(meter, "02123456") as bus:
        target = national_target("dlt645-2007-relay")
        on = await bus.control(target, CONNECTED, authorise=agree, deadline_s=5)
        off = await bus.control(target, DISCONNECTED, authorise=agree, deadline_s=5)
    assert (on.answered, on.control_state) == (True, CONNECTED)
    assert (off.answered, off.control_state) == (True, DISCONNECTED)
    assert [command[:20] for command in meter.commands] == [
        "02123456" + "00000001" + "1c00",
        "02123456" + "00000001" + "1a00",
    ]


async def test_dlt645_1b_only_permits_until_somebody_presses_the_button() -> None:
    meter = NationalMeter(button=True)
    async with national_bus(meter, "02123456") as bus:
        target = national_target("dlt645-2007-relay-permit")
        assert (await bus.read(target, deadline_s=5)).control_state is DISCONNECTED
        outcome = await bus.control(target, CONNECTED, authorise=agree, deadline_s=5)
        assert (outcome.answered, outcome.control_state) == (True, READY)
        assert (await bus.read(target, deadline_s=5)).control_state is READY
        again = await bus.control(target, CONNECTED, authorise=agree, deadline_s=5)
        assert (again.answered, again.control_state) == (None, READY)
        meter.connected = True
        assert (await bus.read(target, deadline_s=5)).control_state is CONNECTED
        meter.connected = False
        assert (await bus.read(target, deadline_s=5)).control_state is DISCONNECTED
    assert len(meter.commands) == 1


async def test_dlt645_a_wrong_password_is_refused_in_words() -> None:
    async with national_bus(NationalMeter(button=False), "02000000") as bus:
        with pytest.raises(ControlRefusedError, match="wrong password"):
            await bus.control(
                national_target("dlt645-2007-relay"), CONNECTED, authorise=agree, deadline_s=5
            )


async def test_dlt645_does_not_travel_over_modbus_tcp() -> None:
    bus = open_bus(GatewayConfig("gw", "modbus-tcp", "127.0.0.1:1"), dtu_listener=None)
    with pytest.raises(DeviceError, match="does not travel"):
        await bus.read(national_target("dlt645-2007-relay"), deadline_s=1)
