"""What goes wrong in the field, ordered over the control port and seen on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
import pytest

from server.devices.simulator.bank import MeterBank
from server.devices.simulator.config import BankConfig
from server.devices.simulator.faults import JUNK, Fault, FaultName, deliver
from server.devices.simulator.modbus import ModbusReply

READ_IDENTITY = ModbusReply(1, bytes.fromhex("03f0100002"), None).encode()
IDENTITY = ModbusReply(1, bytes.fromhex("030400000007"), None)
WRITE_COIL = ModbusReply(1, bytes.fromhex("0500000000"), None).encode()


def config() -> BankConfig:
    meter = {
        "code": "M-1",
        "profile": "example/demo-relay",
        "unit": 1,
        "start_wh": 50_000,
        "identity": 7,
        "loads": [{"trade": "gym", "seed": 1}],
    }
    gateway = {"code": "gw", "mode": "rtu-over-tcp", "listen": "127.0.0.1:0", "meters": [meter]}
    return msgspec.convert({"gateways": [gateway], "control": "127.0.0.1:0"}, BankConfig)


@pytest.fixture
async def bank() -> AsyncIterator[MeterBank]:
    async with MeterBank(config()) as bank:
        yield bank


async def ask(bank: MeterBank, request: bytes, wait_s: float = 0.15) -> bytes:
    """Everything that comes back within a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bank.ports["gw"])
    writer.write(request)
    heard = b""
    with suppress(TimeoutError, ConnectionResetError):
        async with asyncio.timeout(wait_s):
            while data := await reader.read(256):
                heard += data
    writer.close()
    return heard


