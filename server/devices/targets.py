"""A gateway and a meter as the site file describes them, and how each meter is spoken to."""

from dataclasses import dataclass

from server.devices.errors import MisconfiguredError
from server.devices.links.serial_port import parse_serial_format
from server.devices.pacing import Pace
from server.devices.profiles.profile import Profile
from server.devices.protocols.dlt645 import Dlt645Speaker, full_address
from server.devices.protocols.modbus import Framing, ModbusSpeaker

DEFAULT_BAUD = 9_600
FACTORY_PASSWORD = bytes.fromhex("02000000")
NO_OPERATOR = bytes(4)


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """One bus and the way to it. `dlt645_password` is the level and three bytes, as they travel."""

    code: str
    link: str
    address: str | None = None
    registration: bytes | None = None
    heartbeat: bytes | None = None
    allow_from: tuple[str, ...] = ()
    baud: int | None = None
    serial_format: str = "8N1"
    turnaround_ms: int = 20
    dlt645_password: bytes = FACTORY_PASSWORD
    operator: bytes = NO_OPERATOR


@dataclass(frozen=True, slots=True)
class MeterTarget:
    """One meter on a bus. `identity`: the one it is expected to have, None where not yet known."""

    code: str
    profile: Profile
    unit: int | None = None
    address: str | None = None
    identity: str | None = None


Speaker = ModbusSpeaker | Dlt645Speaker


def speaker_for(config: GatewayConfig, target: MeterTarget) -> Speaker:
    """The protocol of this meter on this bus; raises MisconfiguredError."""
    try:
        return _speaker(config, target)
    except MisconfiguredError as error:
        raise MisconfiguredError(f"meter {target.code}: {error.detail}") from error


def _speaker(config: GatewayConfig, target: MeterTarget) -> Speaker:
    if target.profile.protocol == "dlt645":
        if config.link == "modbus-tcp":
            raise MisconfiguredError("DL/T 645 does not travel over a modbus-tcp link")
        if target.address is None:
            raise MisconfiguredError("a DL/T 645 meter needs its address")
        return Dlt645Speaker(full_address(target.address), config.dlt645_password, config.operator)
    if target.unit is None:
        raise MisconfiguredError("a Modbus meter needs its unit")
    framing = Framing.TCP if config.link == "modbus-tcp" else Framing.RTU
    return ModbusSpeaker(framing, target.unit)


def pace_for(config: GatewayConfig) -> Pace:
    """The bus's timing: a modbus-tcp link without a baud rate has none, others 9600 by default."""
    if config.baud is None and config.link == "modbus-tcp":
        return Pace()
    baud = DEFAULT_BAUD if config.baud is None else config.baud
    if not 300 <= baud <= 1_000_000 or not 0 <= config.turnaround_ms <= 5_000:
        raise MisconfiguredError(f"gateway {config.code}: baud or turnaround_ms is out of range")
    bits, parity, stop = parse_serial_format(config.serial_format)
    character_bits = 1 + bits + (parity != "N") + stop
    return Pace.of(baud, character_bits, config.turnaround_ms)
