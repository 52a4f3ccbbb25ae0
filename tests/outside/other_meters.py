"""Another maker's meter bank: Modbus TCP written for this test alone, sharing no code with ours.

Registers and coil as the public contract's example profile says.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import Self


@dataclass
class OtherMeter:
    """One unit: energy in hundredths of a kWh, an identity, a relay coil."""

    energy: int = 12_345
    identity: int = 0x20260001
    coil: bool = True


class OtherMeterBank:
    """Units behind one listening gateway."""

    def __init__(self, units: dict[int, OtherMeter]) -> None:
        self.units = units
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                answer = self._answer(unit, await reader.readexactly(length - 1))
                head = struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit)
                writer.write(head[:3])  # some gateways hand an answer out in pieces
                await asyncio.sleep(0.005)
                writer.write(head[3:] + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            self._writers.discard(writer)

    def _answer(self, unit: int, pdu: bytes) -> bytes:
        meter = self.units.get(unit)
        function, address, value = struct.unpack(">BHH", pdu[:5])
        if meter is None:
            return bytes([function | 0x80, 0x0B])
        answers = {
            (3, 0, 2): struct.pack(">BBI", 3, 4, meter.energy),
            (3, 0xF010, 2): struct.pack(">BBI", 3, 4, meter.identity),
            (4, 12, 2): struct.pack(">BBf", 4, 4, 1_500.0),
            (1, 0, 1): bytes([1, 1, meter.coil]),
        }
        if (function, address) == (5, 0) and value in (0, 0xFF00):
            meter.coil = value == 0xFF00
            return pdu
        return answers.get((function, address, value), bytes([function | 0x80, 2]))
