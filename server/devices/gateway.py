"""From a gateway's description to its bus."""

from server.devices.bus import Bus
from server.devices.errors import MisconfiguredError
from server.devices.line import Line
from server.devices.links.dtu import DtuLink, DtuListener
from server.devices.links.link import Link
from server.devices.links.serial_port import SerialLink
from server.devices.links.tcp import MODBUS_PORT, TcpLink, parse_address
from server.devices.targets import DEFAULT_BAUD, GatewayConfig, MeterTarget, pace_for

__all__ = ["GatewayConfig", "MeterTarget", "open_bus"]

LINKS = ("modbus-tcp", "rtu-over-tcp", "serial", "dtu")


def open_bus(config: GatewayConfig, *, dtu_listener: DtuListener | None) -> Bus:
    """The bus behind this gateway, not yet started: no I/O. Raises MisconfiguredError."""
    link = _link(config, dtu_listener)
    chatter: tuple[bytes, ...] = ()
    if isinstance(link, DtuLink):
        chatter = (link.heartbeat, link.registration)
    return Bus(config, Line(link, pace_for(config), chatter))


def _link(config: GatewayConfig, dtu_listener: DtuListener | None) -> Link:
    name = config.code
    if config.link == "dtu":
        if dtu_listener is None:
            raise MisconfiguredError(f"gateway {name}: nothing listens for DTUs")
        if config.registration is None:
            raise MisconfiguredError(f"gateway {name}: a DTU needs its registration")
        return DtuLink(name, dtu_listener, config.registration, config.heartbeat, config.allow_from)
    if config.link not in LINKS:
        raise MisconfiguredError(f"gateway {name}: {config.link!r} is none of {', '.join(LINKS)}")
    if not config.address:
        raise MisconfiguredError(f"gateway {name}: a {config.link} link needs an address")
    if config.link == "serial":
        baud = DEFAULT_BAUD if config.baud is None else config.baud
        return SerialLink(name, config.address, baud, config.serial_format)
    default_port = MODBUS_PORT if config.link == "modbus-tcp" else None
    return TcpLink(name, *parse_address(config.address, default_port))
