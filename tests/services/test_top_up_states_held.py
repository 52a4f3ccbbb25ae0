"""What the tables of states say of top-ups and attempts is held by the database, also by hand."""

import re
from pathlib import Path

import pytest
from tortoise.exceptions import BaseORMException

from server.core.top_ups.states import AttemptEvent, TopUpEvent, by_state, changes
from server.models.database import pool, rows
from tests.scenarios.world import World, local

ALLOWED = """
SELECT tgrelid::regclass::text AS of, pg_get_triggerdef(oid) AS made
FROM pg_trigger WHERE tgname = 'keep_payment_state'
"""
UNPAID = "UPDATE top_up SET status = 'pending', credited_at = NULL"
FORGED = [
    UNPAID,
    "UPDATE top_up SET status = 'closed', credited_at = NULL",
    "UPDATE top_up SET status = 'closed'",
    "UPDATE top_up SET status = 'somehow'",
    "UPDATE top_up SET credited_at = NULL",
    "UPDATE top_up SET credited_at = credited_at - interval '1 day'",
    "UPDATE top_up SET amount_fen = 1",
    "UPDATE top_up SET tenancy_id = tenancy_id + 1",
    "UPDATE top_up SET refunded_fen = 5001",
    "UPDATE top_up SET refunded_fen = -1",
    "UPDATE payment_order SET state = 'waiting', query_at = now()",
    "UPDATE payment_order SET state = 'closed'",
    "UPDATE payment_order SET query_at = now()",
    "UPDATE payment_order SET out_trade_no = 'another'",
    "UPDATE payment_order SET merchant_id = 'another'",
    "DELETE FROM payment_order",
    "DELETE FROM top_up",
    "TRUNCATE payment_order CASCADE",
]


@pytest.fixture
async def world(database: None, tmp_path: Path) -> World:
    """A shop with an empty wallet."""
    made = World(local("2026-05-20 10:00"))
    await made.open(tmp_path, balance_fen=0)
    return made


async def test_the_database_allows_what_the_tables_say(database: None) -> None:
    held = {
        one["of"]: re.findall(r"'(\w+ \w+)'", one["made"]) for one in await rows(pool(), ALLOWED)
    }
    for table, events in (("top_up", TopUpEvent), ("payment_order", AttemptEvent)):
        said = set().union(*(changes(by_state(event)) for event in events))
        assert set(held[table]) == said


async def test_what_was_paid_cannot_be_undone_by_hand(world: World) -> None:
    await world.pay(5_000)
    before = await world.top_up()
    for sql in FORGED:
        with pytest.raises(BaseORMException):
            await rows(pool(), sql)
    assert await world.top_up() == before


async def test_what_waits_is_not_paid_by_hand_without_a_credit(world: World) -> None:
    await world.order(5_000)
    for sql in (
        "UPDATE top_up SET status = 'paid'",
        "UPDATE top_up SET status = 'refunded'",
        "UPDATE top_up SET credited_at = now()",
        "UPDATE payment_order SET query_at = NULL",
        "UPDATE payment_order SET payment_at = NULL",
    ):
        with pytest.raises(BaseORMException):
            await rows(pool(), sql)
