"""Whether a balance can have changed anything: most of the time it cannot, and nobody need ask."""

from dataclasses import dataclass
from datetime import datetime

from server.core.supply.control_state import ControlState
from server.core.supply.notices import still_low_fen
from server.core.supply.reasons import Reason
from server.core.supply.terms import SupplyPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the last decision left an open tenancy, and what it has been told by then."""

    state: ControlState
    reasons: tuple[Reason, ...]
    overdrawn_since: datetime | None
    decide_again_at: datetime | None
    low_sent_fen: frozenset[int]
    pending_sent_minutes: frozenset[int]
    told: ControlState | None  # nothing was decided yet


_PAID_UP = (Reason.PAID_UP,)


def is_settled(standing: Standing) -> bool:
    """Whether only a balance could move it: paid up, connected, told so, and nothing awaited."""
    return (
        standing.state is ControlState.CONNECTED
        and standing.told is ControlState.CONNECTED
        and standing.reasons == _PAID_UP
        and standing.overdrawn_since is None
        and standing.decide_again_at is None
        and not standing.pending_sent_minutes
    )


def stays(policy: SupplyPolicy, standing: Standing, available_fen: int) -> bool:
    """Whether deciding anew, with this balance and else the same inputs, would change nothing.

    False where it is not certain. Readings that come in make no reason of their own here: they
    can only end `no_recent_reading`, which holds nobody who is paid up.
    """
    if available_fen < 0 or not is_settled(standing):
        return False
    sent = standing.low_sent_fen
    if sent and still_low_fen(available_fen, sent) != sent:
        return False
    return all(available_fen > limit or limit in sent for limit in policy.low_balance_fen)
