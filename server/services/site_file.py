"""The site file (contract, section 3) as typed values, and what can be wrong with one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from server.core.errors import InvalidInputError

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
    """[merchant.wechat]; the *_file keys are paths relative to the site file.

    How the platform proves itself: by its public key, by its certificates, or by either while it
    changes; without a key: by its certificates.
    """

    mchid: Annotated[str, StringConstraints(pattern=r"^[0-9]{6,32}$")]
    appid: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    apiv3_key_file: str
    private_key_file: str
    cert_serial: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{1,64}$")]
    platform_public_key_file: str | None = None
    platform_public_key_id: (
        Annotated[str, StringConstraints(min_length=1, max_length=64)] | None
    ) = None
    platform_certificates: bool | None = None


class AlipayTable(Table):
    """[merchant.alipay]; the *_file keys are paths relative to the site file.

    Either `alipay_public_key_file`, or the three certificates (which of them, its room says).
    """

    app_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{6,32}$")]
    seller_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{6,32}$")]
    private_key_file: str
    alipay_public_key_file: str | None = None
    app_cert_file: str | None = None
    alipay_cert_file: str | None = None
    alipay_root_cert_file: str | None = None


class MerchantsTable(Table):
    """[merchant]: a site is paid by the platforms that it names."""

    wechat: WeChatTable | None = None
    alipay: AlipayTable | None = None


class TemplateTable(Table):
    """One entry of [weixin.templates]."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    fields: dict[str, Annotated[str, StringConstraints(min_length=1, max_length=32)]]


class WeixinTable(Table):
    """[weixin].

    `shipping_information`: tell WeChat of every payment in the mini-program that what was paid
    for is delivered, where it holds the money back until then (docs/merchants.md).
    """

    templates: dict[str, TemplateTable] = {}
    shipping_information: bool = False


class ApprovalTable(Table):
    """[approval]: what a manager alone may put into or take out of one shop in 24 hours.

    Absent: the defaults of services/approvals; 0: always a second person.
    """

    adjustment_fen: Annotated[int, Field(ge=0, le=10**11)] | None = None
    desk_payment_fen: Annotated[int, Field(ge=0, le=10**11)] | None = None
    move_out_payout_fen: Annotated[int, Field(ge=0, le=10**11)] | None = None
    refund_fen: Annotated[int, Field(ge=0, le=10**11)] | None = None
    refund_payout_fen: Annotated[int, Field(ge=0, le=10**11)] | None = None
    case_credit_fen: Annotated[int, Field(ge=0, le=10**11)] | None = None


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
    approval: ApprovalTable = ApprovalTable()
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


def merchant_settings(merchant: WeChatTable | AlipayTable, folder: Path) -> dict[str, object]:
    """A merchant's table with its files as absolute paths; what is not there is left out."""
    return {
        key: str(folder / value) if key.endswith("_file") else value
        for key, value in merchant.model_dump(exclude_none=True).items()
    }


def area_cm2(text: str) -> int:
    """Square metres as written ("36.5") in square centimetres."""
    return int(Decimal(text) * 10_000)


def capacity_va(text: str) -> int:
    """Kilovolt-amperes as written ("20") in VA."""
    return int(Decimal(text) * 1_000)
