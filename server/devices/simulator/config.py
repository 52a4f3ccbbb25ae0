"""The configuration of a simulator process: JSON, checked as a whole before anything starts."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

from server.core.errors import InvalidInputError
from server.devices.simulator.trades import Trade

T = TypeVar("T")

LARGEST_BYTES = 8 * 1024 * 1024

Code = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Natural = Annotated[int, Meta(ge=0)]
Address = Annotated[str, Meta(pattern=r"^[^:\s]{1,255}:[0-9]{1,5}$")]
Packet = Annotated[str, Meta(max_length=256)]

Profile = Literal[
    "example/demo-relay",
    "acrel/ddsy1352-older",
    "standard/dlt645-2007-relay",
    "standard/dlt645-2007-relay-permit",
]
PERMIT_ONLY = "standard/dlt645-2007-relay-permit"


class LoadConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A customer: trade, seed, thousandths of the trade's usual size."""

    trade: Trade
    seed: Annotated[int, Meta(ge=0, lt=2**62)]
    scale: Annotated[int, Meta(ge=1, le=100_000)] = 1000


class MeterConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One meter; `start_wh`, `identity` count only before its first start."""

    code: Code
    profile: Profile
    unit: Annotated[int, Meta(ge=1, le=247)] | None = None
    address: Annotated[str, Meta(pattern="^[0-9]{12}$")] | None = None
    start_wh: Annotated[int, Meta(ge=0, lt=1_000_000_000)] = 0
    ratio: Annotated[int, Meta(ge=1, le=10_000)] = 1
    identity: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    password: Annotated[str, Meta(pattern="^[0-9A-Fa-f]{8}$")] = "02000000"  # noqa: S105 - the factory's
    loads: Annotated[tuple[LoadConfig, ...], Meta(max_length=16)] = ()
    feeds: Annotated[tuple[Code, ...], Meta(max_length=2_000)] = ()
    loss_permille: Annotated[int, Meta(ge=0, le=500)] = 0


class _Gateway(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="mode"):
    code: Code
    meters: Annotated[tuple[MeterConfig, ...], Meta(min_length=1, max_length=247)]
    baud: Annotated[int, Meta(ge=300, le=1_000_000)] | None = None  # None: answers at once
    serial_format: Annotated[str, Meta(pattern="^8[NEO][12]$")] = "8N1"
    turnaround_ms: Annotated[int, Meta(ge=0, le=5_000)] = 20


class ModbusTcpGateway(_Gateway, frozen=True, tag="modbus-tcp"):
    """Listens and speaks Modbus TCP."""

    listen: Address


class RtuOverTcpGateway(_Gateway, frozen=True, tag="rtu-over-tcp"):
    """Listens and passes Modbus RTU frames through."""

    listen: Address


class DtuGateway(_Gateway, frozen=True, tag="dtu"):
    """Dials out, names itself, keeps the line alive with heartbeats, and redials."""

    dial: Address
    registration: Packet
    heartbeat: Packet = ""
    heartbeat_seconds: Annotated[int, Meta(ge=1, le=3_600)] = 30
    redial_seconds: Annotated[int, Meta(ge=1, le=3_600)] = 10  # the longest pause
    protocol: Literal["dlt645", "modbus-rtu"] = "dlt645"


GatewayConfig = ModbusTcpGateway | RtuOverTcpGateway | DtuGateway


class BankConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One process: its gateways, where it keeps its state, and its control port."""

    gateways: Annotated[tuple[GatewayConfig, ...], Meta(min_length=1, max_length=256)]
    timezone: str = "Asia/Shanghai"
    state: str | None = None  # None: nothing survives the process
    control: Address | None = None


def read_config(raw: bytes) -> BankConfig:
    """The checked configuration; raises InvalidInputError that names every error."""
    if len(raw) > LARGEST_BYTES:
        raise InvalidInputError(f"a simulator's configuration has at most {LARGEST_BYTES} bytes")
    try:
        config = msgspec.json.decode(raw, type=BankConfig)
    except msgspec.MsgspecError as error:
        raise InvalidInputError(f"simulator configuration: {error}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError("simulator configuration: not UTF-8") from error
    check_config(config)
    return config


def check_config(config: BankConfig) -> None:
    """Raises InvalidInputError that names every error between the parts."""
    errors = [*_place_errors(config), *_meter_errors(config), *_feeder_errors(config)]
    if errors:
        raise InvalidInputError("simulator configuration: " + "; ".join(errors))


def _place_errors(config: BankConfig) -> Iterator[str]:
    try:
        ZoneInfo(config.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        yield f"no such time zone: {config.timezone!r}"
    if config.control is not None and split_address(config.control)[0] not in {
        "127.0.0.1",
        "localhost",
    }:
        yield "the control port listens on loopback only"
    for code in _repeated(gateway.code for gateway in config.gateways):
        yield f"gateway {code} twice"
    for gateway in config.gateways:
        if isinstance(gateway, DtuGateway):
            for packet in (gateway.registration, gateway.heartbeat):
                if packet.startswith("hex:") and not _is_hex(packet[4:]):
                    yield f"gateway {gateway.code}: {packet!r} is no hex"


def _meter_errors(config: BankConfig) -> Iterator[str]:
    meters = [meter for gateway in config.gateways for meter in gateway.meters]
    for code in _repeated(meter.code for meter in meters):
        yield f"meter {code} twice"
    for gateway in config.gateways:
        dlt645 = isinstance(gateway, DtuGateway) and gateway.protocol == "dlt645"
        for meter in gateway.meters:
            if meter.profile.startswith("standard/dlt645") != dlt645:
                yield f"meter {meter.code}: profile {meter.profile} on gateway {gateway.code}"
            elif dlt645 and meter.address is None:
                yield f"meter {meter.code} needs an address"
            elif not dlt645 and meter.unit is None:
                yield f"meter {meter.code} needs a unit"
        names = (meter.address if dlt645 else meter.unit for meter in gateway.meters)
        for name in _repeated(name for name in names if name is not None):
            yield f"gateway {gateway.code}: {name} twice"


def _feeder_errors(config: BankConfig) -> Iterator[str]:
    meters = {meter.code: meter for gateway in config.gateways for meter in gateway.meters}
    for feeder in meters.values():
        for code in feeder.feeds:
            if code not in meters:
                yield f"meter {feeder.code} feeds {code}, which is not here"
            elif meters[code].feeds:
                yield f"meter {feeder.code} feeds another feeder, {code}"


def _repeated(names: Iterable[T]) -> list[T]:
    return [name for name, count in Counter(names).items() if count > 1]


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port"."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def packet_bytes(packet: str) -> bytes:
    """A DTU's packet: text, or "hex:" and hex digits."""
    return bytes.fromhex(packet[4:]) if packet.startswith("hex:") else packet.encode()
