"""The kinds of things that a demo mall consists of."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from server.devices.simulator.load import Load
from server.devices.simulator.trades import Trade

Role = Literal["shop", "common_area", "feeder"]
Link = Literal["modbus-tcp", "rtu-over-tcp", "dtu"]


@dataclass(frozen=True, slots=True)
class Shop:
    """One shop; `days_left` is how long what it has paid will last when the demo begins.

    `fixed_paid_fen` is what it has paid for its fixed charges.
    """

    code: str
    name: str
    trade: Trade
    area_m2: str
    kva: str
    binding_code: str
    tariff: str = "commercial"
    supply_policy: str = "standard"
    supply_protection: bool = False
    days_left: int = 9
    fixed_charges: tuple[str, ...] = ()
    fixed_paid_fen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """One meter: `start_wh` is its register as the history begins, `place` its unit or address."""

    code: str
    gateway: str
    profile: str
    place: int | str
    start_wh: int
    loads: tuple[Load, ...] = ()
    shop: str | None = None
    role: Role = "shop"
    ratio: int = 1
    identity: int = 0
    feeds: tuple[str, ...] = ()
    loss_permille: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One gateway; where it listens is handed in when files are written."""

    code: str
    link: Link
    baud: int | None = None
    serial_format: str | None = None
    turnaround_ms: int | None = None
    registration: str | None = None
    heartbeat: str | None = None
    allow_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyPolicy:
    """When warnings go out, and when a supply may be cut."""

    code: str
    notice_minutes: tuple[int, ...]
    no_disconnect: tuple[str, ...]
    low_balance_fen: tuple[int, ...] = (10_000, 3_000)
    hoarding_limit_fen: int = 5_000_000
    reconnect: Literal["automatic", "confirm"] = "automatic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """A price, or a price a period; the hours of a period as half-open pairs of local hours."""

    code: str
    prices: dict[str, str]
    hours: dict[str, tuple[tuple[int, int], ...]]

    @property
    def is_flat(self) -> bool:
        """Whether one price holds all day."""
        return not self.hours

    def price_text_at(self, hour: int) -> str:
        """Yuan per kWh at a local hour."""
        for period, spans in self.hours.items():
            if any(start <= hour < end for start, end in spans):
                return self.prices[period]
        return self.prices["flat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedCharge:
    """What a shop owes whether it uses energy or not, in yuan for each unit of its basis."""

    code: str
    per: Literal["day", "month"]
    basis: Literal["shop", "m2", "kva"]
    price: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mall:
    """A whole site."""

    code: str
    name: str
    timezone: str
    poll_seconds: int
    close_after_days: int
    tariffs: tuple[Tariff, ...]
    fixed_charges: tuple[FixedCharge, ...]
    policies: tuple[SupplyPolicy, ...]
    gateways: tuple[Gateway, ...]
    shops: tuple[Shop, ...]
    meters: tuple[Meter, ...]
    nearly_empty_shop: str

    @property
    def zone(self) -> ZoneInfo:
        """Its time zone."""
        return ZoneInfo(self.timezone)

    def shop(self, code: str) -> Shop:
        """The shop with this code."""
        return next(shop for shop in self.shops if shop.code == code)

    def meter(self, code: str) -> Meter:
        """The meter with this code."""
        return next(meter for meter in self.meters if meter.code == code)

    def tariff(self, code: str) -> Tariff:
        """The tariff with this code."""
        return next(tariff for tariff in self.tariffs if tariff.code == code)

    def meters_of(self, shop: Shop) -> tuple[Meter, ...]:
        """The meters that a shop pays for."""
        return tuple(meter for meter in self.meters if meter.shop == shop.code)

    def loads_behind(self, meter: Meter) -> tuple[Load, ...]:
        """The customers whose energy a meter counts; a feeder's are those of its meters."""
        fed: Iterable[Load] = (load for code in meter.feeds for load in self.meter(code).loads)
        return (*meter.loads, *fed)
