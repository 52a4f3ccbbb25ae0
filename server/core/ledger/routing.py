"""Which flow may let which accounts meet: a balanced posting can still be a wrong one."""

from dataclasses import dataclass
from enum import StrEnum

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import AccountKind
from server.core.ledger.transfer import Posting, Transfer


class FlowCode(StrEnum):
    """The stable codes of the business events; the value is stored with every posting."""

    TOP_UP_SETTLED = "top_up.settled"
    TOP_UP_REVERSED = "top_up.reversed"
    DESK_PAYMENT = "desk_payment.received"
    DESK_PAYMENT_REVERSED = "desk_payment.reversed"
    ENERGY_CHARGED = "energy.charged"
    ENERGY_CHARGE_REVERSED = "energy.charge_reversed"
    ENERGY_CORRECTED = "energy.corrected"
    FIXED_CHARGE_CHARGED = "fixed_charge.charged"
    FIXED_CHARGE_REVERSED = "fixed_charge.reversed"
    FIXED_CHARGE_CORRECTED = "fixed_charge.corrected"
    OPENING_BALANCE = "opening_balance.set"
    OPENING_BALANCE_REVERSED = "opening_balance.reversed"
    REFUND_STARTED = "refund.started"
    REFUND_DONE = "refund.done"
    REFUND_FAILED = "refund.failed"
    REFUND_RETURNED = "refund.returned"
    ADJUSTMENT = "adjustment.made"
    ADJUSTMENT_REVERSED = "adjustment.reversed"
    PAYMENT_TO_SUSPENSE = "suspense.received"
    SUSPENSE_CREDITED = "suspense.credited"
    SUSPENSE_CREDIT_REVERSED = "suspense.credit_reversed"
    SUSPENSE_REFUNDED = "suspense.refunded"
    MOVE_OUT_PAID = "move_out.paid"
    MOVE_OUT_RETURNED = "move_out.returned"


Pair = tuple[AccountKind, AccountKind]  # debit, credit


@dataclass(frozen=True, slots=True)
class Rule:
    """The (debit, credit) pairs that a flow may write, and the flow that undoes it."""

    pairs: frozenset[Pair]
    undone_by: FlowCode | None


_K = AccountKind
_ENERGY = _K.ELECTRICITY_WALLET
_FIXED = _K.FIXED_CHARGES_WALLET
_WALLETS = (_ENERGY, _FIXED)
_CLEARING = (_K.WECHAT_CLEARING, _K.ALIPAY_CLEARING)
_HOUSE = (_K.DESK, _K.BANK)


def _cross(debits: tuple[AccountKind, ...], credits_: tuple[AccountKind, ...]) -> frozenset[Pair]:
    return frozenset((debit, credit) for debit in debits for credit in credits_)


def _swap(pairs: frozenset[Pair]) -> frozenset[Pair]:
    return frozenset((credit, debit) for debit, credit in pairs)


_F = FlowCode
# A flow beside the one that undoes it; the second has the first's pairs the other way round. The
# same flow twice undoes itself (a correction of a correction).
_EVENTS: tuple[tuple[FlowCode, FlowCode, frozenset[Pair]], ...] = (
    (_F.TOP_UP_SETTLED, _F.TOP_UP_REVERSED, _cross(_CLEARING, _WALLETS)),
    (_F.DESK_PAYMENT, _F.DESK_PAYMENT_REVERSED, _cross(_HOUSE, _WALLETS)),
    (_F.ENERGY_CHARGED, _F.ENERGY_CHARGE_REVERSED, _cross((_ENERGY,), (_K.ENERGY_REVENUE,))),
    (
        _F.FIXED_CHARGE_CHARGED,
        _F.FIXED_CHARGE_REVERSED,
        _cross((_FIXED,), (_K.FIXED_CHARGE_REVENUE,)),
    ),
    (
        _F.OPENING_BALANCE,
        _F.OPENING_BALANCE_REVERSED,
        _cross((_K.OPENING_BALANCES,), _WALLETS) | _cross(_WALLETS, (_K.OPENING_BALANCES,)),
    ),
    (_F.REFUND_STARTED, _F.REFUND_FAILED, _cross(_WALLETS, (_K.REFUNDS_IN_PROGRESS,))),
    (_F.REFUND_DONE, _F.REFUND_RETURNED, _cross((_K.REFUNDS_IN_PROGRESS,), _CLEARING + _HOUSE)),
    (
        _F.ADJUSTMENT,
        _F.ADJUSTMENT_REVERSED,
        _cross((_K.ADJUSTMENTS,), _WALLETS) | _cross(_WALLETS, (_K.ADJUSTMENTS,)),
    ),
    (_F.PAYMENT_TO_SUSPENSE, _F.SUSPENSE_REFUNDED, _cross(_CLEARING + _HOUSE, (_K.SUSPENSE,))),
    (_F.SUSPENSE_CREDITED, _F.SUSPENSE_CREDIT_REVERSED, _cross((_K.SUSPENSE,), _WALLETS)),
    (
        _F.MOVE_OUT_PAID,
        _F.MOVE_OUT_RETURNED,
        _cross(_WALLETS, (*_HOUSE, _K.ROUNDING)) | _cross((_K.ROUNDING,), _WALLETS),
    ),
    (
        _F.ENERGY_CORRECTED,
        _F.ENERGY_CORRECTED,
        _cross((_ENERGY,), (_K.ENERGY_REVENUE,)) | _cross((_K.ENERGY_REVENUE,), (_ENERGY,)),
    ),
    (
        _F.FIXED_CHARGE_CORRECTED,
        _F.FIXED_CHARGE_CORRECTED,
        _cross((_FIXED,), (_K.FIXED_CHARGE_REVENUE,))
        | _cross((_K.FIXED_CHARGE_REVENUE,), (_FIXED,)),
    ),
)

RULES: dict[FlowCode, Rule] = {
    **{undo: Rule(_swap(pairs), None) for _, undo, pairs in _EVENTS},
    **{flow: Rule(pairs, undo) for flow, undo, pairs in _EVENTS},
}


def is_allowed(flow: str, debit: AccountKind, credit: AccountKind) -> bool:
    """Whether a flow, as it is stored, may debit and credit these kinds."""
    known = flow in FlowCode.__members__.values()
    return known and (debit, credit) in RULES[FlowCode(flow)].pairs


def check(posting: Posting) -> None:
    """Refuse an unknown flow, accounts that it may not let meet, and a second wallet."""
    try:
        rule = RULES[FlowCode(posting.flow)]
    except ValueError:
        raise InvalidInputError(f"no such flow: {posting.flow!r}") from None
    for transfer in posting.transfers:
        _check_pair(posting.flow, transfer, rule)
    wallets = {a for t in posting.transfers for a in (t.debit, t.credit) if a.is_wallet}
    if len(wallets) > 1:
        raise InvalidInputError(f"{posting.flow} touches {len(wallets)} wallets")


def _check_pair(flow: str, transfer: Transfer, rule: Rule) -> None:
    debit, credit = transfer.debit.kind, transfer.credit.kind
    if (debit, credit) not in rule.pairs:
        raise InvalidInputError(f"{flow} may not debit {debit} and credit {credit}")
