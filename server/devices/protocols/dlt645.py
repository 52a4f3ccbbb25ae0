"""DL/T 645-2007, our own codec: frames, reads, error answers and relay control.

`[FE x 0-4] 68 A0..A5 68 C L DATA+33h CS 16`: the address is BCD, low byte first; CS is the sum of
everything from the first 68, modulo 256. The standard's sections 5 to 7 and annex A.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from server.devices.errors import MisconfiguredError
from server.devices.protocols.exchange import Answered, Found, Refused, Stray, StrayReason
from server.devices.protocols.requests import DataRead, RegisterRead, RegisterWrite, RelayCommand

START, END, OFFSET = 0x68, 0x16, 0x33
PREAMBLE = b"\xfe" * 4
OVERHEAD = 12  # two starts, address, control, length, checksum, end
LONGEST_DATA = 200

READ, RELAY = 0x11, 0x1C
ANSWER, ERROR, MORE = 0x80, 0x40, 0x20
TRIP, PERMIT_CLOSING, CLOSE = 0x1A, 0x1B, 0x1C

# The hour until which a meter may carry the command out, ssmmhhDDMMYY: far away, as a published
# capture of a working meter has it; a command counts from the moment it arrives.
VALID_UNTIL = bytes.fromhex("000000301299")

ERROR_BITS: Final = (
    "other error",
    "no such data",
    "wrong password or no permission",
    "baud rate cannot be changed",
    "too many seasons",
    "too many day periods",
    "too many rates",
    "reserved",
)
NO_SUCH_DATA, NO_PERMISSION = 0x02, 0x04


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame's content: address as printed on the meter, control code, data without its 33h."""

    address: str
    control: int
    data: bytes


def full_address(text: str) -> str:
    """The printed address with its leading zeros; no wildcard, no broadcast."""
    digits = text.zfill(12) if text else ""
    if len(digits) != 12 or not (digits.isascii() and digits.isdigit()) or digits == "9" * 12:
        raise MisconfiguredError(f"a DL/T 645 address is up to 12 digits, not {text!r}")
    return digits


def build_frame(frame: Frame) -> bytes:
    """The bytes from the first 68 to 16, without the preamble."""
    body = bytes([START]) + bytes.fromhex(frame.address)[::-1] + bytes([START, frame.control])
    body += bytes([len(frame.data)]) + bytes((byte + OFFSET) & 0xFF for byte in frame.data)
    return body + bytes([sum(body) & 0xFF, END])


def find_frames(heard: bytes) -> Iterator[tuple[int, int, Frame]]:
    """Every sound frame and where it stands, by its start; frames may overlap."""
    at = heard.find(START)
    while at >= 0:
        end = _sound_end(heard, at)
        if end:
            yield at, end, _decode(heard[at:end])
        at = heard.find(START, at + 1)


def _sound_end(heard: bytes, at: int) -> int:
    """Where the frame that begins here ends; 0 when it is incomplete or not sound."""
    if len(heard) < at + OVERHEAD or heard[at + 7] != START or heard[at + 9] > LONGEST_DATA:
        return 0
    end = at + OVERHEAD + heard[at + 9]
    if len(heard) < end or heard[end - 1] != END:
        return 0
    return end if sum(heard[at : end - 2]) & 0xFF == heard[end - 2] else 0


def _decode(frame: bytes) -> Frame:
    data = bytes((byte - OFFSET) & 0xFF for byte in frame[10:-2])
    return Frame(address=frame[6:0:-1].hex(), control=frame[8], data=data)


@dataclass(frozen=True, slots=True)
class Dlt645Exchange:
    """One request to one address. `di` is how it travels (low byte first), empty for control."""

    address: str
    control: int
    data: bytes
    di: bytes = b""
    size: int = 0
    exact: bool = True

    @property
    def frame(self) -> bytes:
        """The request with its waking preamble."""
        return PREAMBLE + build_frame(Frame(self.address, self.control, self.data))

    @property
    def answer_size(self) -> int:
        """With the preamble that a meter may send."""
        return len(PREAMBLE) + OVERHEAD + len(self.di) + self.size

    @property
    def shape(self) -> Hashable | None:
        """An answer names meter and data, but not which of two equal requests it is for."""
        return ("dlt645", self.address, self.control, self.di)

    def find(self, heard: bytes) -> Found | None:
        """The sound frame that belongs and ends first."""
        best: Found | None = None
        for start, end, frame in find_frames(heard):
            if best is not None and end >= best.end:
                continue
            answer = self._answer(frame)
            if answer is not None:
                best = Found(start, end, answer)
        return best

    def _answer(self, frame: Frame) -> Answered | Refused | None:
        if frame.address != self.address:
            return None
        if frame.control == self.control | ANSWER | ERROR and frame.data:
            return refusal(frame.data[0])
        if frame.control & ~MORE != self.control | ANSWER:
            return None
        payload = frame.data[len(self.di) :]
        fits = len(payload) == self.size if self.exact else len(payload) >= self.size
        return Answered(payload) if fits and frame.data.startswith(self.di) else None

    def strays(self, heard: bytes) -> Sequence[Stray]:
        """Other meters' frames, our own broken ones, and noise."""
        strays: list[Stray] = []
        at = 0
        for start, end, _ in find_frames(heard):
            if start < at:
                continue
            strays += self._noise(heard[at:start])
            strays.append(Stray(StrayReason.OTHER, heard[start:end]))
            at = end
        return strays + self._noise(heard[at:])

    def _noise(self, data: bytes) -> list[Stray]:
        data = data.strip(b"\xfe")  # waking bytes belong to the frame behind them
        if not data:
            return []
        head = bytes([START]) + bytes.fromhex(self.address)[::-1]
        return [Stray(StrayReason.BROKEN if head in data else StrayReason.NOISE, data)]


@dataclass(frozen=True, slots=True)
class Dlt645Speaker:
    """Frames requests to one meter. `password` (PA P0 P1 P2) and `operator` as they travel."""

    address: str
    password: bytes
    operator: bytes

    def __post_init__(self) -> None:
        if full_address(self.address) != self.address:
            raise MisconfiguredError("a DL/T 645 address is spoken in full, with its zeros")
        if len(self.password) != 4 or len(self.operator) != 4:
            raise MisconfiguredError("DL/T 645 has 4 bytes of password and 4 of operator")

    def ask(
        self, request: RegisterRead | RegisterWrite | DataRead | RelayCommand
    ) -> Dlt645Exchange:
        """The exchange for one request."""
        if isinstance(request, DataRead):
            di = request.di[::-1]
            return Dlt645Exchange(self.address, READ, di, di, request.size, request.exact)
        if isinstance(request, RelayCommand):
            data = self.password + self.operator + bytes([request.code, 0]) + VALID_UNTIL
            return Dlt645Exchange(self.address, RELAY, data)
        raise MisconfiguredError("a Modbus request cannot be asked of a DL/T 645 meter")


def refusal(error: int) -> Refused:
    """An error answer in words, by bit."""
    meaning = ", ".join(text for bit, text in enumerate(ERROR_BITS) if error >> bit & 1)
    return Refused(error, meaning or "unnamed error", permanent=bool(error & NO_SUCH_DATA))
