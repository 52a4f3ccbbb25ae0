"""Modbus on the server's side: framing for TCP and RTU, and the answers from a register layout."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from server.devices.simulator.layouts import Layout, RegisterRefusedError
from server.devices.simulator.meter import Meter
from server.devices.simulator.speech import LinkBrokenError

READ_COILS, READ_HOLDING, READ_INPUT, WRITE_COIL, WRITE_REGISTERS = 1, 3, 4, 5, 16
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3

_MBAP = struct.Struct(">HHHB")
_PDU_MAX = 253
_RTU_MAX = 256
_RTU_SHORT = 8
_REGISTERS_MAX = 125
_ERROR_BIT = 0x80
_UNIT_MAX = 247


def crc16(data: bytes | bytearray) -> int:
    """The CRC of Modbus RTU."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc


@dataclass(frozen=True, slots=True)
class ModbusRequest:
    """One request; `transaction` is None on RTU."""

    unit: int
    pdu: bytes
    transaction: int | None
    wire_bytes: int


@dataclass(frozen=True, slots=True)
class ModbusReply:
    """One answer; `transaction` is None on RTU."""

    unit: int
    pdu: bytes
    transaction: int | None

    def encode(self) -> bytes:
        """The frame: MBAP header on TCP, CRC on RTU."""
        if self.transaction is None:
            body = bytes([self.unit]) + self.pdu
            return body + struct.pack("<H", crc16(body))
        return _MBAP.pack(self.transaction, 0, len(self.pdu) + 1, self.unit) + self.pdu

    def encode_spoilt(self) -> bytes:
        """A wrong CRC on RTU; TCP has none, so there another transaction is answered."""
        if self.transaction is not None:
            return replace(self, transaction=self.transaction ^ 0x5555).encode()
        frame = self.encode()
        return frame[:-1] + bytes([frame[-1] ^ 0xFF])

    def from_neighbour(self) -> "ModbusReply":
        """The same answer by the next unit."""
        return replace(self, unit=self.unit % _UNIT_MAX + 1)


class TcpDeframer:
    """Requests out of a Modbus TCP stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[ModbusRequest]:
        """The requests that these bytes complete; raises LinkBrokenError on a bad header."""
        self._buffer += data
        requests: list[ModbusRequest] = []
        while len(self._buffer) >= _MBAP.size:
            transaction, protocol, length, unit = _MBAP.unpack_from(self._buffer)
            if protocol != 0 or not 2 <= length <= _PDU_MAX + 1:
                raise LinkBrokenError(f"no Modbus TCP header: {self._buffer[:7].hex(' ')}")
            end = _MBAP.size - 1 + length
            if len(self._buffer) < end:
                break
            pdu = bytes(self._buffer[_MBAP.size : end])
            requests.append(ModbusRequest(unit, pdu, transaction, end))
            del self._buffer[:end]
        return requests

    def reset(self) -> None:
        """TCP keeps its order: half a frame stays."""


class RtuDeframer:
    """Requests out of a Modbus RTU stream: the function tells the length, the CRC decides."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[ModbusRequest]:
        """The requests that these bytes complete; bytes that begin no frame are skipped."""
        self._buffer += data
        requests: list[ModbusRequest] = []
        start = 0
        while start < len(self._buffer):
            size = self._frame_size(start)
            if size is None:
                break
            if size == 0:
                start += 1
                continue
            frame = bytes(self._buffer[start : start + size])
            requests.append(ModbusRequest(frame[0], frame[1:-2], None, size))
            start += size
        del self._buffer[: max(start, len(self._buffer) - _RTU_MAX)]
        return requests

    def reset(self) -> None:
        """Silence ends a frame."""
        self._buffer.clear()

    def _frame_size(self, start: int) -> int | None:
        """Length of the frame at `start`; 0: none begins here; None: more bytes are needed."""
        here = self._buffer[start:]
        if len(here) < 2:
            return None
        if here[1] in {15, WRITE_REGISTERS}:
            if len(here) < 7:
                return None
            sizes = [9 + here[6]]
        elif 1 <= here[1] <= 6:
            sizes = [8]
        else:  # a function that we don't know still gets its exception
            sizes = list(range(4, min(len(here), _RTU_MAX) + 1))
        if sizes and sizes[-1] > _RTU_MAX:
            return 0
        for size in sizes:
            if len(here) < size:
                return None
            if struct.pack("<H", crc16(here[: size - 2])) == here[size - 2 : size]:
                return size
        return 0 if len(here) >= _RTU_SHORT else None


class ModbusSpeech:
    """A bus of meters that speak Modbus; `rtu` chooses the framing."""

    def __init__(self, meters: Mapping[int, tuple[Meter, Layout]], *, rtu: bool) -> None:
        self._meters = meters
        self._rtu = rtu

    def deframer(self) -> TcpDeframer | RtuDeframer:
        """A fresh one for a new connection."""
        return RtuDeframer() if self._rtu else TcpDeframer()

    def addressed(self, request: ModbusRequest) -> Sequence[Meter]:
        """The meter with this unit, if there is one; a broadcast moves nobody."""
        known = self._meters.get(request.unit)
        return () if known is None else (known[0],)

    def execute(self, request: ModbusRequest, meter: Meter) -> ModbusReply:
        """Reads or writes registers; what the layout lacks is refused with its exception."""
        _, layout = self._meters[request.unit]
        try:
            pdu = _answer(request.pdu, layout, meter)
        except RegisterRefusedError as refusal:
            return self.refuse(request, meter, refusal.code)
        return ModbusReply(request.unit, pdu, request.transaction)

    def refuse(self, request: ModbusRequest, _meter: Meter, code: int) -> ModbusReply:
        """An exception response."""
        pdu = bytes([(request.pdu[0] if request.pdu else 0) | _ERROR_BIT, code])
        return ModbusReply(request.unit, pdu, request.transaction)


def _answer(pdu: bytes, layout: Layout, meter: Meter) -> bytes:
    """The response to one request; raises RegisterRefusedError."""
    function = pdu[0]
    if function not in layout.functions:
        raise RegisterRefusedError(ILLEGAL_FUNCTION)
    if len(pdu) < 5:
        raise RegisterRefusedError(ILLEGAL_VALUE)
    address, second = struct.unpack_from(">HH", pdu, 1)
    if function == WRITE_COIL:
        layout.write(meter, function, address, (second,))
        return pdu[:5]
    if function == WRITE_REGISTERS:
        layout.write(meter, function, address, _written_words(pdu, second))
        return pdu[:5]
    if not 1 <= second <= _REGISTERS_MAX:
        raise RegisterRefusedError(ILLEGAL_VALUE)
    values = layout.read(meter, function, address, second)
    if function == READ_COILS:
        packed = sum(bit << i for i, bit in enumerate(values))
        data = packed.to_bytes((second + 7) // 8, "little")
    else:
        data = struct.pack(f">{second}H", *values)
    return bytes([function, len(data)]) + data


def _written_words(pdu: bytes, count: int) -> tuple[int, ...]:
    """The words of a write of several registers; raises RegisterRefusedError."""
    if not 1 <= count <= 123 or len(pdu) != 6 + 2 * count or pdu[5] != 2 * count:
        raise RegisterRefusedError(ILLEGAL_VALUE)
    return struct.unpack_from(f">{count}H", pdu, 6)
