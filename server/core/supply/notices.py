"""What a tenancy is to be told now: each warning once a descent, each rung once an episode."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from server.core.supply.control_state import ControlState
from server.core.supply.policy import Decision
from server.core.supply.reasons import Reason
from server.core.supply.terms import SupplyPolicy


class NoticeKind(StrEnum):
    """What a notice is about; the value is stored."""

    LOW_BALANCE = "low_balance"
    DISCONNECTION_PENDING = "disconnection_pending"
    DISCONNECTED = "disconnected"
    READY_FOR_RECONNECTION = "ready_for_reconnection"
    RECONNECTED = "reconnected"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeFacts:
    """What was told already, and what there is to tell.

    `low_sent_fen` are the limits already told in this descent (`still_low_fen` forgets those
    that the balance has risen above); `own_limits_fen` the tenant's own in place of the
    policy's. `pending_sent_minutes` are the rungs told in this episode. `shown` is the supply as
    it is (`state.shown_state`), `told` as the tenant last heard of it.
    """

    available_fen: int
    now: datetime
    low_sent_fen: frozenset[int] = frozenset()
    own_limits_fen: tuple[int, ...] | None = None
    pending_sent_minutes: frozenset[int] = frozenset()
    shown: ControlState | None = None
    told: ControlState = ControlState.CONNECTED


@dataclass(frozen=True, slots=True)
class NoticeDue:
    """A notice to send.

    `level` is a limit in fen or a rung in minutes; `covers` are all the levels that are told
    with it and must be remembered as sent.
    """

    kind: NoticeKind
    level: int = 0
    covers: tuple[int, ...] = ()
    earliest_cut_at: datetime | None = None


def due_notices(
    policy: SupplyPolicy, decision: Decision, facts: NoticeFacts
) -> tuple[NoticeDue, ...]:
    """The notices due at `facts.now`, the most urgent first; none once the tenant moved out."""
    if Reason.MOVED_OUT in decision.reasons:
        return ()
    dues = (_supply(facts), _pending(policy, decision, facts), _low(policy, decision, facts))
    return tuple(due for due in dues if due is not None)


def still_low_fen(available_fen: int, low_sent_fen: frozenset[int]) -> frozenset[int]:
    """The limits told in this descent: above a limit it is armed again."""
    return frozenset(limit for limit in low_sent_fen if available_fen <= limit)


def next_notice_at(policy: SupplyPolicy, decision: Decision, facts: NoticeFacts) -> datetime | None:
    """When time alone makes the next rung due; to be looked at with `decide_again_at`."""
    if decision.earliest_cut_at is None or not _is_pending(policy, decision):
        return None
    instants = (decision.earliest_cut_at - timedelta(minutes=m) for m in policy.notice_minutes)
    return min((at for at in instants if at > facts.now), default=None)


_KIND_OF_STATE = {
    ControlState.DISCONNECTED: NoticeKind.DISCONNECTED,
    ControlState.READY_FOR_RECONNECTION: NoticeKind.READY_FOR_RECONNECTION,
    ControlState.CONNECTED: NoticeKind.RECONNECTED,
}


def _supply(facts: NoticeFacts) -> NoticeDue | None:
    if facts.shown is None or facts.shown is facts.told:
        return None
    return NoticeDue(_KIND_OF_STATE[facts.shown])


def _is_pending(policy: SupplyPolicy, decision: Decision) -> bool:
    """Whether a cut lies ahead of somebody who has power, with the notice that it needs."""
    return (
        (bool(policy.notice_minutes) or Reason.BACK_BILLING in decision.reasons)
        and decision.overdrawn_since is not None
        and decision.desired is ControlState.CONNECTED
        and Reason.PROTECTED not in decision.reasons
    )


def _pending(policy: SupplyPolicy, decision: Decision, facts: NoticeFacts) -> NoticeDue | None:
    if not _is_pending(policy, decision):
        return None
    cut_at = decision.earliest_cut_at
    first, *later = policy.notice_minutes or (0,)  # they fall: the first is the largest
    rungs = [first]
    if cut_at is not None:
        rungs += [rung for rung in later if facts.now >= cut_at - timedelta(minutes=rung)]
    unsent = tuple(rung for rung in rungs if rung not in facts.pending_sent_minutes)
    if not unsent:
        return None
    return NoticeDue(NoticeKind.DISCONNECTION_PENDING, unsent[-1], unsent, cut_at)


def _low(policy: SupplyPolicy, decision: Decision, facts: NoticeFacts) -> NoticeDue | None:
    """The lowest limit newly reached; a pending or real cut says more, and is said instead."""
    if decision.desired is not ControlState.CONNECTED or _is_pending(policy, decision):
        return None
    limits = policy.low_balance_fen if facts.own_limits_fen is None else facts.own_limits_fen
    sent = still_low_fen(facts.available_fen, facts.low_sent_fen)
    unsent = tuple(limit for limit in limits if facts.available_fen <= limit and limit not in sent)
    return NoticeDue(NoticeKind.LOW_BALANCE, min(unsent), unsent) if unsent else None
