"""What tenants are answered, and how it is made from what services know.

Times carry the site's offset and whole seconds; the field names are the contract's.
"""

from datetime import date, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec

from miniprogram_api.words import move_title
from server.core.money import price_text
from server.core.supply.control_state import ControlState
from server.http.locale import Locale
from server.services.bindings import ScannedShop
from server.services.statements import StatementDay, StatementSummary
from server.services.tenancies import TenancyOverview, TenancySummary
from server.services.top_ups import TopUpView
from server.services.transactions import WalletMove
from server.services.usage import UsagePoint


class Session(msgspec.Struct, frozen=True):
    """A bearer token for all other calls."""

    token: str
    expires_at: datetime


class Scanned(msgspec.Struct, frozen=True):
    """What a scan shows; `shop_id` only to whom the shop is bound already."""

    site_name: str
    shop_code: str
    shop_name: str
    shop_id: int | None


class ShopLine(msgspec.Struct, frozen=True):
    """A bound shop; `id` names the tenancy."""

    id: int
    code: str
    name: str
    site_name: str
    balance_fen: int
    control_state: ControlState | None
    last_reading_at: datetime | None


class Shops(msgspec.Struct, frozen=True):
    """The bound shops."""

    items: list[ShopLine]
    next_cursor: str | None


class Price(msgspec.Struct, frozen=True):
    """The price of the next kWh; `period` is null where the tariff has none."""

    period: str | None
    yuan_per_kwh: str


class Today(msgspec.Struct, frozen=True):
    """What was used since the local midnight."""

    energy_wh: int
    amount_fen: int


class Shop(msgspec.Struct, frozen=True):
    """`balance_fen` = `wallet_fen` - `open_days_fen` - `reserved_fen`: what is left now.

    The emergency credit is in none of them: `emergency_credit_fen` runs now,
    `emergency_credit_offered_fen` could be asked for now.
    """

    id: int
    code: str
    name: str
    site_name: str
    timezone: str
    balance_fen: int
    wallet_fen: int
    open_days_fen: int
    reserved_fen: int
    fixed_charges_balance_fen: int
    control_state: ControlState | None
    last_reading_at: datetime | None
    price_now: Price | None
    days_left: int | None
    today: Today
    emergency_credit_fen: int
    emergency_credit_offered_fen: int
    supply_state: str
    supply_reasons: list[str]


class UsageLine(msgspec.Struct, frozen=True):
    """From `start` to the next point; `by_period` is watt-hours by period, {} without periods."""

    start: datetime
    energy_wh: int
    amount_fen: int
    by_period: dict[str, int]
    estimated: bool


class Usage(msgspec.Struct, frozen=True):
    """Every hour, day or month of the range, in order."""

    items: list[UsageLine]
    next_cursor: None = None


class StatementLine(msgspec.Struct, frozen=True):
    """A closed day by its newest version; `corrected`: it took the place of an earlier one."""

    day: date
    version: int
    corrected: bool
    energy_wh: int
    amount_fen: int
    estimated: bool
    closed_at: datetime


class Statements(msgspec.Struct, frozen=True):
    """The closed days of a month."""

    items: list[StatementLine]
    next_cursor: None = None


class PriceVersion(msgspec.Struct, frozen=True):
    """The tariff version by which the day was priced."""

    code: str
    valid_from: date
    kind: str
    block_period: str | None


class Charge(msgspec.Struct, frozen=True):
    """kWh of one period and block at one price; the amounts add up to the day's."""

    period: str | None
    block: int
    block_from_wh: int | None
    block_up_to_wh: int | None
    yuan_per_kwh: str
    energy_wh: int
    amount_fen: int


class Reading(msgspec.Struct, frozen=True):
    """A meter at the edges of the day; the difference times the ratio is its energy."""

    meter: str
    transformer_ratio: int
    first_read_at: datetime | None
    first_register_wh: int | None
    last_read_at: datetime | None
    last_register_wh: int | None
    reading_count: int
    energy_wh: int
    has_gap: bool


class Period(msgspec.Struct, frozen=True):
    """Local HH:MM from `begins` to `ends` (excluded) has this period."""

    begins: str
    ends: str
    period: str


class Statement(msgspec.Struct, frozen=True):
    """A closed day that explains itself; `versions` are all there were, oldest first.

    `corrected`: the newest one took the place of another, and the wallet was charged anew.
    """

    day: date
    version: int
    corrected: bool
    closed_at: datetime
    day_type: str
    timezone: str
    starts_at: datetime
    ends_at: datetime
    energy_wh: int
    amount_fen: int
    estimated: bool
    price_version: PriceVersion
    block_start_wh: int
    periods: list[Period]
    lines: list[Charge]
    readings: list[Reading]
    versions: list[StatementLine]


class Transaction(msgspec.Struct, frozen=True):
    """One change of a wallet, below zero where it fell; `booked_at`: when it counts from.

    `title` is the kind in the caller's language.
    """

    id: int
    kind: str
    title: str
    wallet: str
    amount_fen: int
    booked_at: datetime
    created_at: datetime
    details: dict[str, str | int]


class Transactions(msgspec.Struct, frozen=True):
    """A page of the journal, newest first."""

    items: list[Transaction]
    next_cursor: str | None


Status = Annotated[str, msgspec.Meta(description="pending, paid, closed, refunding or refunded")]


class TopUpOrdered(msgspec.Struct, frozen=True):
    """`payment` is for the method: wx.requestPayment's arguments, `code_url` or `url`."""

    top_up_no: str
    status: Status
    payment: dict[str, str] | None
    amount_fen: int
    wallet: str
    expires_at: datetime


