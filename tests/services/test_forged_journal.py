"""The books cannot be forged by hand: in `psql`, as the tables' owner and a superuser at that."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from server.core.ledger.routing import RULES
from server.models.database import pool, rows
from server.services.readings import NewReading, ensure_months, keep
from tests.fakes.site_text import SECOND_SHOP
from tests.imported import imported
from tests.services.conftest import PROFILES, SITE

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)
OTHER_SITE = SITE.replace('code = "demo"', 'code = "other"').replace("15020", "15021")

# A posting by hand: one statement, as services/journal writes it; {legs} names its transfers.
POSTING = """
WITH event AS (
    INSERT INTO ledger_transaction
        (site_id, flow, idempotency_key, input_hash, booked_at, created_at, details)
    SELECT id, '{flow}', 'by hand', 'none', now(), now(), '{{}}' FROM site WHERE code = 'demo'
    RETURNING id
)
INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
SELECT event.id, debit.id, credit.id, leg.amount_fen
FROM event CROSS JOIN (VALUES {legs}) AS leg (debit, debit_of, credit, credit_of, amount_fen)
JOIN account_of_site AS debit ON debit.kind = leg.debit AND debit.code = leg.debit_of
JOIN account_of_site AS credit ON credit.kind = leg.credit AND credit.code = leg.credit_of
"""
ACCOUNTS = """
CREATE TEMPORARY VIEW account_of_site AS
SELECT account.id, account.kind, site.code || coalesce(' ' || shop.code, '') AS code
FROM account JOIN site ON site.id = account.site_id
LEFT JOIN tenancy ON tenancy.id = account.tenancy_id LEFT JOIN shop ON shop.id = tenancy.shop_id
"""
CASH = "('desk', 'demo', 'electricity_wallet', 'demo A1', {})"
LATE = """
INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
SELECT {}, debit_account_id, {}, 1 FROM ledger_transfer ORDER BY transaction_id DESC LIMIT 1
"""
EMPTY = """
INSERT INTO ledger_transaction
    (site_id, flow, idempotency_key, input_hash, booked_at, created_at, details)
