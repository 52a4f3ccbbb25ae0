"""A town per test, over a real socket and a real database."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from server.models.database import close_database, open_database
from server.services.readings import forget_months
from server.services.site_rules import forget_site_rules
from tests.fakes.login import FakeLogin
from tests.fakes.town import Town, served_town


@pytest_asyncio.fixture
async def town(database: None, tmp_path: Path) -> AsyncIterator[Town]:
    """Two shops, nobody bound yet."""
    async with served_town(tmp_path, login=FakeLogin()) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lasting_town(
    postgres_url: str, empty_schema: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    """One town for all tests of a module: for modules that ask for nothing else of the database."""
    name = f"town_{next(_numbers)}"
    await _run(postgres_url, f"CREATE DATABASE {name} TEMPLATE {empty_schema}")
    forget_site_rules()
    forget_months()
    await open_database(urlsplit(postgres_url)._replace(path=f"/{name}").geturl())
    async with served_town(tmp_path_factory.mktemp(name), login=FakeLogin()) as served:
        yield served
    await close_database()
    await _run(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


async def _run(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


_numbers = itertools.count(1)
