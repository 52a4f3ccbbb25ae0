"""Transactions give their connection back, however they end."""

import asyncio

import pytest
from tortoise.backends.asyncpg.client import TransactionWrapper

from server.models.database import meanwhile, pool, row, rows, transaction

POOL_MAX = 10


async def test_what_fails_is_undone(mall: object) -> None:
    async def rename_and_fail() -> None:
        async with transaction() as connection:
            await rows(connection, "UPDATE shop SET name = 'other'")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await rename_and_fail()
    assert await row(pool(), "SELECT name FROM shop") == {"name": "茶饮"}


async def test_what_is_asked_meanwhile_is_answered_in_its_block(mall: object) -> None:
    async with transaction() as connection:
        async with meanwhile(row(connection, "SELECT 1 AS n")) as asked:
            assert not asked.done()
            assert await asked == {"n": 1}
        assert await row(connection, "SELECT 2 AS n") == {"n": 2}


async def test_what_is_asked_meanwhile_is_called_off_with_its_block(mall: object) -> None:
    async def fail_meanwhile() -> None:
        async with transaction() as connection:
            await rows(connection, "UPDATE shop SET name = 'other'")
            async with meanwhile(rows(connection, "SELECT pg_sleep(50)")):
                raise RuntimeError

    async with asyncio.timeout(20):
        with pytest.raises(RuntimeError):
            await fail_meanwhile()
    assert await row(pool(), "SELECT name FROM shop") == {"name": "茶饮"}


async def test_a_begin_that_is_cancelled_gives_its_connection_back(
    mall: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = TransactionWrapper.begin

    async def slow_begin(self: TransactionWrapper) -> None:
        await begin(self)
        await asyncio.sleep(60)

    async def begin_one() -> None:
        async with transaction():
            pass

    monkeypatch.setattr(TransactionWrapper, "begin", slow_begin)
    for _ in range(POOL_MAX + 2):
        task = asyncio.create_task(begin_one())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    monkeypatch.undo()
    async with asyncio.timeout(5), transaction() as connection:
        assert await row(connection, "SELECT count(*) AS n FROM shop") == {"n": 1}
