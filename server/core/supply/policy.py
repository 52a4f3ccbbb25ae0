"""What a tenancy's supply should be, why, and until when the answer stands.

An episode starts below the overdraft limit and ends at the reconnect limit. Whoever was cut in
it stays cut until it ends; whoever was not is cut only at an instant at which nothing holds it.

What is taken for a time that is over (back-billing: by a correction, or when a meter was silent)
cuts nobody before a notice of its own was delivered, also where the policy wants no notices: nobody
can watch last week's energy. Whoever is below the limit
only by it is in an episode of its own, in which no notice or cut from before counts; whoever is
below the limit by what they used as well is cut as ever (ADR 19).
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from server.core.calendar import HolidayCalendar
from server.core.errors import InvalidInputError
from server.core.supply.control_state import ControlState
from server.core.supply.reasons import Reason
from server.core.supply.terms import (
    ReconnectMode,
    SupplyPolicy,
    SupplyPolicyError,
    parse_supply_policy,
    policy_table,
)
from server.core.supply.windows import Place, first_free_at, next_change_at, reasons_at, windows

__all__ = [
    "CARRIED_OUT_WITHIN",
    "NO_READING_FOR",
    "Decision",
    "Reason",
    "ReconnectMode",
    "SupplyFacts",
    "SupplyPolicy",
    "SupplyPolicyError",
    "check_cut",
    "decide",
    "hoarding_room_fen",
    "parse_supply_policy",
    "policy_table",
]

NO_READING_FOR = timedelta(hours=72)  # without a trusted reading for so long a person decides
CARRIED_OUT_WITHIN = timedelta(minutes=5)  # or a decision to disconnect is made anew

# Held by input, not by time: no waiting ends these.
_HELD_BY_INPUT = frozenset(
    {
        Reason.PROTECTED,
        Reason.WITHIN_LIMIT,
        Reason.BACK_BILLING,
        Reason.NO_RECENT_READING,
        Reason.NOTICE_NOT_DELIVERED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyFacts:
    """All that a decision depends on besides the policy.

    `emergency_credit_used_fen` is what was granted and has not ended; it moves both limits.
    `overdrawn_since` is the last decision's (the episode's start, None outside one).
    `cut_commanded`: a meter of the tenancy was told to disconnect and has not been connected
    since (`MeterControl.disconnected_by_us`); without it a wish to disconnect was never carried
    out, so it is weighed afresh and needs no confirmation to be taken back.
    `first_notice_delivered_at` is of this episode's disconnection notice.
    `back_billing_not_noticed_fen` is what was taken so without a notice of its own yet (the last
    decision's `back_billing_fen`, and what was taken since), `back_billed_at` when the last
    one did.
    """

    available_fen: int
    now: datetime
    zone: ZoneInfo
    calendar: HolidayCalendar
    last_trusted_reading_at: datetime | None
    previous_desired: ControlState = ControlState.CONNECTED
    cut_commanded: bool = False
    overdrawn_since: datetime | None = None
    emergency_credit_used_fen: int = 0
    back_billing_not_noticed_fen: int = 0
    back_billed_at: datetime | None = None
    supply_protection: bool = False
    first_notice_delivered_at: datetime | None = None
    open_dispute_until: datetime | None = None
    tenancy_open: bool = True
    reconnect_confirmed: bool = False

    def __post_init__(self) -> None:
        if self.now.tzinfo is None:
            raise InvalidInputError("now has no timezone")
        if self.emergency_credit_used_fen < 0 or self.back_billing_not_noticed_fen < 0:
            raise InvalidInputError("emergency credit and back-billing are not negative")


@dataclass(frozen=True, slots=True)
class Decision:
    """What the supply should be, why, and when time alone changes that.

    `overdrawn_since` and `back_billing_fen` are to be kept for the next decision.
    `decide_again_at` is the next instant at which the state or its reasons change without new
    input; a cut that was not carried out is weighed anew after `CARRIED_OUT_WITHIN`.
    `earliest_cut_at` is when the cut would come if nothing else happens; None where only new input
    could bring it.
    """

    desired: ControlState
    reasons: tuple[Reason, ...]
    overdrawn_since: datetime | None = None
    back_billing_fen: int = 0
    decide_again_at: datetime | None = None
    earliest_cut_at: datetime | None = None


def decide(policy: SupplyPolicy, facts: SupplyFacts) -> Decision:
    """What this tenancy's supply should be at `facts.now`."""
    if not facts.tenancy_open:
        return Decision(facts.previous_desired, (Reason.MOVED_OUT,))
    since = _episode(policy, facts)
    if since is None:
        return _connect(policy, facts, (_credit_reason(policy, facts),), None)
    if since != facts.overdrawn_since:  # what was told or cut before was of another episode
        facts = replace(facts, overdrawn_since=None)
    decision = _decide_overdrawn(policy, facts, since)
    return replace(decision, back_billing_fen=_not_noticed_fen(facts))


def _decide_overdrawn(policy: SupplyPolicy, facts: SupplyFacts, since: datetime) -> Decision:
    if facts.supply_protection:
        return _connect(policy, facts, (Reason.OVERDRAWN, Reason.PROTECTED), since)
    if _was_cut(facts):
        return Decision(ControlState.DISCONNECTED, (Reason.OVERDRAWN,), since)
    return _weigh_cut(policy, facts, since)


def check_cut(policy: SupplyPolicy, facts: SupplyFacts) -> Decision:
    """The decision for a meter that is still connected, at the head of its bus queue.

    Another meter of the tenancy may be cut already; this one is cut only if a new disconnection
    is allowed at this instant.
    """
    return decide(policy, replace(facts, cut_commanded=False))


def hoarding_room_fen(policy: SupplyPolicy, *, available_fen: int, pending_fen: int) -> int:
    """How much more may be ordered now, `pending_fen` being ordered and not yet paid."""
    return max(0, policy.hoarding_limit_fen - available_fen - pending_fen)


def _episode(policy: SupplyPolicy, facts: SupplyFacts) -> datetime | None:
    """When the running episode started; now, if it starts now; None outside one."""
    overdrawn = facts.available_fen < _limit_fen(policy, facts)
    starts_at = facts.now if overdrawn else None
    if facts.overdrawn_since is None:
        return starts_at
    ends_at_fen = policy.reconnect_at_fen - facts.emergency_credit_used_fen
    if facts.available_fen >= ends_at_fen:
        return None
    if facts.back_billed_at is not None and facts.back_billed_at > facts.overdrawn_since:
        own_fen = facts.available_fen + _not_noticed_fen(facts)
        if _was_cut(facts) and own_fen >= ends_at_fen:
            return starts_at  # without the correction it would have ended
        if not _was_cut(facts) and overdrawn and own_fen >= _limit_fen(policy, facts):
            return starts_at
    return facts.overdrawn_since


def _not_noticed_fen(facts: SupplyFacts) -> int:
    """What was back-billed; nothing once the notice of an episode that it began is there."""
    since, billed_at = facts.overdrawn_since, facts.back_billed_at
    told = since is not None and facts.first_notice_delivered_at is not None
    if told and (billed_at is None or (since is not None and billed_at <= since)):
        return 0
    return facts.back_billing_not_noticed_fen


def _limit_fen(policy: SupplyPolicy, facts: SupplyFacts) -> int:
    return -policy.overdraft_limit_fen - facts.emergency_credit_used_fen


def _credit_reason(policy: SupplyPolicy, facts: SupplyFacts) -> Reason:
    if facts.available_fen >= 0:
        return Reason.PAID_UP
    if facts.available_fen >= -policy.overdraft_limit_fen:
        return Reason.WITHIN_LIMIT
    return Reason.EMERGENCY_CREDIT


def _was_cut(facts: SupplyFacts) -> bool:
    """Cut in the episode that still runs; one that waits for confirmation is out of its own."""
    return (
        facts.cut_commanded
        and facts.overdrawn_since is not None
        and facts.previous_desired is ControlState.DISCONNECTED
    )


def _connect(
    policy: SupplyPolicy, facts: SupplyFacts, reasons: tuple[Reason, ...], since: datetime | None
) -> Decision:
    """Connected, or ready for it where power was taken and the tenant must say that it is safe."""
    dark = facts.cut_commanded and facts.previous_desired is not ControlState.CONNECTED
    if dark and policy.reconnect is ReconnectMode.CONFIRM and not facts.reconnect_confirmed:
        reasons = (*reasons, Reason.AWAITING_CONFIRMATION)
        return Decision(ControlState.READY_FOR_RECONNECTION, reasons, since)
    return Decision(ControlState.CONNECTED, reasons, since)


def _weigh_cut(policy: SupplyPolicy, facts: SupplyFacts, since: datetime) -> Decision:
    holds = _holds(policy, facts)
    if holds:
        held = _connect(policy, facts, (Reason.OVERDRAWN, *holds), since)
        return replace(
            held,
            decide_again_at=_next_change_at(policy, facts),
            earliest_cut_at=_earliest_cut_at(policy, facts, holds),
        )
    ends = (facts.now + CARRIED_OUT_WITHIN, _next_change_at(policy, facts))
    return Decision(
        ControlState.DISCONNECTED,
        (Reason.OVERDRAWN,),
        overdrawn_since=since,
        decide_again_at=min(end for end in ends if end is not None),
        earliest_cut_at=facts.now,
    )


def _holds(policy: SupplyPolicy, facts: SupplyFacts) -> tuple[Reason, ...]:
    """Why a new disconnection is not allowed at `facts.now`, in the order of `Reason`."""
    holds: list[Reason] = []
    limit_fen = _limit_fen(policy, facts)
    if facts.available_fen >= limit_fen:
        holds.append(Reason.WITHIN_LIMIT)
    elif facts.available_fen + _not_noticed_fen(facts) >= limit_fen:
        holds.append(Reason.BACK_BILLING)
    stale_at = _stale_at(facts)
    if stale_at is None or stale_at <= facts.now:
        holds.append(Reason.NO_RECENT_READING)
    if facts.open_dispute_until is not None and facts.open_dispute_until > facts.now:
        holds.append(Reason.DISPUTED)
    if policy.notice_minutes:
        matures_at = _notice_matures_at(policy, facts)
        if matures_at is None:
            holds.append(Reason.NOTICE_NOT_DELIVERED)
        elif matures_at > facts.now:
            holds.append(Reason.NOTICE_RUNNING)
    place = Place(facts.zone, facts.calendar)
    return (*holds, *reasons_at(facts.now, windows(policy.no_disconnect), place))


def _next_change_at(policy: SupplyPolicy, facts: SupplyFacts) -> datetime | None:
    """The next instant at which one of the holds that time moves comes or goes."""
    place = Place(facts.zone, facts.calendar)
    instants = (
        _stale_at(facts),
        facts.open_dispute_until,
        _notice_matures_at(policy, facts),
        next_change_at(facts.now, windows(policy.no_disconnect), place),
    )
    return min((at for at in instants if at is not None and at > facts.now), default=None)


def _earliest_cut_at(
    policy: SupplyPolicy, facts: SupplyFacts, holds: tuple[Reason, ...]
) -> datetime | None:
    if not _HELD_BY_INPUT.isdisjoint(holds):
        return None
    waits = (facts.open_dispute_until, _notice_matures_at(policy, facts))
    start = max((at for at in waits if at is not None and at > facts.now), default=facts.now)
    place = Place(facts.zone, facts.calendar)
    return first_free_at(start, windows(policy.no_disconnect), place)


def _stale_at(facts: SupplyFacts) -> datetime | None:
    last = facts.last_trusted_reading_at
    return None if last is None else last + NO_READING_FOR


def _notice_matures_at(policy: SupplyPolicy, facts: SupplyFacts) -> datetime | None:
    """When the delivered notice has run; a notice from before this episode is none of its own."""
    if not policy.notice_minutes or facts.first_notice_delivered_at is None:
        return None
    if facts.overdrawn_since is None:
        return None
    return facts.first_notice_delivered_at + timedelta(minutes=max(policy.notice_minutes))
