"""Answers made from what services know; times carry the site's offset and whole seconds."""

from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from miniprogram_api import answers
from miniprogram_api.words import move_title
from server.core.money import price_text
from server.http.locale import Locale
from server.services.bindings import ScannedShop
from server.services.statements import StatementDay, StatementSummary
from server.services.tenancies import TenancyOverview, TenancySummary
from server.services.top_up_views import TopUpView
from server.services.transactions import FixedChargeLine, WalletMove
from server.services.usage import UsagePoint


def local(at: datetime, zone: ZoneInfo) -> datetime:
    """A time as it is answered: the site's offset, whole seconds."""
    return at.astimezone(zone).replace(microsecond=0)


def local_or_none(at: datetime | None, zone: ZoneInfo) -> datetime | None:
    """The same, of what may not have happened yet."""
    return None if at is None else local(at, zone)


def scanned(shop: ScannedShop) -> answers.Scanned:
    """The answer to a scan."""
    return answers.Scanned(shop.site_name, shop.shop_code, shop.masked_name, shop.tenancy_id)


def shop_line(one: TenancySummary) -> answers.ShopLine:
    """A line of the bound shops."""
    return answers.ShopLine(
        id=one.tenancy_id,
        code=one.shop_code,
        name=one.shop_name,
        site_name=one.site_name,
        balance_fen=one.balance_fen,
        control_state=one.control_state,
        last_reading_at=local_or_none(one.last_reading_at, ZoneInfo(one.timezone)),
    )


def shop(one: TenancyOverview) -> answers.Shop:
    """A shop with all that is true of it now."""
    return answers.Shop(
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
        price_now=None if one.price_now is None else answers.Price(*one.price_now),
        days_left=one.days_left,
        today=answers.Today(*one.today),
        emergency_credit_fen=one.emergency_credit_fen,
        emergency_credit_offered_fen=one.emergency_credit_offered_fen,
        supply_state=one.supply_state,
        supply_reasons=list(one.supply_reasons),
    )


def usage_line(point: UsagePoint) -> answers.UsageLine:
    """A point of the usage."""
    return msgspec.convert(point, answers.UsageLine, from_attributes=True)


def statement_line(one: StatementSummary, zone: ZoneInfo) -> answers.StatementLine:
    """A closed day in a list."""
    return answers.StatementLine(
        one.day,
        one.version,
        one.corrected,
        one.energy_wh,
        one.amount_fen,
        one.estimated,
        local(one.closed_at, zone),
    )


def statement(one: StatementDay) -> answers.Statement:
    """A closed day with its working."""
    zone = ZoneInfo(one.timezone)
    return answers.Statement(
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
        price_version=msgspec.convert(one.tariff, answers.PriceVersion, from_attributes=True),
        block_start_wh=one.block_start_wh,
        periods=msgspec.convert(one.periods, list[answers.Period], from_attributes=True),
        lines=[
            answers.Charge(
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
        readings=msgspec.convert(one.readings, list[answers.Reading], from_attributes=True),
        versions=[statement_line(version, zone) for version in one.versions],
    )


def transaction(
    move: WalletMove, wallet: str, zone: ZoneInfo, locale: Locale
) -> answers.Transaction:
    """A change of a wallet."""
    return answers.Transaction(
        id=move.id,
        kind=move.kind,
        title=move_title(move.kind, locale),
        wallet=wallet,
        amount_fen=move.amount_fen,
        booked_at=local(move.booked_at, zone),
        created_at=local(move.created_at, zone),
        details=dict(move.details),
        fixed_charges=[_fixed_charge(line) for line in move.charges],
    )


def _fixed_charge(line: FixedChargeLine) -> answers.FixedCharge:
    return answers.FixedCharge(
        code=line.code,
        valid_from=line.valid_from,
        per=line.per,
        basis=line.basis,
        price_yuan=price_text(line.price_micro_yuan),
        quantity=_quantity_text(line),
        day_number=line.day_number,
        day_count=line.day_count,
        period_fen=line.period_fen,
        before_fen=line.before_fen,
        amount_fen=line.amount_fen,
    )


def _quantity_text(line: FixedChargeLine) -> str:
    """As the mall wrote it: 365000 cm² is "36.5" m²."""
    parts = {"cm2": 10_000, "va": 1_000}.get(line.unit, 1)
    whole, rest = divmod(line.quantity, parts)
    decimals = f"{rest:0{len(str(parts)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{decimals}" if decimals else str(whole)


def top_up_ordered(view: TopUpView, zone: ZoneInfo) -> answers.TopUpOrdered:
    """What the payer needs to pay."""
    return answers.TopUpOrdered(
        top_up_no=view.top_up_no,
        status=view.status,
        payment=view.payment,
        amount_fen=view.amount_fen,
        wallet=view.wallet,
        expires_at=local(view.expires_at, zone),
    )


def top_up(view: TopUpView, zone: ZoneInfo) -> answers.TopUp:
    """What became of it."""
    return answers.TopUp(
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
