"""The pool and the way to run SQL. Opening and closing belong to server/app.py."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import msgspec
from tortoise import Tortoise
from tortoise.backends.base.client import BaseDBAsyncClient, TransactionContext
from tortoise.connection import get_connection
from tortoise.exceptions import (
    DBConnectionError,
    OperationalError,
    TransactionManagementError,
)
from tortoise.migrations.api.migrate import migrate as run_migrations
from tortoise.transactions import in_transaction

from server.core.errors import InvalidInputError, UnavailableError

TABLES = (
    "server.models.sites",
    "server.models.people",
    "server.models.metering",
    "server.models.ledger",
    "server.models.payments",
    "server.models.reconciliation",
    "server.models.messages",
)
AWAY = (
    OSError,  # refused, reset, too slow
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,  # it starts or stops
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,  # it took longer than STATEMENT
    asyncpg.InternalClientError,  # the connection broke in the middle of an answer
    asyncpg.InvalidAuthorizationSpecificationError,  # also a wrong password
    asyncpg.InvalidCatalogNameError,
    DBConnectionError,  # Tortoise's word for the same
)
IDLE_IN_TRANSACTION = "10s"
STATEMENT = "60s"
MIGRATION_LOCK = 0x6D616C6C  # any number that is ours alone
Connection = BaseDBAsyncClient
_Answer = TypeVar("_Answer")
Row = dict[str, Any]

_encoder = msgspec.json.Encoder(enc_hook=dict)  # frozen mappings are written as what they are
_decoder = msgspec.json.Decoder()


class DatabaseAwayError(UnavailableError):
    """The database does not answer, broke off or lets nobody in: what was asked may be asked again.

    Whether a transaction that broke off was committed is not known.
    """


def database_config(url: str, *, pool_max: int = 10, name: str = "mallwatt") -> dict[str, Any]:
    """Tortoise's configuration for a postgres:// URL; its query `host` names a socket folder.

    `sslmode` is asyncpg's; server/settings.py lets no other query pass.
    """
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    credentials: dict[str, Any] = {
        "host": query.get("host", [parts.hostname])[0],
        "port": parts.port or 5432,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path.lstrip("/"),
        "minsize": 1,
        "maxsize": pool_max,
        "application_name": name,
        "reset": _left_as_it_was,
        # a process that is paused in a transaction must not hold its locks for ever
        "server_settings": {
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION,
            "statement_timeout": STATEMENT,
            # nor one whose machine or network is gone: it is found out within half a minute
            "tcp_keepalives_idle": "15",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        },
    }
    if "sslmode" in query:
        credentials["ssl"] = query["sslmode"][0]
    return {
        "connections": {
            "default": {"engine": "tortoise.backends.asyncpg", "credentials": credentials}
        },
        "apps": {
            "mallwatt": {
                "models": list(TABLES),
                "default_connection": "default",
                "migrations": "server.models.migrations",
            }
        },
        "use_tz": True,
        "timezone": "UTC",
    }


async def _left_as_it_was(_connection: object) -> None:
    """A connection that goes back to the pool has nothing to be undone, so nothing is sent.

    An open transaction is rolled back without this; and whatever we set, lock or listen to is the
    transaction's own (tests/house holds it). asyncpg's own RESET cost each statement a second one.
    """


async def open_database(url: str, *, pool_max: int = 10, name: str = "mallwatt") -> None:
    """Open the pool; raises DatabaseAwayError from the first statement on.

    By `name` the database's administrator and `claim_leases` know our connections.
    """
    config = database_config(url, pool_max=pool_max, name=name)
    await Tortoise.init(config=config, _enable_global_fallback=True)


async def close_database() -> None:
    """Close the pool."""
    await Tortoise.close_connections()


async def migrate_database(url: str) -> None:
    """Bring the schema to the newest version; one process does it, others wait.

    Raises DatabaseAwayError.
    """
    with _told_away():
        alone = await asyncpg.connect(url)
        try:
            await alone.execute(f"SELECT pg_advisory_lock({MIGRATION_LOCK})")
            await run_migrations(config=database_config(url, pool_max=2))
            await Tortoise.close_connections()
        finally:
            await alone.close()


def pool() -> Connection:
    """The pooled connection for single statements."""
    return get_connection("default")


@asynccontextmanager
async def transaction() -> AsyncIterator[Connection]:
    """A transaction; never await the network inside. Raises DatabaseAwayError."""
    with _told_away():
        async with _begun(in_transaction("default")) as connection:
            yield connection


@asynccontextmanager
async def _begun(context: TransactionContext) -> AsyncIterator[Connection]:
    """Tortoise's transaction, but one whose BEGIN fails or is cancelled gives its connection back.

    Its own context leaves the pool one connection poorer then, and the task bound to a dead one.
    """
    try:
        connection = await context.__aenter__()
    except BaseException as error:
        if hasattr(context, "token"):  # it had its connection already
            await context.__aexit__(TransactionManagementError, error, error.__traceback__)
        raise
    try:
        yield connection
    except BaseException as error:
        await context.__aexit__(type(error), error, error.__traceback__)
        raise
    await context.__aexit__(None, None, None)


async def rows(connection: Connection, sql: str, *values: object) -> list[Row]:
    """All rows of one statement (also INSERT/UPDATE … RETURNING); raises DatabaseAwayError."""
    with _told_away():
        return await connection.execute_query_dict(sql, list(values))


@contextmanager
def _told_away() -> Iterator[None]:
    try:
        yield
    except AWAY as error:
        raise DatabaseAwayError(f"the database cannot be used: {error}") from error
    except OperationalError as error:
        if isinstance(error.__cause__, asyncpg.CharacterNotInRepertoireError):
            raise InvalidInputError("a text has a zero character") from error
        if not isinstance(error.__cause__, asyncpg.UndefinedTableError):
            raise
        raise DatabaseAwayError(f"run `mallwatt migrate` first: {error}") from error
    except asyncpg.InterfaceError as error:
        if "connection is closed" not in str(error):  # asyncpg has no class of its own for this
            raise
        raise DatabaseAwayError(f"the database cannot be used: {error}") from error


@asynccontextmanager
async def meanwhile(asked: Coroutine[Any, Any, _Answer]) -> AsyncIterator[asyncio.Task[_Answer]]:
    """Ask the database, and compute in the block while it works: the task has the answer.

    Awaited where the block ends, called off where that fails: the connection is free again.
    """
    task = asyncio.create_task(asked)
    try:
        await asyncio.sleep(0)  # what it asks first is on its way
        yield task
        await task
    except BaseException:  # also cancelled: nothing may go on asking on this connection
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


async def row(connection: Connection, sql: str, *values: object) -> Row | None:
    """The first row, or None."""
    found = await rows(connection, sql, *values)
    return found[0] if found else None


def to_json(value: Mapping[str, object] | Sequence[object]) -> str:
    """A value for a `$n::jsonb` parameter."""
    return _encoder.encode(value).decode()


def from_json(value: str) -> Any:
    """A jsonb column as asyncpg hands it out."""
    return _decoder.decode(value)
