"""Databases of tests: copies of one schema, emptied between tests."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg

CopySchema = Callable[[str], Awaitable[str]]  # name -> the URL of a migrated database

# What a test before this one left behind: its connections, its rows, its sequences.
ALONE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
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


@dataclass(frozen=True)
class LastingDatabase:
    """A database that one test after the other has for itself."""

    url: str
    connection: asyncpg.Connection

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
