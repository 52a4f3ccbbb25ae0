"""The journal: once a key, whoever asks and however often at once."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from tortoise.exceptions import IntegrityError, OperationalError

from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import desk_payment, energy_charged
from server.core.ledger.transfer import Posting
from server.models.database import pool, rows, transaction
from server.services import journal
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


async def test_accounts_are_opened_once(mall: ImportReport) -> None:
    before = await rows(pool(), "SELECT count(*) AS accounts FROM account")
    async with transaction() as connection:
        await journal.open_accounts(connection, mall.site_id, await tenancy())
        await journal.open_accounts(connection, mall.site_id, None)
    assert await rows(pool(), "SELECT count(*) AS accounts FROM account") == before
    assert await wallet_fen(await tenancy()) == 1_000


async def test_a_tenancy_that_is_not_there_gets_no_accounts(mall: ImportReport) -> None:
    with pytest.raises((IntegrityError, OperationalError)):
        async with transaction() as connection:
            await journal.open_accounts(connection, mall.site_id, 10**9)
