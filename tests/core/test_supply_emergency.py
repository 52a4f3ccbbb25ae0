"""Emergency credit: who may have it, when it ends, and that it moves both limits, as tables."""

from dataclasses import replace

import pytest

from server.core.supply.emergency import EmergencyCredit, emergency_credit, ends
from server.core.supply.policy import decide, hoarding_room_fen
from server.core.supply.terms import SupplyPolicy
from tests.core.test_supply_policy import CUT, EPISODE, OFF, ON, Columns, emergency, facts

NONE = SupplyPolicy(notice_minutes=(), no_disconnect=())
GIVES = replace(NONE, emergency_credit_fen=5_000)  # low at 3,000
SILENT = replace(GIVES, low_balance_fen=())
OVERDRAFT = replace(GIVES, overdraft_limit_fen=2_000, reconnect_at_fen=-1_000)


@pytest.mark.parametrize(
    ("policy", "available_fen", "granted_fen", "said"),
    [
        (NONE, -1, 0, "not_offered"),
        (NONE, -1, 5_000, "not_offered"),  # the policy gives none any more
        (GIVES, 3_001, 0, "not_needed"),
        (GIVES, 3_000, 0, "offered"),
        (GIVES, 0, 0, "offered"),
        (GIVES, -9_999, 0, "offered"),
        (GIVES, 3_000, 5_000, "running"),
        (GIVES, -1, 1, "running"),
        (SILENT, 1, 0, "not_needed"),
        (SILENT, 0, 0, "offered"),
        (OVERDRAFT, -2_001, 0, "offered"),
    ],
)
def test_who_may_have_it(
    policy: SupplyPolicy, available_fen: int, granted_fen: int, said: str
) -> None:
    found = emergency_credit(policy, available_fen=available_fen, granted_fen=granted_fen)
    assert found is EmergencyCredit(said)


@pytest.mark.parametrize(
    ("available_fen", "granted_fen", "over"),
    [(-1, 5_000, False), (0, 5_000, True), (1, 5_000, True), (0, 0, False), (1, 0, False)],
)
def test_when_it_ends(available_fen: int, granted_fen: int, over: bool) -> None:
    assert ends(available_fen=available_fen, granted_fen=granted_fen) is over


@pytest.mark.parametrize(
    ("policy", "available_fen", "columns", "desired", "overdrawn"),
    [
        # where an episode begins: lower by what was granted
        (GIVES, -5_000, {}, ON, False),
        (GIVES, -5_001, {}, OFF, True),
        (OVERDRAFT, -7_000, {}, ON, False),
        (OVERDRAFT, -7_001, {}, OFF, True),
        # where it ends, and who was cut is connected: lower by the same
        (GIVES, -4_999, CUT, ON, False),
        (GIVES, -5_000, CUT, OFF, True),
        (OVERDRAFT, -6_000, CUT, ON, False),
        (OVERDRAFT, -6_001, CUT, OFF, True),
        # who is in one and has power keeps it until below the first
        (GIVES, -5_000, EPISODE, ON, True),
        (OVERDRAFT, -7_000, EPISODE, ON, True),
    ],
)
def test_it_moves_both_limits(
    policy: SupplyPolicy, available_fen: int, columns: Columns, desired: object, overdrawn: bool
) -> None:
    decision = decide(policy, facts(available_fen, columns, emergency(5_000)))
    assert (decision.desired, decision.overdrawn_since is not None) == (desired, overdrawn)


def test_it_is_no_money_that_fills_the_wallet() -> None:
    room = hoarding_room_fen(GIVES, available_fen=-100, pending_fen=0)
    assert room == hoarding_room_fen(NONE, available_fen=-100, pending_fen=0)
