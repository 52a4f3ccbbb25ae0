"""The site file (contract, section 3) as a typed value; all its faults at once, with their places.

pydantic reads the shapes; tariffs, fixed charges and policies are core's to read; what one table
says of another is checked last.
"""

import ipaddress
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from server.core.errors import InvalidInputError
from server.core.supply.policy import SupplyPolicyError, parse_supply_policy, policy_table
from server.core.tariff.parse import TariffErrors, parse_fixed_charge, parse_tariff, tariff_table
from server.services.notices import NOTICE_FACTS
from server.services.site_mending import is_below, mended, odd_texts, place_of

FILE_BYTES_MAX = 16 * 1024 * 1024

CODE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$"

Code = Annotated[str, StringConstraints(pattern=CODE)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
Number = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,3})?$")]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Table(BaseModel):
    """Strict and frozen; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SiteTable(Table):
    """[site]."""

    code: Code
    name: Name
    timezone: str
    poll_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    close_after_days: Annotated[int, Field(ge=0, le=60)] = 3


class WeChatTable(Table):
    """[merchant.wechat]; the *_file keys are paths relative to the site file."""

    mchid: Annotated[str, StringConstraints(pattern=r"^[0-9]{6,32}$")]
    appid: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    apiv3_key_file: str
    private_key_file: str
    cert_serial: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{1,64}$")]
    platform_public_key_file: str
    platform_public_key_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]


class AlipayTable(Table):
    """[merchant.alipay]; the *_file keys are paths relative to the site file."""

    app_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{6,32}$")]
    seller_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{6,32}$")]
    private_key_file: str
    alipay_public_key_file: str


class MerchantsTable(Table):
    """[merchant]: a site is paid by the platforms that it names."""

    wechat: WeChatTable | None = None
    alipay: AlipayTable | None = None


class TemplateTable(Table):
    """One entry of [weixin.templates]."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    fields: dict[str, Annotated[str, StringConstraints(min_length=1, max_length=32)]]


class WeixinTable(Table):
    """[weixin]."""

    templates: dict[str, TemplateTable] = {}


class GatewayTable(Table):
    """[[gateway]]."""

    code: Code
    link: Literal["modbus-tcp", "rtu-over-tcp", "serial", "dtu", "mqtt"]
    address: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    registration: Pattern | None = None
    allow_from: tuple[str, ...] = Field(default=(), strict=False, max_length=64)
    heartbeat: Pattern | None = None
    baud: Annotated[int, Field(ge=300, le=1_000_000)] | None = None
    serial_format: Literal["8N1", "8E1", "8O1", "8N2", "7E1"] = "8N1"
    turnaround_ms: Annotated[int, Field(ge=0, le=5_000)] = 20
    password_file: str | None = None
    operator: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{8}$")] = "00000000"


class MeterTable(Table):
    """[[meter]]."""

    code: Code
    gateway: Code
    unit: Annotated[int, Field(ge=1, le=247)] | None = None
    address: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,32}$")] | None = None
    profile: Annotated[str, StringConstraints(min_length=3, max_length=64)]
    transformer_ratio: Annotated[int, Field(ge=1, le=100_000)] = 1
    role: Literal["shop", "common_area", "feeder"] = "shop"
    shop: Code | None = None


class ShopTable(Table):
    """[[shop]]."""

    code: Code
    name: Name
    area_m2: Number = "0"
    tariff: str
    supply_policy: str = "standard"
    kva: Number = "0"
    fixed_charges: tuple[str, ...] = Field(default=(), strict=False, max_length=32)
    supply_protection: bool = False
    binding_code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{4,32}$")]
    opening_balance_fen: Annotated[int, Field(ge=-(10**11), le=10**11)] | None = None


class SiteFileTables(Table):
    """The whole file; what core reads stays as it was written."""

    site: SiteTable
    merchant: MerchantsTable = MerchantsTable()
    supply_policy: dict[Code, dict[str, object]] = {}
    tariff: list[dict[str, object]] = []
    fixed_charge: list[dict[str, object]] = []
    weixin: WeixinTable = WeixinTable()
    gateway: list[GatewayTable] = []
    meter: list[MeterTable] = []
    shop: list[ShopTable] = []


