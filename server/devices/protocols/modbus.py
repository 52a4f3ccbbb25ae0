"""Modbus RTU and TCP over pymodbus's PDUs and framers; its client is not used.

The client takes a late RTU answer for the next one. Here an answer must carry the unit, the
function and the byte count or echo that the request calls for, and on TCP the transaction too.
"""

import struct
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from server.devices.errors import MisconfiguredError
from server.devices.protocols.exchange import Answer, Answered, Found, Refused, Stray, StrayReason
from server.devices.protocols.requests import DataRead, RegisterRead, RegisterWrite, RelayCommand

COIL_ON = 0xFF00
BIT_FUNCTIONS = (1, 2)
READ_FUNCTIONS: Final = {
    1: ReadCoilsRequest,
    2: ReadDiscreteInputsRequest,
    3: ReadHoldingRegistersRequest,
    4: ReadInputRegistersRequest,
}
MOST_BITS, MOST_REGISTERS = 2_000, 125
MOST_BITS_WRITTEN, MOST_REGISTERS_WRITTEN = 1_968, 123
HIGHEST_UNIT_RTU, HIGHEST_UNIT_TCP = 247, 255

# Modbus application protocol V1.1b3, section 7
EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledged, still working",
    6: "busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target did not respond",
}
PERMANENT_EXCEPTIONS = frozenset({1, 2, 3, 4})
GATEWAY_EXCEPTIONS = frozenset({10, 11})

_DECODER = DecodePDU(is_server=False)
_RTU = FramerRTU(_DECODER)
_TCP = FramerSocket(_DECODER)


class Framing(StrEnum):
    """How a Modbus PDU travels."""

    RTU = "rtu"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class ModbusExchange:
    """One request; `heads` are the beginnings and sizes of the only frames that can answer it."""

    framing: Framing
    frame: bytes
    heads: tuple[tuple[bytes, int], ...]
    shape: Hashable | None

    @property
    def answer_size(self) -> int:
        """Bytes of the answer that is not an exception."""
        return self.heads[0][1]

    def find(self, heard: bytes) -> Found | None:
        """The sound frame that belongs and ends first."""
        best: Found | None = None
        for head, size in self.heads:
            start = heard.find(head)
            while start >= 0 and start + size <= len(heard):
                if best is not None and start + size >= best.end:
                    break
                answer = _answer(self.framing, heard[start : start + size])
                if answer is not None:
                    best = Found(start, start + size, answer)
                    break
                start = heard.find(head, start + 1)
        return best

    def strays(self, heard: bytes) -> Sequence[Stray]:
        """Other units' frames, our own broken ones, and noise."""
        strays: list[Stray] = []
        noise_from = at = 0
        while at < len(heard):
            size = _sound_size(self.framing, heard, at)
            if not size:
                at += 1
                continue
            strays += self._noise(heard[noise_from:at])
            strays.append(Stray(StrayReason.OTHER, heard[at : at + size]))
            at += size
            noise_from = at
        return strays + self._noise(heard[noise_from:])

    def _noise(self, data: bytes) -> list[Stray]:
        if not data:
            return []
        start = 2 if self.framing is Framing.RTU else 8
        broken = any(head[:start] in data for head, _ in self.heads)
        return [Stray(StrayReason.BROKEN if broken else StrayReason.NOISE, data)]


@dataclass(slots=True)
class ModbusSpeaker:
    """Frames requests to one unit; on TCP each carries a transaction number of its own."""

    framing: Framing
    unit: int
    transaction: int = 0

    def __post_init__(self) -> None:
        highest = HIGHEST_UNIT_RTU if self.framing is Framing.RTU else HIGHEST_UNIT_TCP
        if not 1 <= self.unit <= highest:  # 0 is the broadcast address
            raise MisconfiguredError(f"a Modbus unit is 1 to {highest}, not {self.unit}")

    def ask(
        self, request: RegisterRead | RegisterWrite | DataRead | RelayCommand
    ) -> ModbusExchange:
        """The exchange for one request."""
        if isinstance(request, RegisterRead):
            return self._exchange(_read_pdu(request, self.unit), *_read_answer(request))
        if isinstance(request, RegisterWrite):
            return self._exchange(_write_pdu(request, self.unit), *_write_answer(request))
        raise MisconfiguredError("a DL/T 645 request cannot be asked of a Modbus meter")

    def _exchange(self, pdu: ModbusPDU, head: bytes, size: int) -> ModbusExchange:
        refusal = bytes([pdu.function_code | 0x80])
        unit = bytes([self.unit])
        if self.framing is Framing.RTU:
            heads = ((unit + head, size + 3), (unit + refusal, 5))
            return ModbusExchange(Framing.RTU, _RTU.buildFrame(pdu), heads, ("modbus", *heads[0]))
        self.transaction = self.transaction % 0xFFFF + 1
        pdu.transaction_id = self.transaction
        number = self.transaction.to_bytes(2, "big") + b"\x00\x00"
        heads = (
            (number + (size + 1).to_bytes(2, "big") + unit + head, size + 7),
            (number + b"\x00\x03" + unit + refusal, 9),
        )
        return ModbusExchange(Framing.TCP, _TCP.buildFrame(pdu), heads, None)


