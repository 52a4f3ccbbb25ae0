"""What every room's tests may use: one PostgreSQL for the run, one Redis a worker, real ones."""

import asyncio
import gc
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import structlog
from argon2 import PasswordHasher
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import HealthCheck, Phase, settings

from payments.alipay import signing
from server.local.browser import find_browser
from server.local.postgres import EmbeddedPostgres
from server.local.redis import EmbeddedRedis
from server.models.database import migrate_database
from server.services import managers
from server.services.readings import forget_months
from server.services.site_rules import forget_site_rules
from tests.databases import (
    UNHURRIED,
    CopySchema,
    LastingDatabase,
    close_lasting_pool,
    database_of,
    run_sql,
)
from tests.fakes.keys import FOLDER as FOLDER_OF_KEYS

POSTGRES_URL = pytest.StashKey[str]()
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
# What takes long comes first, so that no worker is left with it when the others have ended.
LONG_FIRST = ("outside", "pages", "workers", "scenarios", "local", "services", "api")

# Garbage is looked for after so many new objects, not 700: that took a twentieth of all time.
GARBAGE = (20_000, 20, 20)

# A busy machine is no fault of a test. `make mutate` asks the same few questions of every mutant,
# and once is enough: it need not find the smallest input that shows the fault.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "mutants",
    settings.get_profile("tests"),
    max_examples=30,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Start the one PostgreSQL of all workers: each would need seconds to make its own."""
    runner = asyncio.Runner()
    folder = tempfile.TemporaryDirectory(prefix="mallwatt-tests-")
    postgres = EmbeddedPostgres(Path(folder.name))
    runner.run(postgres.__aenter__())
    runner.run(run_sql(postgres.url, UNHURRIED))
    config.stash[POSTGRES_URL] = postgres.url
    keys = tempfile.TemporaryDirectory(prefix="mallwatt-keys-")
    os.environ[FOLDER_OF_KEYS] = keys.name
    config.add_cleanup(keys.cleanup)
    config.add_cleanup(folder.cleanup)
    config.add_cleanup(runner.close)
    config.add_cleanup(lambda: runner.run(postgres.__aexit__(None, None, None)))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where it is."""
    node.workerinput["postgres_url"] = node.config.stash[POSTGRES_URL]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long rooms first; within a room as they are."""

    def place(item: pytest.Item) -> int:
        room = item.path.parent.name
        return LONG_FIRST.index(room) if room in LONG_FIRST else len(LONG_FIRST)

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays: no search for garbage needs to look at it, ever."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        gc.enable()


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """Tracebacks with every local take half a second to draw, in which nothing else runs."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def product_hasher() -> PasswordHasher:
    """How the product keeps passwords, at its full cost."""
    return managers._hasher


@pytest.fixture(scope="session", autouse=True)
def quick_passwords(product_hasher: PasswordHasher) -> Iterator[None]:
    """The same argon2 at a small cost: the full one takes a sixth of a second of the processors.

    The processes of tests/outside have it, and `product_hasher`'s test.
    """
    with pytest.MonkeyPatch.context() as patch:
        quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr(managers, "_hasher", quick)
        yield


@pytest.fixture(scope="session", autouse=True)
def keys_read_once() -> Iterator[None]:
    """To read a private key is to prove its primes: most of what a merchant's test would cost."""
    read_once = cache(load_pem_private_key)
    with pytest.MonkeyPatch.context() as patch:
        for module in (signing, serialization):
            patch.setattr(module, "load_pem_private_key", read_once)
        yield


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of this worker's own servers."""
    return tmp_path_factory.mktemp("servers")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url(request: pytest.FixtureRequest, server_folder: Path) -> AsyncIterator[str]:
    """An empty database on the PostgreSQL of the run; make others for yourself."""
    given = getattr(request.config, "workerinput", None)
    if given is not None:
        yield given["postgres_url"]
        return
    async with EmbeddedPostgres(server_folder) as postgres:
        await run_sql(postgres.url, UNHURRIED)
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
    """The name of a migrated database that others are copied from; made by whoever is first."""
    name = "mallwatt_schema"
    first = await asyncpg.connect(postgres_url)
    try:
        await first.execute("SELECT pg_advisory_lock(1)")
        if not await first.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await first.execute("CREATE DATABASE migrating")
            await migrate_database(database_of(postgres_url, "migrating"))
            await first.execute(f"ALTER DATABASE migrating RENAME TO {name}")
    finally:
        await first.close()
    return name


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def copy_schema(postgres_url: str, empty_schema: str) -> CopySchema:
    """Makes a migrated database of the caller's own; its URL."""
    numbers = itertools.count(1)

    async def copied(name: str) -> str:
        await close_lasting_pool()
        own = f"{name}_{WORKER}_{next(numbers)}"
        await run_sql(
            postgres_url, f"CREATE DATABASE {own} TEMPLATE {empty_schema} STRATEGY FILE_COPY"
        )
        return database_of(postgres_url, own)

    return copied


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lasting_database(copy_schema: CopySchema) -> AsyncIterator[LastingDatabase]:
    """The database that this worker's tests use one after the other."""
    url = await copy_schema("test")
    connection = await asyncpg.connect(url)
    yield LastingDatabase(url, connection)
    await connection.close()


@pytest_asyncio.fixture
async def database_url(lasting_database: LastingDatabase) -> str:
    """A database at the newest schema, as empty as a new one, in a hundredth of its time."""
    await lasting_database.empty()
    return lasting_database.url


@pytest_asyncio.fixture
async def database(lasting_database: LastingDatabase, database_url: str) -> AsyncIterator[None]:
    """The product's own pool on a database of the test's own."""
    assert database_url == lasting_database.url
    forget_site_rules()
    forget_months()
    await lasting_database.open()
    yield
    await lasting_database.leave()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def module_database(lasting_database: LastingDatabase) -> AsyncIterator[str]:
    """The product's own pool on a database for all tests of a module, none of which empties it."""
    await lasting_database.empty()
    forget_site_rules()
    forget_months()
    await lasting_database.open()
    yield lasting_database.url
    await lasting_database.leave()


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def no_lasting_pool(request: pytest.FixtureRequest) -> None:
    """Who asks for neither may open another."""
    if not {"database", "module_database"} & set(request.fixturenames):
        await close_lasting_pool()
