"""Which accounts each flow may let meet, all of them: what is not in the table is refused."""

import pytest

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import AccountKind, AccountRef, electricity_wallet
from server.core.ledger.routing import RULES, FlowCode, check, is_allowed
from server.core.ledger.transfer import Posting, Transfer

ENERGY = electricity_wallet(7)
K = AccountKind
WALLETS = "electricity_wallet fixed_charges_wallet"
PLATFORMS = "wechat_clearing alipay_clearing"
HOUSE = "desk bank"
ROUTE = "{} may not debit {} and credit {}".format

# flow, which it may debit, which it may credit: each of the one with each of the other
MAY_MEET = [
    ("top_up.settled", PLATFORMS, WALLETS),
    ("desk_payment.received", HOUSE, WALLETS),
    ("energy.charged", "electricity_wallet", "energy_revenue"),
    ("energy.corrected", "electricity_wallet", "energy_revenue"),
    ("energy.corrected", "energy_revenue", "electricity_wallet"),
    ("fixed_charge.charged", "fixed_charges_wallet", "fixed_charge_revenue"),
    ("fixed_charge.corrected", "fixed_charges_wallet", "fixed_charge_revenue"),
    ("fixed_charge.corrected", "fixed_charge_revenue", "fixed_charges_wallet"),
    ("opening_balance.set", "opening_balances", WALLETS),
    ("opening_balance.set", WALLETS, "opening_balances"),  # a wallet that owed
    ("refund.started", WALLETS, "refunds_in_progress"),
    ("refund.done", "refunds_in_progress", f"{PLATFORMS} {HOUSE}"),
    ("adjustment.made", "adjustments", WALLETS),
    ("adjustment.made", WALLETS, "adjustments"),
    ("suspense.received", f"{PLATFORMS} {HOUSE}", "suspense"),
    ("suspense.credited", "suspense", WALLETS),
    ("move_out.paid", WALLETS, f"{HOUSE} rounding"),
    ("move_out.paid", "rounding", WALLETS),  # cash that was a little too much
]
# A flow, and the one that undoes it: the same accounts the other way round.
UNDONE_BY = [
    ("top_up.settled", "top_up.reversed"),
    ("desk_payment.received", "desk_payment.reversed"),
    ("energy.charged", "energy.charge_reversed"),
    ("fixed_charge.charged", "fixed_charge.reversed"),
    ("opening_balance.set", "opening_balance.reversed"),
    ("refund.started", "refund.failed"),
    ("refund.done", "refund.returned"),
    ("adjustment.made", "adjustment.reversed"),
    ("suspense.received", "suspense.refunded"),
    ("suspense.credited", "suspense.credit_reversed"),
    ("move_out.paid", "move_out.returned"),
    ("energy.corrected", "energy.corrected"),
    ("fixed_charge.corrected", "fixed_charge.corrected"),
]


@pytest.mark.parametrize(("code", "undone_by"), UNDONE_BY)
def test_each_flow_stands_beside_what_undoes_it(code: str, undone_by: str) -> None:
    rule, undoing = RULES[FlowCode(code)], RULES[FlowCode(undone_by)]
    assert rule.undone_by == undone_by
    assert undoing.pairs == {(credit, debit) for debit, credit in rule.pairs}


def test_no_other_accounts_may_meet() -> None:
    there = {
        (flow, debit, credit)
        for flow, debits, credits_ in MAY_MEET
        for debit in debits.split()
        for credit in credits_.split()
    }
    undone_by = dict(UNDONE_BY)
    back = {(undone_by[flow], credit, debit) for flow, debit, credit in there}
    assert there | back == {
        (flow.value, debit.value, credit.value)
        for flow in FlowCode
        for debit in AccountKind
        for credit in AccountKind
        if is_allowed(flow, debit, credit)
    }


def _account(kind: AccountKind, tenancy_id: int = 7) -> AccountRef:
    return AccountRef(kind, tenancy_id if kind.value.endswith("_wallet") else None)


