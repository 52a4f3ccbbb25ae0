"""What every room's tests may use: one PostgreSQL and one Redis a worker, real ones."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.local.browser import find_browser
from server.local.postgres import EmbeddedPostgres
from server.local.redis import EmbeddedRedis


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