async def order(bank: MeterBank, *orders: dict[str, object] | bytes) -> list[dict[str, object]]:
    """The control's answers to these lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bank.control_port)
    answers = []
    for item in orders:
        writer.write((item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n")
        answers.append(json.loads(await asyncio.wait_for(reader.readline(), 2)))
    writer.close()
    return answers


GOOD = IDENTITY.encode()


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        ({"name": "mute"}, b""),
        ({"name": "answer_lost"}, b""),
        ({"name": "dropped_link"}, b""),
        ({"name": "exception", "code": 6}, ModbusReply(1, b"\x83\x06", None).encode()),
        ({"name": "wrong_unit"}, IDENTITY.from_neighbour().encode()),
        ({"name": "bad_checksum"}, IDENTITY.encode_spoilt()),
        ({"name": "truncated"}, GOOD[:4]),
        ({"name": "split"}, GOOD),
        ({"name": "junk_before"}, JUNK + GOOD),
        ({"name": "doubled"}, GOOD + GOOD),
        ({"name": "late", "delay_ms": 50}, GOOD),
    ],
)
async def test_a_fault_of_the_wire_hits_one_answer(
    bank: MeterBank, fault: dict[str, object], heard: bytes
) -> None:
    [said] = await order(bank, {"do": "fault", "meter": "M-1", "count": 1, **fault})
    assert (said["ok"], said["faults"]) == (True, [fault["name"]])
    assert await ask(bank, READ_IDENTITY) == heard
    assert await ask(bank, READ_IDENTITY, 0.05) == GOOD
    assert bank.meters["M-1"].faults == ()


async def test_faults_stay_until_cleared(bank: MeterBank) -> None:
    await order(bank, {"do": "fault", "meter": "M-1", "name": "mute"})
    assert [await ask(bank, READ_IDENTITY, 0.05) for _ in range(2)] == [b"", b""]
    await order(bank, {"do": "clear", "meter": "M-1"})
    assert await ask(bank, READ_IDENTITY, 0.05) == GOOD


@pytest.mark.parametrize(
    ("fault", "done"),
    [("mute", False), ("exception", False), ("dropped_link", False), ("answer_lost", True)],
)
async def test_a_command_without_an_answer_was_obeyed_or_not(
    bank: MeterBank, fault: str, done: bool
) -> None:
    bank.meters["M-1"].add_fault(Fault(FaultName(fault), count=1))
    await ask(bank, WRITE_COIL, 0.05)
    assert bank.meters["M-1"].contact_connected != done


async def test_a_late_answer_meets_the_next_request(bank: MeterBank) -> None:
    bank.meters["M-1"].add_fault(Fault(FaultName.LATE, count=1, delay_ms=60))
    reader, writer = await asyncio.open_connection("127.0.0.1", bank.ports["gw"])
    read_coil = ModbusReply(1, bytes.fromhex("0100000001"), None)
    writer.write(READ_IDENTITY)
    await asyncio.sleep(0.02)
    writer.write(read_coil.encode())
    coil = ModbusReply(1, bytes.fromhex("010101"), None).encode()
    heard = await asyncio.wait_for(reader.readexactly(len(coil) + len(GOOD)), 2)
    assert heard == coil + GOOD
    writer.close()


async def test_orders_that_move_a_meter(bank: MeterBank) -> None:
    answers = await order(
        bank,
        {"do": "register", "meter": "M-1", "wh": 90_000},
        {"do": "shift", "meter": "M-1", "by_wh": -10_000},
        {"do": "relay", "meter": "M-1", "connected": False},
        {"do": "exchange", "meter": "M-1", "identity": 8, "start_wh": 30},
        {"do": "show", "meter": "M-1"},
        {"do": "list"},
    )
    assert all(answer["ok"] for answer in answers)
    assert [answer["register_wh"] for answer in answers[:4]] == [90_000, 80_000, 80_000, 30]
    assert [answer["connected"] for answer in answers[:4]] == [True, True, False, True]
    assert [answer["identity"] for answer in answers[3:5]] == [8, 8]
    [listed] = msgspec.convert(answers[5]["meters"], list[dict[str, object]])
    assert listed["meter"] == "M-1"


async def test_a_gateway_goes_down_and_comes_back_on_its_port(bank: MeterBank) -> None:
    port = bank.ports["gw"]
    await order(bank, {"do": "gateway", "gateway": "gw", "up": False})
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await order(bank, {"do": "gateway", "gateway": "gw", "up": True})
    assert bank.ports["gw"] == port
    assert await ask(bank, READ_IDENTITY, 0.05) == GOOD


async def test_links_drop_on_order(bank: MeterBank) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bank.ports["gw"])
    writer.write(READ_IDENTITY)
    await reader.readexactly(len(GOOD))
    await order(bank, {"do": "drop", "gateway": "gw"})
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "truncated"),
        (b"\xff", "malformed"),
        (b'{"do":"explode"}', "explode"),
        (b'{"do":"show","meter":"M-9"}', "no meter 'M-9'"),
        (b'{"do":"drop","gateway":"x"}', "no gateway 'x'"),
        (b'{"do":"fault","meter":"M-1","name":"tired"}', "tired"),
        (b'{"do":"fault","meter":"M-1","name":"mute","count":0}', "count"),
        (b'{"do":"show","meter":"M-1","colour":1}', "colour"),
        (b'{"do":"press","meter":"M-1"}', "not permitted"),
    ],
)
async def test_a_bad_order_is_answered_and_changes_nothing(
    bank: MeterBank, line: bytes, says: str
) -> None:
    [answer, after] = await order(bank, line, {"do": "show", "meter": "M-1"})
    assert answer["ok"] is False
    assert says in str(answer["error"])
    assert (after["connected"], after["faults"]) == (True, [])


async def test_a_line_without_an_end_is_cut_off(bank: MeterBank) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bank.control_port)
    writer.write(b"x" * 200_000)
    with suppress(ConnectionError):
        await writer.drain()
        assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()


def test_faults_combine() -> None:
    faults = {name: Fault(name) for name in (FaultName.JUNK_BEFORE, FaultName.SPLIT)}
    delivery = deliver(b"abcdef", faults)
    assert b"".join(piece.data for piece in delivery.pieces) == JUNK + b"abcdef"
    assert len(delivery.pieces) == 3
