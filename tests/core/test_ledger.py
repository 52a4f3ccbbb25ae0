"""Accounts, transfers, postings: what the ledger refuses, and what its sums always give."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import (
    NORMAL_SIDE,
    WALLET_KINDS,
    AccountKind,
    AccountRef,
    Side,
    balance_fen,
    electricity_wallet,
    fixed_charges_wallet,
)
from server.core.ledger.transfer import (
    AMOUNT_FEN_MAX,
    DETAILS_MAX,
    TRANSFERS_MAX,
    Details,
    Posting,
    Transfer,
    input_hash,
    wallet_changes,
)

WALLET = electricity_wallet(7)
DESK = AccountRef(AccountKind.DESK)
REVENUE = AccountRef(AccountKind.ENERGY_REVENUE)
PAYMENT = Transfer(DESK, WALLET, 100)
# sha256sum of [1,"desk_payment.received",[["desk",null,"electricity_wallet",7,100]],…]
KNOWN_HASH = "2f530d56d83ba221cfbde174dd3b4c835329412c5d1cc5e21053b05529f25836"


@pytest.mark.parametrize("kind", AccountKind)
def test_wallets_belong_to_a_tenancy_and_no_other_account_does(kind: AccountKind) -> None:
    good, bad = (7, None) if kind in WALLET_KINDS else (None, 7)
    assert AccountRef(kind, good).is_wallet == (kind in WALLET_KINDS)
    with pytest.raises(InvalidInputError) as refused:
        AccountRef(kind, bad)
    why = "needs a tenancy, got None" if kind in WALLET_KINDS else "is the site's, not tenancy 7's"
    assert str(refused.value) == f"{kind} {why}"


def test_each_tenancy_has_two_wallets() -> None:
    assert electricity_wallet(1) == AccountRef(AccountKind.ELECTRICITY_WALLET, 1)
    assert fixed_charges_wallet(1) == AccountRef(AccountKind.FIXED_CHARGES_WALLET, 1)


@pytest.mark.parametrize("tenancy_id", [0, -1])
def test_a_wallet_needs_a_real_tenancy(tenancy_id: int) -> None:
    with pytest.raises(InvalidInputError) as refused:
        electricity_wallet(tenancy_id)
    assert str(refused.value) == f"electricity_wallet needs a tenancy, got {tenancy_id}"


@pytest.mark.parametrize(
    ("kind", "side"),
    [
        (AccountKind.ELECTRICITY_WALLET, Side.CREDIT),
        (AccountKind.FIXED_CHARGES_WALLET, Side.CREDIT),
        (AccountKind.WECHAT_CLEARING, Side.DEBIT),
        (AccountKind.ALIPAY_CLEARING, Side.DEBIT),
        (AccountKind.DESK, Side.DEBIT),
        (AccountKind.BANK, Side.DEBIT),
        (AccountKind.ENERGY_REVENUE, Side.CREDIT),
        (AccountKind.FIXED_CHARGE_REVENUE, Side.CREDIT),
        (AccountKind.ADJUSTMENTS, Side.DEBIT),
        (AccountKind.ROUNDING, Side.CREDIT),
        (AccountKind.SUSPENSE, Side.CREDIT),
        (AccountKind.REFUNDS_IN_PROGRESS, Side.CREDIT),
        (AccountKind.OPENING_BALANCES, Side.DEBIT),
    ],
)
def test_each_account_has_its_normal_side(kind: AccountKind, side: Side) -> None:
    assert NORMAL_SIDE[kind] is side
    expected = 70 if side is Side.DEBIT else -70
    assert balance_fen(kind, debited_fen=100, credited_fen=30) == expected


def test_every_account_has_a_normal_side() -> None:
    assert set(NORMAL_SIDE) == set(AccountKind)


@pytest.mark.parametrize("amount_fen", [0, -1, 10**12 + 1])
def test_a_transfer_refuses_an_amount(amount_fen: int) -> None:
    with pytest.raises(InvalidInputError) as refused:
        Transfer(DESK, WALLET, amount_fen)
    assert str(refused.value) == f"a transfer of {amount_fen} fen"


@pytest.mark.parametrize("amount_fen", [1, 10**12])
def test_a_transfer_allows_an_amount(amount_fen: int) -> None:
    assert Transfer(DESK, WALLET, amount_fen).swapped() == Transfer(WALLET, DESK, amount_fen)


def test_a_transfer_needs_two_accounts() -> None:
    with pytest.raises(InvalidInputError) as refused:
        Transfer(WALLET, electricity_wallet(7), 1)
    assert str(refused.value) == "a transfer from electricity_wallet to itself"


MANY = {f"n{i}": 1 for i in range(DETAILS_MAX + 1)}


@pytest.mark.parametrize(
    ("flow", "transfers", "details", "why"),
    [
        ("", (PAYMENT,), {}, "a flow's code has 1 to 48 letters"),
        ("f" * 49, (PAYMENT,), {}, "a flow's code has 1 to 48 letters"),
        ("f", (), {}, "0 transfers in one posting"),
        ("f", (PAYMENT,) * (TRANSFERS_MAX + 1), {}, "9 transfers in one posting"),
        ("f", (PAYMENT,), MANY, "33 details in one posting"),
        ("f", (PAYMENT,), {"Reason": "x"}, "not a detail's name: 'Reason'"),
        ("f", (PAYMENT,), {"": "x"}, "not a detail's name: ''"),
        ("f", (PAYMENT,), {"n" * 65: "x"}, f"not a detail's name: '{'n' * 65}'"),
        ("f", (PAYMENT,), {"why": "x" * 1_001}, "detail why has more than 1000 characters"),
        ("f", (PAYMENT,), {"why": "a\0b"}, "detail why has a zero character"),
        ("f", (PAYMENT,), {"count": 2**63}, "detail count is no 64-bit number"),
        ("f", (PAYMENT,), {"flag": True}, "detail flag is neither text nor a whole number"),
        ("f", (PAYMENT,), {"void": None}, "detail void is neither text nor a whole number"),
        ("f", (PAYMENT,), {"share": 0.5}, "detail share is neither text nor a whole number"),
    ],
)
def test_a_posting_refuses(
    flow: str, transfers: tuple[Transfer, ...], details: Details, why: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        Posting(flow, transfers, details)
    assert str(refused.value) == why


def test_a_posting_allows_its_limits() -> None:
    details: Details = {f"n{i}": -(2**63 - 1) for i in range(DETAILS_MAX)}
    posting = Posting("f" * 48, (PAYMENT,) * TRANSFERS_MAX, details)
    assert len(posting.transfers) == TRANSFERS_MAX
    assert Posting("f", (PAYMENT,), {"n" * 64: "x" * 1_000}).flow == "f"


def test_a_posting_keeps_its_own_details() -> None:
    details: dict[str, str | int] = {"reason": "a"}
    posting = Posting("f", (PAYMENT,), details)
    details["reason"] = "b"
    assert posting.details == {"reason": "a"}


def test_the_hash_of_a_posting_is_kept_for_ever() -> None:
    posting = Posting("desk_payment.received", (PAYMENT,), {"receipt_no": "R-1", "by": "王"})
    assert input_hash(posting) == KNOWN_HASH


BASE = Posting("f", (PAYMENT,), {"a": 1, "b": "2"})


@pytest.mark.parametrize(
    "other",
    [
        Posting("g", (PAYMENT,), {"a": 1, "b": "2"}),
        Posting("f", (PAYMENT, PAYMENT), {"a": 1, "b": "2"}),
        Posting("f", (Transfer(DESK, WALLET, 101),), {"a": 1, "b": "2"}),
        Posting("f", (Transfer(WALLET, DESK, 100),), {"a": 1, "b": "2"}),
        Posting("f", (Transfer(DESK, electricity_wallet(8), 100),), {"a": 1, "b": "2"}),
        Posting("f", (Transfer(DESK, fixed_charges_wallet(7), 100),), {"a": 1, "b": "2"}),
        Posting("f", (PAYMENT,), {"a": "1", "b": "2"}),
        Posting("f", (PAYMENT,), {"a": 1}),
        Posting("f", (PAYMENT,), {"a": 1, "b": "3"}),
    ],
)
def test_another_input_has_another_hash(other: Posting) -> None:
    assert input_hash(other) != input_hash(BASE)


def test_the_order_of_details_does_not_matter() -> None:
    assert input_hash(Posting("f", (PAYMENT,), {"b": "2", "a": 1})) == input_hash(BASE)


@pytest.mark.parametrize(
    ("transfers", "changes"),
    [
        ((Transfer(DESK, WALLET, 5),), {WALLET: 5}),
        ((Transfer(WALLET, REVENUE, 5),), {WALLET: -5}),
        ((Transfer(REVENUE, WALLET, 5), Transfer(WALLET, REVENUE, 3)), {WALLET: 2}),
        ((Transfer(REVENUE, WALLET, 5), Transfer(WALLET, REVENUE, 5)), {WALLET: 0}),
        ((Transfer(DESK, AccountRef(AccountKind.SUSPENSE), 5),), {}),
    ],
)
def test_a_posting_changes_wallets(
    transfers: tuple[Transfer, ...], changes: dict[AccountRef, int]
) -> None:
    assert wallet_changes(Posting("f", transfers, {})) == changes


ACCOUNTS = st.sampled_from(
    [AccountRef(k) for k in AccountKind if k not in WALLET_KINDS]
    + [AccountRef(k, t) for k in sorted(WALLET_KINDS) for t in (1, 2)]
)
PAIRS = st.lists(ACCOUNTS, min_size=2, max_size=2, unique=True)
AMOUNTS = st.integers(1, AMOUNT_FEN_MAX)
TRANSFERS = st.builds(lambda pair, fen: Transfer(pair[0], pair[1], fen), PAIRS, AMOUNTS)


@given(st.lists(TRANSFERS, max_size=30))
def test_the_sum_of_all_accounts_is_always_zero(transfers: list[Transfer]) -> None:
    debit_sides = credit_sides = 0
    for kind in AccountKind:
        debited = sum(t.amount_fen for t in transfers if t.debit.kind is kind)
        credited = sum(t.amount_fen for t in transfers if t.credit.kind is kind)
        balance = balance_fen(kind, debited_fen=debited, credited_fen=credited)
        if NORMAL_SIDE[kind] is Side.DEBIT:
            debit_sides += balance
        else:
            credit_sides += balance
    assert debit_sides == credit_sides


@given(st.lists(TRANSFERS, min_size=1, max_size=TRANSFERS_MAX))
def test_swapped_transfers_undo_what_they_did_to_wallets(transfers: list[Transfer]) -> None:
    there = wallet_changes(Posting("f", tuple(transfers), {}))
    back = wallet_changes(Posting("f", tuple(t.swapped() for t in transfers), {}))
    assert {account: -change for account, change in there.items()} == back
