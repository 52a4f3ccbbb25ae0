"""Each business event: its code, its legs, what it does to the wallet, and what undoes it."""

from collections.abc import Callable

import pytest

from server.core.errors import InvalidInputError
from server.core.ledger import flows
from server.core.ledger.accounts import (
    AccountKind,
    AccountRef,
    electricity_wallet,
    fixed_charges_wallet,
)
from server.core.ledger.routing import RULES, FlowCode, check
from server.core.ledger.transfer import Posting, Transfer, wallet_changes

ENERGY = electricity_wallet(7)
FIXED = fixed_charges_wallet(7)
WHY = {"reason": "agreed with the tenant"}

K = AccountKind
Legs = list[tuple[AccountKind, AccountKind, int]]

# event, code, (debit, credit, fen) legs, change of the wallet
EVENTS: list[tuple[Posting | None, str, Legs, int | None]] = [
    (
        flows.top_up_settled("wechat", ENERGY, 500),
        "top_up.settled",
        [(K.WECHAT_CLEARING, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        flows.top_up_settled("alipay", FIXED, 500),
        "top_up.settled",
        [(K.ALIPAY_CLEARING, K.FIXED_CHARGES_WALLET, 500)],
        500,
    ),
    (
        flows.desk_payment("cash", ENERGY, 500),
        "desk_payment.received",
        [(K.DESK, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        flows.desk_payment("bank_transfer", FIXED, 500),
        "desk_payment.received",
        [(K.BANK, K.FIXED_CHARGES_WALLET, 500)],
        500,
    ),
    (
        flows.energy_charged(ENERGY, 500),
        "energy.charged",
        [(K.ELECTRICITY_WALLET, K.ENERGY_REVENUE, 500)],
        -500,
    ),
    (
        flows.energy_charge_reversed(ENERGY, 500),
        "energy.charge_reversed",
        [(K.ENERGY_REVENUE, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        flows.energy_corrected(ENERGY, reversed_fen=500, charged_fen=450),
        "energy.corrected",
        [
            (K.ENERGY_REVENUE, K.ELECTRICITY_WALLET, 500),
            (K.ELECTRICITY_WALLET, K.ENERGY_REVENUE, 450),
        ],
        50,
    ),
    (
        flows.energy_corrected(ENERGY, reversed_fen=0, charged_fen=450),
        "energy.corrected",
        [(K.ELECTRICITY_WALLET, K.ENERGY_REVENUE, 450)],
        -450,
    ),
    (
        flows.energy_corrected(ENERGY, reversed_fen=500, charged_fen=0),
        "energy.corrected",
        [(K.ENERGY_REVENUE, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        flows.fixed_charge_charged(FIXED, 500),
        "fixed_charge.charged",
        [(K.FIXED_CHARGES_WALLET, K.FIXED_CHARGE_REVENUE, 500)],
        -500,
    ),
    (
        flows.fixed_charge_reversed(FIXED, 500),
        "fixed_charge.reversed",
        [(K.FIXED_CHARGE_REVENUE, K.FIXED_CHARGES_WALLET, 500)],
        500,
    ),
    (
        flows.fixed_charge_corrected(FIXED, reversed_fen=500, charged_fen=600),
        "fixed_charge.corrected",
        [
            (K.FIXED_CHARGE_REVENUE, K.FIXED_CHARGES_WALLET, 500),
            (K.FIXED_CHARGES_WALLET, K.FIXED_CHARGE_REVENUE, 600),
        ],
        -100,
    ),
    (
        flows.opening_balance(ENERGY, 500),
        "opening_balance.set",
        [(K.OPENING_BALANCES, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        flows.opening_balance(FIXED, -500),
        "opening_balance.set",
        [(K.FIXED_CHARGES_WALLET, K.OPENING_BALANCES, 500)],
        -500,
    ),
    (
        flows.refund_started(ENERGY, 500),
        "refund.started",
        [(K.ELECTRICITY_WALLET, K.REFUNDS_IN_PROGRESS, 500)],
        -500,
    ),
    (
        flows.refund_failed(ENERGY, 500),
        "refund.failed",
        [(K.REFUNDS_IN_PROGRESS, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        flows.refund_done("wechat", 500),
        "refund.done",
        [(K.REFUNDS_IN_PROGRESS, K.WECHAT_CLEARING, 500)],
        None,
    ),
    (
        flows.refund_done("cash", 500),
        "refund.done",
        [(K.REFUNDS_IN_PROGRESS, K.DESK, 500)],
        None,
    ),
    (
        flows.refund_returned("alipay", 500),
        "refund.returned",
        [(K.ALIPAY_CLEARING, K.REFUNDS_IN_PROGRESS, 500)],
        None,
    ),
    (
        flows.adjustment(ENERGY, 500, WHY),
        "adjustment.made",
        [(K.ADJUSTMENTS, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        flows.adjustment(FIXED, -500, WHY),
        "adjustment.made",
        [(K.FIXED_CHARGES_WALLET, K.ADJUSTMENTS, 500)],
        -500,
    ),
    (
        flows.payment_to_suspense("wechat", 500),
        "suspense.received",
        [(K.WECHAT_CLEARING, K.SUSPENSE, 500)],
        None,
    ),
    (
        flows.payment_to_suspense("bank_transfer", 500),
        "suspense.received",
        [(K.BANK, K.SUSPENSE, 500)],
        None,
    ),
    (
        flows.suspense_credited(ENERGY, 500),
        "suspense.credited",
        [(K.SUSPENSE, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        flows.suspense_refunded("alipay", 500),
        "suspense.refunded",
        [(K.SUSPENSE, K.ALIPAY_CLEARING, 500)],
        None,
    ),
    (
        flows.move_out_paid("bank_transfer", ENERGY, 503),
        "move_out.paid",
        [(K.ELECTRICITY_WALLET, K.BANK, 503)],
        -503,
    ),
    (
        flows.move_out_paid("cash", ENERGY, 500, rounding_fen=3),
        "move_out.paid",
        [(K.ELECTRICITY_WALLET, K.DESK, 500), (K.ELECTRICITY_WALLET, K.ROUNDING, 3)],
        -503,
    ),
    (
        flows.move_out_paid("cash", FIXED, 510, rounding_fen=-7),
        "move_out.paid",
        [(K.FIXED_CHARGES_WALLET, K.DESK, 510), (K.ROUNDING, K.FIXED_CHARGES_WALLET, 7)],
        -503,
    ),
]
POSTINGS = [posting for posting, *_ in EVENTS if posting is not None]


@pytest.mark.parametrize(("posting", "code", "legs", "change_fen"), EVENTS)
def test_an_event_has_its_legs(
    posting: Posting, code: str, legs: Legs, change_fen: int | None
) -> None:
    assert posting.flow == code
    assert [(t.debit.kind, t.credit.kind, t.amount_fen) for t in posting.transfers] == legs
    assert list(wallet_changes(posting).values()) == ([] if change_fen is None else [change_fen])


@pytest.mark.parametrize("posting", POSTINGS, ids=lambda p: p.flow)
def test_every_event_may_be_routed(posting: Posting) -> None:
    check(posting)


@pytest.mark.parametrize("posting", POSTINGS, ids=lambda p: p.flow)
def test_what_undoes_an_event_leaves_no_trace_in_any_account(posting: Posting) -> None:
    if RULES[FlowCode(posting.flow)].undone_by is None:
        with pytest.raises(InvalidInputError):
            flows.reverse(posting, WHY)
        return
    undone = flows.reverse(posting, WHY)
    assert undone.details["reason"] == WHY["reason"]
    assert sorted((t.debit.kind, t.credit.kind, t.amount_fen) for t in undone.transfers) == sorted(
        (t.credit.kind, t.debit.kind, t.amount_fen) for t in posting.transfers
    )
    check(undone)


@pytest.mark.parametrize(
    ("code", "undone_by"),
    [
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
    ],
)
def test_each_flow_stands_beside_what_undoes_it(code: str, undone_by: str) -> None:
    rule, undoing = RULES[FlowCode(code)], RULES[FlowCode(undone_by)]
    assert rule.undone_by == undone_by
    assert undoing.pairs == {(credit, debit) for debit, credit in rule.pairs}


def test_a_correction_is_undone_by_the_correction_back() -> None:
    there = flows.energy_corrected(ENERGY, reversed_fen=500, charged_fen=450)
    back = flows.energy_corrected(ENERGY, reversed_fen=450, charged_fen=500, details=WHY)
    assert there is not None
    assert flows.reverse(there, WHY) == back


def test_a_reversal_keeps_the_details_of_what_it_undoes() -> None:
    paid = flows.desk_payment("cash", ENERGY, 500, {"receipt_no": "R-1"})
    assert flows.reverse(paid, WHY).details == {"receipt_no": "R-1", **WHY}


@pytest.mark.parametrize("details", [{}, {"reason": ""}, {"reason": "  "}, {"reason": 5}])
def test_a_person_s_change_needs_a_reason(details: dict[str, str | int]) -> None:
    with pytest.raises(InvalidInputError) as adjusting:
        flows.adjustment(ENERGY, 500, details)
    with pytest.raises(InvalidInputError) as reversing:
        flows.reverse(flows.desk_payment("cash", ENERGY, 500), details)
    assert adjusting.value.code == reversing.value.code == "reason_needed"


@pytest.mark.parametrize(
    "nothing",
    [
        flows.energy_charged(ENERGY, 0),
        flows.energy_charge_reversed(ENERGY, 0),
        flows.energy_corrected(ENERGY, reversed_fen=0, charged_fen=0),
        flows.fixed_charge_charged(FIXED, 0),
        flows.fixed_charge_reversed(FIXED, 0),
        flows.fixed_charge_corrected(FIXED, reversed_fen=0, charged_fen=0),
        flows.opening_balance(ENERGY, 0),
    ],
)
def test_nothing_is_posted_for_nothing(nothing: Posting | None) -> None:
    assert nothing is None


@pytest.mark.parametrize(
    "event",
    [
        lambda: flows.top_up_settled("wechat", ENERGY, 0),
        lambda: flows.top_up_settled("wechat", ENERGY, -1),
        lambda: flows.top_up_settled("cash", ENERGY, 1),
        lambda: flows.top_up_settled("paypal", ENERGY, 1),
        lambda: flows.top_up_settled("wechat", AccountRef(K.SUSPENSE), 1),
        lambda: flows.desk_payment("wechat", ENERGY, 1),
        lambda: flows.desk_payment("cash", ENERGY, 0),
        lambda: flows.energy_charged(ENERGY, -1),
        lambda: flows.energy_charged(FIXED, 1),
        lambda: flows.energy_charge_reversed(ENERGY, -1),
        lambda: flows.energy_corrected(ENERGY, reversed_fen=-1, charged_fen=1),
        lambda: flows.energy_corrected(ENERGY, reversed_fen=1, charged_fen=-1),
        lambda: flows.energy_corrected(FIXED, reversed_fen=1, charged_fen=1),
        lambda: flows.fixed_charge_charged(ENERGY, 1),
        lambda: flows.fixed_charge_charged(FIXED, -1),
        lambda: flows.fixed_charge_reversed(ENERGY, 1),
        lambda: flows.fixed_charge_corrected(ENERGY, reversed_fen=1, charged_fen=1),
        lambda: flows.refund_started(ENERGY, 0),
        lambda: flows.refund_done("nowhere", 1),
        lambda: flows.adjustment(ENERGY, 0, WHY),
        lambda: flows.payment_to_suspense("wechat", 0),
        lambda: flows.move_out_paid("wechat", ENERGY, 1),
        lambda: flows.move_out_paid("cash", ENERGY, 0, rounding_fen=3),
        lambda: flows.move_out_paid("cash", ENERGY, 1, rounding_fen=10),
        lambda: flows.move_out_paid("cash", ENERGY, 1, rounding_fen=-10),
        lambda: flows.move_out_paid("bank_transfer", ENERGY, 1, rounding_fen=1),
    ],
)
def test_an_event_that_cannot_be_is_refused(event: Callable[[], object]) -> None:
    with pytest.raises(InvalidInputError):
        event()


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
        ("no.such_flow", K.DESK, K.ELECTRICITY_WALLET),
    ],
)
def test_routing_rejects(flow: str, debit: AccountKind, credit: AccountKind) -> None:
    with pytest.raises(InvalidInputError):
        check(Posting(flow, (Transfer(_account(debit), _account(credit), 1),), {}))


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
    with pytest.raises(InvalidInputError):
        check(Posting("top_up.settled", legs, {}))


def test_every_flow_has_a_rule_and_a_code_that_fits_its_column() -> None:
    assert set(RULES) == set(FlowCode)
    assert all(len(code) <= 48 for code in FlowCode)


def test_no_rule_lets_two_wallets_meet() -> None:
    wallets = {K.ELECTRICITY_WALLET, K.FIXED_CHARGES_WALLET}
    assert not [pair for rule in RULES.values() for pair in rule.pairs if set(pair) <= wallets]


def test_a_refund_s_way_ends_with_nothing_in_progress() -> None:
    ways = [
        [flows.refund_started(ENERGY, 500), flows.refund_done("wechat", 500)],
        [flows.refund_started(ENERGY, 500), flows.refund_failed(ENERGY, 500)],
        [
            flows.refund_started(ENERGY, 500),
            flows.refund_done("wechat", 500),
            flows.refund_returned("wechat", 500),
            flows.refund_done("bank_transfer", 500),
        ],
    ]
    for way in ways:
        assert _balance(K.REFUNDS_IN_PROGRESS, way) == 0


def _balance(kind: AccountKind, postings: list[Posting]) -> int:
    transfers = [t for posting in postings for t in posting.transfers]
    credited = sum(t.amount_fen for t in transfers if t.credit.kind is kind)
    return credited - sum(t.amount_fen for t in transfers if t.debit.kind is kind)
