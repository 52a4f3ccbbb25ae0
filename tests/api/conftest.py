"""A town per test, over a real socket and a real database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.fakes.login import FakeLogin
from tests.fakes.town import Town, served_town


@pytest_asyncio.fixture
async def town(database: None, tmp_path: Path) -> AsyncIterator[Town]:
    """Two shops, nobody bound yet."""
    async with served_town(tmp_path, login=FakeLogin()) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lasting_town(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    """One town for all tests of a module: for modules that ask for nothing else of the database."""
    async with served_town(tmp_path_factory.mktemp("town"), login=FakeLogin()) as served:
        yield served
