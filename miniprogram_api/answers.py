"""What tenants are answered, as types; the field names are the contract's."""

from datetime import date, datetime
from typing import Annotated

import msgspec

from server.core.supply.control_state import ControlState


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
    began_by_exchange: bool
    ended_by_exchange: bool


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


class FixedCharge(msgspec.Struct, frozen=True):
    """One fixed charge of a day: price times quantity is `period_fen`, for `day_count` days.

    So much of it as this day and those before it come to, rounded, less `before_fen` is the day's.
    `basis` is shop, m2 or kva; the amounts add up to the change of the wallet.
    """

    code: str
    valid_from: date
    per: str
    basis: str
    price_yuan: str
    quantity: str
    day_number: int
    day_count: int
    period_fen: int
    before_fen: int
    amount_fen: int


class Transaction(msgspec.Struct, frozen=True):
    """One change of a wallet, below zero where it fell; `booked_at`: when it counts from.

    `title` is the kind in the caller's language; `fixed_charges` explain a day of them.
    """

    id: int
    kind: str
    title: str
    wallet: str
    amount_fen: int
    booked_at: datetime
    created_at: datetime
    details: dict[str, str | int]
    fixed_charges: list[FixedCharge]


class Transactions(msgspec.Struct, frozen=True):
    """A page of the journal, newest first."""

    items: list[Transaction]
    next_cursor: str | None


Status = Annotated[str, msgspec.Meta(description="pending, paid, closed, refunding or refunded")]


class TopUpOrdered(msgspec.Struct, frozen=True):
    """`payment` is for the method: wx.requestPayment's arguments, `code_url` or `url`.

    Null where nothing can be paid any more: it is paid, closed, or expired.
    """

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
