import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest

from server.core.supply.control_state import ControlState
from server.devices.bus import Bus, Priority
from server.devices.errors import (
    DeadlineError,
    FrameError,
    LinkDownError,
    MeterExceptionError,
    MeterMuteError,
    MisconfiguredError,
)
from server.devices.gateway import GatewayConfig, MeterTarget, open_bus
from server.devices.links.tcp import parse_address
from server.devices.profiles.profile import Profile
from server.devices.protocols.exchange import StrayReason
from tests.devices.fakes import (
    DemoMeter,
    FakeGateway,
    Said,
    Script,
    registers,
    rtu,
    rtu_bus,
    tcp,
    tcp_bus,
    until,
)

pytestmark = pytest.mark.usefixtures("impatient")


async def started(gateway: FakeGateway, link: str = "rtu-over-tcp", baud: int = 115_200) -> Bus:
    config = GatewayConfig(
        "gw", link, gateway.address, baud=None if link == "modbus-tcp" else baud, turnaround_ms=0
    )
    bus = open_bus(config, dtu_listener=None)
    await bus.start()
    return bus


def split(script: Script, pause_s: float = 0.001) -> Script:
    """The same answers, byte by byte."""

    def pieces(request: bytes) -> Said:
        for said in script(request):
            if isinstance(said, bytes):
                for byte in said:
                    yield bytes([byte])
                    yield pause_s
            else:
                yield said

    return pieces


@pytest.mark.parametrize("link", ["modbus-tcp", "rtu-over-tcp"])
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_a_meter_is_read(link: str, in_pieces: bool, demo_profile: Profile) -> None:
    bank = tcp_bus if link == "modbus-tcp" else rtu_bus
    script = bank({7: DemoMeter()})
    async with FakeGateway(split(script) if in_pieces else script) as gateway:
        bus = await started(gateway, link)
        sample = await bus.read(MeterTarget("M", demo_profile, unit=7), deadline_s=5)
        assert sample.register_wh == 123_450
        assert sample.points["power_total"].value == Decimal("1.5")
        assert (sample.control_state, sample.identity) == (ControlState.CONNECTED, "7001")
        assert bus.connected
        await bus.aclose()
        assert not bus.connected


def stale(meter: DemoMeter) -> Script:
    """Answers each first request to the energy a while too late, in front of the next answer."""
    held: list[bytes] = []

    def script(request: bytes) -> Said:
        answer = rtu(1, meter.answer(request[1:-2]))
        if request[1:4] == b"\x03\x00\x00" and not held:
            held.append(answer)
            meter.energy += 1
            yield 0.25
            yield answer
        else:
            yield answer

    return script


async def test_a_late_answer_is_never_taken_for_the_next_one(demo_profile: Profile) -> None:
    """Energy, then identity: both are two registers, so their RTU answers look alike."""
    meter = DemoMeter()
    profile = replace(demo_profile, steps=demo_profile.steps[1::-1])  # energy, identity
    async with FakeGateway(stale(meter)) as gateway:
        bus = await started(gateway)
        sample = await bus.read(MeterTarget("M", profile, unit=1), deadline_s=5)
        assert (sample.register_wh, sample.identity) == (123_460, "7001")
        assert bus.stats.missed == 1
        assert bus.stats.late + gateway.connections >= 2  # it came, or was left behind
        await bus.aclose()


