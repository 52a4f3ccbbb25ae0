"""Emergency credit: asked for by the tenant, never money, over when a top-up covers the debt."""

from enum import StrEnum

from server.core.supply.terms import SupplyPolicy


class EmergencyCredit(StrEnum):
    """What may be said to a tenant who asks for it, in the order in which it is looked at."""

    NOT_OFFERED = "not_offered"  # the policy gives none
    RUNNING = "running"  # granted, and no top-up has brought the balance to zero since
    NOT_NEEDED = "not_needed"  # the balance is not low
    OFFERED = "offered"


def emergency_credit(
    policy: SupplyPolicy, *, available_fen: int, granted_fen: int
) -> EmergencyCredit:
    """Whether it may be had now; `granted_fen` is what was granted and has not ended."""
    if policy.emergency_credit_fen == 0:
        return EmergencyCredit.NOT_OFFERED
    if granted_fen > 0:
        return EmergencyCredit.RUNNING
    if available_fen > low_fen(policy):
        return EmergencyCredit.NOT_NEEDED
    return EmergencyCredit.OFFERED


def low_fen(policy: SupplyPolicy) -> int:
    """What is low: the limit of the last warning, or zero where there is none."""
    return policy.low_balance_fen[-1] if policy.low_balance_fen else 0


def ends(*, available_fen: int, granted_fen: int) -> bool:
    """Whether the money that just came in ends it."""
    return granted_fen > 0 and available_fen >= 0
