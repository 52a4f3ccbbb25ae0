"""Payments that need a person: whose money it is meanwhile, and what may be decided, as a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from server.core.errors import ConflictError


class CaseDecision(StrEnum):
    """What a case may come to; the value is stored."""

    CREDIT = "credit"  # to the wallet of a shop that the manager names
    REFUND = "refund"  # to the payer
    RECORD = "record"  # what went back outside is taken from the wallet
    BY_HAND = "by_hand"  # paid out at the desk or by the bank instead
    AGAIN = "again"  # the platform is asked once more
    GIVE_BACK = "give_back"  # the money is where it was before the refund
    SEEN = "seen"


_D = CaseDecision


class CaseKind(StrEnum):
    """Why a payment needs a person; the value is stored."""

    SECOND_PAYMENT = "second_payment"
    OTHER_AMOUNT = "other_amount"
    UNKNOWN_ORDER = "unknown_order"
    AFTER_MOVE_OUT = "after_move_out"
    OTHER_MERCHANT = "other_merchant"
    OTHER_APP = "other_app"
    OTHER_CURRENCY = "other_currency"
    REFUNDED_BEFORE_CREDIT = "refunded_before_credit"
    REFUNDED_OUTSIDE = "refunded_outside"
    REFUND_FAILED = "refund_failed"
    REFUND_ABNORMAL = "refund_abnormal"
    REFUND_UNANSWERED = "refund_unanswered"
    REFUND_RETURNED = "refund_returned"
    REFUND_CONTRADICTED = "refund_contradicted"
    # these are a reconciliation's
    UNBOOKED_PAYMENT = "unbooked_payment"
    CREDITED_WITHOUT_PAYMENT = "credited_without_payment"
    PAYMENT_NOT_ON_BILL = "payment_not_on_bill"
    PAYMENT_BILLED_OTHERWISE = "payment_billed_otherwise"
    REFUND_NOT_ON_BILL = "refund_not_on_bill"
    REFUND_BILLED_OTHERWISE = "refund_billed_otherwise"


@dataclass(frozen=True, slots=True)
class CaseRule:
    """`with_money`: where its money is in suspense; `without`: where none is known to be ours.

    `by_itself` is done at once, and what may be decided stands for the day on which it failed.
    """

    with_money: tuple[CaseDecision, ...] = ()
    without: tuple[CaseDecision, ...] = (_D.SEEN,)
    by_itself: CaseDecision | None = None


_SUSPENDED = (_D.CREDIT, _D.REFUND)
CASES: Mapping[CaseKind, CaseRule] = MappingProxyType(
    {
        CaseKind.SECOND_PAYMENT: CaseRule(_SUSPENDED, by_itself=_D.REFUND),
        CaseKind.OTHER_AMOUNT: CaseRule(_SUSPENDED),
        CaseKind.UNKNOWN_ORDER: CaseRule(_SUSPENDED),
        CaseKind.AFTER_MOVE_OUT: CaseRule(_SUSPENDED),
        CaseKind.OTHER_MERCHANT: CaseRule(),
        CaseKind.OTHER_APP: CaseRule(),
        CaseKind.OTHER_CURRENCY: CaseRule(),
        CaseKind.REFUNDED_BEFORE_CREDIT: CaseRule(_SUSPENDED),
        CaseKind.REFUNDED_OUTSIDE: CaseRule(without=(_D.RECORD, _D.SEEN)),
        CaseKind.REFUND_FAILED: CaseRule(),
        CaseKind.REFUND_ABNORMAL: CaseRule(without=(_D.AGAIN, _D.BY_HAND, _D.GIVE_BACK)),
        CaseKind.REFUND_UNANSWERED: CaseRule(),
        CaseKind.REFUND_RETURNED: CaseRule(without=(_D.BY_HAND, _D.GIVE_BACK, _D.SEEN)),
        CaseKind.REFUND_CONTRADICTED: CaseRule(),
        CaseKind.UNBOOKED_PAYMENT: CaseRule(),
        CaseKind.CREDITED_WITHOUT_PAYMENT: CaseRule(),
        CaseKind.PAYMENT_NOT_ON_BILL: CaseRule(),
        CaseKind.PAYMENT_BILLED_OTHERWISE: CaseRule(),
        CaseKind.REFUND_NOT_ON_BILL: CaseRule(),
        CaseKind.REFUND_BILLED_OTHERWISE: CaseRule(),
    }
)


def choices(kind: str, *, has_money: bool) -> tuple[CaseDecision, ...]:
    """What a manager may decide; a kind that nobody knows may be seen, and not more."""
    rule = CASES[CaseKind(kind)] if kind in CaseKind.__members__.values() else CaseRule()
    return rule.with_money if has_money else rule.without


def check_choice(kind: str, decision: CaseDecision, *, has_money: bool) -> None:
    """Refuse what this kind of case may not come to."""
    if decision not in choices(kind, has_money=has_money):
        raise ConflictError(f"{kind} cannot be decided {decision.value}", code="not_for_this_case")
