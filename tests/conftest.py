"""What every room's tests may use: one PostgreSQL and one Redis a worker, real ones."""

import itertools
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
    """The name of a migrated database that tests are copied from."""
    await _run_sql(postgres_url, "CREATE DATABASE mallwatt_schema")
    await migrate_database(_with_database(postgres_url, "mallwatt_schema"))
    return "mallwatt_schema"


@pytest_asyncio.fixture
async def database_url(postgres_url: str, empty_schema: str) -> AsyncIterator[str]:
    """A database of the test's own, at the newest schema."""
    name = f"test_{next(_numbers)}"
    await _run_sql(postgres_url, f"CREATE DATABASE {name} TEMPLATE {empty_schema}")
    yield _with_database(postgres_url, name)
    await _run_sql(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[None]:
    """The product's own pool on a database of the test's own."""
    forget_site_rules()
    forget_months()
    await open_database(database_url)
    yield
    await close_database()


_numbers = itertools.count(1)


def _with_database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


async def _run_sql(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
