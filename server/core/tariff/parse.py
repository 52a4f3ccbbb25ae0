"""One [[tariff]] or [[fixed_charge]] table of the site file as a frozen value, and back.

A price has an upper bound, so that a slip of the pen is refused where it is written. Per kWh it is
100 yuan: shops pay about one, and the highest spot price that any market allows for half an hour
was A$18.60, some 87 yuan, in Australia in 2025 (ABC News, 7 September 2025). For fixed charges no
such source is known: property fees and capacity charges are tens of yuan per m² or kVA a month, and
the bounds are hundreds of times that. What a shop's own charges add up to is checked by the import.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from enum import StrEnum

from server.core.calendar import DayType, minute_text, parse_span
from server.core.energy import WH_PER_KWH
from server.core.errors import InvalidInputError
from server.core.money import MICRO_YUAN_PER_YUAN, price_text
from server.core.tariff.fields import Faults, Fields, TariffErrors
from server.core.tariff.periods import (
    MONTHS,
    PeriodRule,
    PeriodSpan,
    TouPeriod,
    coverage_faults,
)
from server.core.tariff.versions import (
    SINCE_EVER,
    Block,
    BlockPeriod,
    FixedCharge,
    FixedChargeBasis,
    FixedChargePer,
    TariffKind,
    TariffVersion,
)

__all__ = [
    "TariffErrors",
    "fixed_charge_table",
    "parse_fixed_charge",
    "parse_tariff",
    "tariff_table",
]

BLOCKS_MAX = 20
RULES_MAX = 100
SPANS_MAX = 48
UP_TO_KWH_MAX = 1_000_000_000
PRICE_MICRO_YUAN_MAX = 100 * MICRO_YUAN_PER_YUAN
FIXED_PRICE_MICRO_YUAN_MAX: Mapping[FixedChargeBasis, int] = {
    FixedChargeBasis.SHOP: 10_000_000 * MICRO_YUAN_PER_YUAN,
    FixedChargeBasis.M2: 10_000 * MICRO_YUAN_PER_YUAN,
    FixedChargeBasis.KVA: 10_000 * MICRO_YUAN_PER_YUAN,
}


class RuleDays(StrEnum):
    """The days a rule may be written for."""

    ALL = "all"
    WORKDAY = "workday"
    WEEKEND = "weekend"
    HOLIDAY = "holiday"


def parse_tariff(table: Mapping[str, object]) -> TariffVersion:
    """A version from one table; raises TariffErrors with all its faults."""
    faults = Faults()
    fields = Fields(table, faults)
    code = fields.code("code")
    valid_from = fields.day("valid_from", SINCE_EVER)
    kind = fields.choice("kind", TariffKind, _likely_kind(fields))
    match kind:
        case TariffKind.FLAT:
            version = _flat(fields, code, valid_from)
        case TariffKind.TOU:
            version = _tou(fields, code, valid_from)
        case TariffKind.BLOCK:
            version = _block(fields, code, valid_from)
    fields.refuse_rest()
    faults.raise_any()
    return version


def _likely_kind(fields: Fields) -> TariffKind:
    if "blocks" in fields:
        return TariffKind.BLOCK
    return TariffKind.TOU if "prices" in fields else TariffKind.FLAT


def _flat(fields: Fields, code: str, valid_from: date) -> TariffVersion:
    block = Block(None, ((None, fields.price("price", PRICE_MICRO_YUAN_MAX)),))
    return TariffVersion(code, valid_from, TariffKind.FLAT, (block,))


def _tou(fields: Fields, code: str, valid_from: date) -> TariffVersion:
    block = Block(None, fields.prices("prices", TouPeriod, PRICE_MICRO_YUAN_MAX))
    rules = _rules(fields)
    _note_missing_prices(fields, "prices", rules, block)
    return TariffVersion(code, valid_from, TariffKind.TOU, (block,), rules)


def _block(fields: Fields, code: str, valid_from: date) -> TariffVersion:
    period = fields.choice("period", BlockPeriod, BlockPeriod.MONTH)
    has_periods = "periods" in fields
    rows = fields.rows("blocks", BLOCKS_MAX)
    blocks: list[Block] = []
    for number, row in enumerate(rows):
        inner = Fields(row, fields.faults, fields.place(f"blocks[{number}]"))
        floor_wh = blocks[-1].up_to_wh if blocks else None
        up_to_wh = _up_to_wh(inner, floor_wh, is_last=number == len(rows) - 1)
        blocks.append(Block(up_to_wh, _block_price(inner, has_periods=has_periods)))
        inner.refuse_rest()
    rules = _rules(fields) if has_periods else ()
    for number, block in enumerate(blocks):
        _note_missing_prices(fields, f"blocks[{number}].prices", rules, block)
    return TariffVersion(code, valid_from, TariffKind.BLOCK, tuple(blocks), rules, period)


def _block_price(fields: Fields, *, has_periods: bool) -> tuple[tuple[TouPeriod | None, int], ...]:
    if has_periods:
        return fields.prices("prices", TouPeriod, PRICE_MICRO_YUAN_MAX)
    return ((None, fields.price("price", PRICE_MICRO_YUAN_MAX)),)


def _up_to_wh(fields: Fields, floor_wh: int | None, *, is_last: bool) -> int | None:
    value = fields.take("up_to_kwh")
    if is_last:
        if value is not None:
            fields.note("up_to_kwh", "the last block is without end")
        return None
    if type(value) is not int or not 0 < value <= UP_TO_KWH_MAX:
        fields.note("up_to_kwh", f"must be a whole number from 1 to {UP_TO_KWH_MAX}")
        return floor_wh
    if floor_wh is not None and value * WH_PER_KWH <= floor_wh:
        fields.note("up_to_kwh", "must be more than that of the block before")
    return value * WH_PER_KWH


def _rules(fields: Fields) -> tuple[PeriodRule, ...]:
    """Every minute of every kind of day exactly once, which only readable rules can show."""
    count_before = fields.faults.count
    rows = fields.rows("periods", RULES_MAX)
    rules = tuple(
        _rule(Fields(row, fields.faults, fields.place(f"periods[{number}]")))
        for number, row in enumerate(rows)
    )
    if fields.faults.count == count_before:
        for fault in coverage_faults(rules):
            fields.note("periods", fault)
    return rules


def _rule(fields: Fields) -> PeriodRule:
    months = tuple(fields.integers("months", MONTHS, MONTHS))
    days = fields.choice("days", RuleDays, RuleDays.ALL)
    spans = sorted(span for period in TouPeriod for span in _spans(fields, period))
    fields.refuse_rest()
    day_type = None if days is RuleDays.ALL else DayType(days.value)
    return PeriodRule(months, day_type, tuple(spans))


def _spans(fields: Fields, period: TouPeriod) -> Iterator[PeriodSpan]:
    if period not in fields:
        return
    for number, text in enumerate(fields.rows(period, SPANS_MAX)):
        try:
            span = parse_span(text if isinstance(text, str) else "", may_wrap=False)
        except InvalidInputError as error:
            fields.note(f"{period}[{number}]", error.detail)
        else:
            yield PeriodSpan(span.start, span.end, period)


def _note_missing_prices(
    fields: Fields, key: str, rules: tuple[PeriodRule, ...], block: Block
) -> None:
    priced = {period for period, _ in block.prices}
    used = {span.period for rule in rules for span in rule.spans}
    for period in TouPeriod:
        if period in used - priced:
            fields.note(f"{key}.{period}", "is required: the period is used")


def parse_fixed_charge(table: Mapping[str, object]) -> FixedCharge:
    """A fixed charge from one table; raises TariffErrors with all its faults."""
    faults = Faults()
    fields = Fields(table, faults)
    code = fields.code("code")
    valid_from = fields.day("valid_from", SINCE_EVER)
    per = fields.choice("per", FixedChargePer, FixedChargePer.MONTH)
    basis = fields.choice("basis", FixedChargeBasis, FixedChargeBasis.SHOP)
    price_micro_yuan = fields.price("price", FIXED_PRICE_MICRO_YUAN_MAX[basis])
    charge = FixedCharge(code, valid_from, per, basis, price_micro_yuan)
    fields.refuse_rest()
    faults.raise_any()
    return charge


def fixed_charge_table(charge: FixedCharge) -> dict[str, object]:
    """The canonical table of a fixed charge; parse_fixed_charge reads the same one back."""
    return {
        "code": charge.code,
        "valid_from": charge.valid_from.isoformat(),
        "per": charge.per.value,
        "basis": charge.basis.value,
        "price": price_text(charge.price_micro_yuan),
    }


def tariff_table(version: TariffVersion) -> dict[str, object]:
    """The canonical table of a version, JSON-able; parse_tariff reads the same version back."""
    table: dict[str, object] = {
        "code": version.code,
        "valid_from": version.valid_from.isoformat(),
        "kind": version.kind.value,
    }
    if version.kind is TariffKind.BLOCK:
        table["blocks"] = [_block_row(block) for block in version.blocks]
        table["period"] = (version.block_period or BlockPeriod.MONTH).value
    else:
        table |= _price_row(version.blocks[0])
    if version.rules:
        table["periods"] = [_rule_row(rule) for rule in version.rules]
    return table


def _block_row(block: Block) -> dict[str, object]:
    end: dict[str, object] = (
        {} if block.up_to_wh is None else {"up_to_kwh": block.up_to_wh // WH_PER_KWH}
    )
    return end | _price_row(block)


def _price_row(block: Block) -> dict[str, object]:
    if block.prices and block.prices[0][0] is None:
        return {"price": price_text(block.prices[0][1])}
    texts = {period.value: price_text(price) for period, price in block.prices if period}
    return {"prices": texts}


def _rule_row(rule: PeriodRule) -> dict[str, object]:
    days = RuleDays.ALL if rule.days is None else RuleDays(rule.days.value)
    row: dict[str, object] = {"months": list(rule.months), "days": days.value}
    for period in TouPeriod:
        texts = [_span_text(span) for span in rule.spans if span.period is period]
        if texts:
            row[period.value] = texts
    return row


def _span_text(span: PeriodSpan) -> str:
    return f"{minute_text(span.start_minute)}-{minute_text(span.end_minute)}"
