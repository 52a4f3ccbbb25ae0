"""Faults beyond shapes: what a table of a site file shows by itself, what it says of another."""

import ipaddress
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from server.services.notices import NOTICE_FACTS
from server.services.site_file import (
    CheckMerchant,
    Fault,
    GatewayTable,
    KnownCodes,
    MeterTable,
    ProfileFacts,
    SiteFileTables,
    merchant_settings,
)


def own_faults(tables: SiteFileTables, folder: Path) -> list[Fault]:
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
    for index, shop in enumerate(tables.shop):
        twice = sorted(code for code, n in Counter(shop.fixed_charges).items() if n > 1)
        faults += [
            Fault(f"shop[{index}].fixed_charges", f"{code} is there twice") for code in twice
        ]
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
        for key, value in merchant.model_dump(exclude_none=True).items() if merchant else ():
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


def cross_faults(tables: SiteFileTables, profiles: Mapping[str, ProfileFacts]) -> list[Fault]:
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


def reference_faults(tables: SiteFileTables, known: KnownCodes) -> list[Fault]:
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


def merchant_faults(tables: SiteFileTables, folder: Path, check: CheckMerchant) -> list[Fault]:
    """Settings of a merchant that its platform could not use."""
    return [
        Fault(f"merchant.{platform}.{key}", text)
        for platform, merchant in (
            ("wechat", tables.merchant.wechat),
            ("alipay", tables.merchant.alipay),
        )
        if merchant is not None
        for key, text in check(platform, merchant_settings(merchant, folder))
    ]
