"""What each event makes of a top-up and of an attempt to pay it, as tables.

Services write a state by `by_state` of a table alone, and the database refuses what no line allows.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class TopUpStatus(StrEnum):
    """How far a top-up is; the value is stored, and the contract's."""

    PENDING = "pending"
    PAID = "paid"  # credited; a part of it may have gone back
    CLOSED = "closed"  # with a time of payment: its money is in suspense
    REFUNDING = "refunding"
    REFUNDED = "refunded"


class TopUpEvent(StrEnum):
    """What happens to a top-up."""

    CREDITED = "credited"
    SUSPENDED = "suspended"  # money came that may not be credited by itself
    GIVEN_UP = "given_up"  # nobody paid in time, or moved out
    REFUND_BEGUN = "refund_begun"
    REFUND_ENDED = "refund_ended"  # nothing more is on its way, and something is left
    REFUNDED_WHOLE = "refunded_whole"


class AttemptState(StrEnum):
    """How far an attempt (one out_trade_no at its platform) is; the value is stored."""

    WAITING = "waiting"  # its payer may pay
    CLOSING = "closing"  # given up by us, and not yet known to be over at its platform
    PAID = "paid"
    CLOSED = "closed"


class AttemptEvent(StrEnum):
    """What happens to an attempt."""

    GIVEN_UP = "given_up"
    ENDED = "ended"  # its platform says so, or was asked in vain for too long
    PAID = "paid"


_T, _TE, _A, _AE = TopUpStatus, TopUpEvent, AttemptState, AttemptEvent

# What stands nowhere here cannot happen: its statement fails.
TOP_UP_MOVES: Mapping[tuple[TopUpStatus, TopUpEvent], TopUpStatus] = MappingProxyType(
    {
        (_T.PENDING, _TE.CREDITED): _T.PAID,
        (_T.PENDING, _TE.SUSPENDED): _T.CLOSED,
        (_T.PENDING, _TE.GIVEN_UP): _T.CLOSED,
        (_T.PAID, _TE.SUSPENDED): _T.PAID,  # it was paid twice
        (_T.PAID, _TE.GIVEN_UP): _T.PAID,
        (_T.PAID, _TE.REFUND_BEGUN): _T.REFUNDING,
        (_T.PAID, _TE.REFUND_ENDED): _T.PAID,
        (_T.PAID, _TE.REFUNDED_WHOLE): _T.REFUNDED,
        (_T.CLOSED, _TE.CREDITED): _T.PAID,  # a payment races its close
        (_T.CLOSED, _TE.SUSPENDED): _T.CLOSED,
        (_T.CLOSED, _TE.GIVEN_UP): _T.CLOSED,
        (_T.REFUNDING, _TE.SUSPENDED): _T.REFUNDING,
        (_T.REFUNDING, _TE.GIVEN_UP): _T.REFUNDING,
        (_T.REFUNDING, _TE.REFUND_BEGUN): _T.REFUNDING,
        (_T.REFUNDING, _TE.REFUND_ENDED): _T.PAID,
        (_T.REFUNDING, _TE.REFUNDED_WHOLE): _T.REFUNDED,
        (_T.REFUNDED, _TE.SUSPENDED): _T.REFUNDED,
        (_T.REFUNDED, _TE.GIVEN_UP): _T.REFUNDED,
        (_T.REFUNDED, _TE.REFUNDED_WHOLE): _T.REFUNDED,
    }
)
ATTEMPT_MOVES: Mapping[tuple[AttemptState, AttemptEvent], AttemptState] = MappingProxyType(
    {
        (_A.WAITING, _AE.GIVEN_UP): _A.CLOSING,
        (_A.WAITING, _AE.ENDED): _A.CLOSED,
        (_A.WAITING, _AE.PAID): _A.PAID,
        (_A.CLOSING, _AE.GIVEN_UP): _A.CLOSING,
        (_A.CLOSING, _AE.ENDED): _A.CLOSED,
        (_A.CLOSING, _AE.PAID): _A.PAID,
        (_A.PAID, _AE.GIVEN_UP): _A.PAID,
        (_A.PAID, _AE.ENDED): _A.PAID,
        (_A.PAID, _AE.PAID): _A.PAID,
        (_A.CLOSED, _AE.GIVEN_UP): _A.CLOSED,
        (_A.CLOSED, _AE.ENDED): _A.CLOSED,
        (_A.CLOSED, _AE.PAID): _A.PAID,  # a payment races its close
    }
)
UNDECIDED = frozenset({AttemptState.WAITING, AttemptState.CLOSING})  # its platform is asked


def by_state(event: TopUpEvent | AttemptEvent) -> dict[str, str]:
    """The states that an event may meet, each with the state after it."""
    if isinstance(event, TopUpEvent):
        return {old.value: new.value for (old, met), new in TOP_UP_MOVES.items() if met is event}
    return {old.value: new.value for (old, met), new in ATTEMPT_MOVES.items() if met is event}


def changes(moves: dict[str, str]) -> set[str]:
    """Each "old new" of one event's column, as the database holds them."""
    return {f"{old} {new}" for old, new in moves.items() if old != new}
