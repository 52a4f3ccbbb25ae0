"""The database goes away: one typed error, one line, and the pool finds it again."""

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from tortoise.exceptions import OperationalError

from server.core.errors import UnavailableError
from server.logs import tell_absence_briefly
from server.models.database import DatabaseAwayError, close_database, pool, rows, transaction
from server.models.database import open_database as opened
from server.services.health import database_problem

END_MINE = "SELECT pg_terminate_backend(pg_backend_pid())"


async def test_a_statement_that_loses_its_connection_may_be_asked_again(database: None) -> None:
    with pytest.raises(DatabaseAwayError):
        await rows(pool(), END_MINE)
    assert await rows(pool(), "SELECT 1 AS one") == [{"one": 1}]


async def test_a_transaction_that_loses_its_connection_says_so(database: None) -> None:
    with pytest.raises(DatabaseAwayError):
        await broken_transaction()
    async with transaction() as connection:
        assert await rows(connection, "SELECT 1 AS one") == [{"one": 1}]


async def broken_transaction() -> None:
    async with transaction() as connection:
        with suppress(DatabaseAwayError):
            await rows(connection, END_MINE)
        await rows(connection, "SELECT 1")


async def test_a_wrong_statement_is_no_absence(database: None) -> None:
    with pytest.raises(OperationalError, match="no_such_column") as raised:
        await rows(pool(), "SELECT no_such_column FROM site")
    assert not isinstance(raised.value, UnavailableError)


async def test_an_empty_database_names_the_command_that_is_missing(postgres_url: str) -> None:
    await opened(postgres_url)
    try:
        with pytest.raises(DatabaseAwayError, match="run `mallwatt migrate` first"):
            await rows(pool(), "SELECT id FROM site")
    finally:
        await close_database()


async def test_migrations_that_start_at_once_are_one(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE migrated_thrice")
    await connection.close()
    env = os.environ | {
        "MALLWATT_DATABASE_URL": f"{postgres_url.rpartition('/')[0]}/migrated_thrice"
    }
    migrations = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", "server.cli", "migrate", env=env)
        for _ in range(3)
    ]
    assert [await one.wait() for one in migrations] == [0, 0, 0]


async def test_readiness_names_the_absence(postgres_url: str) -> None:
    await opened(postgres_url.replace("@127.0.0.1", "@127.0.0.2"))  # nobody listens there
    try:
        assert await database_problem() == "DatabaseAwayError"
    finally:
        await close_database()


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "logger", "why"),
    [
        (DatabaseAwayError("away"), "server.workers.loop", "away"),
        (ConnectionRefusedError("refused"), "asyncpg.pool", "refused"),
        (ConnectionRefusedError("refused"), "server.workers.loop", None),
        (ValueError("ours"), "server.workers.loop", None),
    ],
)
def test_an_absence_is_one_line_in_the_log(error: Exception, logger: str, why: str | None) -> None:
    caught = raised(error)
    event: dict[str, Any] = {"logger": logger, "exc_info": caught}
    told: Mapping[str, Any] = tell_absence_briefly(None, "error", event)
    assert told.get("why") == why
    assert (told["exc_info"] is None) == (why is not None)
