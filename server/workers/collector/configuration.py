"""From rows to what the devices room understands; what cannot be is a fault in plain words."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec

from server.core.errors import InvalidInputError
from server.devices.gateway import LINKS, GatewayConfig, MeterTarget
from server.devices.profiles import Profile
from server.devices.targets import FACTORY_PASSWORD
from server.services.gateways import GatewayRow, MeterRow

PASSWORD_BYTES_MAX = 256
HEX = "hex:"


class ConfigurationError(InvalidInputError):
    """A gateway or a meter that cannot be spoken to as it is described."""


class GatewaySettings(msgspec.Struct, frozen=True):
    """A gateway's `settings` column, as the site file's import writes it."""

    registration: str | None = None
    heartbeat: str | None = None
    allow_from: tuple[str, ...] = ()
    baud: int | None = None
    serial_format: str = "8N1"
    turnaround_ms: int = 20
    password_file: str | None = None
    operator: str = "00000000"


async def gateway_config(row: GatewayRow) -> GatewayConfig:
    """How this gateway is reached; raises ConfigurationError."""
    if row.link not in LINKS:
        text = f"link {row.link} is not supported in this version"
        raise ConfigurationError(text, code="link_unsupported")
    try:
        settings = msgspec.convert(row.settings, GatewaySettings)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"settings: {error}", code="gateway_settings") from None
    return GatewayConfig(
        code=f"{row.site_code}/{row.code}",
        link=row.link,
        address=row.address,
        registration=_packet("registration", settings.registration),
        heartbeat=_packet("heartbeat", settings.heartbeat),
        allow_from=settings.allow_from,
        baud=settings.baud,
        serial_format=settings.serial_format,
        turnaround_ms=settings.turnaround_ms,
        dlt645_password=await _password(settings.password_file),
        operator=_hex("operator", settings.operator),
    )


def _packet(key: str, text: str | None) -> bytes | None:
    """Text as it is, or the bytes behind "hex:"."""
    if text is None:
        return None
    return _hex(key, text.removeprefix(HEX)) if text.startswith(HEX) else text.encode()


def _hex(key: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigurationError(f"{key} is no hex", code="gateway_settings") from None


async def _password(path: str | None) -> bytes:
    """Level and password of DL/T 645, in the order in which they travel: "02 000000"."""
    if path is None:
        return FACTORY_PASSWORD
    name = Path(path).name
    try:
        text = (await asyncio.to_thread(_read_start, Path(path))).decode("ascii")
        password = bytes.fromhex(text)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"{name} cannot be read: {reason}", code="password_file") from None
    except ValueError:
        password = b""
    if len(password) != len(FACTORY_PASSWORD):
        text = f'{name} must hold a level and a password such as "02 000000"'
        raise ConfigurationError(text, code="password_file")
    return password


def _read_start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(PASSWORD_BYTES_MAX)


def meter_target(row: MeterRow, catalogue: Mapping[str, Profile]) -> MeterTarget:
    """How this meter is spoken to; raises ConfigurationError."""
    profile = catalogue.get(row.profile)
    if profile is None:
        text = f"there is no meter profile {row.profile} here"
        raise ConfigurationError(text, code="profile_unknown")
    return MeterTarget(
        code=row.code,
        profile=profile,
        unit=row.unit,
        address=row.address,
        identity=row.identity if profile.identity is not None else None,
    )


def warnings_of(row: GatewayRow, catalogue: Mapping[str, Profile]) -> list[str]:
    """What works, but should not stay so."""
    found = []
    if row.link == "dtu" and not row.settings.get("allow_from"):
        found.append("allow_from is absent: a DTU may dial in from anywhere")
    profiles = (catalogue.get(meter.profile) for meter in row.meters)
    if not row.settings.get("password_file") and any(
        profile is not None and profile.protocol == "dlt645" and profile.supply is not None
        for profile in profiles
    ):
        found.append("password_file is absent: relays are controlled with the factory's password")
    return found
