"""Business events as postings: callers say what happened, only this file knows the legs.

Each flow stands beside what undoes it; `reverse` undoes any posting that can be undone. Every
posting made here has passed `routing.check`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import AccountKind, AccountRef
from server.core.ledger.routing import RULES, FlowCode, check
from server.core.ledger.transfer import Details, Posting, Transfer

# How money comes in or leaves, by the name that payments and pages use, and where it then is.
SOURCES: Mapping[str, AccountRef] = MappingProxyType(
    {
        "wechat": AccountRef(AccountKind.WECHAT_CLEARING),
        "alipay": AccountRef(AccountKind.ALIPAY_CLEARING),
        "cash": AccountRef(AccountKind.DESK),
        "bank_transfer": AccountRef(AccountKind.BANK),
    }
)
CASH_ROUNDING_FEN_MAX = 9  # no coin below one jiao is in use
NO_DETAILS: Details = MappingProxyType({})

_ENERGY_REVENUE = AccountRef(AccountKind.ENERGY_REVENUE)
_FIXED_CHARGE_REVENUE = AccountRef(AccountKind.FIXED_CHARGE_REVENUE)
_ADJUSTMENTS = AccountRef(AccountKind.ADJUSTMENTS)
_ROUNDING = AccountRef(AccountKind.ROUNDING)
_SUSPENSE = AccountRef(AccountKind.SUSPENSE)
_REFUNDS = AccountRef(AccountKind.REFUNDS_IN_PROGRESS)
_OPENING = AccountRef(AccountKind.OPENING_BALANCES)


def reverse(posting: Posting, details: Details) -> Posting:
    """The posting that undoes this one; `details` need a `reason`. A reversal has none."""
    undone_by = RULES[FlowCode(posting.flow)].undone_by
    if undone_by is None:
        raise InvalidInputError(f"{posting.flow} is a reversal: post the event again instead")
    _need_reason(details)
    transfers = tuple(transfer.swapped() for transfer in reversed(posting.transfers))
    return _posting(undone_by, transfers, {**posting.details, **details})


def top_up_settled(
    platform: str, wallet: AccountRef, amount_fen: int, details: Details = NO_DETAILS
) -> Posting:
    """A platform (`wechat`, `alipay`) took a payment for this wallet."""
    return _one(FlowCode.TOP_UP_SETTLED, _source(platform), wallet, amount_fen, details)


def desk_payment(
    method: str, wallet: AccountRef, amount_fen: int, details: Details = NO_DETAILS
) -> Posting:
    """The desk took `cash`, or the bank account a `bank_transfer`, for this wallet."""
    return _one(FlowCode.DESK_PAYMENT, _source(method), wallet, amount_fen, details)


def energy_charged(
    wallet: AccountRef, amount_fen: int, details: Details = NO_DETAILS
) -> Posting | None:
    """A closed day's energy; nothing to post when it cost nothing."""
    return _charge(FlowCode.ENERGY_CHARGED, wallet, _ENERGY_REVENUE, amount_fen, details)


def energy_charge_reversed(
    wallet: AccountRef, amount_fen: int, details: Details = NO_DETAILS
) -> Posting | None:
    """A closed day's energy given back whole."""
    return _charge(FlowCode.ENERGY_CHARGE_REVERSED, _ENERGY_REVENUE, wallet, amount_fen, details)


def energy_corrected(
    wallet: AccountRef, *, reversed_fen: int, charged_fen: int, details: Details = NO_DETAILS
) -> Posting | None:
    """A closed day's old version given back and its new one charged, in one posting."""
    return _correct(
        FlowCode.ENERGY_CORRECTED,
        (wallet, _ENERGY_REVENUE),
        reversed_fen=reversed_fen,
        charged_fen=charged_fen,
        details=details,
    )


def fixed_charge_charged(
    wallet: AccountRef, amount_fen: int, details: Details = NO_DETAILS
) -> Posting | None:
    """A day's or month's fixed charge, from the fixed-charges wallet only."""
    return _charge(
        FlowCode.FIXED_CHARGE_CHARGED, wallet, _FIXED_CHARGE_REVENUE, amount_fen, details
    )


def fixed_charge_reversed(
    wallet: AccountRef, amount_fen: int, details: Details = NO_DETAILS
) -> Posting | None:
    """A fixed charge given back whole."""
    return _charge(
        FlowCode.FIXED_CHARGE_REVERSED, _FIXED_CHARGE_REVENUE, wallet, amount_fen, details
    )


def fixed_charge_corrected(
    wallet: AccountRef, *, reversed_fen: int, charged_fen: int, details: Details = NO_DETAILS
) -> Posting | None:
    """A fixed charge's old version given back and its new one charged, in one posting."""
    return _correct(
        FlowCode.FIXED_CHARGE_CORRECTED,
        (wallet, _FIXED_CHARGE_REVENUE),
        reversed_fen=reversed_fen,
        charged_fen=charged_fen,
        details=details,
    )


def opening_balance(
    wallet: AccountRef, balance_fen: int, details: Details = NO_DETAILS
) -> Posting | None:
    """What a wallet held (or, below zero, owed) before MallWatt; nothing to post for 0."""
    return _signed(FlowCode.OPENING_BALANCE, wallet, _OPENING, balance_fen, details)


