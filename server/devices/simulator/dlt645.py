"""DL/T 645-2007 on the meter's side: frames in and out, the data it shows, relay control."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from server.devices.simulator.config import PERMIT_ONLY
from server.devices.simulator.meter import Meter

READ, READ_ADDRESS, CONTROL = 0x11, 0x13, 0x1C
ANSWER_BIT, REFUSAL_BITS = 0x80, 0xC0
OTHER_ERROR, NO_SUCH_DATA, WRONG_PASSWORD = 0x01, 0x02, 0x04
TRIP, PERMIT_CLOSING, CLOSE, PROTECT, UNPROTECT = 0x1A, 0x1B, 0x1C, 0x3A, 0x3B

_START, _END, _PREAMBLE, _MASK, _WILDCARD = 0x68, 0x16, b"\xfe" * 4, 0x33, "AA"
_LENGTH_MAX = 200
_OVERHEAD = 12
_CONTROL_BYTES = 16
_RELAY_OPEN, _COMMAND_OPEN = 0x0010, 0x0040
_ABSENT_PHASE = b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Dlt645Frame:
    """A frame either way; the address as it is printed on the meter, the data without its mask."""

    address: str
    control: int
    data: bytes

    def encode(self) -> bytes:
        """The frame behind its wake-up bytes."""
        return _PREAMBLE + self._body()

    def encode_spoilt(self) -> bytes:
        """The frame with a wrong sum."""
        frame = self.encode()
        return frame[:-2] + bytes([frame[-2] ^ 0xFF, frame[-1]])

    def from_neighbour(self) -> "Dlt645Frame":
        """The same content in the name of the next meter."""
        return replace(self, address=f"{(int(self.address) + 1) % 10**12:012d}")

    @property
    def wire_bytes(self) -> int:
        """Its length without wake-up bytes."""
        return _OVERHEAD + len(self.data)

    def _body(self) -> bytes:
        body = bytearray([_START, *reversed(bytes.fromhex(self.address)), _START])
        body += bytes([self.control, len(self.data)])
        body += bytes((byte + _MASK) & 0xFF for byte in self.data)
        return bytes([*body, sum(body) & 0xFF, _END])


class Dlt645Deframer:
    """Frames out of a stream; wake-up bytes, junk and frames with a wrong sum are skipped."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Dlt645Frame]:
        """The frames that these bytes complete."""
        self._buffer += data
        frames: list[Dlt645Frame] = []
        while (start := self._buffer.find(_START)) >= 0:
            del self._buffer[:start]
            size = self._frame_size()
            if size is None:
                return frames
            if size:
                frames.append(_decode(bytes(self._buffer[:size])))
            del self._buffer[: size or 1]
        self._buffer.clear()
        return frames

    def reset(self) -> None:
        """Silence ends a frame."""
        self._buffer.clear()

    def _frame_size(self) -> int | None:
        """Length of the frame that begins the buffer; 0: none does; None: more is needed."""
        here = self._buffer
        if len(here) > 7 and here[7] != _START:
            return 0
        if len(here) < 10:
            return None
        size = _OVERHEAD + here[9]
        if here[9] > _LENGTH_MAX:
            return 0
        if len(here) < size:
            return None
        whole = here[size - 1] == _END and sum(here[: size - 2]) & 0xFF == here[size - 2]
        return size if whole else 0


def _decode(frame: bytes) -> Dlt645Frame:
    data = bytes((byte - _MASK) & 0xFF for byte in frame[10:-2])
    return Dlt645Frame(frame[6:0:-1].hex().upper(), frame[8], data)


def bcd(value: int, size: int) -> bytes:
    """The last 2 x size decimal digits, low byte first."""
    return bytes.fromhex(f"{value % 10 ** (2 * size):0{2 * size}d}")[::-1]


Show = Callable[[Meter], bytes]


