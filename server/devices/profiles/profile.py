"""A meter model as frozen data: where its numbers are, and how its relay is moved and read back."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from server.core.supply.control_state import ControlState
from server.core.tariff.periods import TouPeriod
from server.devices.profiles.values import Codec
from server.devices.protocols.requests import ReadRequest, WriteRequest

ENERGY_TOTAL = "energy_total"
ENERGY_OF_PERIODS = tuple(f"energy_{period.value}" for period in TouPeriod)
STATE = "@state"  # no point may be called so
IDENTITY = "@identity"

# Units of energy_total, in watt-hours.
WH_PER_UNIT: Mapping[str, int] = {"Wh": 1, "kWh": 1_000, "MWh": 1_000_000}


@dataclass(frozen=True, slots=True)
class RegisterPlace:
    """Where a number is in a Modbus meter."""

    function: int
    address: int


@dataclass(frozen=True, slots=True)
class DataPlace:
    """Where a number is in a DL/T 645 meter: an identifier, and for a block the bytes to skip."""

    di: bytes
    offset: int = 0
    block: bool = False


Place = RegisterPlace | DataPlace


@dataclass(frozen=True, slots=True)
class Point:
    """A number that the meter shows: raw times scale, in `unit`."""

    place: Place
    codec: Codec
    scale: Decimal
    unit: str


@dataclass(frozen=True, slots=True)
class StateRead:
    """The relay's read-back. None for a value that is not known: any other value is that state."""

    place: Place
    codec: Codec
    mask: int
    shift: int
    connected: int | None
    disconnected: int | None

    def decode(self, data: bytes) -> ControlState | None:
        """What the relay is; None where both values are given and neither shows."""
        value = (self.codec.integer(data) & self.mask) >> self.shift
        if value == self.connected:
            return ControlState.CONNECTED
        if value == self.disconnected or self.disconnected is None:
            return ControlState.DISCONNECTED
        return ControlState.CONNECTED if self.connected is None else None


@dataclass(frozen=True, slots=True)
class Supply:
    """The relay. `permits_only`: reconnecting lets somebody press the button on the meter."""

    disconnect: WriteRequest
    reconnect: WriteRequest
    state: StateRead
    permits_only: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """A number that changes when the meter was exchanged."""

    place: Place
    codec: Codec


@dataclass(frozen=True, slots=True)
class Limits:
    """What the meter can show at most; `rollover_wh` is where energy_total starts again."""

    max_power_kw: Decimal | None
    rollover_wh: int


@dataclass(frozen=True, slots=True)
class Part:
    """One value inside an answer: its name and its bytes. `size` 0: all of it."""

    name: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class ReadStep:
    """One request and the values that its answer holds."""

    request: ReadRequest
    parts: tuple[Part, ...]

    def holds(self, *names: str) -> bool:
        """Whether one of these values is in it."""
        return any(part.name in names for part in self.parts)


@dataclass(frozen=True, slots=True)
class Profile:
    """A meter model. `steps` reads neighbours together; `single_steps` asks for each alone."""

    name: str
    protocol: Literal["modbus", "dlt645"]
    points: Mapping[str, Point]
    supply: Supply | None
    identity: Identity | None
    limits: Limits
    source: str
    steps: tuple[ReadStep, ...]
    single_steps: tuple[ReadStep, ...]
    notes: str = ""