def refund_started(wallet: AccountRef, amount_fen: int, details: Details = NO_DETAILS) -> Posting:
    """Money leaves the wallet for a refund that the platform is about to be asked for.

    From here on the journal holds it back; until then (approval awaited) it is a reservation in
    *available*. A fen is never in both.
    """
    return _one(FlowCode.REFUND_STARTED, wallet, _REFUNDS, amount_fen, details)


def refund_failed(wallet: AccountRef, amount_fen: int, details: Details = NO_DETAILS) -> Posting:
    """The platform refused: the money is the wallet's again."""
    return _one(FlowCode.REFUND_FAILED, _REFUNDS, wallet, amount_fen, details)


def refund_done(source: str, amount_fen: int, details: Details = NO_DETAILS) -> Posting:
    """The money went out: by `wechat` or `alipay`; offline, the last step, by the other two."""
    return _one(FlowCode.REFUND_DONE, _REFUNDS, _source(source), amount_fen, details)


def refund_returned(source: str, amount_fen: int, details: Details = NO_DETAILS) -> Posting:
    """Refunded money came back (a closed card): in progress again, to fail or be paid out."""
    return _one(FlowCode.REFUND_RETURNED, _source(source), _REFUNDS, amount_fen, details)


def adjustment(wallet: AccountRef, amount_fen: int, details: Details) -> Posting:
    """A manager's change of a wallet, up or (below zero) down; `details` need a `reason`."""
    _need_reason(details)
    posting = _signed(FlowCode.ADJUSTMENT, wallet, _ADJUSTMENTS, amount_fen, details)
    if posting is None:
        raise InvalidInputError("an adjustment of nothing")
    return posting


def payment_to_suspense(source: str, amount_fen: int, details: Details = NO_DETAILS) -> Posting:
    """Money came in that no open wallet may have: late, unknown, after a move-out."""
    return _one(FlowCode.PAYMENT_TO_SUSPENSE, _source(source), _SUSPENSE, amount_fen, details)


def suspense_credited(
    wallet: AccountRef, amount_fen: int, details: Details = NO_DETAILS
) -> Posting:
    """A case was decided: the money is this wallet's."""
    return _one(FlowCode.SUSPENSE_CREDITED, _SUSPENSE, wallet, amount_fen, details)


def suspense_refunded(source: str, amount_fen: int, details: Details = NO_DETAILS) -> Posting:
    """A case was decided: the money went back the way it came."""
    return _one(FlowCode.SUSPENSE_REFUNDED, _SUSPENSE, _source(source), amount_fen, details)


def move_out_paid(
    method: str,
    wallet: AccountRef,
    amount_fen: int,
    *,
    rounding_fen: int = 0,
    details: Details = NO_DETAILS,
) -> Posting:
    """What was left at move-out, paid in `cash` or by `bank_transfer`.

    `rounding_fen` is what cash could not pay (above zero: kept by the mall) or paid too much
    (below zero); the wallet falls by both together.
    """
    if abs(rounding_fen) > CASH_ROUNDING_FEN_MAX or (rounding_fen and method != "cash"):
        raise InvalidInputError(f"{rounding_fen} fen cannot be rounded away by {method}")
    payout = Transfer(wallet, _source(method), amount_fen)
    transfers = (payout, *_signed_transfers(_ROUNDING, wallet, rounding_fen))
    return _posting(FlowCode.MOVE_OUT_PAID, transfers, details)


def _posting(flow: FlowCode, transfers: tuple[Transfer, ...], details: Details) -> Posting:
    posting = Posting(flow, transfers, details)
    check(posting)
    return posting


def _one(
    flow: FlowCode, debit: AccountRef, credit: AccountRef, amount_fen: int, details: Details
) -> Posting:
    return _posting(flow, (Transfer(debit, credit, amount_fen),), details)


def _charge(
    flow: FlowCode, debit: AccountRef, credit: AccountRef, amount_fen: int, details: Details
) -> Posting | None:
    return None if amount_fen == 0 else _one(flow, debit, credit, amount_fen, details)


def _correct(
    flow: FlowCode,
    accounts: tuple[AccountRef, AccountRef],
    *,
    reversed_fen: int,
    charged_fen: int,
    details: Details,
) -> Posting | None:
    wallet, revenue = accounts
    legs = ((revenue, wallet, reversed_fen), (wallet, revenue, charged_fen))
    transfers = tuple(Transfer(*leg) for leg in legs if leg[2])
    return _posting(flow, transfers, details) if transfers else None


def _signed(
    flow: FlowCode, wallet: AccountRef, other: AccountRef, amount_fen: int, details: Details
) -> Posting | None:
    transfers = _signed_transfers(wallet, other, amount_fen)
    return _posting(flow, transfers, details) if transfers else None


def _signed_transfers(
    gainer: AccountRef, loser: AccountRef, amount_fen: int
) -> tuple[Transfer, ...]:
    """Nothing for 0; the other way round below it."""
    if amount_fen < 0:
        return (Transfer(gainer, loser, -amount_fen),)
    return (Transfer(loser, gainer, amount_fen),) if amount_fen else ()


def _source(name: str) -> AccountRef:
    if name not in SOURCES:
        raise InvalidInputError(f"no such way of paying: {name!r}")
    return SOURCES[name]


def _need_reason(details: Details) -> None:
    reason = details.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise InvalidInputError("a reason is needed", code="reason_needed")
