"""What every room's tests may use: one PostgreSQL and one Redis a worker, real ones."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from server.local.browser import find_browser
from server.local.postgres import EmbeddedPostgres
from server.local.redis import EmbeddedRedis
from server.models.database import close_database, migrate_database, open_database
from server.services.readings import forget_months
from server.services.site_rules import forget_site_rules

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
    FOR name IN SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent IN ('reading'::regclass, 'statement'::regclass,
                            'fixed_charge_statement'::regclass)
    LOOP
        EXECUTE 'DROP TABLE ' || name;
    END LOOP;
    PERFORM setval(oid::regclass, 1, false) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'S';
END $$
"""


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of this worker's own servers."""
    return tmp_path_factory.mktemp("servers")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url(server_folder: Path) -> AsyncIterator[str]:
    """An empty database on a PostgreSQL that this worker shares with nobody."""
    async with EmbeddedPostgres(server_folder) as postgres:
        yield postgres.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_url(server_folder: Path) -> AsyncIterator[str]:
    """A Redis that this worker shares with nobody; tests keep to names of their own."""
    async with EmbeddedRedis(server_folder) as redis:
        assert redis.url is not None, "the tests need a redis-server (apt install redis-server)"
        yield redis.url


@pytest.fixture(scope="session")
def browser_path() -> Path:
    """The Chromium that pages are looked at with."""
    path = find_browser()
    assert path is not None, "the tests need Chromium: run `make test`"
    return path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def empty_schema(postgres_url: str) -> str:
    """The name of a migrated database that others are copied from."""
    await _run_sql(postgres_url, "CREATE DATABASE mallwatt_schema")
    await migrate_database(_with_database(postgres_url, "mallwatt_schema"))
    return "mallwatt_schema"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lasting_database_url(postgres_url: str, empty_schema: str) -> str:
    """The database that this worker's tests use one after the other."""
    await _run_sql(postgres_url, f"CREATE DATABASE test TEMPLATE {empty_schema}")
    return _with_database(postgres_url, "test")


@pytest_asyncio.fixture
async def database_url(lasting_database_url: str) -> str:
    """A database at the newest schema, as empty as a new one, in a hundredth of its time."""
    await _run_sql(lasting_database_url, ALONE)
    await _run_sql(lasting_database_url, EMPTIED)
    return lasting_database_url


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[None]:
    """The product's own pool on a database of the test's own."""
    forget_site_rules()
    forget_months()
    await open_database(database_url)
    yield
    await close_database()


def _with_database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


async def _run_sql(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