async def test_a_cancelled_request_is_drained_too(demo_profile: Profile) -> None:
    meter = DemoMeter()
    async with FakeGateway(stale(meter)) as gateway:
        bus = await started(gateway)
        target = MeterTarget("M", replace(demo_profile, steps=demo_profile.steps[1:2]), unit=1)
        task = asyncio.create_task(bus.read(target, deadline_s=5))
        await until(lambda: len(gateway.heard) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        identity = replace(demo_profile, steps=demo_profile.steps[:2])
        sample = await bus.read(replace(target, profile=identity), deadline_s=5)
        assert (sample.register_wh, sample.identity) == (123_460, "7001")
        await bus.aclose()


WRONG: list[tuple[str, Callable[[bytes], bytes], StrayReason]] = [
    ("another unit", lambda answer: rtu(2, answer), StrayReason.OTHER),
    ("another count", lambda _: rtu(1, registers(3, 1, 2, 3)), StrayReason.OTHER),
    ("a wrong CRC", lambda answer: rtu(1, answer)[:-2] + b"\x00\x00", StrayReason.BROKEN),
    ("half a frame", lambda answer: rtu(1, answer)[:4], StrayReason.BROKEN),
    ("noise", lambda _: b"\xaa\x55\xaa", StrayReason.NOISE),
]


@pytest.mark.parametrize(("name", "spoil", "reason"), WRONG, ids=[row[0] for row in WRONG])
async def test_what_does_not_belong_is_dropped_counted_and_asked_again(
    name: str, spoil: Callable[[bytes], bytes], reason: StrayReason, demo_profile: Profile
) -> None:
    meter, spoiled = DemoMeter(), list[bytes]()

    def script(request: bytes) -> Said:
        answer = meter.answer(request[1:-2])
        if not spoiled and request[2:4] == b"\x00\x00" and request[1] == 3:
            spoiled.append(spoil(answer))
            yield spoiled[0]
        else:
            yield rtu(1, answer)

    async with FakeGateway(script) as gateway:
        bus = await started(gateway)
        sample = await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=5)
        assert sample.register_wh == 123_450, name
        assert bus.stats.strays[reason] == 1
        await bus.aclose()


async def test_only_damaged_answers_are_a_frame_error(demo_profile: Profile) -> None:
    async with FakeGateway(lambda _: [rtu(1, registers(3, 0, 1))[:-1] + b"\xee"]) as gateway:
        bus = await started(gateway)
        with pytest.raises(FrameError, match="damaged"):
            await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=5)
        await bus.aclose()


async def test_doubled_answers_and_junk_do_no_harm(demo_profile: Profile) -> None:
    bank = rtu_bus({1: DemoMeter()})

    def script(request: bytes) -> Said:
        (answer,) = bank(request)
        assert isinstance(answer, bytes)
        yield b"\xff\x01\x03" + answer + answer

    async with FakeGateway(script) as gateway:
        bus = await started(gateway)
        for _ in range(3):
            sample = await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=5)
            assert (sample.register_wh, sample.identity) == (123_450, "7001")
        await bus.aclose()


async def test_a_late_modbus_tcp_answer_is_told_by_its_transaction(demo_profile: Profile) -> None:
    bank, late = tcp_bus({1: DemoMeter()}), list[bytes]()

    def script(request: bytes) -> Said:
        answers = [said for said in bank(request) if isinstance(said, bytes)]
        if not late:
            late.extend(answers)
            return []
        return [late[0], *answers]

    async with FakeGateway(script) as gateway:
        bus = await started(gateway, "modbus-tcp")
        sample = await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=5)
        assert (sample.register_wh, sample.identity) == (123_450, "7001")
        assert bus.stats.strays[StrayReason.OTHER] == 4
        await bus.aclose()


async def test_a_dropped_link_fails_the_pending_request_at_once(demo_profile: Profile) -> None:
    async with FakeGateway(lambda _: []) as gateway:
        bus = await started(gateway)
        task = asyncio.create_task(bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=60))
        await until(lambda: len(gateway.heard) == 1)
        gateway.hang_up()
        async with asyncio.timeout(0.1):
            with pytest.raises(LinkDownError):
                await task
        await bus.aclose()


async def test_a_gateway_that_is_away_is_found_when_it_comes(demo_profile: Profile) -> None:
    gateway = FakeGateway(rtu_bus({1: DemoMeter()}))
    await gateway.listen()
    await gateway.vanish()
    bus = await started(gateway)
    target = MeterTarget("M", demo_profile, unit=1)
    with pytest.raises(LinkDownError):
        await bus.read(target, deadline_s=5)
    await gateway.listen()
    await until(lambda: bus.connected)
    assert (await bus.read(target, deadline_s=5)).register_wh == 123_450
    await gateway.vanish()
    await until(lambda: not bus.connected)
    await gateway.listen()
    await until(lambda: bus.connected)
    assert (await bus.read(target, deadline_s=5)).register_wh == 123_450
    await bus.aclose()
    await gateway.vanish()