@pytest.mark.parametrize(
    ("flow", "debit", "credit"),
    [
        # no event moves money from one wallet to another, or between platform and revenue
        ("adjustment.made", K.ELECTRICITY_WALLET, K.FIXED_CHARGES_WALLET),
        ("energy.charged", K.FIXED_CHARGES_WALLET, K.ENERGY_REVENUE),  # never from rent
        ("fixed_charge.charged", K.ELECTRICITY_WALLET, K.FIXED_CHARGE_REVENUE),  # nor the reverse
        ("energy.charged", K.ENERGY_REVENUE, K.ELECTRICITY_WALLET),
        ("energy.charge_reversed", K.ELECTRICITY_WALLET, K.ENERGY_REVENUE),
        ("top_up.settled", K.ELECTRICITY_WALLET, K.WECHAT_CLEARING),
        ("top_up.settled", K.DESK, K.ELECTRICITY_WALLET),
        ("top_up.settled", K.SUSPENSE, K.ELECTRICITY_WALLET),
        ("desk_payment.received", K.WECHAT_CLEARING, K.ELECTRICITY_WALLET),
        ("refund.started", K.ELECTRICITY_WALLET, K.WECHAT_CLEARING),
        ("refund.done", K.ELECTRICITY_WALLET, K.WECHAT_CLEARING),
        ("refund.done", K.REFUNDS_IN_PROGRESS, K.ELECTRICITY_WALLET),
        ("refund.failed", K.REFUNDS_IN_PROGRESS, K.WECHAT_CLEARING),
        ("suspense.credited", K.WECHAT_CLEARING, K.ELECTRICITY_WALLET),
        ("suspense.received", K.WECHAT_CLEARING, K.ELECTRICITY_WALLET),
        ("adjustment.made", K.ENERGY_REVENUE, K.ELECTRICITY_WALLET),
        ("adjustment.made", K.OPENING_BALANCES, K.ELECTRICITY_WALLET),
        ("opening_balance.set", K.ADJUSTMENTS, K.ELECTRICITY_WALLET),
        ("move_out.paid", K.ELECTRICITY_WALLET, K.WECHAT_CLEARING),
        ("move_out.paid", K.DESK, K.ELECTRICITY_WALLET),
        ("move_out.returned", K.ELECTRICITY_WALLET, K.DESK),
        ("top_up.settled", K.WECHAT_CLEARING, K.ENERGY_REVENUE),
    ],
)
def test_routing_rejects(flow: str, debit: AccountKind, credit: AccountKind) -> None:
    assert not is_allowed(flow, debit, credit)
    with pytest.raises(InvalidInputError) as refused:
        check(Posting(flow, (Transfer(_account(debit), _account(credit), 1),), {}))
    assert str(refused.value) == ROUTE(flow, debit, credit)


def test_routing_rejects_a_flow_that_it_does_not_know() -> None:
    assert not is_allowed("no.such_flow", K.DESK, K.ELECTRICITY_WALLET)
    with pytest.raises(InvalidInputError) as refused:
        check(Posting("no.such_flow", (Transfer(AccountRef(K.DESK), ENERGY, 1),), {}))
    assert str(refused.value) == "no such flow: 'no.such_flow'"


def test_routing_rejects_one_bad_pair_among_good_ones() -> None:
    good = Transfer(AccountRef(K.WECHAT_CLEARING), ENERGY, 1)
    bad = Transfer(AccountRef(K.DESK), ENERGY, 1)
    with pytest.raises(InvalidInputError):
        check(Posting("top_up.settled", (good, bad), {}))


def test_routing_rejects_two_wallets_in_one_posting() -> None:
    legs = tuple(
        Transfer(AccountRef(K.WECHAT_CLEARING), wallet, 1)
        for wallet in (ENERGY, electricity_wallet(8))
    )
    with pytest.raises(InvalidInputError) as refused:
        check(Posting("top_up.settled", legs, {}))
    assert str(refused.value) == "top_up.settled touches 2 wallets"


def test_every_flow_has_a_rule_and_a_code_that_fits_its_column() -> None:
    assert set(RULES) == set(FlowCode)
    assert all(len(code) <= 48 for code in FlowCode)


def test_no_rule_lets_two_wallets_meet() -> None:
    wallets = {K.ELECTRICITY_WALLET, K.FIXED_CHARGES_WALLET}
    assert not [pair for rule in RULES.values() for pair in rule.pairs if set(pair) <= wallets]