def _number(show: Callable[[Meter], int], size: int, *, times: int = 1, per_count: int = 1) -> Show:
    """A data item: what the meter shows, scaled, as BCD."""
    return lambda meter: bcd(show(meter) * times // per_count, size)


def _block(*parts: Show) -> Show:
    """Several data items in one answer."""
    return lambda meter: b"".join(part(meter) for part in parts)


def _constant(data: bytes) -> Show:
    return lambda _meter: data


def _address(meter: Meter) -> bytes:
    return bytes.fromhex(meter.config.address or "")[::-1]


def _status_word_3(meter: Meter) -> bytes:
    """Bit 4: the relay is open; bit 6: it is commanded to be."""
    relay = 0 if meter.shown_connected else _RELAY_OPEN
    command = 0 if meter.commanded_connected or meter.permitted else _COMMAND_OPEN
    return (relay | command).to_bytes(2, "little")


_TOTAL = _number(Meter.show_energy_wh, 4, per_count=10)
_SHARP = _number(Meter.show_sharp_wh, 4, per_count=10)
_PEAK = _number(Meter.show_peak_wh, 4, per_count=10)
_FLAT = _number(Meter.show_flat_wh, 4, per_count=10)
_VALLEY = _number(Meter.show_valley_wh, 4, per_count=10)
_VOLTAGE = _number(Meter.show_decivolts, 2)
_CURRENT = _number(Meter.show_current_ma, 3)
_POWER = _number(Meter.show_power_w, 3, times=10)

DATA_ITEMS: Mapping[str, Show] = {
    "00000000": _TOTAL,  # combined active energy
    "00010000": _TOTAL,  # forward active energy, then by period, then all at once
    "00010100": _SHARP,
    "00010200": _PEAK,
    "00010300": _FLAT,
    "00010400": _VALLEY,
    "0001FF00": _block(_TOTAL, _SHARP, _PEAK, _FLAT, _VALLEY),
    "02010100": _VOLTAGE,
    "0201FF00": _block(_VOLTAGE, _constant(_ABSENT_PHASE * 2)),
    "02020100": _CURRENT,
    "02030000": _POWER,
    "02030100": _POWER,
    "02060000": _number(Meter.show_power_factor_permille, 2),
    "02800002": _constant(bcd(5_000, 2)),  # 50.00 Hz
    "04000401": _address,
    "04000503": _status_word_3,
}


class Dlt645Speech:
    """A bus of meters that speak DL/T 645-2007."""

    def __init__(self, meters: Mapping[str, Meter]) -> None:
        self._meters = meters

    def deframer(self) -> Dlt645Deframer:
        """A fresh one for a new connection."""
        return Dlt645Deframer()

    def addressed(self, request: Dlt645Frame) -> Sequence[Meter]:
        """The meters whose address fits; AA stands for any two digits."""
        return [meter for address, meter in self._meters.items() if _fits(request.address, address)]

    def execute(self, request: Dlt645Frame, meter: Meter) -> Dlt645Frame | None:
        """Reads or works the relay; None for what is no request."""
        if request.control == READ:
            return self._read(request, meter)
        if request.control == READ_ADDRESS and not request.data:
            return _answer(request, meter, _address(meter))
        if request.control == CONTROL:
            error = _control(request.data, meter)
            return self.refuse(request, meter, error) if error else _answer(request, meter, b"")
        return None if request.control & ANSWER_BIT else self.refuse(request, meter, OTHER_ERROR)

    def refuse(self, request: Dlt645Frame, meter: Meter, code: int) -> Dlt645Frame:
        """An abnormal answer with its error word."""
        control = request.control | REFUSAL_BITS
        return Dlt645Frame(meter.config.address or "", control, bytes([code]))

    def _read(self, request: Dlt645Frame, meter: Meter) -> Dlt645Frame:
        show = DATA_ITEMS.get(request.data[3::-1].hex().upper()) if len(request.data) == 4 else None
        if show is None:
            return self.refuse(request, meter, NO_SUCH_DATA)
        return _answer(request, meter, request.data + show(meter))


def _answer(request: Dlt645Frame, meter: Meter, data: bytes) -> Dlt645Frame:
    return Dlt645Frame(meter.config.address or "", request.control | ANSWER_BIT, data)


def _fits(pattern: str, address: str) -> bool:
    pairs = ((pattern[i : i + 2], address[i : i + 2]) for i in range(0, len(address), 2))
    return all(wanted in {_WILDCARD, own} for wanted, own in pairs)


def _control(data: bytes, meter: Meter) -> int:
    """Obeys a relay command; the error word, 0 for none. Password and level come first."""
    if len(data) != _CONTROL_BYTES:
        return OTHER_ERROR
    if data[:4] != bytes.fromhex(meter.config.password):
        return WRONG_PASSWORD
    if not _still_valid(data[10:], meter.local_now()):
        return OTHER_ERROR
    match data[8]:
        case code if code == TRIP and not meter.protected:
            meter.command_relay(connect=False)
        case code if code == PERMIT_CLOSING:
            meter.permit_closing()
        case code if code == CLOSE and meter.config.profile != PERMIT_ONLY:
            meter.command_relay(connect=True)
        case code if code in {PROTECT, UNPROTECT}:
            meter.protect(protected=code == PROTECT)
        case _:
            return OTHER_ERROR
    return 0


def _still_valid(until: bytes, now: datetime) -> bool:
    """Whether a command's ssmmhhDDMMYY lies ahead; all zero never ends."""
    if not any(until):
        return True
    try:
        second, minute, hour, day, month, year = (int(f"{byte:x}") for byte in until)
        return now < datetime(2000 + year, month, day, hour, minute, second, tzinfo=now.tzinfo)
    except ValueError:
        return False
