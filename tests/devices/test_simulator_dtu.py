"""A simulated DTU dials in, names itself, keeps the line alive and comes back; real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from server.devices.simulator.bank import MeterBank
from server.devices.simulator.config import BankConfig
from server.devices.simulator.dlt645 import Dlt645Deframer, Dlt645Frame
from server.devices.simulator.gateway import DialingGateway
from server.devices.simulator.modbus import ModbusReply

Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def master() -> AsyncIterator[tuple[int, asyncio.Queue[Link]]]:
    """A listener that hands out the links of whoever dials in."""
    links: asyncio.Queue[Link] = asyncio.Queue(8)
    accepted: list[asyncio.StreamWriter] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        links.put_nowait((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], links
    finally:
        server.close()
        for writer in accepted:
            writer.transport.abort()


def bank_dialing(port: int, **gateway: object) -> MeterBank:
    meters = [
        {
            "code": f"M-{n}",
            "profile": "standard/dlt645-2007-relay",
            "address": f"20260524000{n}",
            "start_wh": 1_000 * n,
            "loads": [{"trade": "cinema", "seed": n}],
        }
        for n in (1, 2)
    ]
    fields = {
        "code": "gw",
        "mode": "dtu",
        "dial": f"127.0.0.1:{port}",
        "registration": "DTU000001",
        "meters": meters,
    }
    return MeterBank(msgspec.convert({"gateways": [fields | gateway]}, BankConfig))


async def within_2_s(links: asyncio.Queue[Link]) -> Link:
    return await asyncio.wait_for(links.get(), 2)


async def frames(reader: asyncio.StreamReader, count: int) -> list[Dlt645Frame]:
    deframer = Dlt645Deframer()
    heard: list[Dlt645Frame] = []
    async with asyncio.timeout(2):
        while len(heard) < count:
            heard += deframer.feed(await reader.read(256))
    return heard


async def test_names_itself_then_answers_each_address() -> None:
    async with master() as (port, links), bank_dialing(port):
        reader, writer = await within_2_s(links)
        assert await asyncio.wait_for(reader.readexactly(9), 2) == b"DTU000001"
        for n in (1, 2):
            read = Dlt645Frame(f"20260524000{n}", 0x11, bytes.fromhex("00000100"))
            writer.write(read.encode())
            [answer] = await frames(reader, 1)
            assert (answer.address, answer.control) == (read.address, 0x91)
            assert int(answer.data[4:][::-1].hex()) >= 100 * n


async def test_packets_may_be_hex_and_heartbeats_come() -> None:
    packets = {"registration": "hex:01 02ff", "heartbeat": "hex:fe00", "heartbeat_seconds": 1}
    async with master() as (port, links), bank_dialing(port, **packets):
        reader, _ = await within_2_s(links)
        heard = await asyncio.wait_for(reader.readexactly(5), 3)
        assert heard == b"\x01\x02\xff" + b"\xfe\x00"


async def test_redials_when_the_link_is_lost_on_either_side() -> None:
    async with master() as (port, links), bank_dialing(port) as bank:
        reader, writer = await within_2_s(links)
        writer.transport.abort()
        reader, writer = await within_2_s(links)
        assert await asyncio.wait_for(reader.readexactly(9), 2) == b"DTU000001"
        assert bank.gateways["gw"].link_count == 1
        bank.gateways["gw"].drop_links()
        reader, writer = await within_2_s(links)
        assert await asyncio.wait_for(reader.readexactly(9), 2) == b"DTU000001"


async def test_pauses_grow_while_nobody_listens() -> None:
    async with master() as (port, _):
        pass
    async with bank_dialing(port) as bank:
        gateway = bank.gateways["gw"]
        assert isinstance(gateway, DialingGateway)
        await asyncio.sleep(0.9)  # dials at 0, 0.2 and 0.6 s
        assert 2 <= gateway.dial_count <= 3
        assert gateway.link_count == 0


async def test_stays_down_until_it_is_brought_up() -> None:
    async with master() as (port, links), bank_dialing(port) as bank:
        await within_2_s(links)
        await bank.gateways["gw"].stop()
        await asyncio.sleep(0.3)
        assert links.empty()
        await bank.gateways["gw"].start()
        await within_2_s(links)


async def test_two_meters_that_answer_at_once_spoil_each_other() -> None:
    async with master() as (port, links), bank_dialing(port):
        reader, writer = await within_2_s(links)
        await reader.readexactly(9)
        writer.write(Dlt645Frame("AAAAAAAAAAAA", 0x13, b"").encode())
        noise = await asyncio.wait_for(reader.read(256), 2)
        assert len(noise) == 22
        assert Dlt645Deframer().feed(noise) == []


async def test_a_dtu_may_carry_modbus_rtu() -> None:
    meter = {"code": "M-1", "profile": "example/demo-relay", "unit": 5, "start_wh": 70}
    async with (
        master() as (port, links),
        bank_dialing(port, protocol="modbus-rtu", meters=[meter]),
    ):
        reader, writer = await within_2_s(links)
        await reader.readexactly(9)
        writer.write(ModbusReply(5, bytes.fromhex("0300000002"), None).encode())
        answer = await asyncio.wait_for(reader.readexactly(9), 2)
        assert answer == ModbusReply(5, bytes.fromhex("030400000007"), None).encode()
