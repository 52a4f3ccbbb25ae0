"""Which payments a refund goes back to: newest first, each within its platform's limits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from server.core.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Limits:
    """What a platform allows for one payment."""

    within: timedelta  # from the payment to the refund
    refunds_max: int
    apart: timedelta


# Both platforms take refunds for a year, WeChat 365 days exactly; Alipay's is told in months, and
# 365 days are never more than twelve of them. Fifty an order and one a minute are WeChat's; Alipay
# names no number, and nobody needs more.
LIMITS: Mapping[str, Limits] = MappingProxyType(
    dict.fromkeys(("wechat", "alipay"), Limits(timedelta(days=365), 50, timedelta(minutes=1)))
)


@dataclass(frozen=True, slots=True)
class Paid:
    """An original payment: `taken_fen` of it went back or is about to.

    `refunds` counts every refund ever asked of it, `asked_at` is the newest; `refused`: the
    platform gave nothing back once, so it is passed over.
    """

    credit_id: int
    platform: str
    amount_fen: int
    paid_at: datetime
    taken_fen: int = 0
    refunds: int = 0
    asked_at: datetime | None = None
    refused: bool = False

    @property
    def left_fen(self) -> int:
        """What may still go back to it."""
        return max(self.amount_fen - self.taken_fen, 0)


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """A part of a refund, from `try_at` on; `credit_id` None: to be paid out by hand."""

    credit_id: int | None
    amount_fen: int
    try_at: datetime


def plan(amount_fen: int, payments: Iterable[Paid], now: datetime) -> Sequence[PlannedPart]:
    """The parts of a refund; they add up to it. What no payment can take is paid out by hand."""
    if amount_fen <= 0:
        raise InvalidInputError(f"a refund of {amount_fen} fen")
    parts: list[PlannedPart] = []
    rest_fen = amount_fen
    for paid in sorted(payments, key=lambda one: (one.paid_at, one.credit_id), reverse=True):
        if rest_fen and _can_take(paid, now):
            part_fen = min(rest_fen, paid.left_fen)
            parts.append(PlannedPart(paid.credit_id, part_fen, _try_at(paid, now)))
            rest_fen -= part_fen
    if rest_fen:
        parts.append(PlannedPart(None, rest_fen, now))
    return parts


def _can_take(paid: Paid, now: datetime) -> bool:
    limits = LIMITS[paid.platform]
    young = now < paid.paid_at + limits.within
    return young and not paid.refused and paid.refunds < limits.refunds_max and paid.left_fen > 0


def _try_at(paid: Paid, now: datetime) -> datetime:
    if paid.asked_at is None:
        return now
    return max(now, paid.asked_at + LIMITS[paid.platform].apart)
