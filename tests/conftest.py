"""What every room's tests may use: one PostgreSQL and one Redis a worker, real ones."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.local.postgres import EmbeddedPostgres


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of this worker's own servers."""
    return tmp_path_factory.mktemp("servers")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url(server_folder: Path) -> AsyncIterator[str]:
    """An empty database on a PostgreSQL that this worker shares with nobody."""
    async with EmbeddedPostgres(server_folder) as postgres:
        yield postgres.url