def _read_pdu(request: RegisterRead, unit: int) -> ModbusPDU:
    return READ_FUNCTIONS[request.function](
        dev_id=unit, address=request.address, count=request.count
    )


def _read_answer(request: RegisterRead) -> tuple[bytes, int]:
    """How the PDU of the answer begins, and its size."""
    if request.function in BIT_FUNCTIONS:
        byte_count = (request.count + 7) // 8
    else:
        byte_count = request.count * 2
    return bytes([request.function, byte_count]), 2 + byte_count


def _write_pdu(request: RegisterWrite, unit: int) -> ModbusPDU:
    values = request.values
    match request.function:
        case 5:
            return WriteSingleCoilRequest(unit, address=request.address, bits=[values[0] != 0])
        case 6:
            return WriteSingleRegisterRequest(unit, address=request.address, registers=[values[0]])
        case 15:
            bits = [value != 0 for value in values]
            return WriteMultipleCoilsRequest(dev_id=unit, address=request.address, bits=bits)
        case _:
            return WriteMultipleRegistersRequest(unit, address=request.address, registers=values)


def _write_answer(request: RegisterWrite) -> tuple[bytes, int]:
    """The whole echo: 5 and 6 repeat the value, 15 and 16 the number of values."""
    match request.function:
        case 5:
            echoed = COIL_ON if request.values[0] else 0
        case 6:
            echoed = request.values[0]
        case _:
            echoed = len(request.values)
    return struct.pack(">BHH", request.function, request.address, echoed), 5


def _answer(framing: Framing, frame: bytes) -> Answer | None:
    """The content of a frame of exactly the right size; None when it is not sound."""
    framer = _RTU if framing is Framing.RTU else _TCP
    try:
        _, pdu = framer.handleFrame(frame, 0, 0)
    except ModbusException:
        return None
    if pdu is None:
        return None
    if pdu.isError():
        code = pdu.exception_code
        return Refused(
            code=code,
            meaning=EXCEPTIONS.get(code, f"exception {code}"),
            permanent=code in PERMANENT_EXCEPTIONS,
            beyond=code in GATEWAY_EXCEPTIONS,
        )
    if pdu.function_code in BIT_FUNCTIONS:
        return Answered(frame[3:-2] if framing is Framing.RTU else frame[9:])
    if pdu.function_code in READ_FUNCTIONS:
        return Answered(struct.pack(f">{len(pdu.registers)}H", *pdu.registers))
    return Answered(b"")


def _sound_size(framing: Framing, heard: bytes, at: int) -> int:
    """Size of the complete, sound frame of any unit that begins here; 0 for none."""
    if framing is Framing.TCP:
        if len(heard) - at < 9 or heard[at + 2 : at + 4] != b"\x00\x00":
            return 0
        size = 6 + int.from_bytes(heard[at + 4 : at + 6], "big")
        return size if 9 <= size <= min(260, len(heard) - at) else 0
    if len(heard) - at < 5:
        return 0
    pdu_class = _DECODER.lookupPduClass(heard[at:])
    if pdu_class is None:
        return 0
    size = pdu_class.calculateRtuFrameSize(heard[at:])
    if not 5 <= size <= min(256, len(heard) - at):
        return 0
    sound = FramerRTU.check_CRC(
        heard[at : at + size - 2], int.from_bytes(heard[at + size - 2 : at + size], "big")
    )
    return size if sound else 0
