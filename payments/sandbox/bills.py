"""What bills of both platforms share: the lines of a Chinese day, and what is wrong on demand.

A payment stands on the day it was paid, a refund on the day it was accepted, with the state it had
when the bill was made: bills are not written again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone

from payments.contract import Platform
from payments.sandbox.books import Order, Refund, RefundState
from payments.sandbox.faults import Kind
from payments.sandbox.state import Sandbox
from payments.sandbox.strangers import strange_order

CHINA = timezone(timedelta(hours=8))
MADE_AT = time(10, 0)  # on the next day
DAYS_MAX = 90

_KINDS = (
    Kind.BILL_MISSING,
    Kind.BILL_EXTRA,
    Kind.BILL_AMOUNT,
    Kind.BILL_REFUND_MISSING,
    Kind.BILL_HASH,
    Kind.BILL_SUMMARY,
)


@dataclass(frozen=True, slots=True)
class Line:
    """A payment, or a refund of one, as it was when the bill was made."""

    order: Order
    fen: int
    at: datetime
    refund: Refund | None = None

    @property
    def fee_fen(self) -> int:
        """What the platform keeps of a payment (or gives back of a refund): 0.6 %, half up."""
        return (self.fen * 6 + 500) // 1000


@dataclass(frozen=True, slots=True)
class Statement:
    """All lines of a day, and what of it is to be unsound."""

    day: date
    lines: Sequence[Line]
    unsound: frozenset[Kind] = frozenset()

    @property
    def payments(self) -> list[Line]:
        """The lines of money that came."""
        return [line for line in self.lines if line.refund is None]

    @property
    def refunds(self) -> list[Line]:
        """The lines of money that went back."""
        return [line for line in self.lines if line.refund is not None]


def is_over(day: date, now: datetime) -> bool:
    """Whether a Chinese day has ended."""
    return day < now.astimezone(CHINA).date()


def is_made(day: date, now: datetime) -> bool:
    """Whether the bill of a day is there already."""
    return now >= _made_at(day)


def statement(sandbox: Sandbox, platform: Platform, day: date) -> Statement:
    """The bill of a day with the faults that the table has for it, counted."""
    lines = [*_payments(sandbox, platform, day), *_refunds(sandbox, platform, day)]
    found = {kind for kind in _KINDS if sandbox.faults.take(platform, "bill", [kind])}
    if Kind.BILL_MISSING in found:
        lines = _without_first(lines, is_refund=False)
    if Kind.BILL_REFUND_MISSING in found:
        lines = _without_first(lines, is_refund=True)
    if Kind.BILL_AMOUNT in found and lines:
        lines[0] = replace(lines[0], fen=lines[0].fen + 1)
    if Kind.BILL_EXTRA in found:
        lines.append(_stranger(sandbox, platform, day))
    return Statement(day, lines, frozenset(found & {Kind.BILL_HASH, Kind.BILL_SUMMARY}))


def yuan(fen: int) -> str:
    """Fen as bills write money."""
    sign = "-" if fen < 0 else ""
    return f"{sign}{abs(fen) // 100}.{abs(fen) % 100:02d}"


def _payments(sandbox: Sandbox, platform: Platform, day: date) -> list[Line]:
    return [
        Line(order, order.amount_fen, order.paid_at)
        for order in sandbox.orders.all(platform)
        if order.paid_at is not None and order.paid_at.astimezone(CHINA).date() == day
    ]


def _refunds(sandbox: Sandbox, platform: Platform, day: date) -> list[Line]:
    return [
        Line(
            sandbox.orders.order_of(refund),
            refund.amount_fen,
            refund.created_at,
            replace(refund, state=state_at(refund, _made_at(day))),
        )
        for refund in sandbox.orders.refunds(platform)
        if refund.created_at.astimezone(CHINA).date() == day
    ]


def state_at(refund: Refund, at: datetime) -> RefundState:
    """What was known of a refund at a time."""
    known = [
        RefundState(state)
        for told, state in refund.payload.get("history", ())
        if datetime.fromisoformat(told) <= at
    ]
    return known[-1] if known else RefundState.PROCESSING


def _without_first(lines: list[Line], *, is_refund: bool) -> list[Line]:
    first = next((line for line in lines if (line.refund is not None) == is_refund), None)
    return [line for line in lines if line is not first]


def _stranger(sandbox: Sandbox, platform: Platform, day: date) -> Line:
    """A payment that nobody here knows of."""
    noon = datetime.combine(day, time(12), CHINA)
    order = strange_order(sandbox, platform, f"X{day:%Y%m%d}", 1234, "")
    trade_no = f"{day:%Y%m%d}22001999999999999999"
    order = replace(
        order,
        created_at=noon,
        payload=dict(order.payload) | {"trade_no": trade_no},
        transaction_id=f"4200000999{day:%Y%m%d}9999999999",
    )
    return Line(order, order.amount_fen, noon)


def _made_at(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), MADE_AT, CHINA)
