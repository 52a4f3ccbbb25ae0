"""One part of a refund: what each word about it makes of it, as a table.

A part's number is fixed, so asking again is harmless; money moves once, when a part ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from server.core.errors import ConflictError


class PartState(StrEnum):
    """How far a part is; the value is stored."""

    DUE = "due"  # to be asked for, maybe once more
    PROCESSING = "processing"  # the platform has it
    ABNORMAL = "abnormal"  # a person decides
    TO_PAY = "to_pay"  # by hand
    DONE = "done"
    FAILED = "failed"  # its money is back where it was
    REPLACED = "replaced"  # its money goes out in another part


class PartEvent(StrEnum):
    """What was said of a part: by the platform, then by a manager."""

    UNANSWERED = "unanswered"
    NOT_KNOWN = "not_known"
    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    CLOSED = "closed"
    REFUSED = "refused"
    TURNED_ABNORMAL = "turned_abnormal"
    NO_MERCHANT = "no_merchant"  # nobody is left who could ask
    CONTRADICTED = "contradicted"  # another amount, payment or merchant than ours
    PAID_OUT = "paid_out"
    ASKED_AGAIN = "asked_again"
    TURNED_TO_HAND = "turned_to_hand"
    GIVEN_BACK = "given_back"


class Money(StrEnum):
    """What a step does to the money of its part."""

    STAYS = "stays"
    GONE = "gone"  # paid out
    BACK = "back"  # to the wallet, or to suspense


class Attention(StrEnum):
    """The case that a step opens."""

    FAILED = "refund_failed"
    ABNORMAL = "refund_abnormal"
    UNANSWERED = "refund_unanswered"  # asked for again and again
    RETURNED = "refund_returned"  # the payer's bank sent it back
    CONTRADICTED = "refund_contradicted"
    OUTSIDE = "refunded_outside"  # given back although we had given it up


@dataclass(frozen=True, slots=True)
class Step:
    """Where a part goes."""

    state: PartState
    money: Money = Money.STAYS
    attention: Attention | None = None


_S, _E = PartState, PartEvent
_DONE = Step(_S.DONE, Money.GONE)
_FAILED = Step(_S.FAILED, Money.BACK, Attention.FAILED)
_ABNORMAL = Step(_S.ABNORMAL, Money.STAYS, Attention.ABNORMAL)
_BACK = Step(_S.FAILED, Money.BACK)
_BY_HAND = Step(_S.REPLACED)
_RETURNED = Step(_S.DONE, Money.STAYS, Attention.RETURNED)  # a done part stays: a refund anew

# What stands nowhere here is refused to a manager, and from a platform it is a contradiction: the
# part stays as it is, and a person looks.
TRANSITIONS: Mapping[tuple[PartState, PartEvent], Step] = MappingProxyType(
    {
        (_S.DUE, _E.UNANSWERED): Step(_S.DUE),
        (_S.DUE, _E.NOT_KNOWN): Step(_S.DUE),
        (_S.DUE, _E.ACCEPTED): Step(_S.PROCESSING),
        (_S.DUE, _E.SUCCEEDED): _DONE,
        (_S.DUE, _E.CLOSED): _FAILED,
        (_S.DUE, _E.REFUSED): _FAILED,
        (_S.DUE, _E.TURNED_ABNORMAL): _ABNORMAL,
        (_S.DUE, _E.NO_MERCHANT): _ABNORMAL,
        (_S.PROCESSING, _E.UNANSWERED): Step(_S.PROCESSING),
        (_S.PROCESSING, _E.NOT_KNOWN): Step(_S.DUE),  # it forgot: the same number again
        (_S.PROCESSING, _E.ACCEPTED): Step(_S.PROCESSING),
        (_S.PROCESSING, _E.SUCCEEDED): _DONE,
        (_S.PROCESSING, _E.CLOSED): _FAILED,
        (_S.PROCESSING, _E.TURNED_ABNORMAL): _ABNORMAL,
        (_S.PROCESSING, _E.NO_MERCHANT): _ABNORMAL,
        (_S.ABNORMAL, _E.UNANSWERED): Step(_S.ABNORMAL),
        (_S.ABNORMAL, _E.NOT_KNOWN): Step(_S.DUE),  # nobody has the number: asked for again
        (_S.ABNORMAL, _E.NO_MERCHANT): Step(_S.ABNORMAL),
        (_S.ABNORMAL, _E.TURNED_ABNORMAL): Step(_S.ABNORMAL),
        (_S.ABNORMAL, _E.ACCEPTED): Step(_S.PROCESSING),
        (_S.ABNORMAL, _E.SUCCEEDED): _DONE,
        (_S.ABNORMAL, _E.CLOSED): _FAILED,
        (_S.ABNORMAL, _E.ASKED_AGAIN): Step(_S.DUE),
        (_S.ABNORMAL, _E.TURNED_TO_HAND): _BY_HAND,
        (_S.ABNORMAL, _E.GIVEN_BACK): _BACK,
        (_S.TO_PAY, _E.PAID_OUT): _DONE,
        (_S.TO_PAY, _E.GIVEN_BACK): _BACK,
        # late words about what has ended
        (_S.DONE, _E.UNANSWERED): Step(_S.DONE),
        (_S.DONE, _E.NOT_KNOWN): Step(_S.DONE),
        (_S.DONE, _E.ACCEPTED): Step(_S.DONE),
        (_S.DONE, _E.SUCCEEDED): Step(_S.DONE),
        (_S.DONE, _E.CLOSED): _RETURNED,
        (_S.DONE, _E.TURNED_ABNORMAL): _RETURNED,
        (_S.FAILED, _E.UNANSWERED): Step(_S.FAILED),
        (_S.FAILED, _E.NOT_KNOWN): Step(_S.FAILED),
        (_S.FAILED, _E.SUCCEEDED): Step(_S.FAILED, Money.STAYS, Attention.OUTSIDE),
        (_S.FAILED, _E.CLOSED): Step(_S.FAILED),
        (_S.FAILED, _E.REFUSED): Step(_S.FAILED),
        (_S.REPLACED, _E.UNANSWERED): Step(_S.REPLACED),
        (_S.REPLACED, _E.NOT_KNOWN): Step(_S.REPLACED),
        (_S.REPLACED, _E.SUCCEEDED): Step(_S.REPLACED, Money.STAYS, Attention.OUTSIDE),
        (_S.REPLACED, _E.CLOSED): Step(_S.REPLACED),
        (_S.REPLACED, _E.TURNED_ABNORMAL): Step(_S.REPLACED),
    }
)
BY_MANAGERS = frozenset({_E.PAID_OUT, _E.ASKED_AGAIN, _E.TURNED_TO_HAND, _E.GIVEN_BACK})
ENDED = frozenset({_S.DONE, _S.FAILED, _S.REPLACED})
PAUSES_S = (10, 30, 60, 120, 300, 900, 3_600)  # after the first, second … call; then the last
ABNORMAL_PAUSE = timedelta(hours=6)  # a cure at the platform is found out
# An account that ran dry is filled, and a platform mended, within a working day; longer than a
# weekend it is nobody's waiting, but something that somebody has to look into.
UNANSWERED_FOR = timedelta(days=3)
NO_MERCHANT_CALLS = 5  # a merchant may be away for a moment, while its keys are changed


def step(state: PartState, event: PartEvent) -> Step:
    """What a word makes of a part; raises ConflictError where a manager may not say it now."""
    found = TRANSITIONS.get((state, event))
    if found is not None:
        return found
    if event in BY_MANAGERS:
        raise ConflictError(f"a part that is {state.value} cannot be {event.value}")
    return Step(state, Money.STAYS, Attention.CONTRADICTED)


def attention_of(
    state: PartState, taken: Step, written_at: datetime, now: datetime
) -> Attention | None:
    """The case that a step of a part in `state` opens: its own, or that it waits too long."""
    still_due = state is PartState.DUE and taken.state is PartState.DUE
    if taken.attention is None and still_due and now - written_at >= UNANSWERED_FOR:
        return Attention.UNANSWERED
    return taken.attention


def refund_status(parts: Mapping[PartState, int]) -> str:
    """What a started refund is, by the money of its parts in each state."""
    if any(fen for state, fen in parts.items() if state not in ENDED):
        return "in_progress"
    done_fen, failed_fen = parts.get(_S.DONE, 0), parts.get(_S.FAILED, 0)
    if not failed_fen:
        return "done"
    return "partly" if done_fen else "failed"
