import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from server.devices.bus import Bus
from server.devices.errors import LinkDownError, MisconfiguredError
from server.devices.gateway import GatewayConfig, MeterTarget, open_bus
from server.devices.links import dtu
from server.devices.links.dtu import DtuListener, RefusalReason
from server.devices.profiles.profile import Profile
from tests.devices.fakes import DemoMeter, Script, rtu_bus, until

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture(autouse=True)
def quick_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the times, so that tests of silence take no seconds."""
    monkeypatch.setattr(dtu, "PROBE_S", 0.3)
    monkeypatch.setattr(dtu, "SETTLE_S", 0.02)
    monkeypatch.setattr(dtu, "REGISTRATION_S", 0.5)


class Dtu:
    """A modem that dials in and answers by a script; a deaf one answers nothing."""

    def __init__(self, script: Script, *, deaf: bool = False) -> None:
        self.script = script
        self.deaf = deaf
        self.hung_up = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    async def dial(self, port: int, *said: bytes, pause_s: float = 0.0) -> "Dtu":
        reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self._task = asyncio.create_task(self._serve(reader))
        for piece in said:
            await self.say(piece)
            await asyncio.sleep(pause_s)
        return self

    async def say(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)
        with suppress(ConnectionError):
            await self._writer.drain()

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(512):
                for said in [] if self.deaf else self.script(data):
                    assert isinstance(said, bytes)
                    await self.say(said)
        self.hung_up.set()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        if self._task is not None:
            self._task.cancel()


@asynccontextmanager
async def listening(*configs: GatewayConfig) -> AsyncIterator[tuple[DtuListener, list[Bus]]]:
    listener = DtuListener("127.0.0.1", 0)
    await listener.start()
    buses = [open_bus(config, dtu_listener=listener) for config in configs]
    for bus in buses:
        await bus.start()
    try:
        yield listener, buses
    finally:
        for bus in buses:
            await bus.aclose()
        await listener.aclose()


def gateway(
    registration: bytes = b"DTU000001",
    heartbeat: bytes | None = b"HB",
    allow_from: tuple[str, ...] = ("127.0.0.0/8",),
) -> GatewayConfig:
    return GatewayConfig(
        registration.hex(),
        "dtu",
        registration=registration,
        heartbeat=heartbeat,
        allow_from=allow_from,
        baud=115_200,
        turnaround_ms=0,
    )


async def test_a_dtu_dials_in_and_its_meters_are_read(demo_profile: Profile) -> None:
    async with listening(gateway()) as (listener, (bus,)):
        target = MeterTarget("M", demo_profile, unit=1)
        with pytest.raises(LinkDownError, match="has not dialled in"):
            await bus.read(target, deadline_s=1)
        caller = await Dtu(rtu_bus({1: DemoMeter()})).dial(listener.port, b"DTU000001")
        await until(lambda: bus.connected)
        assert (await bus.read(target, deadline_s=2)).register_wh == 123_450
        caller.close()
        await until(lambda: not bus.connected)


NAMES = [
    ("at once", [b"DTU000001"]),
    ("byte by byte", [bytes([byte]) for byte in b"DTU000001"]),
    ("with a line end", [b"DTU000001\r\n"]),
    ("behind a line end", [b"\r\nDTU000001"]),
    ("behind heartbeats", [b"HBHB", b"HB\r\nDTU000001"]),
    ("before a heartbeat", [b"DTU000001HB"]),
    ("between heartbeats", [b"HB", b"DTU000", b"001", b"HB"]),
]


@pytest.mark.parametrize("said", [said for _, said in NAMES], ids=[name for name, _ in NAMES])
async def test_a_registration_is_recognised(said: list[bytes], demo_profile: Profile) -> None:
    async with listening(gateway()) as (listener, (bus,)):
        caller = await Dtu(rtu_bus({1: DemoMeter()})).dial(listener.port, *said, pause_s=0.001)
        await until(lambda: bus.connected)
        sample = await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=2)
        assert sample.register_wh == 123_450
        caller.close()


async def test_a_registration_may_be_any_bytes() -> None:
    names = [bytes.fromhex("0A0D00FF"), bytes.fromhex("0A0D00FF01")]
    async with listening(*(gateway(name, None) for name in names)) as (listener, buses):
        callers = [await Dtu(lambda _: []).dial(listener.port, name) for name in names]
        await until(lambda: all(bus.connected for bus in buses))
        for caller in callers:
            caller.close()


async def test_many_dial_in_on_one_port_and_each_is_its_own_bus(demo_profile: Profile) -> None:
    configs = [gateway(f"DTU{number}".encode()) for number in (1, 2, 12, 21, 112)]
    async with listening(*configs) as (listener, buses):
        callers = [
            await Dtu(rtu_bus({1: DemoMeter(identity=number)})).dial(
                listener.port, configs[number].registration or b""
            )
            for number in range(len(configs))
        ]
        await until(lambda: all(bus.connected for bus in buses))
        target = MeterTarget("M", demo_profile, unit=1)
        samples = await asyncio.gather(*(bus.read(target, deadline_s=3) for bus in buses))
        assert [sample.identity for sample in samples] == ["0", "1", "2", "3", "4"]
        for caller in callers:
            caller.close()


UNWANTED = [
    ("another name", [b"DTU000002"], RefusalReason.UNKNOWN),
    ("a longer name", [b"DTU0000012"], RefusalReason.UNKNOWN),
    ("a name inside another", [b"XDTU000001"], RefusalReason.UNKNOWN),
    ("half a name", [b"DTU0"], RefusalReason.SILENT),
    ("nothing", [], RefusalReason.SILENT),
    ("only heartbeats", [b"HB", b"HB"], RefusalReason.SILENT),
    ("a web browser", [b"GET / HTTP/1.1\r\n\r\n"], RefusalReason.UNKNOWN),
    ("a megabyte", [b"\x00" * 1_000_000], RefusalReason.UNKNOWN),
]


@pytest.mark.parametrize(
    ("said", "reason"), [row[1:] for row in UNWANTED], ids=[row[0] for row in UNWANTED]
)
async def test_who_is_not_expected_is_refused_and_counted(
    said: list[bytes], reason: RefusalReason
) -> None:
    async with listening(gateway()) as (listener, (bus,)):
        caller = await Dtu(lambda _: []).dial(listener.port, *said)
        await asyncio.wait_for(caller.hung_up.wait(), 2)
        assert not bus.connected
        assert listener.refused[reason] == 1
        (unknown,) = listener.unknown
        assert (unknown.peer, unknown.reason) == ("127.0.0.1", reason)
        assert len(unknown.packet) <= 64
        caller.close()


async def test_a_dtu_may_dial_in_only_from_its_networks() -> None:
    async with listening(gateway(allow_from=("10.0.0.0/8", "192.168.1.7"))) as (listener, (bus,)):
        caller = await Dtu(lambda _: []).dial(listener.port, b"DTU000001")
        await asyncio.wait_for(caller.hung_up.wait(), 2)
        assert listener.refused[RefusalReason.ADDRESS] == 1
        assert not bus.connected
        caller.close()


async def test_without_networks_it_may_dial_in_from_anywhere_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening(gateway(allow_from=())) as (listener, (bus,)):
        caller = await Dtu(lambda _: []).dial(listener.port, b"DTU000001\r\n")
        await until(lambda: bus.connected)
        assert "has no allow_from" in caplog.text
        caller.close()


async def test_a_redial_does_not_replace_a_connection_that_still_answers(
    demo_profile: Profile,
) -> None:
    async with listening(gateway()) as (listener, (bus,)):
        first = await Dtu(rtu_bus({1: DemoMeter()})).dial(listener.port, b"DTU000001")
        await until(lambda: bus.connected)
        target = MeterTarget("M", demo_profile, unit=1)
        await bus.read(target, deadline_s=2)
        second = await Dtu(rtu_bus({1: DemoMeter(identity=9)})).dial(listener.port, b"DTU000001")
        await asyncio.wait_for(second.hung_up.wait(), 2)
        assert listener.refused[RefusalReason.OCCUPIED] == 1
        assert (await bus.read(target, deadline_s=2)).identity == "7001"
        first.close()
        second.close()


@pytest.mark.parametrize("how", ["deaf", "closed"])
async def test_a_redial_replaces_a_connection_that_does_not(
    how: str, demo_profile: Profile
) -> None:
    async with listening(gateway()) as (listener, (bus,)):
        first = await Dtu(rtu_bus({1: DemoMeter()})).dial(listener.port, b"DTU000001")
        await until(lambda: bus.connected)
        target = MeterTarget("M", demo_profile, unit=1)
        await bus.read(target, deadline_s=2)
        if how == "deaf":
            first.deaf = True
        else:
            first.close()
            await until(lambda: not bus.connected)
        second = await Dtu(rtu_bus({1: DemoMeter(identity=9)})).dial(listener.port, b"DTU000001")
        await until(lambda: (not first.deaf or first.hung_up.is_set()) and bus.connected)
        assert (await bus.read(target, deadline_s=3)).identity == "9"
        first.close()
        second.close()


async def test_heartbeats_anywhere_are_eaten(demo_profile: Profile) -> None:
    bank = rtu_bus({1: DemoMeter()})

    def script(request: bytes) -> Iterator[bytes]:
        (answer,) = bank(request)
        assert isinstance(answer, bytes)
        yield b"HB" + answer[:4] + b"HB"
        yield answer[4:] + b"HB"

    async with listening(gateway()) as (listener, (bus,)):
        caller = await Dtu(script).dial(listener.port, b"DTU000001HB")
        await until(lambda: bus.connected)
        for _ in range(3):
            sample = await bus.read(MeterTarget("M", demo_profile, unit=1), deadline_s=2)
            assert (sample.register_wh, sample.identity) == (123_450, "7001")
        assert bus.stats.missed == 0
        assert bus.stats.strays.total() == 0
        caller.close()


async def test_the_nameless_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtu, "UNREGISTERED_LIMIT", 3)
    async with listening(gateway()) as (listener, _):
        callers = [await Dtu(lambda _: []).dial(listener.port) for _ in range(5)]
        await until(lambda: listener.refused[RefusalReason.TOO_MANY] == 2)
        await until(lambda: listener.refused[RefusalReason.SILENT] == 3)
        await until(lambda: all(caller.hung_up.is_set() for caller in callers))
        callers.append(await Dtu(lambda _: []).dial(listener.port))  # there is room again
        await until(lambda: listener.refused[RefusalReason.SILENT] == 4)
        assert listener.refused[RefusalReason.TOO_MANY] == 2
        for caller in callers:
            caller.close()


async def test_the_list_of_unknown_devices_is_bounded() -> None:
    async with listening() as (listener, _):
        for _ in range(dtu.UNKNOWN_LIMIT + 5):
            caller = await Dtu(lambda _: []).dial(listener.port, b"who?")
            await asyncio.wait_for(caller.hung_up.wait(), 2)
            caller.close()
        assert len(listener.unknown) == dtu.UNKNOWN_LIMIT
        assert listener.refused[RefusalReason.UNKNOWN] == dtu.UNKNOWN_LIMIT + 5


async def test_a_closed_bus_hangs_up_and_its_dtu_is_unknown_then() -> None:
    async with listening(gateway()) as (listener, (bus,)):
        caller = await Dtu(lambda _: []).dial(listener.port, b"DTU000001")
        await until(lambda: bus.connected)
        await bus.aclose()
        await asyncio.wait_for(caller.hung_up.wait(), 2)
        again = await Dtu(lambda _: []).dial(listener.port, b"DTU000001")
        await asyncio.wait_for(again.hung_up.wait(), 2)
        assert listener.refused[RefusalReason.UNKNOWN] == 1
        caller.close()
        again.close()


async def test_two_gateways_with_one_registration_are_refused() -> None:
    async with listening(gateway()) as (listener, _):
        with pytest.raises(MisconfiguredError, match="one registration"):
            await open_bus(gateway(), dtu_listener=listener).start()


@pytest.mark.parametrize(
    "config",
    [gateway(b""), gateway(b"x" * 200), gateway(allow_from=("10.0.0.0/99",))],
    ids=["empty", "long", "network"],
)
def test_a_senseless_dtu_is_refused(config: GatewayConfig) -> None:
    with pytest.raises(MisconfiguredError):
        open_bus(config, dtu_listener=DtuListener("127.0.0.1", 0))