class TopUp(msgspec.Struct, frozen=True):
    """A top-up and its four ticks: paid, credited, commanded, confirmed.

    `closed` with `paid_at`: the money came and could not be credited; the mall has it as a case.
    """

    top_up_no: str
    shop_id: int
    status: Status
    wallet: str
    amount_fen: int
    refunded_fen: int
    created_at: datetime
    expires_at: datetime
    paid_at: datetime | None
    credited_at: datetime | None
    commanded_at: datetime | None
    confirmed_at: datetime | None


def local(at: datetime, zone: ZoneInfo) -> datetime:
    """A time as it is answered: the site's offset, whole seconds."""
    return at.astimezone(zone).replace(microsecond=0)


def local_or_none(at: datetime | None, zone: ZoneInfo) -> datetime | None:
    """The same, of what may not have happened yet."""
    return None if at is None else local(at, zone)


def scanned(shop: ScannedShop) -> Scanned:
    """The answer to a scan."""
    return Scanned(shop.site_name, shop.shop_code, shop.masked_name, shop.tenancy_id)


def shop_line(one: TenancySummary) -> ShopLine:
    """A line of the bound shops."""
    return ShopLine(
        id=one.tenancy_id,
        code=one.shop_code,
        name=one.shop_name,
        site_name=one.site_name,
        balance_fen=one.balance_fen,
        control_state=one.control_state,
        last_reading_at=local_or_none(one.last_reading_at, ZoneInfo(one.timezone)),
    )


def shop(one: TenancyOverview) -> Shop:
    """A shop with all that is true of it now."""
    return Shop(
        id=one.tenancy_id,
        code=one.shop_code,
        name=one.shop_name,
        site_name=one.site_name,
        timezone=one.timezone,
        balance_fen=one.balance_fen,
        wallet_fen=one.wallet_fen,
        open_days_fen=one.open_days_fen,
        reserved_fen=one.reserved_fen,
        fixed_charges_balance_fen=one.fixed_charges_balance_fen,
        control_state=one.control_state,
        last_reading_at=local_or_none(one.last_reading_at, ZoneInfo(one.timezone)),
        price_now=None if one.price_now is None else Price(*one.price_now),
        days_left=one.days_left,
        today=Today(*one.today),
        emergency_credit_fen=one.emergency_credit_fen,
        emergency_credit_offered_fen=one.emergency_credit_offered_fen,
        supply_state=one.supply_state,
        supply_reasons=list(one.supply_reasons),
    )


def usage_line(point: UsagePoint) -> UsageLine:
    """A point of the usage."""
    return msgspec.convert(point, UsageLine, from_attributes=True)


def statement_line(one: StatementSummary, zone: ZoneInfo) -> StatementLine:
    """A closed day in a list."""
    return StatementLine(
        one.day,
        one.version,
        one.corrected,
        one.energy_wh,
        one.amount_fen,
        one.estimated,
        local(one.closed_at, zone),
    )


def statement(one: StatementDay) -> Statement:
    """A closed day with its working."""
    zone = ZoneInfo(one.timezone)
    return Statement(
        day=one.day,
        version=one.version,
        corrected=one.corrected,
        closed_at=local(one.closed_at, zone),
        day_type=one.day_type,
        timezone=one.timezone,
        starts_at=one.starts_at,
        ends_at=one.ends_at,
        energy_wh=one.energy_wh,
        amount_fen=one.amount_fen,
        estimated=one.estimated,
        price_version=msgspec.convert(one.tariff, PriceVersion, from_attributes=True),
        block_start_wh=one.block_start_wh,
        periods=msgspec.convert(one.periods, list[Period], from_attributes=True),
        lines=[
            Charge(
                period=line.period,
                block=line.block,
                block_from_wh=line.block_from_wh,
                block_up_to_wh=line.block_up_to_wh,
                yuan_per_kwh=price_text(line.price_micro_yuan),
                energy_wh=line.energy_wh,
                amount_fen=line.amount_fen,
            )
            for line in one.lines
        ],
        readings=msgspec.convert(one.readings, list[Reading], from_attributes=True),
        versions=[statement_line(version, zone) for version in one.versions],
    )


def transaction(move: WalletMove, wallet: str, zone: ZoneInfo, locale: Locale) -> Transaction:
    """A change of a wallet."""
    return Transaction(
        id=move.id,
        kind=move.kind,
        title=move_title(move.kind, locale),
        wallet=wallet,
        amount_fen=move.amount_fen,
        booked_at=local(move.booked_at, zone),
        created_at=local(move.created_at, zone),
        details=dict(move.details),
    )


def top_up_ordered(view: TopUpView, zone: ZoneInfo) -> TopUpOrdered:
    """What the payer needs to pay."""
    return TopUpOrdered(
        top_up_no=view.top_up_no,
        status=view.status,
        payment=view.payment,
        amount_fen=view.amount_fen,
        wallet=view.wallet,
        expires_at=local(view.expires_at, zone),
    )


def top_up(view: TopUpView, zone: ZoneInfo) -> TopUp:
    """What became of it."""
    return TopUp(
        top_up_no=view.top_up_no,
        shop_id=view.tenancy_id,
        status=view.status,
        wallet=view.wallet,
        amount_fen=view.amount_fen,
        refunded_fen=view.refunded_fen,
        created_at=local(view.created_at, zone),
        expires_at=local(view.expires_at, zone),
        paid_at=local_or_none(view.paid_at, zone),
        credited_at=local_or_none(view.credited_at, zone),
        commanded_at=local_or_none(view.commanded_at, zone),
        confirmed_at=local_or_none(view.confirmed_at, zone),
    )
