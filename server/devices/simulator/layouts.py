"""Register layouts of the simulated Modbus meters, as data.

Sources: `example/demo-relay` is the example in the public contract (meter profiles);
`acrel/ddsy1352-older` is the map read from the vendor's configuration tool for
DDSY1352/DTSY1352/ADF300 (48 registers from 0, status in 36; forced control at 87).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from server.devices.simulator.meter import Meter

ILLEGAL_ADDRESS, ILLEGAL_VALUE = 2, 3
_COIL_ON, _COIL_OFF = 0xFF00, 0x0000


class RegisterRefusedError(Exception):
    """The meter has no such register, or not with this value; `code` is the Modbus exception."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}")
        self.code = code


class WordType(StrEnum):
    """How a value lies in registers; high word first."""

    BIT = "bit"
    U16 = "u16"
    I16 = "i16"
    U32 = "u32"
    F32 = "f32"


@dataclass(frozen=True, slots=True)
class Area:
    """Registers that can be read; those without a field hold zero."""

    function: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Field:
    """One value: the raw number is what the meter shows divided by `per_count`."""

    function: int
    address: int
    type: WordType
    show: Callable[[Meter], int]
    per_count: int = 1

    def words(self, meter: Meter) -> tuple[int, ...]:
        """The registers of this field now."""
        raw = self.show(meter) // self.per_count
        match self.type:
            case WordType.BIT:
                return (raw & 1,)
            case WordType.U16 | WordType.I16:
                return (raw & 0xFFFF,)
            case WordType.U32:
                return (raw >> 16 & 0xFFFF, raw & 0xFFFF)
            case WordType.F32:
                return struct.unpack(">HH", struct.pack(">f", raw))

    @property
    def width(self) -> int:
        """How many registers it fills."""
        return 2 if self.type in {WordType.U32, WordType.F32} else 1


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model answers to which request."""

    areas: tuple[Area, ...]
    fields: tuple[Field, ...]
    write_function: int
    write_address: int
    write_relay: Callable[[Meter, tuple[int, ...]], None]

    @property
    def functions(self) -> frozenset[int]:
        """The function codes that this model knows."""
        return frozenset({area.function for area in self.areas} | {self.write_function})

    def read(self, meter: Meter, function: int, address: int, count: int) -> list[int]:
        """The registers of a range inside one area; raises RegisterRefusedError."""
        if not any(
            area.function == function
            and area.first <= address
            and address + count <= area.first + area.count
            for area in self.areas
        ):
            raise RegisterRefusedError(ILLEGAL_ADDRESS)
        values = [0] * count
        for field in self.fields:
            if field.function != function or not (
                address - field.width < field.address < address + count
            ):
                continue
            for i, word in enumerate(field.words(meter), field.address - address):
                if 0 <= i < count:
                    values[i] = word
        return values

    def write(self, meter: Meter, function: int, address: int, values: tuple[int, ...]) -> None:
        """Works the relay; raises RegisterRefusedError."""
        if function != self.write_function or address != self.write_address:
            raise RegisterRefusedError(ILLEGAL_ADDRESS)
        self.write_relay(meter, values)


def _write_coil(meter: Meter, values: tuple[int, ...]) -> None:
    """Function 5: FF00 connects, 0000 disconnects."""
    if values[0] not in {_COIL_ON, _COIL_OFF}:
        raise RegisterRefusedError(ILLEGAL_VALUE)
    meter.command_relay(connect=values[0] == _COIL_ON)


def _write_forced_control(meter: Meter, values: tuple[int, ...]) -> None:
    """Function 16 at 87: [1 forced or 0 not, 0 close or 1 open]; not forced, the meter connects."""
    if len(values) != 2 or not set(values) <= {0, 1}:
        raise RegisterRefusedError(ILLEGAL_VALUE)
    forced, opened = values
    meter.command_relay(connect=not (forced and opened), forced=forced == 1)


def _forced_word(meter: Meter) -> int:
    return int(meter.forced)


def _forced_action_word(meter: Meter) -> int:
    return int(meter.forced and not meter.commanded_connected)


def _ddsy_status(meter: Meter) -> int:
    """Bits 13-15 relays closed, bit 3 forced control on, bits 0-2 forced state closed."""
    closed = 0xE000 if meter.shown_connected else 0
    forced = 0x0008 if meter.forced else 0
    return closed | forced | (0x0007 if meter.forced and meter.commanded_connected else 0)


def _ddsy_type(_meter: Meter) -> int:
    return 7


def _one(_meter: Meter) -> int:
    return 1


DEMO_RELAY = Layout(
    areas=(Area(3, 0, 2), Area(3, 0xF010, 2), Area(4, 0x0C, 2), Area(1, 0, 1)),
    fields=(
        Field(3, 0, WordType.U32, Meter.show_energy_wh, per_count=10),
        Field(3, 0xF010, WordType.U32, Meter.show_identity),
        Field(4, 0x0C, WordType.F32, Meter.show_power_w),
        Field(1, 0, WordType.BIT, Meter.show_connected),
    ),
    write_function=5,
    write_address=0,
    write_relay=_write_coil,
)

DDSY1352_OLDER = Layout(
    areas=(Area(3, 0, 48), Area(3, 87, 2)),
    fields=(
        Field(3, 0, WordType.U16, _ddsy_type),
        Field(3, 1, WordType.U16, Meter.show_decivolts),
        Field(3, 4, WordType.U16, Meter.show_current_ma, per_count=10),
        Field(3, 7, WordType.I16, Meter.show_power_w),
        Field(3, 10, WordType.I16, Meter.show_power_w),
        Field(3, 18, WordType.I16, Meter.show_power_factor_permille),
        Field(3, 19, WordType.U16, _one),
        Field(3, 20, WordType.U16, _one),
        Field(3, 21, WordType.U32, Meter.show_energy_wh, per_count=10),
        Field(3, 23, WordType.U32, Meter.show_sharp_wh, per_count=10),
        Field(3, 25, WordType.U32, Meter.show_peak_wh, per_count=10),
        Field(3, 27, WordType.U32, Meter.show_flat_wh, per_count=10),
        Field(3, 29, WordType.U32, Meter.show_valley_wh, per_count=10),
        Field(3, 36, WordType.U16, _ddsy_status),
        Field(3, 87, WordType.U16, _forced_word),
        Field(3, 88, WordType.U16, _forced_action_word),
    ),
    write_function=16,
    write_address=87,
    write_relay=_write_forced_control,
)

LAYOUTS: dict[str, Layout] = {
    "example/demo-relay": DEMO_RELAY,
    "acrel/ddsy1352-older": DDSY1352_OLDER,
}