async def test_a_mute_meter_is_left_alone_and_its_neighbours_are_not(
    demo_profile: Profile,
) -> None:
    async with FakeGateway(rtu_bus({1: DemoMeter()})) as gateway:
        bus = await started(gateway)
        mute, healthy = (MeterTarget(f"M{unit}", demo_profile, unit=unit) for unit in (9, 1))
        with pytest.raises(MeterMuteError):
            await bus.read(mute, deadline_s=5)
        asked = len(gateway.heard)
        with pytest.raises(MeterMuteError, match="left alone"):
            await bus.read(mute, deadline_s=5)
        assert len(gateway.heard) == asked
        assert (await bus.read(healthy, deadline_s=5)).register_wh == 123_450
        with pytest.raises(MeterMuteError):  # an engineer is not made to wait
            await bus.read(mute, priority=Priority.COMMISSIONING, deadline_s=5)
        assert gateway.heard[-1][1][0] == 9
        await bus.aclose()


async def test_a_half_open_connection_is_dialled_again(demo_profile: Profile) -> None:
    """The gateway was switched off and on: the old connection swallows everything, silently."""
    bank = tcp_bus({1: DemoMeter()})
    gateways = list[FakeGateway]()

    def script(request: bytes) -> Said:
        return bank(request) if gateways[0].connections > 1 else []

    async with FakeGateway(script) as gateway:
        gateways.append(gateway)
        bus = await started(gateway, "modbus-tcp")
        target = MeterTarget("M", demo_profile, unit=1)
        for _ in range(2):
            with pytest.raises(MeterMuteError):
                await bus.read(target, priority=Priority.COMMISSIONING, deadline_s=5)
        await until(lambda: gateway.connections == 2)
        sample = await bus.read(target, priority=Priority.COMMISSIONING, deadline_s=5)
        assert sample.register_wh == 123_450
        await bus.aclose()


async def test_a_gateways_word_for_a_mute_meter_is_muteness(demo_profile: Profile) -> None:
    def script(request: bytes) -> Said:
        yield tcp(int.from_bytes(request[:2], "big"), 1, bytes([request[7] | 0x80, 11]))

    async with FakeGateway(script) as gateway:
        bus = await started(gateway, "modbus-tcp")
        with pytest.raises(MeterMuteError, match="did not respond"):
            await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=5)
        await bus.aclose()


async def test_an_exception_to_the_energy_is_an_error(demo_profile: Profile) -> None:
    async with FakeGateway(lambda request: [rtu(1, bytes([request[1] | 0x80, 2]))]) as gateway:
        bus = await started(gateway)
        with pytest.raises(MeterExceptionError, match="illegal data address") as error:
            await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=5)
        assert (error.value.exception_code, error.value.transient) == (2, False)
        await bus.aclose()


async def test_a_value_that_the_meter_lacks_is_left_out_and_not_asked_again(
    demo_profile: Profile,
) -> None:
    meter = DemoMeter()

    def script(request: bytes) -> Said:
        lacks = request[1] == 4
        pdu = meter.answer(request[1:-2])
        yield rtu(1, b"\x84\x02" if lacks else pdu)

    async with FakeGateway(script) as gateway:
        bus = await started(gateway)
        for asked in (4, 7):
            sample = await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=5)
            assert set(sample.points) == {"energy_total"}
            assert len(meter.requests) == asked
        await bus.aclose()


async def test_a_meter_that_refuses_a_block_is_asked_value_by_value(
    read_profile: Callable[[str], Profile],
) -> None:
    profile = read_profile(
        """
        {maker: a, model: b, protocol: modbus, blocks: {max_gap: 10}, points: {
          energy_total: {function: 3, address: 0, type: u32, unit: Wh},
          voltage_a: {function: 3, address: 4, type: u16, unit: V}}}
        """
    )

    def script(request: bytes) -> Said:
        address, count = struct.unpack(">HH", request[2:6])
        match address, count:
            case 0, 2:
                yield rtu(1, registers(3, 0, 55))
            case 4, 1:
                yield rtu(1, registers(3, 230))
            case _:
                yield rtu(1, b"\x83\x02")

    async with FakeGateway(script) as gateway:
        bus = await started(gateway)
        for asked in (3, 5):
            sample = await bus.read(MeterTarget("M", profile, unit=1), deadline_s=5)
            assert (sample.register_wh, sample.points["voltage_a"].value) == (55, Decimal(230))
            assert len(gateway.heard) == asked
        await bus.aclose()