# A platform and its settings, files as absolute paths: the settings that cannot be used, and why.
CheckMerchant = Callable[[str, Mapping[str, object]], Sequence[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class ProfileFacts:
    """What an import needs to know of a meter profile."""

    protocol: str
    has_relay: bool
    permit_only: bool
    max_power_w: int | None
    rollover_wh: int


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a file and where it is."""

    place: str
    message: str


class SiteFileError(InvalidInputError):
    """Every fault of a site file; nothing was imported."""

    code = "invalid_site_file"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.place}: {fault.message}" for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class SiteDocument:
    """A site file without faults; tariffs and policies in core's canonical tables."""

    tables: SiteFileTables
    folder: Path
    policies: Mapping[str, dict[str, object]]
    tariffs: Sequence[dict[str, object]]
    fixed_charges: Sequence[dict[str, object]]


@dataclass(frozen=True, slots=True)
class KnownCodes:
    """What the database already has of this site: a file may name it without repeating it."""

    supply_policies: frozenset[str] = frozenset()
    tariffs: frozenset[str] = frozenset()
    fixed_charges: frozenset[str] = frozenset()
    gateways: frozenset[str] = frozenset()
    shops: frozenset[str] = frozenset()


def read_content(path: Path) -> str:
    """The text of a site file; raises SiteFileError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise SiteFileError([Fault(str(path), f"is over {FILE_BYTES_MAX} bytes")])
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SiteFileError([Fault(str(path), error.strerror or "cannot be read")]) from error
    except UnicodeDecodeError as error:
        raise SiteFileError([Fault(str(path), f"is not UTF-8 (byte {error.start})")]) from error


def site_code_of(content: str) -> str | None:
    """The site's code, if the text gets as far as having one; raises SiteFileError for no TOML."""
    site = _toml(content).get("site")
    code = site.get("code") if isinstance(site, dict) else None
    return code if isinstance(code, str) and re.fullmatch(CODE, code) else None


def _toml(content: str) -> dict[str, object]:
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise SiteFileError([Fault("file", f"is not TOML: {error}")]) from error
    except RecursionError as error:
        raise SiteFileError([Fault("file", "is nested too deeply")]) from error


class _Faults:
    """What was found, phase by phase: what lies in a place that is known as faulty is not news."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, faults: Sequence[Fault]) -> None:
        """All of a phase."""
        places = frozenset(fault.place for fault in self.found)
        self.found += [one for one in faults if not is_below(one.place, places)]


def parse_site_file(
    content: str,
    folder: Path,
    profiles: Mapping[str, ProfileFacts],
    known: KnownCodes,
    check_merchant: CheckMerchant,
) -> SiteDocument:
    """Check the text of a file; key paths are relative to `folder`; raises SiteFileError.

    Reads key files. Whatever is wrong is told at once: what has no good shape is mended, and the
    rest is looked at.
    """
    raw = _toml(content)
    faults = _Faults()
    tables = _tables(raw, faults)
    core_faults: list[Fault] = []
    policies, tariffs, fixed = _core_tables(raw, core_faults)
    faults.add(core_faults)
    faults.add(
        [
            *_own_faults(tables, folder),
            *_cross_faults(tables, profiles),
            *_reference_faults(tables, _all_known(raw, tables, known)),
        ]
    )
    faults.add(_merchant_faults(tables, folder, check_merchant))
    if faults.found:
        raise SiteFileError(faults.found)
    return SiteDocument(tables, folder, policies, tariffs, fixed)


def _tables(raw: Mapping[str, object], faults: _Faults) -> SiteFileTables:
    """The tables; where something has no good shape, mended ones."""
    odd = [*odd_texts(raw)]
    faults.add([Fault(place_of(location), text) for location, text in odd])
    mend = [location for location, _ in odd]
    try:
        tables = SiteFileTables.model_validate(raw)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        faults.add([Fault(place_of(one["loc"]), one["msg"]) for one in errors])
        mend += [one["loc"] for one in errors]
    else:
        if not mend:
            return tables
    try:
        return SiteFileTables.model_validate(mended(raw, mend))
    except ValidationError:  # past mending: what is known by now has to do
        raise SiteFileError(faults.found) from None


def _all_known(raw: Mapping[str, object], tables: SiteFileTables, known: KnownCodes) -> KnownCodes:
    """What may be named: also what is written with faults, for those are told already."""
    shops, meters = tables.shop, tables.meter
    policies = _written(raw, "supply_policy", [one.supply_policy for one in shops])
    charges = [code for one in shops for code in one.fixed_charges]
    return KnownCodes(
        supply_policies=known.supply_policies | policies | {"standard"},
        tariffs=known.tariffs | _written(raw, "tariff", [one.tariff for one in shops]),
        fixed_charges=known.fixed_charges | _written(raw, "fixed_charge", charges),
        gateways=known.gateways | _written(raw, "gateway", [one.gateway for one in meters]),
        shops=known.shops | _written(raw, "shop", [one.shop for one in meters if one.shop]),
    )


def _written(raw: Mapping[str, object], name: str, named: Sequence[str]) -> set[str]:
    """The codes of a table; where it is no table at all, whatever is named."""
    written = raw.get(name, [])
    if isinstance(written, dict) and name == "supply_policy":
        return set(written)
    if not isinstance(written, list):
        return set(named) if name in raw else set()
    return {str(one.get("code")) for one in written if isinstance(one, dict)}


def _merchant_faults(tables: SiteFileTables, folder: Path, check: CheckMerchant) -> list[Fault]:
    return [
        Fault(f"merchant.{platform}.{key}", text)
        for platform, merchant in (
            ("wechat", tables.merchant.wechat),
            ("alipay", tables.merchant.alipay),
        )
        if merchant is not None
        for key, text in check(platform, merchant_settings(merchant, folder))
    ]


def merchant_settings(merchant: WeChatTable | AlipayTable, folder: Path) -> dict[str, object]:
    """A merchant's table with its files as absolute paths."""
    return {
        key: str(folder / value) if key.endswith("_file") else value
        for key, value in merchant.model_dump().items()
    }


def _core_tables(
    raw: Mapping[str, object], faults: list[Fault]
) -> tuple[dict[str, dict[str, object]], list[dict[str, object]], list[dict[str, object]]]:
    """Policies, tariffs and fixed charges as core reads them, in their canonical form."""
    policies: dict[str, dict[str, object]] = {"standard": policy_table(parse_supply_policy({}))}
    written = raw.get("supply_policy")
    for code, table in written.items() if isinstance(written, dict) else ():
        if not isinstance(table, dict):
            continue
        try:
            policies[code] = policy_table(parse_supply_policy(table))
        except SupplyPolicyError as error:
            faults += [
                Fault(place_of(("supply_policy", code, key)), text) for key, text in error.problems
            ]
    tariffs = _core_list(raw, "tariff", lambda one: tariff_table(parse_tariff(one)), faults)
    fixed = _core_list(raw, "fixed_charge", _fixed_charge_table, faults)
    return policies, tariffs, fixed


def _fixed_charge_table(table: Mapping[str, object]) -> dict[str, object]:
    charge = parse_fixed_charge(table)
    return {**table, "code": charge.code, "valid_from": charge.valid_from.isoformat()}


def _core_list(
    raw: Mapping[str, object],
    name: str,
    read: Callable[[Mapping[str, object]], dict[str, object]],
    faults: list[Fault],
) -> list[dict[str, object]]:
    read_tables: list[dict[str, object]] = []
    listed = raw.get(name)
    for index, table in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(table, dict):
            continue
        try:
            read_tables.append(read(table))
        except TariffErrors as error:
            faults += [Fault(f"{name}[{index}].{key}", text) for key, text in error.errors]
    keys = [(one["code"], one["valid_from"]) for one in read_tables]
    for key in sorted({key for key in keys if keys.count(key) > 1}, key=str):
        faults.append(Fault(name, f"two versions of {key[0]} are valid from {key[1]}"))
    return read_tables


def _own_faults(tables: SiteFileTables, folder: Path) -> list[Fault]:
    """Faults that one table shows by itself, beyond its shape."""
    faults = []
    try:
        ZoneInfo(tables.site.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        faults.append(Fault("site.timezone", f"no such timezone: {tables.site.timezone}"))
    for index, gateway in enumerate(tables.gateway):
        faults += [Fault(f"gateway[{index}].{key}", text) for key, text in _gateway_faults(gateway)]
    for name, file in _key_files(tables):
        if not (folder / file).is_file():
            faults.append(Fault(name, f"no such file: {file}"))
    for kind, template in tables.weixin.templates.items():
        for fact in template.fields:
            if fact not in NOTICE_FACTS:
                known = ", ".join(NOTICE_FACTS)
                faults.append(Fault(f"weixin.templates.{kind}.fields.{fact}", f"known: {known}"))
    return faults


def _key_files(tables: SiteFileTables) -> list[tuple[str, str]]:
    found = []
    for platform in ("wechat", "alipay"):
        merchant = getattr(tables.merchant, platform)
        for key, value in merchant.model_dump().items() if merchant else ():
            if key.endswith("_file"):
                found.append((f"merchant.{platform}.{key}", value))
    for index, gateway in enumerate(tables.gateway):
        if gateway.password_file is not None:
            found.append((f"gateway[{index}].password_file", gateway.password_file))
    return found


def _gateway_faults(gateway: GatewayTable) -> list[tuple[str, str]]:
    faults = []
    if gateway.link in {"modbus-tcp", "rtu-over-tcp"}:
        host, _, port = (gateway.address or "").rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65_536:
            faults.append(("address", 'is required as "host:port"'))
    if gateway.link == "serial" and gateway.address is None:
        faults.append(("address", "is required: the serial device"))
    if gateway.link == "dtu" and gateway.registration is None:
        faults.append(("registration", "is required: the packet that names the device"))
    for key in ("registration", "heartbeat"):
        text = getattr(gateway, key)
        if text is not None and text.startswith("hex:"):
            try:
                bytes.fromhex(text.removeprefix("hex:"))
            except ValueError:
                faults.append((key, f"is not hex after hex: {text!r}"))
    for network in gateway.allow_from:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            faults.append(("allow_from", f"not a network such as 10.0.0.0/8: {network!r}"))
    return faults


def _reference_faults(tables: SiteFileTables, known: KnownCodes) -> list[Fault]:
    """Names of things that neither the file nor the database has."""
    faults = []
    for index, shop in enumerate(tables.shop):
        if shop.tariff not in known.tariffs:
            faults.append(Fault(f"shop[{index}].tariff", f"no such tariff: {shop.tariff}"))
        if shop.supply_policy not in known.supply_policies:
            missing = f"no such supply policy: {shop.supply_policy}"
            faults.append(Fault(f"shop[{index}].supply_policy", missing))
        for code in shop.fixed_charges:
            if code not in known.fixed_charges:
                missing = f"no such fixed charge: {code}"
                faults.append(Fault(f"shop[{index}].fixed_charges", missing))
    for index, meter in enumerate(tables.meter):
        if meter.gateway not in known.gateways:
            faults.append(Fault(f"meter[{index}].gateway", f"no such gateway: {meter.gateway}"))
        if meter.shop is not None and meter.shop not in known.shops:
            faults.append(Fault(f"meter[{index}].shop", f"no such shop: {meter.shop}"))
    return faults


def _cross_faults(tables: SiteFileTables, profiles: Mapping[str, ProfileFacts]) -> list[Fault]:
    """Faults between tables: two things in one place, a meter that does not fit its profile."""
    faults = []
    for name, rows in (("gateway", tables.gateway), ("meter", tables.meter), ("shop", tables.shop)):
        codes = [one.code for one in rows]
        twice = sorted({code for code in codes if codes.count(code) > 1})
        faults += [Fault(name, f"{code} is there twice") for code in twice]
    registrations = [one.registration for one in tables.gateway if one.registration is not None]
    for registration in sorted({one for one in registrations if registrations.count(one) > 1}):
        faults.append(Fault("gateway", f"two gateways register as {registration!r}"))
    for index, meter in enumerate(tables.meter):
        faults += [Fault(f"meter[{index}].{key}", t) for key, t in _meter_faults(meter, profiles)]
    seats = [
        (one.gateway, seat)
        for one in tables.meter
        for seat in (one.unit and f"unit {one.unit}", one.address and f"address {one.address}")
        if seat is not None
    ]
    for (gateway, seat), count in sorted(Counter(seats).items()):
        if count > 1:
            faults.append(Fault("meter", f"two meters at {seat} of gateway {gateway}"))
    return faults


def _meter_faults(meter: MeterTable, profiles: Mapping[str, ProfileFacts]) -> list[tuple[str, str]]:
    faults = []
    facts = profiles.get(meter.profile)
    if facts is None:
        faults.append(("profile", f"no such profile: {meter.profile}"))
    elif facts.protocol == "modbus" and meter.unit is None:
        faults.append(("unit", "is required for a Modbus meter"))
    elif facts.protocol == "dlt645" and not _is_dlt645_address(meter.address):
        faults.append(("address", "is required: the 12 digits of a DL/T 645 meter"))
    if meter.role == "shop" and meter.shop is None:
        faults.append(("shop", 'is required where role = "shop"'))
    return faults


def _is_dlt645_address(address: str | None) -> bool:
    return address is not None and address.isdigit() and len(address) == 12


def area_cm2(text: str) -> int:
    """Square metres as written ("36.5") in square centimetres."""
    return int(Decimal(text) * 10_000)


def capacity_va(text: str) -> int:
    """Kilovolt-amperes as written ("20") in VA."""
    return int(Decimal(text) * 1_000)
