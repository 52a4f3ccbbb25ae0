"""What a tenancy owes for one local day without regard to energy: its fixed charges, explained.

Exact integers in tenths of a nano-yuan (micro-yuan per m² times cm²), rounded once a charge and
day. A month's price is spread so that the days up to the k-th of n together cost k/n of it,
rounded half up: a whole month's days add up to its rounded price. Who has the shop when a day ends
pays for that day: the day of moving in is paid, that of moving out is not, so no day of a shop is
ever paid twice, and all that is owed at a move-out is already due.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

from server.core.errors import InvalidInputError
from server.core.tariff.versions import FixedCharge, FixedChargeBasis, FixedChargePer

FORMAT = 1
TENTH_NANO_YUAN_PER_FEN = 100_000_000

# What micro-yuan times a quantity is multiplied with, so that it is tenths of a nano-yuan.
_FACTOR = {
    FixedChargeBasis.SHOP: 10_000,
    FixedChargeBasis.M2: 1,  # a quantity in cm²
    FixedChargeBasis.KVA: 10,  # a quantity in VA
}
_UNIT = {FixedChargeBasis.SHOP: "shop", FixedChargeBasis.M2: "cm2", FixedChargeBasis.KVA: "va"}


class FixedLine(NamedTuple):
    """One charge: the `day_number`-th of the `day_count` days that its price is for.

    `quantity` is in cm², VA or shops; `before_fen` is what the days before this one cost together.
    """

    charge: FixedCharge
    quantity: int
    day_number: int
    day_count: int
    period_fen: int
    before_fen: int
    amount_fen: int


@dataclass(frozen=True)
class FixedDay:
    """A day's charges in the shop's order; none: nothing is owed."""

    day: date
    lines: tuple[FixedLine, ...]

    @property
    def amount_fen(self) -> int:
        """What is owed: the lines' sum."""
        return sum(line.amount_fen for line in self.lines)


class NamedCharge(NamedTuple):
    """What a kept document says that it was made from, a line each."""

    code: str
    valid_from: date
    quantity: int


def owed_until(today: date, moved_out: date | None) -> date:
    """The first day that is not owed (yet): today, or the day of moving out."""
    return today if moved_out is None else min(today, moved_out)


def basis_quantity(basis: FixedChargeBasis, *, area_cm2: int, capacity_va: int) -> int:
    """How much of its basis a shop has: cm², VA, or one shop."""
    match basis:
        case FixedChargeBasis.SHOP:
            return 1
        case FixedChargeBasis.M2:
            return area_cm2
        case FixedChargeBasis.KVA:
            return capacity_va


def charge_fixed_day(day: date, charges: Iterable[tuple[FixedCharge, int]]) -> FixedDay:
    """The day's lines for these charges and quantities; raises InvalidInputError."""
    return FixedDay(day, tuple(_line(day, charge, quantity) for charge, quantity in charges))


def _line(day: date, charge: FixedCharge, quantity: int) -> FixedLine:
    if quantity < 0 or charge.price_micro_yuan < 0:
        raise InvalidInputError(f"{charge.code}: a price and its basis are never negative")
    number, count = _place_in_period(day, charge.per)
    exact = charge.price_micro_yuan * quantity * _FACTOR[charge.basis]
    before_fen = _part_fen(exact, number - 1, count)
    return FixedLine(
        charge=charge,
        quantity=quantity,
        day_number=number,
        day_count=count,
        period_fen=_part_fen(exact, count, count),
        before_fen=before_fen,
        amount_fen=_part_fen(exact, number, count) - before_fen,
    )


def _place_in_period(day: date, per: FixedChargePer) -> tuple[int, int]:
    if per is FixedChargePer.DAY:
        return 1, 1
    first = day.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return day.day, (following - first).days


def _part_fen(exact: int, number: int, count: int) -> int:
    """So many of `count` equal parts of an exact amount, in fen, half up."""
    whole = count * TENTH_NANO_YUAN_PER_FEN
    return (2 * exact * number + whole) // (2 * whole)


def fixed_day_document(charged: FixedDay) -> dict[str, object]:
    """JSON-able; equal days, equal documents."""
    return {
        "format": FORMAT,
        "day": charged.day.isoformat(),
        "amount_fen": charged.amount_fen,
        "lines": [_line_table(line) for line in charged.lines],
    }


def _line_table(line: FixedLine) -> dict[str, object]:
    charge = line.charge
    return {
        "code": charge.code,
        "valid_from": charge.valid_from.isoformat(),
        "per": charge.per.value,
        "basis": charge.basis.value,
        "price_micro_yuan": charge.price_micro_yuan,
        "quantity": line.quantity,
        "unit": _UNIT[charge.basis],
        "day_number": line.day_number,
        "day_count": line.day_count,
        "period_fen": line.period_fen,
        "before_fen": line.before_fen,
        "amount_fen": line.amount_fen,
    }


def read_named_charges(document: Mapping[str, object]) -> tuple[NamedCharge, ...]:
    """What a kept document was made from; raises InvalidInputError where it is damaged."""
    if document.get("format") != FORMAT:
        raise InvalidInputError(f"a fixed-charge document of format {document.get('format')!r}")
    lines = document.get("lines")
    if not isinstance(lines, Sequence) or isinstance(lines, str):
        raise InvalidInputError("a damaged fixed-charge document: no lines")
    return tuple(_named_charge(line) for line in lines)


def _named_charge(line: object) -> NamedCharge:
    match line:
        case {"code": str(code), "valid_from": str(since), "quantity": int(quantity)}:
            try:
                return NamedCharge(code, date.fromisoformat(since), quantity)
            except ValueError as error:
                raise InvalidInputError(f"a damaged fixed-charge line: {error}") from error
        case _:
            raise InvalidInputError("a damaged fixed-charge line")