async def test_requests_keep_the_pace_of_their_bus(demo_profile: Profile) -> None:
    async with FakeGateway(rtu_bus({1: DemoMeter()})) as gateway:
        config = GatewayConfig("gw", "rtu-over-tcp", gateway.address, baud=9600, turnaround_ms=20)
        bus = open_bus(config, dtu_listener=None)
        await bus.start()
        target = MeterTarget("M", replace(demo_profile, steps=demo_profile.steps[:2]), unit=1)
        for _ in range(3):
            await bus.read(target, deadline_s=5)
        times = [at for at, _ in gateway.heard]
        pauses = [after - before for before, after in pairwise(times)]
        # 8 and 9 bytes of 10 bits, two silences of 3.5 characters, 20 ms
        assert min(pauses) >= 0.0449 - 0.002
        await bus.aclose()


async def test_a_deadline_that_cannot_be_kept_sends_nothing(demo_profile: Profile) -> None:
    async with FakeGateway(rtu_bus({1: DemoMeter()})) as gateway:
        bus = await started(gateway, baud=9600)
        await until(lambda: bus.connected)
        with pytest.raises(DeadlineError):
            await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=0.005)
        assert gateway.heard == []
        await bus.aclose()


async def test_a_flood_ends_the_connection_and_not_the_product(demo_profile: Profile) -> None:
    bank, flooded = rtu_bus({1: DemoMeter()}), list[bool]()

    def script(request: bytes) -> Said:
        if not flooded:
            flooded.append(True)
            return [b"\x01" * 1_000_000]
        return bank(request)

    async with FakeGateway(script) as gateway:
        bus = await started(gateway)
        target = MeterTarget("M", demo_profile, unit=1)
        try:
            await bus.read(target, deadline_s=5)
        except (FrameError, LinkDownError):
            await asyncio.sleep(0.3)
        assert (await bus.read(target, priority=Priority.CONTROL, deadline_s=5)).identity == "7001"
        assert gateway.connections >= 2
        await bus.aclose()


@pytest.mark.parametrize(
    ("link", "unit", "address", "message"),
    [
        ("modbus-tcp", None, None, "M: a Modbus meter needs its unit"),
        ("modbus-tcp", 0, None, "a Modbus unit is 1 to 255"),
        ("rtu-over-tcp", 248, None, "a Modbus unit is 1 to 247"),
    ],
)
async def test_a_meter_that_cannot_be_addressed_is_refused(
    link: str, unit: int | None, address: str | None, message: str, demo_profile: Profile
) -> None:
    bus = open_bus(GatewayConfig("gw", link, "127.0.0.1:1"), dtu_listener=None)
    target = MeterTarget("M", demo_profile, unit=unit, address=address)
    with pytest.raises(MisconfiguredError, match=message):
        await bus.read(target, deadline_s=1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GatewayConfig("gw", "mqtt", "x:1"), "'mqtt' is none of"),
        (GatewayConfig("gw", "modbus-tcp"), "needs an address"),
        (GatewayConfig("gw", "rtu-over-tcp", "127.0.0.1"), "host:port"),
        (GatewayConfig("gw", "modbus-tcp", "127.0.0.1:99999"), "host:port"),
        (GatewayConfig("gw", "serial", "/dev/ttyS0", serial_format="7"), "serial format"),
        (GatewayConfig("gw", "dtu", registration=b"D"), "nothing listens"),
    ],
)
def test_a_gateway_that_cannot_work_is_refused(config: GatewayConfig, message: str) -> None:
    with pytest.raises(MisconfiguredError, match=message):
        open_bus(config, dtu_listener=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1:15020", ("10.0.0.1", 15020)),
        ("gw.local", ("gw.local", 502)),
        ("[::1]:503", ("::1", 503)),
        ("::1", ("::1", 502)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text, 502) == expected


async def test_many_buses_share_one_loop(demo_profile: Profile) -> None:
    async with FakeGateway(tcp_bus({1: DemoMeter()})) as gateway:
        buses = [await started(gateway, "modbus-tcp") for _ in range(20)]
        target = MeterTarget("M", demo_profile, unit=1)
        reads: list[Awaitable[object]] = [bus.read(target, deadline_s=5) for bus in buses]
        assert len(await asyncio.gather(*reads)) == 20
        await asyncio.gather(*(bus.aclose() for bus in buses))
