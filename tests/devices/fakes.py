"""Gateways and meters for tests, on real sockets; they share no codec with the product."""

import asyncio
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

Said = Iterable[bytes | float]  # bytes are sent, a number is a pause in seconds
Script = Callable[[bytes], Said]


def crc16(data: bytes) -> bytes:
    """Modbus's CRC, bit by bit."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


def rtu(unit: int, pdu: bytes) -> bytes:
    """An RTU frame."""
    return bytes([unit]) + pdu + crc16(bytes([unit]) + pdu)


def tcp(transaction: int, unit: int, pdu: bytes) -> bytes:
    """A Modbus TCP frame."""
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


def registers(function: int, *values: int) -> bytes:
    """The PDU of a register answer."""
    return bytes([function, 2 * len(values)]) + struct.pack(f">{len(values)}H", *values)


def dlt645(address: str, control: int, data: bytes) -> bytes:
    """A DL/T 645 frame."""
    body = b"\x68" + bytes.fromhex(address)[::-1] + b"\x68" + bytes([control, len(data)])
    body += bytes((byte + 0x33) % 256 for byte in data)
    return body + bytes([sum(body) % 256, 0x16])


@dataclass
class DemoMeter:
    """A meter with the example/demo-relay map. `speed`: registers answer as they are now."""

    energy: int = 12_345  # hundredths of a kWh
    identity: int = 7_001
    connected: bool = True
    stuck: bool = False  # a welded relay acknowledges and does not move
    requests: list[bytes] = field(default_factory=list)

    def answer(self, pdu: bytes) -> bytes:
        """The PDU with which the meter answers."""
        self.requests.append(pdu)
        function, address, value = struct.unpack(">BHH", pdu[:5])
        if (function, address) == (5, 0):
            self.connected = self.connected if self.stuck else value == 0xFF00
            return pdu
        if (function, address) == (1, 0):
            return bytes([1, 1, self.connected])
        if function == 3 and address in {0, 0xF010}:
            number = self.energy if address == 0 else self.identity
            return registers(3, number >> 16, number & 0xFFFF)
        if (function, address) == (4, 12):
            return b"\x04\x04" + struct.pack(">f", 1_500)
        return bytes([function | 0x80, 2])

    def writes(self) -> int:
        """How often the relay was written."""
        return sum(pdu[0] == 5 for pdu in self.requests)


def rtu_bus(meters: dict[int, DemoMeter]) -> Script:
    """Meters behind a transparent gateway; whom nobody knows stays silent."""

    def script(request: bytes) -> Said:
        meter = meters.get(request[0])
        if meter is not None and crc16(request[:-2]) == request[-2:]:
            yield rtu(request[0], meter.answer(request[1:-2]))

    return script


def tcp_bus(meters: dict[int, DemoMeter]) -> Script:
    """Meters behind a Modbus TCP gateway."""

    def script(request: bytes) -> Said:
        meter = meters.get(request[6])
        if meter is not None:
            number = int.from_bytes(request[:2], "big")
            yield tcp(number, request[6], meter.answer(request[7:]))

    return script


class FakeGateway:
    """A TCP server that takes each arriving piece for a request and follows a script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.port = 0
        self.connections = 0
        self.heard: list[tuple[float, bytes]] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.vanish()

    async def listen(self) -> None:
        """Open the port, the same as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def hang_up(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def vanish(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            self.hang_up()
            await self._server.wait_closed()
            await until(lambda: not self._writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while data := await reader.read(4_096):
                self.heard.append((asyncio.get_running_loop().time(), data))
                for said in self.script(data):
                    if isinstance(said, bytes):
                        writer.write(said)
                        await writer.drain()
                    else:
                        await asyncio.sleep(said)
        except ConnectionError:
            pass  # the test hung up
        finally:
            self._writers.discard(writer)
            writer.close()


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until something is so; fails the test when it does not become so."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - a test looks from outside, without an event
            await asyncio.sleep(0.005)
