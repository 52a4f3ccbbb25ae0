"""Bytes of a meter as numbers, exactly: integers and Decimal; a float32 by its shortest text."""

import math
import struct
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from server.devices.errors import MeterValueError


class Kind(StrEnum):
    """How the bytes, brought into big-endian order, are to be read."""

    UNSIGNED = "unsigned"
    SIGNED = "signed"
    FLOAT = "float"
    BCD = "bcd"
    SIGNED_BCD = "signed_bcd"  # the highest bit is the sign: DL/T 645's power and current


class Order(StrEnum):
    """In which order the bytes travel."""

    BIG = "big"
    LITTLE_WORDS = "little_words"  # Modbus: low register first, each register big-endian
    LITTLE_BYTES = "little_bytes"  # DL/T 645, and the bits of Modbus functions 1 and 2


@dataclass(frozen=True, slots=True)
class Codec:
    """A number's kind, its size in bytes and their order."""

    kind: Kind
    size: int
    order: Order

    @property
    def span(self) -> int | None:
        """The count after which a counter of this kind starts again; None for a float."""
        match self.kind:
            case Kind.UNSIGNED:
                return 1 << (8 * self.size)
            case Kind.SIGNED:
                return 1 << (8 * self.size - 1)
            case Kind.BCD:
                return int("1" + "00" * self.size)
            case Kind.SIGNED_BCD:
                return int("8" + "0" * (2 * self.size - 1))
            case Kind.FLOAT:
                return None

    def integer(self, data: bytes) -> int:
        """The bytes as a bit pattern, for states and masks."""
        return int.from_bytes(self._big_endian(data))

    def digits(self, data: bytes) -> str:
        """The bytes as an identity: BCD keeps its leading zeros."""
        if self.kind is Kind.BCD:
            return self._big_endian(data).hex()
        return str(self.number(data))

    def number(self, data: bytes) -> Decimal | None:
        """The value; None where the meter says that there is none. Raises MeterValueError."""
        raw = self._big_endian(data)
        match self.kind:
            case Kind.UNSIGNED:
                return Decimal(int.from_bytes(raw))
            case Kind.SIGNED:
                return Decimal(int.from_bytes(raw, signed=True))
            case Kind.FLOAT:
                return decimal_from_float32(raw)
            case _:
                return self._bcd(raw)

    def _bcd(self, raw: bytes) -> Decimal | None:
        if raw == b"\xff" * len(raw):
            return None
        sign = 1
        if self.kind is Kind.SIGNED_BCD and raw[0] & 0x80:
            sign, raw = -1, bytes([raw[0] & 0x7F]) + raw[1:]
        digits = raw.hex()
        if not digits.isdigit():
            raise MeterValueError(f"{digits} is not BCD")
        return Decimal(sign * int(digits))

    def _big_endian(self, data: bytes) -> bytes:
        match self.order:
            case Order.BIG:
                return data
            case Order.LITTLE_BYTES:
                return data[::-1]
            case Order.LITTLE_WORDS:
                return b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))


def decimal_from_float32(raw: bytes) -> Decimal:
    """The shortest decimal that is this float32: 0.1 stays 0.1, not 0.100000001490116."""
    (value,) = struct.unpack(">f", raw)
    if not math.isfinite(value):
        raise MeterValueError(f"the float is {value}")
    for digits in range(1, 9):
        text = f"{value:.{digits}g}"
        try:
            if struct.pack(">f", float(text)) == raw:
                return Decimal(text)
        except OverflowError:  # rounded up past the largest float32: more digits are needed
            continue
    return Decimal(f"{value:.9g}")  # nine digits always suffice
