"""Databases of tests: copies of one schema, emptied between tests."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from tortoise.exceptions import ConfigurationError

from server.models.database import close_database, open_database, pool, rows

# No test kills the server of them all: a commit need not wait for the disk.
UNHURRIED = "ALTER ROLE CURRENT_USER SET synchronous_commit = off"
CopySchema = Callable[[str], Awaitable[str]]  # name -> the URL of a migrated database

# What a test before this one left behind: its connections, its rows, its sequences.
ALONE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND application_name <> 'lasting pool'
"""
# Triggers and foreign keys would refuse what is only made empty again.
EMPTIED = """
DO $$
DECLARE name text;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN SELECT oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace
        AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'tortoise_migrations'
    LOOP
        EXECUTE 'DELETE FROM ' || name;
    END LOOP;
    FOR name IN SELECT inhrelid::regclass FROM pg_inherits JOIN pg_class ON oid = inhparent
        WHERE relkind = 'p'
    LOOP
        EXECUTE 'DROP TABLE ' || name;
    END LOOP;
    PERFORM setval(oid::regclass, 1, false) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'S';
END $$
"""


LASTING = "lasting pool"


@dataclass
class _Lasting:
    """The pool that waits for the next test; None: there is none."""

    pool: Any = None


_lasting = _Lasting()


def _pool_now() -> Any:
    """The pool behind the product's connection, if it has one."""
    try:
        return getattr(pool(), "_pool", None)
    except (ConfigurationError, RuntimeError):  # Tortoise knows of no database at all
        return None


async def close_lasting_pool() -> None:
    """Make room for another database in this process."""
    if _lasting.pool is not None:
        _lasting.pool = None
        await close_database()


@dataclass(frozen=True)
class LastingDatabase:
    """A database that one test after the other has for itself."""

    url: str
    connection: asyncpg.Connection

    async def open(self) -> None:
        """Have the product's pool on it: the one of the test before, where it was left in order.

        A connection of its own would cost each test more than what most of them do.
        """
        if _lasting.pool is None or _lasting.pool is not _pool_now():
            await close_lasting_pool()
            await open_database(self.url, name=LASTING)
            await rows(pool(), "SELECT 1")  # now it is made
            _lasting.pool = _pool_now()

    async def leave(self) -> None:
        """Keep the pool for the next test if it is idle and still the product's."""
        mine = _lasting.pool
        if mine is None or mine is not _pool_now() or mine.get_size() != mine.get_idle_size():
            _lasting.pool = None
            await close_database()

    async def empty(self) -> None:
        """Make it as a new one, in a hundredth of its time."""
        await self.connection.execute(ALONE)
        await self.connection.execute(EMPTIED)


def database_of(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


async def run_sql(url: str, *statements: str) -> None:
    """Run statements on a connection of their own."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
