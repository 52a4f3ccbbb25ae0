"""The tenancy's lock, taken in one way everywhere (docs/locks.md has the order of all locks)."""

from collections.abc import Iterable

from server.models.database import Connection, rows

LOCK = "SELECT id FROM tenancy WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE"


async def lock_tenancies(connection: Connection, tenancy_ids: Iterable[int]) -> None:
    """Wait for these tenancies, in the order of their ids, and hold them until the commit.

    A statement of its own: what waits in a statement sees the other tables as they were before it
    waited. So lock first, read after.
    """
    await rows(connection, LOCK, sorted(tenancy_ids))
