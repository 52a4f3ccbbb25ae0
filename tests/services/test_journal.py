"""The journal: once a key, never edited, never by hand, whoever asks and however often at once."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, date, datetime

import asyncpg
import pytest
from tortoise.exceptions import IntegrityError, OperationalError

from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import desk_payment, energy_charged
from server.core.ledger.transfer import Posting
from server.models.database import pool, rows, transaction
from server.services import journal
from server.services.readings import NewReading, ensure_months, keep
from server.services.site_import import ImportReport
from tests.services.money import sum_of_all_accounts_fen, wallet_fen

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)


async def tenancy() -> int:
    return int((await rows(pool(), "SELECT id FROM tenancy"))[0]["id"])


def cash(tenancy_id: int, amount_fen: int) -> Posting:
    return desk_payment("cash", electricity_wallet(tenancy_id), amount_fen)


async def post(site_id: int, posting: Posting, key: str) -> journal.Posted:
    async with transaction() as connection:
        return await journal.post(connection, site_id, posting, key=key, booked_at=NOW)


async def test_a_key_is_written_once_and_another_input_is_refused(mall: ImportReport) -> None:
    mine = await tenancy()
    first = await post(mall.site_id, cash(mine, 500), "k")
    again = await post(mall.site_id, cash(mine, 500), "k")
    assert (again.transaction_id, again.repeated) == (first.transaction_id, True)
    with pytest.raises(journal.IdempotencyMismatchError):
        await post(mall.site_id, cash(mine, 501), "k")
    assert await wallet_fen(mine) == 1_500


async def test_one_key_at_once_from_many_sides_is_written_once(mall: ImportReport) -> None:
    mine = await tenancy()
    posted = await asyncio.gather(*(post(mall.site_id, cash(mine, 500), "k") for _ in range(8)))
    assert len({one.transaction_id for one in posted}) == 1
    assert sorted(one.repeated for one in posted) == [False] + [True] * 7
    assert await wallet_fen(mine) == 1_500


async def test_many_are_posted_as_each_would_be(mall: ImportReport) -> None:
    mine = await tenancy()
    old = await post(mall.site_id, cash(mine, 1), "old")
    charge = energy_charged(electricity_wallet(mine), 5)
    assert charge is not None
    entries = [
        journal.Entry(cash(mine, 70), "a", NOW),
        journal.Entry(cash(mine, 1), "old", NOW),
        journal.Entry(charge, "b", NOW),
    ]
    async with transaction() as connection:
        posted = await journal.post_many(connection, mall.site_id, entries)
        assert await journal.post_many(connection, mall.site_id, []) == []
    assert [one.repeated for one in posted] == [False, True, False]
    assert posted[1].transaction_id == old.transaction_id
    assert await wallet_fen(mine) == 1_000 + 70 + 1 - 5
    assert await sum_of_all_accounts_fen() == 0
    with pytest.raises(ValueError, match="one key twice"):
        async with transaction() as connection:
            await journal.post_many(connection, mall.site_id, [entries[0], entries[0]])


@pytest.mark.parametrize("others", [[], ["known"]])
async def test_a_leg_without_an_account_undoes_the_whole(
    mall: ImportReport, others: Sequence[str]
) -> None:
    mine = await tenancy()
    entries = [journal.Entry(cash(mine, 1), key, NOW) for key in others]
    entries.append(journal.Entry(cash(mine + 1_000, 1), "k", NOW))
    with pytest.raises(journal.MissingAccountError):
        async with transaction() as connection:
            await journal.post_many(connection, mall.site_id, entries)
    assert await wallet_fen(mine) == 1_000


async def test_two_sites_may_use_one_key_but_never_each_others_accounts(mall: ImportReport) -> None:
    with pytest.raises(IntegrityError):  # no such site
        await post(mall.site_id + 1, cash(await tenancy(), 1), "k")


TRANSFER = """
INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
SELECT (SELECT min(id) FROM ledger_transaction), debit.id, credit.id, {amount}
FROM account debit, account credit WHERE debit.kind = '{debit}' AND credit.kind = '{credit}'
"""


FORGERIES = [
    TRANSFER.format(amount=0, debit="desk", credit="electricity_wallet"),
    TRANSFER.format(amount=-1, debit="desk", credit="electricity_wallet"),
    TRANSFER.format(amount="NULL", debit="desk", credit="electricity_wallet"),
    TRANSFER.format(amount=1, debit="desk", credit="desk"),
    (
        "INSERT INTO ledger_transfer (transaction_id, debit_account_id, amount_fen)"
        " SELECT min(id), (SELECT min(id) FROM account), 1 FROM ledger_transaction"
    ),
    "UPDATE ledger_transfer SET amount_fen = amount_fen + 1",
    "UPDATE ledger_transfer SET credit_account_id = debit_account_id",
    "DELETE FROM ledger_transfer",
    "TRUNCATE ledger_transfer",
    "UPDATE ledger_transaction SET booked_at = now()",
    "UPDATE ledger_transaction SET idempotency_key = 'free again'",
    "DELETE FROM ledger_transaction",
    "TRUNCATE ledger_transaction CASCADE",
    "INSERT INTO ledger_transaction SELECT * FROM ledger_transaction",
    "UPDATE account SET kind = 'fixed_charges_wallet' WHERE kind = 'electricity_wallet'",
    "DELETE FROM account",
    "DELETE FROM wallet",
    "TRUNCATE wallet",
    "UPDATE statement SET amount_fen = 0",
    "DELETE FROM statement",
    "TRUNCATE statement",
    "TRUNCATE statement_202605",
    "UPDATE statement_202605 SET amount_fen = 0",
    "UPDATE reading SET register_wh = register_wh + 1",
    "DELETE FROM reading",
    "TRUNCATE reading",
    "TRUNCATE reading_202605",
    "DELETE FROM tenancy",
    "DELETE FROM site",
]


async def test_the_books_cannot_be_forged_by_hand(mall: ImportReport, database_url: str) -> None:
    """In psql as the tables' owner, and as a superuser at that."""
    await ensure_months("statement", {NOW})
    meter = await rows(pool(), "SELECT id FROM meter")
    await keep([NewReading(meter[0]["id"], NOW, 5, 0)], NOW)
    await rows(
        pool(),
        "INSERT INTO statement SELECT site_id, id, $1::date, 1, 0, 0, false, '{}', NULL, now()"
        " FROM tenancy",
        date(2026, 5, 20),
    )
    owner = await asyncpg.connect(database_url)
    succeeded = []
    try:
        for sql in FORGERIES:
            with contextlib.suppress(asyncpg.IntegrityConstraintViolationError):
                await owner.execute(sql)
                succeeded.append(sql)
    finally:
        await owner.close()
    assert succeeded == []


async def test_accounts_are_opened_once(mall: ImportReport) -> None:
    before = await rows(pool(), "SELECT count(*) AS accounts FROM account")
    async with transaction() as connection:
        await journal.open_accounts(connection, mall.site_id, await tenancy())
        await journal.open_accounts(connection, mall.site_id, None)
    assert await rows(pool(), "SELECT count(*) AS accounts FROM account") == before
    async with transaction() as connection:
        owned = electricity_wallet(await tenancy())
        assert await journal.wallet_balance_fen(connection, mall.site_id, owned) == 1_000
        nobody = electricity_wallet(10**9)
        assert await journal.wallet_balance_fen(connection, mall.site_id, nobody) == 0


async def test_a_tenancy_that_is_not_there_gets_no_accounts(mall: ImportReport) -> None:
    with pytest.raises((IntegrityError, OperationalError)):
        async with transaction() as connection:
            await journal.open_accounts(connection, mall.site_id, 10**9)
