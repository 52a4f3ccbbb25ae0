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
from server.core.ledger.routing import RULES, FlowCode, check, is_allowed
from server.core.ledger.transfer import Posting, wallet_changes

ENERGY = electricity_wallet(7)
FIXED = fixed_charges_wallet(7)
WHY = {"reason": "agreed with the tenant"}

K = AccountKind
Event = Callable[[], Posting | None]
Legs = list[tuple[AccountKind, AccountKind, int]]

# event, code, (debit, credit, fen) legs, change of the wallet
EVENTS: list[tuple[Event, str, Legs, int | None]] = [
    (
        lambda: flows.top_up_settled("wechat", ENERGY, 500),
        "top_up.settled",
        [(K.WECHAT_CLEARING, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        lambda: flows.top_up_settled("alipay", FIXED, 500),
        "top_up.settled",
        [(K.ALIPAY_CLEARING, K.FIXED_CHARGES_WALLET, 500)],
        500,
    ),
    (
        lambda: flows.desk_payment("cash", ENERGY, 500),
        "desk_payment.received",
        [(K.DESK, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        lambda: flows.desk_payment("bank_transfer", FIXED, 500),
        "desk_payment.received",
        [(K.BANK, K.FIXED_CHARGES_WALLET, 500)],
        500,
    ),
    (
        lambda: flows.energy_charged(ENERGY, 500),
        "energy.charged",
        [(K.ELECTRICITY_WALLET, K.ENERGY_REVENUE, 500)],
        -500,
    ),
    (
        lambda: flows.energy_charge_reversed(ENERGY, 500),
        "energy.charge_reversed",
        [(K.ENERGY_REVENUE, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        lambda: flows.energy_corrected(ENERGY, reversed_fen=500, charged_fen=450),
        "energy.corrected",
        [
            (K.ENERGY_REVENUE, K.ELECTRICITY_WALLET, 500),
            (K.ELECTRICITY_WALLET, K.ENERGY_REVENUE, 450),
        ],
        50,
    ),
    (
        lambda: flows.energy_corrected(ENERGY, reversed_fen=0, charged_fen=450),
        "energy.corrected",
        [(K.ELECTRICITY_WALLET, K.ENERGY_REVENUE, 450)],
        -450,
    ),
    (
        lambda: flows.energy_corrected(ENERGY, reversed_fen=500, charged_fen=0),
        "energy.corrected",
        [(K.ENERGY_REVENUE, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        lambda: flows.fixed_charge_charged(FIXED, 500),
        "fixed_charge.charged",
        [(K.FIXED_CHARGES_WALLET, K.FIXED_CHARGE_REVENUE, 500)],
        -500,
    ),
    (
        lambda: flows.fixed_charge_reversed(FIXED, 500),
        "fixed_charge.reversed",
        [(K.FIXED_CHARGE_REVENUE, K.FIXED_CHARGES_WALLET, 500)],
        500,
    ),
    (
        lambda: flows.fixed_charge_corrected(FIXED, reversed_fen=500, charged_fen=600),
        "fixed_charge.corrected",
        [
            (K.FIXED_CHARGE_REVENUE, K.FIXED_CHARGES_WALLET, 500),
            (K.FIXED_CHARGES_WALLET, K.FIXED_CHARGE_REVENUE, 600),
        ],
        -100,
    ),
    (
        lambda: flows.opening_balance(ENERGY, 500),
        "opening_balance.set",
        [(K.OPENING_BALANCES, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        lambda: flows.opening_balance(FIXED, -500),
        "opening_balance.set",
        [(K.FIXED_CHARGES_WALLET, K.OPENING_BALANCES, 500)],
        -500,
    ),
    (
        lambda: flows.refund_started(ENERGY, 500),
        "refund.started",
        [(K.ELECTRICITY_WALLET, K.REFUNDS_IN_PROGRESS, 500)],
        -500,
    ),
    (
        lambda: flows.refund_failed(ENERGY, 500),
        "refund.failed",
        [(K.REFUNDS_IN_PROGRESS, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        lambda: flows.refund_done("wechat", 500),
        "refund.done",
        [(K.REFUNDS_IN_PROGRESS, K.WECHAT_CLEARING, 500)],
        None,
    ),
    (
        lambda: flows.refund_done("cash", 500),
        "refund.done",
        [(K.REFUNDS_IN_PROGRESS, K.DESK, 500)],
        None,
    ),
    (
        lambda: flows.refund_returned("alipay", 500),
        "refund.returned",
        [(K.ALIPAY_CLEARING, K.REFUNDS_IN_PROGRESS, 500)],
        None,
    ),
    (
        lambda: flows.adjustment(ENERGY, 500, WHY),
        "adjustment.made",
        [(K.ADJUSTMENTS, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        lambda: flows.adjustment(FIXED, -500, WHY),
        "adjustment.made",
        [(K.FIXED_CHARGES_WALLET, K.ADJUSTMENTS, 500)],
        -500,
    ),
    (
        lambda: flows.payment_to_suspense("wechat", 500),
        "suspense.received",
        [(K.WECHAT_CLEARING, K.SUSPENSE, 500)],
        None,
    ),
    (
        lambda: flows.payment_to_suspense("bank_transfer", 500),
        "suspense.received",
        [(K.BANK, K.SUSPENSE, 500)],
        None,
    ),
    (
        lambda: flows.suspense_credited(ENERGY, 500),
        "suspense.credited",
        [(K.SUSPENSE, K.ELECTRICITY_WALLET, 500)],
        500,
    ),
    (
        lambda: flows.suspense_refunded("alipay", 500),
        "suspense.refunded",
        [(K.SUSPENSE, K.ALIPAY_CLEARING, 500)],
        None,
    ),
    (
        lambda: flows.move_out_paid("bank_transfer", ENERGY, 503),
        "move_out.paid",
        [(K.ELECTRICITY_WALLET, K.BANK, 503)],
        -503,
    ),
    (
        lambda: flows.move_out_paid("cash", ENERGY, 500, rounding_fen=3),
        "move_out.paid",
        [(K.ELECTRICITY_WALLET, K.DESK, 500), (K.ELECTRICITY_WALLET, K.ROUNDING, 3)],
        -503,
    ),
    (
        lambda: flows.move_out_paid("cash", ENERGY, 500, rounding_fen=9),  # the most there can be
        "move_out.paid",
        [(K.ELECTRICITY_WALLET, K.DESK, 500), (K.ELECTRICITY_WALLET, K.ROUNDING, 9)],
        -509,
    ),
    (
        lambda: flows.move_out_paid("cash", FIXED, 510, rounding_fen=-7),
        "move_out.paid",
        [(K.FIXED_CHARGES_WALLET, K.DESK, 510), (K.ROUNDING, K.FIXED_CHARGES_WALLET, 7)],
        -503,
    ),
]
EACH_EVENT = pytest.mark.parametrize(
    "event", [row[0] for row in EVENTS], ids=[r[1] for r in EVENTS]
)


@pytest.mark.parametrize(("event", "code", "legs", "change_fen"), EVENTS)
def test_an_event_has_its_legs(event: Event, code: str, legs: Legs, change_fen: int | None) -> None:
    posting = event()
    assert posting is not None
    assert posting.flow == code
    assert [(t.debit.kind, t.credit.kind, t.amount_fen) for t in posting.transfers] == legs
    assert list(wallet_changes(posting).values()) == ([] if change_fen is None else [change_fen])


@EACH_EVENT
def test_every_event_may_be_routed(event: Event) -> None:
    posting = event()
    assert posting is not None
    check(posting)
    assert all(is_allowed(posting.flow, t.debit.kind, t.credit.kind) for t in posting.transfers)


@EACH_EVENT
def test_what_undoes_an_event_leaves_no_trace_in_any_account(event: Event) -> None:
    posting = event()
    assert posting is not None
    if RULES[FlowCode(posting.flow)].undone_by is None:
        with pytest.raises(InvalidInputError) as refused:
            flows.reverse(posting, WHY)
        assert str(refused.value) == f"{posting.flow} is a reversal: post the event again instead"
        return
    undone = flows.reverse(posting, WHY)
    assert undone.details["reason"] == WHY["reason"]
    assert sorted((t.debit.kind, t.credit.kind, t.amount_fen) for t in undone.transfers) == sorted(
        (t.credit.kind, t.debit.kind, t.amount_fen) for t in posting.transfers
    )
    check(undone)


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
    assert str(adjusting.value) == "a reason is needed"


@pytest.mark.parametrize(
    "event",
    [
        lambda: flows.energy_charged(ENERGY, 0),
        lambda: flows.energy_charge_reversed(ENERGY, 0),
        lambda: flows.energy_corrected(ENERGY, reversed_fen=0, charged_fen=0),
        lambda: flows.fixed_charge_charged(FIXED, 0),
        lambda: flows.fixed_charge_reversed(FIXED, 0),
        lambda: flows.fixed_charge_corrected(FIXED, reversed_fen=0, charged_fen=0),
        lambda: flows.opening_balance(ENERGY, 0),
    ],
)
def test_nothing_is_posted_for_nothing(event: Event) -> None:
    assert event() is None


ROUTE = "{} may not debit {} and credit {}".format
ROUNDED = "{} fen cannot be rounded away by {}".format


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (lambda: flows.top_up_settled("wechat", ENERGY, 0), "a transfer of 0 fen"),
        (lambda: flows.top_up_settled("wechat", ENERGY, -1), "a transfer of -1 fen"),
        (
            lambda: flows.top_up_settled("cash", ENERGY, 1),
            ROUTE("top_up.settled", "desk", "electricity_wallet"),
        ),
        (lambda: flows.top_up_settled("paypal", ENERGY, 1), "no such way of paying: 'paypal'"),
        (
            lambda: flows.top_up_settled("wechat", AccountRef(K.SUSPENSE), 1),
            ROUTE("top_up.settled", "wechat_clearing", "suspense"),
        ),
        (
            lambda: flows.desk_payment("wechat", ENERGY, 1),
            ROUTE("desk_payment.received", "wechat_clearing", "electricity_wallet"),
        ),
        (lambda: flows.desk_payment("cash", ENERGY, 0), "a transfer of 0 fen"),
        (lambda: flows.energy_charged(ENERGY, -1), "a transfer of -1 fen"),
        (
            lambda: flows.energy_charged(FIXED, 1),
            ROUTE("energy.charged", "fixed_charges_wallet", "energy_revenue"),
        ),
        (lambda: flows.energy_charge_reversed(ENERGY, -1), "a transfer of -1 fen"),
        (
            lambda: flows.energy_corrected(ENERGY, reversed_fen=-1, charged_fen=1),
            "a transfer of -1 fen",
        ),
        (
            lambda: flows.energy_corrected(ENERGY, reversed_fen=1, charged_fen=-1),
            "a transfer of -1 fen",
        ),
        (
            lambda: flows.energy_corrected(FIXED, reversed_fen=1, charged_fen=1),
            ROUTE("energy.corrected", "energy_revenue", "fixed_charges_wallet"),
        ),
        (
            lambda: flows.fixed_charge_charged(ENERGY, 1),
            ROUTE("fixed_charge.charged", "electricity_wallet", "fixed_charge_revenue"),
        ),
        (lambda: flows.fixed_charge_charged(FIXED, -1), "a transfer of -1 fen"),
        (
            lambda: flows.fixed_charge_reversed(ENERGY, 1),
            ROUTE("fixed_charge.reversed", "fixed_charge_revenue", "electricity_wallet"),
        ),
        (
            lambda: flows.fixed_charge_corrected(ENERGY, reversed_fen=1, charged_fen=1),
            ROUTE("fixed_charge.corrected", "fixed_charge_revenue", "electricity_wallet"),
        ),
        (lambda: flows.refund_started(ENERGY, 0), "a transfer of 0 fen"),
        (lambda: flows.refund_done("nowhere", 1), "no such way of paying: 'nowhere'"),
        (lambda: flows.adjustment(ENERGY, 0, WHY), "an adjustment of nothing"),
        (lambda: flows.payment_to_suspense("wechat", 0), "a transfer of 0 fen"),
        (
            lambda: flows.move_out_paid("wechat", ENERGY, 1),
            ROUTE("move_out.paid", "electricity_wallet", "wechat_clearing"),
        ),
        (lambda: flows.move_out_paid("cash", ENERGY, 0, rounding_fen=3), "a transfer of 0 fen"),
        (lambda: flows.move_out_paid("cash", ENERGY, 1, rounding_fen=10), ROUNDED(10, "cash")),
        (lambda: flows.move_out_paid("cash", ENERGY, 1, rounding_fen=-10), ROUNDED(-10, "cash")),
        (
            lambda: flows.move_out_paid("bank_transfer", ENERGY, 1, rounding_fen=1),
            ROUNDED(1, "bank_transfer"),
        ),
    ],
)
def test_an_event_that_cannot_be_is_refused(event: Event, why: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        event()
    assert str(refused.value) == why


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
