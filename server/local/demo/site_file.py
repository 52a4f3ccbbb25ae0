"""The demo mall as a site file, in the format of the public contract."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from server.local.demo.blueprint import (
    FixedCharge,
    Gateway,
    Mall,
    Meter,
    Shop,
    SupplyPolicy,
    Tariff,
)

VALID_FROM = "2026-01-01"

Value = str | int | bool | tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WechatMerchant:
    """The mall's account at WeChat Pay; files are relative to the site file."""

    mchid: str
    appid: str
    cert_serial: str
    platform_public_key_id: str
    apiv3_key_file: str = "keys/apiv3.txt"
    private_key_file: str = "keys/wechat_merchant.pem"
    platform_public_key_file: str = "keys/wechat_platform.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlipayMerchant:
    """The mall's account at Alipay; files are relative to the site file."""

    app_id: str
    seller_id: str
    private_key_file: str = "keys/alipay_app.pem"
    alipay_public_key_file: str = "keys/alipay_platform.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePlaces:
    """What only the machine knows that runs the demo."""

    gateway_addresses: Mapping[str, str]  # of the gateways that are dialled
    wechat: WechatMerchant | None = None
    alipay: AlipayMerchant | None = None
    low_balance_template: str | None = None
    meter_password_file: str | None = None


def render_site_file(mall: Mall, places: SitePlaces) -> str:
    """The whole file, TOML."""
    return "\n\n".join("\n".join(block) for block in _blocks(mall, places)) + "\n"


def _blocks(mall: Mall, places: SitePlaces) -> Iterator[list[str]]:
    site: dict[str, Value] = {
        "code": mall.code,
        "name": mall.name,
        "timezone": mall.timezone,
        "poll_seconds": mall.poll_seconds,
        "close_after_days": mall.close_after_days,
    }
    yield _table("[site]", site)
    if places.wechat is not None:
        yield _table("[merchant.wechat]", asdict(places.wechat))
    if places.alipay is not None:
        yield _table("[merchant.alipay]", asdict(places.alipay))
    for policy in mall.policies:
        yield _table(f"[supply_policy.{policy.code}]", _policy(policy))
    for tariff in mall.tariffs:
        yield _tariff(tariff)
    for charge in mall.fixed_charges:
        yield _fixed_charge(charge)
    if places.low_balance_template is not None:
        template = _text(places.low_balance_template)
        fields = 'fields = {shop = "thing1", balance = "amount2"}'
        yield ["[weixin.templates]", f"low_balance = {{id = {template}, {fields}}}"]
    for gateway in mall.gateways:
        yield _table("[[gateway]]", _gateway(gateway, places))
    for meter in mall.meters:
        yield _table("[[meter]]", _meter(meter))
    for shop in mall.shops:
        yield _table("[[shop]]", _shop(shop))


def _policy(policy: SupplyPolicy) -> dict[str, Value]:
    return {
        "low_balance_fen": policy.low_balance_fen,
        "hoarding_limit_fen": policy.hoarding_limit_fen,
        "notice_minutes": policy.notice_minutes,
        "no_disconnect": policy.no_disconnect,
        "reconnect": policy.reconnect,
    }


def _tariff(tariff: Tariff) -> list[str]:
    head = ["[[tariff]]", f"code = {_text(tariff.code)}", f"valid_from = {VALID_FROM}"]
    if tariff.is_flat:
        return [*head, 'kind = "flat"', f"price = {_text(tariff.prices['flat'])}"]
    prices = ", ".join(f"{period} = {_text(price)}" for period, price in tariff.prices.items())
    hours = ", ".join(f"{period} = {_hours(spans)}" for period, spans in tariff.hours.items())
    months = ", ".join(str(month) for month in range(1, 13))
    return [
        *head,
        'kind = "tou"',
        f"prices = {{{prices}}}",
        "periods = [",
        f'  {{months = [{months}], days = "all", {hours}}},',
        "]",
    ]


def _hours(spans: tuple[tuple[int, int], ...]) -> str:
    return _array(tuple(f"{start:02d}:00-{end:02d}:00" for start, end in spans))


def _fixed_charge(charge: FixedCharge) -> list[str]:
    head = ["[[fixed_charge]]", f"code = {_text(charge.code)}", f"valid_from = {VALID_FROM}"]
    return [*head, *(f"{key} = {_text(getattr(charge, key))}" for key in ("per", "basis", "price"))]


def _gateway(gateway: Gateway, places: SitePlaces) -> dict[str, Value | None]:
    dtu = gateway.link == "dtu"
    return {
        "code": gateway.code,
        "link": gateway.link,
        "address": None if dtu else places.gateway_addresses[gateway.code],
        "registration": gateway.registration,
        "allow_from": gateway.allow_from or None,
        "heartbeat": gateway.heartbeat,
        "baud": gateway.baud,
        "serial_format": gateway.serial_format,
        "turnaround_ms": gateway.turnaround_ms,
        "password_file": places.meter_password_file if dtu else None,
    }


def _meter(meter: Meter) -> dict[str, Value | None]:
    return {
        "code": meter.code,
        "gateway": meter.gateway,
        "unit" if isinstance(meter.place, int) else "address": meter.place,
        "profile": meter.profile,
        "transformer_ratio": meter.ratio,
        "role": meter.role,
        "shop": meter.shop,
    }


def _shop(shop: Shop) -> dict[str, Value]:
    return {
        "code": shop.code,
        "name": shop.name,
        "area_m2": shop.area_m2,
        "tariff": shop.tariff,
        "supply_policy": shop.supply_policy,
        "kva": shop.kva,
        "fixed_charges": shop.fixed_charges,
        "supply_protection": shop.supply_protection,
        "binding_code": shop.binding_code,
    }


def _table(head: str, values: Mapping[str, Value | None]) -> list[str]:
    rows = (f"{key} = {_value(value)}" for key, value in values.items() if value is not None)
    return [head, *rows]


def _value(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return _text(value)
        case _:
            return _array(value)


def _array(values: tuple[str, ...] | tuple[int, ...]) -> str:
    return "[" + ", ".join(_value(value) for value in values) + "]"


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL, which no name has."""
    return json.dumps(text, ensure_ascii=False)
