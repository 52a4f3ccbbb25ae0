"""A supply policy's table: its defaults, its round trip, and every mistake named at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.supply.terms import (
    ReconnectMode,
    SupplyPolicy,
    SupplyPolicyError,
    parse_supply_policy,
    policy_table,
)

# As the contract prints it (section 3).
PRINTED: dict[str, object] = {
    "low_balance_fen": [10000, 3000],
    "hoarding_limit_fen": 5000000,
    "emergency_credit_fen": 0,
    "overdraft_limit_fen": 0,
    "reconnect_at_fen": 1,
    "notice_minutes": [4320, 30],
    "no_disconnect": ["20:00-09:00", "weekend", "holiday"],
    "reconnect": "automatic",
}


def test_the_defaults_are_the_printed_ones() -> None:
    assert parse_supply_policy({}) == parse_supply_policy(PRINTED) == SupplyPolicy()
    assert policy_table(SupplyPolicy()) == PRINTED


@pytest.mark.parametrize(
    ("table", "place", "message"),
    [
        ({"low_balance": [1]}, "low_balance", "no such key"),
        ({"low_balance_fen": 1}, "low_balance_fen", "is not a list: 1"),
        ({"low_balance_fen": [1.5]}, "low_balance_fen", "is not a whole number: 1.5"),
        ({"low_balance_fen": [True]}, "low_balance_fen", "is not a whole number: True"),
        ({"low_balance_fen": ["1"]}, "low_balance_fen", "is not a whole number: '1'"),
        ({"low_balance_fen": [-1]}, "low_balance_fen", "is not from 0 to 1000000000: -1"),
        ({"low_balance_fen": [1, 2]}, "low_balance_fen", "does not fall"),
        ({"low_balance_fen": [2, 2]}, "low_balance_fen", "does not fall"),
        ({"low_balance_fen": list(range(9, 0, -1))}, "low_balance_fen", "more than 8 items"),
        ({"hoarding_limit_fen": 0}, "hoarding_limit_fen", "is not from 1 "),
        ({"hoarding_limit_fen": "all"}, "hoarding_limit_fen", "is not a whole number"),
        ({"emergency_credit_fen": -1}, "emergency_credit_fen", "is not from 0 "),
        ({"overdraft_limit_fen": -1}, "overdraft_limit_fen", "is not from 0 "),
        ({"overdraft_limit_fen": 10**9 + 1}, "overdraft_limit_fen", "is not from 0 "),
        ({"reconnect_at_fen": None}, "reconnect_at_fen", "is not a whole number: None"),
        ({"reconnect_at_fen": -1}, "reconnect_at_fen", "is below minus overdraft_limit_fen"),
        (
            {"reconnect_at_fen": 101, "hoarding_limit_fen": 100},
            "reconnect_at_fen",
            "is above hoarding_limit_fen",
        ),
        ({"notice_minutes": [30, 4320]}, "notice_minutes", "does not fall"),
        ({"notice_minutes": [-1]}, "notice_minutes", "is not from 0 to 40320: -1"),
        ({"notice_minutes": [40321]}, "notice_minutes", "is not from 0 to 40320: 40321"),
        ({"no_disconnect": "weekend"}, "no_disconnect", "is not a list"),
        ({"no_disconnect": [9]}, "no_disconnect", "is not a text: 9"),
        ({"no_disconnect": ["sunday"]}, "no_disconnect", "not a span"),
        ({"no_disconnect": ["9-20"]}, "no_disconnect", "not a span"),
        ({"no_disconnect": ["20:00-25:00"]}, "no_disconnect", "no such time of day"),
        ({"no_disconnect": ["09:00-09:00"]}, "no_disconnect", "ends where it starts"),
        ({"no_disconnect": ["weekend"] * 17}, "no_disconnect", "more than 16 items"),
        ({"reconnect": "manual"}, "reconnect", 'is neither "automatic" nor "confirm"'),
        ({"reconnect": True}, "reconnect", 'is neither "automatic" nor "confirm"'),
    ],
)
def test_a_table_is_refused(table: dict[str, object], place: str, message: str) -> None:
    with pytest.raises(SupplyPolicyError) as refused:
        parse_supply_policy(table)
    [(where, what)] = refused.value.problems
    assert where == place
    assert message in what


@pytest.mark.parametrize(
    "table",
    [
        {"low_balance_fen": [], "notice_minutes": [], "no_disconnect": []},
        {"low_balance_fen": [0], "notice_minutes": [0]},
        {"overdraft_limit_fen": 100, "reconnect_at_fen": -100},
        {"reconnect_at_fen": 100, "hoarding_limit_fen": 100},
        {"no_disconnect": ["00:00-24:00", "holiday", "12:00-13:30"]},
        {"reconnect": "confirm"},
    ],
)
def test_a_table_is_allowed(table: dict[str, object]) -> None:
    assert policy_table(parse_supply_policy(table)).items() >= table.items()


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(SupplyPolicyError) as refused:
        parse_supply_policy({"colour": 1, "overdraft_limit_fen": -1, "reconnect": ""})
    assert {place for place, _ in refused.value.problems} == {
        "colour",
        "overdraft_limit_fen",
        "reconnect",
    }
    assert "overdraft_limit_fen: is not from 0" in refused.value.detail


FALLING = st.lists(st.integers(0, 40_000), max_size=8, unique=True).map(
    lambda numbers: sorted(numbers, reverse=True)
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "low_balance_fen": FALLING,
            "hoarding_limit_fen": st.integers(1_000, 10**9),
            "emergency_credit_fen": st.integers(0, 10**9),
            "overdraft_limit_fen": st.integers(0, 10**9),
            "reconnect_at_fen": st.integers(0, 1_000),
            "notice_minutes": FALLING,
            "no_disconnect": st.lists(
                st.sampled_from(["weekend", "holiday", "20:00-09:00", "00:00-24:00"]), max_size=16
            ),
            "reconnect": st.sampled_from([str(mode) for mode in ReconnectMode]),
        },
    )
)
def test_a_policy_survives_its_table(table: dict[str, object]) -> None:
    policy = parse_supply_policy(table)
    assert parse_supply_policy(policy_table(policy)) == policy


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*PRINTED, "other"]), JUNK, max_size=4))
def test_junk_is_refused_or_parsed_but_never_crashes(table: dict[str, object]) -> None:
    try:
        policy = parse_supply_policy(table)
    except SupplyPolicyError as error:
        assert error.problems  # noqa: PT017 - junk may also parse, so raises() does not fit
    else:
        assert parse_supply_policy(policy_table(policy)) == policy