SELECT site_id, flow, 'by hand', input_hash, booked_at, created_at, details
FROM ledger_transaction LIMIT 1
"""


def posting(flow: str, *legs: str) -> str:
    """The SQL of a posting by hand."""
    return POSTING.format(flow=flow, legs=", ".join(legs))


ALLOWED = [
    posting("desk_payment.received", CASH.format(1)),
    posting(
        "energy.corrected",
        "('energy_revenue', 'demo', 'electricity_wallet', 'demo A1', 7)",
        "('electricity_wallet', 'demo A1', 'energy_revenue', 'demo', 5)",
    ),
]
MEET = "may not let these accounts of its site meet"
APPEND_ONLY = "is append-only"

# what is tried, and what refuses it
FORGERIES = [
    (posting("desk_payment.received", CASH.format(0)), "transfer_amount_positive"),
    (posting("desk_payment.received", CASH.format(-1)), "transfer_amount_positive"),
    (posting("desk_payment.received", CASH.format("NULL::bigint")), "not-null"),
    (posting("desk_payment.received", "('desk', 'demo', 'desk', 'demo', 1)"), "accounts_differ"),
    (
        posting("desk_payment.received", CASH.format(1).replace("'demo'", "'other'")),
        MEET,  # the desk of another mall
    ),
    (
        posting("desk_payment.received", CASH.format(1).replace("demo A1", "other A1")),
        MEET,  # the wallet of another mall
    ),
    (posting("desk_payment.received", CASH.format(1).replace("desk", "suspense")), MEET),
    (
        posting("desk_payment.received", "('electricity_wallet', 'demo A1', 'desk', 'demo', 1)"),
        MEET,  # the other way round
    ),
    (posting("energy.charged", CASH.format(1)), MEET),
    (posting("made.up", CASH.format(1)), MEET),
    (
        posting("desk_payment.received", CASH.format(1), CASH.format(1).replace("A1", "A2")),
        "more than one wallet",
    ),
    (
        posting(
            "adjustment.made",
            "('electricity_wallet', 'demo A1', 'electricity_wallet', 'demo A2', 1)",
        ),
        MEET,
    ),
    (posting("desk_payment.received", CASH.format(1).replace("A1", "none")), "no transfer"),
    (EMPTY, "no transfer in its statement"),
    (
        LATE.format("transaction_id", "credit_account_id"),
        "written in the statement of its transaction",
    ),
    (LATE.format(987654321, "credit_account_id"), MEET),  # there is no such transaction
    (LATE.format("transaction_id", 987654321), MEET),
    ("UPDATE ledger_transfer SET amount_fen = amount_fen + 1", APPEND_ONLY),
    ("UPDATE ledger_transfer SET credit_account_id = debit_account_id", APPEND_ONLY),
    ("DELETE FROM ledger_transfer", APPEND_ONLY),
    ("TRUNCATE ledger_transfer", APPEND_ONLY),
    ("UPDATE ledger_transaction SET booked_at = now()", APPEND_ONLY),
    ("UPDATE ledger_transaction SET idempotency_key = 'free again'", APPEND_ONLY),
    ("DELETE FROM ledger_transaction", APPEND_ONLY),
    ("TRUNCATE ledger_transaction CASCADE", APPEND_ONLY),
    ("INSERT INTO ledger_transaction SELECT * FROM ledger_transaction", "_pkey"),
    ("UPDATE account SET kind = 'fixed_charges_wallet'", APPEND_ONLY),
    ("DELETE FROM account", APPEND_ONLY),
    ("DELETE FROM wallet", APPEND_ONLY),
    ("TRUNCATE wallet", APPEND_ONLY),
    ("UPDATE statement SET amount_fen = 0", APPEND_ONLY),
    ("DELETE FROM statement", APPEND_ONLY),
    ("TRUNCATE statement", APPEND_ONLY),
    ("TRUNCATE statement_202605", APPEND_ONLY),
    ("UPDATE statement_202605 SET amount_fen = 0", APPEND_ONLY),
    ("UPDATE reading SET register_wh = register_wh + 1", APPEND_ONLY),
    ("DELETE FROM reading", APPEND_ONLY),
    ("TRUNCATE reading", APPEND_ONLY),
    ("TRUNCATE reading_202605", APPEND_ONLY),
    ("DELETE FROM tenancy", "foreign key"),
    ("DELETE FROM site", "foreign key"),
]


@pytest_asyncio.fixture
async def owner(
    database: None, tmp_path: Path, database_url: str
) -> AsyncIterator[asyncpg.Connection]:
    """Somebody with `psql`, in a database with two malls, a statement and a reading."""
    for code, content in (("demo", SITE + SECOND_SHOP), ("other", OTHER_SITE)):
        path = tmp_path / f"{code}.toml"
        path.write_text(content, encoding="utf-8")
        await imported(path, PROFILES, NOW)
    await ensure_months("statement", {NOW})
    meters = await rows(pool(), "SELECT id FROM meter ORDER BY id")
    await keep([NewReading(meters[0]["id"], NOW, 5, 0)], NOW)
    await rows(
        pool(),
        "INSERT INTO statement SELECT site_id, id, $1::date, 1, 0, 0, false, '{}', NULL, now()"
        " FROM tenancy",
        date(2026, 5, 20),
    )
    connection = await asyncpg.connect(database_url)
    await connection.execute(ACCOUNTS)
    yield connection
    await connection.close()


async def _attempt(owner: asyncpg.Connection, sql: str) -> str:
    """What refuses this; "" if nothing does. It is undone."""
    attempt = owner.transaction()
    await attempt.start()
    try:
        await owner.execute(sql)
    except asyncpg.IntegrityConstraintViolationError as error:
        return str(error)
    finally:
        await attempt.rollback()
    return ""


async def test_the_books_cannot_be_forged_by_hand(owner: asyncpg.Connection) -> None:
    for sql in ALLOWED:
        assert await _attempt(owner, sql) == "", sql  # so that the others fail for their own fault
    for sql, fault in FORGERIES:
        refused = await _attempt(owner, sql)
        assert fault in refused, f"{sql} met: {refused}"


async def test_a_transfer_comes_with_its_transaction_or_never(owner: asyncpg.Connection) -> None:
    """Also within one transaction of the database, savepoints or not."""
    attempt = owner.transaction()
    await attempt.start()
    async with owner.transaction():  # a savepoint
        await owner.execute(ALLOWED[0])
    with pytest.raises(asyncpg.CheckViolationError, match="in the statement of its transaction"):
        await owner.execute(LATE.format("transaction_id", "credit_account_id"))
    await attempt.rollback()


async def test_the_database_has_the_routes_of_the_ledger(owner: asyncpg.Connection) -> None:
    found = await owner.fetchval("SELECT ledger_routes()")
    wanted = {
        f"{flow} {debit} {credit}" for flow, rule in RULES.items() for debit, credit in rule.pairs
    }
    assert len(found) == len(wanted)
    assert set(found) == wanted, "a changed rule needs a migration that replaces ledger_routes()"
