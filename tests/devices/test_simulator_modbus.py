"""Simulated Modbus meters with pymodbus' own client as the other end, over real sockets."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.framer import FramerType
from pymodbus.framer.rtu import FramerRTU

from server.devices.simulator.bank import MeterBank
from server.devices.simulator.config import BankConfig
from server.devices.simulator.modbus import ModbusReply, RtuDeframer, TcpDeframer, crc16
from server.devices.simulator.speech import LinkBrokenError

MODES = ["modbus-tcp", "rtu-over-tcp"]
TEA = [{"trade": "tea_shop", "seed": 3}]


def bank_of(mode: str, **gateway: object) -> MeterBank:
    relay = {
        "code": "M-1",
        "profile": "example/demo-relay",
        "unit": 1,
        "start_wh": 12_345_670,
        "identity": 0xABCD1234,
        "loads": TEA,
    }
    older = {
        "code": "M-2",
        "profile": "acrel/ddsy1352-older",
        "unit": 2,
        "start_wh": 777_770,
        "loads": TEA,
    }
    fields = {"code": "gw", "mode": mode, "listen": "127.0.0.1:0", "meters": [relay, older]}
    return MeterBank(msgspec.convert({"gateways": [fields | gateway]}, BankConfig))


@asynccontextmanager
async def client_of(bank: MeterBank, mode: str) -> AsyncIterator[AsyncModbusTcpClient]:
    framer = FramerType.RTU if mode == "rtu-over-tcp" else FramerType.SOCKET
    client = AsyncModbusTcpClient(
        "127.0.0.1", port=bank.ports["gw"], framer=framer, timeout=2, retries=0, reconnect_delay=0
    )
    assert await client.connect()
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize("mode", MODES)
async def test_the_demo_relay_is_read_as_the_contract_says(mode: str) -> None:
    async with bank_of(mode) as bank, client_of(bank, mode) as client:
        energy = await client.read_holding_registers(0, count=2, device_id=1)
        high, low = energy.registers
        assert (high << 16 | low) == bank.meters["M-1"].register_wh // 10
        power = await client.read_input_registers(0x0C, count=2, device_id=1)
        [watts] = struct.unpack(">f", struct.pack(">HH", *power.registers))
        assert watts == bank.meters["M-1"].drawn_w()
        identity = await client.read_holding_registers(0xF010, count=2, device_id=1)
        assert identity.registers == [0xABCD, 0x1234]


@pytest.mark.parametrize("mode", MODES)
async def test_the_demo_relay_obeys_its_coil(mode: str) -> None:
    async with bank_of(mode) as bank, client_of(bank, mode) as client:
        for wish in (False, True, False):
            written = await client.write_coil(0, wish, device_id=1)
            assert not written.isError()
            assert bank.meters["M-1"].contact_connected == wish
            state = await client.read_coils(0, count=1, device_id=1)
            assert state.bits[0] == wish
        power = await client.read_input_registers(0x0C, count=2, device_id=1)
        assert power.registers == [0, 0]


@pytest.mark.parametrize("mode", MODES)
async def test_the_older_acrel_is_read_as_a_block_of_48(mode: str) -> None:
    async with bank_of(mode) as bank, client_of(bank, mode) as client:
        block = (await client.read_holding_registers(0, count=48, device_id=2)).registers
        meter = bank.meters["M-2"]
        assert block[0] == 7
        assert (block[21] << 16 | block[22]) == meter.register_wh // 10 == 77_777
        assert block[10] == meter.show_power_w()
        assert 2_200 < block[1] < 2_400
        assert block[36] & 0xE000 == 0xE000
        part = (await client.read_holding_registers(22, count=1, device_id=2)).registers
        assert part == [block[22]]  # half a value is still that half


@pytest.mark.parametrize(
    ("values", "status", "flows"),
    [
        ([1, 1], 0x0008, False),
        ([1, 0], 0xE00F, True),
        ([0, 0], 0xE000, True),
        ([0, 1], 0xE000, True),
    ],
)
async def test_the_older_acrel_obeys_forced_control(
    values: list[int], status: int, flows: bool
) -> None:
    async with bank_of("modbus-tcp") as bank, client_of(bank, "modbus-tcp") as client:
        assert not (await client.write_registers(87, values, device_id=2)).isError()
        word = (await client.read_holding_registers(36, count=1, device_id=2)).registers
        assert (word, bank.meters["M-2"].contact_connected) == ([status], flows)
        back = (await client.read_holding_registers(87, count=2, device_id=2)).registers
        assert back == ([1, values[1]] if values[0] else [0, 0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("unit", "pdu", "exception"),
    [
        (1, "02 0000 0001", 1),
        (1, "06 0000 0001", 1),
        (1, "10 0057 0002 04 0001 0001", 1),
        (2, "05 0000 ff00", 1),
        (1, "03 0000 0003", 2),
        (1, "03 0100 0002", 2),
        (1, "04 0000 0002", 2),
        (1, "05 0001 ff00", 2),
        (2, "10 0058 0001 02 0001", 2),
        (1, "03 0000 0000", 3),
        (1, "03 0000 007e", 3),
        (1, "05 0000 0001", 3),
        (2, "10 0057 0002 04 0001 0002", 3),
        (2, "10 0057 0001 02 0001", 3),
        (1, "2b 0e01", 1),
    ],
)
async def test_refuses_with_the_exception(mode: str, unit: int, pdu: str, exception: int) -> None:
    raw = bytes.fromhex(pdu)
    rtu = mode == "rtu-over-tcp"
    async with bank_of(mode) as bank:
        reader, writer = await asyncio.open_connection("127.0.0.1", bank.ports["gw"])
        writer.write(ModbusReply(unit, raw, None if rtu else 9).encode())
        answer = await asyncio.wait_for(reader.read(64), 2)
        assert (
            answer
            == ModbusReply(unit, bytes([raw[0] | 0x80, exception]), None if rtu else 9).encode()
        )
        writer.close()


async def test_nobody_answers_for_a_unit_that_is_not_there() -> None:
    async with bank_of("modbus-tcp") as bank, client_of(bank, "modbus-tcp") as client:
        ask = client.read_holding_registers(0, count=2, device_id=9)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask, 0.1)
        assert bank.gateways["gw"].request_count == 1


async def test_what_is_no_modbus_tcp_ends_the_link() -> None:
    async with bank_of("modbus-tcp") as bank:
        reader, writer = await asyncio.open_connection("127.0.0.1", bank.ports["gw"])
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):  # an end is an end, reset or closed
            assert await asyncio.wait_for(reader.read(), 2) == b""
        assert bank.gateways["gw"].link_count == 0
        writer.close()


async def test_half_a_frame_is_forgotten_after_silence() -> None:
    async with bank_of("rtu-over-tcp") as bank:
        reader, writer = await asyncio.open_connection("127.0.0.1", bank.ports["gw"])
        whole = ModbusReply(1, bytes.fromhex("0100000001"), None).encode()
        writer.write(whole[:5])
        await asyncio.sleep(0.6)
        writer.write(whole)
        assert len(await asyncio.wait_for(reader.read(64), 2)) == 6
        writer.close()


async def test_a_serial_bus_takes_its_time_and_its_turn() -> None:
    loop = asyncio.get_running_loop()
    pace = {"baud": 9600, "serial_format": "8N1", "turnaround_ms": 20}
    async with (
        bank_of("rtu-over-tcp", **pace) as bank,
        client_of(bank, "rtu-over-tcp") as one,
        client_of(bank, "rtu-over-tcp") as two,
    ):
        began_at = loop.time()
        await asyncio.gather(
            *(client.read_holding_registers(0, count=2, device_id=1) for client in (one, two))
        )
        each_s = (8 + 9) * 10 / 9600 + 0.020
        assert 2 * each_s <= loop.time() - began_at < 2 * each_s + 0.2


@given(st.binary(max_size=256))
def test_crc16_agrees_with_pymodbus(data: bytes) -> None:
    assert crc16(data).to_bytes(2, "little") == FramerRTU.compute_CRC(data).to_bytes(2, "big")


PDUS = st.sampled_from(
    [bytes.fromhex(pdu) for pdu in ("0300000002", "0500000000", "1000570002040001 0001", "040c")]
)


@given(st.lists(st.tuples(st.integers(1, 247), PDUS), max_size=5), st.integers(1, 9))
def test_tcp_requests_come_out_whole_however_they_are_cut(
    asked: list[tuple[int, bytes]], cut: int
) -> None:
    stream = b"".join(ModbusReply(unit, pdu, 7).encode() for unit, pdu in asked)
    deframer = TcpDeframer()
    heard = [r for i in range(0, len(stream), cut) for r in deframer.feed(stream[i : i + cut])]
    assert [(request.unit, request.pdu) for request in heard] == asked


RTU_PDUS = st.sampled_from(
    [bytes.fromhex(pdu) for pdu in ("0300000002", "050000ff00", "10005700020400010001")]
)


@given(st.lists(st.tuples(st.integers(1, 247), RTU_PDUS), max_size=5), st.integers(1, 9))
def test_rtu_requests_come_out_whole_however_they_are_cut(
    asked: list[tuple[int, bytes]], cut: int
) -> None:
    stream = b"".join(ModbusReply(unit, pdu, None).encode() for unit, pdu in asked)
    deframer = RtuDeframer()
    heard = [r for i in range(0, len(stream), cut) for r in deframer.feed(stream[i : i + cut])]
    assert [(request.unit, request.pdu) for request in heard] == asked


def test_a_frame_with_a_wrong_crc_is_skipped() -> None:
    good = ModbusReply(1, bytes.fromhex("0300000002"), None)
    [request] = RtuDeframer().feed(good.encode_spoilt() + good.encode())
    assert (request.unit, request.pdu) == (1, good.pdu)


@pytest.mark.parametrize(
    "header", ["0001 0001 0006 01 03", "0001 0000 0001 01", "0001 0000 0fff 01"]
)
def test_a_bad_header_ends_the_stream(header: str) -> None:
    with pytest.raises(LinkBrokenError):
        TcpDeframer().feed(bytes.fromhex(header))
