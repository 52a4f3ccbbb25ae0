"""A PostgreSQL of the benchmark's own: the product's embedded one, new and migrated."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from server.local.postgres import EmbeddedPostgres
from server.models.database import close_database, migrate_database, open_database
from server.services.readings import forget_months
from server.services.site_rules import forget_site_rules


@asynccontextmanager
async def new_database(*, pool_max: int = 10) -> AsyncIterator[str]:
    """Its URL; the product's pool is open on it. fsync and synchronous_commit are on."""
    with tempfile.TemporaryDirectory(prefix="mallwatt-bench-") as folder:
        async with EmbeddedPostgres(Path(folder)) as postgres:
            await migrate_database(postgres.url)
            forget_site_rules()
            forget_months()
            await open_database(postgres.url, pool_max=pool_max)
            try:
                yield postgres.url
            finally:
                await close_database()
