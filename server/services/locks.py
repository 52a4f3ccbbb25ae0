"""The tenancy's lock, taken in one way everywhere (docs/locks.md has the order of all locks)."""

from collections.abc import Iterable

from server.core.errors import ConflictError, NotFoundError
from server.models.database import Connection, row, rows

LOCK = "SELECT id FROM tenancy WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE"

SITE = "SELECT site_id, closed_at FROM tenancy WHERE id = $1"


class TenancyEndedError(ConflictError):
    """Whose wallet it was has moved out."""

    code = "tenancy_ended"


async def lock_tenancies(connection: Connection, tenancy_ids: Iterable[int]) -> None:
    """Wait for these tenancies, in the order of their ids, and hold them until the commit.

    A statement of its own: what waits in a statement sees the other tables as they were before it
    waited. So lock first, read after.
    """
    await rows(connection, LOCK, sorted(tenancy_ids))


async def lock_open_tenancy(connection: Connection, tenancy_id: int) -> int:
    """The same for one that must not have ended; its site. NotFoundError, TenancyEndedError."""
    await lock_tenancies(connection, [tenancy_id])
    found = await row(connection, SITE, tenancy_id)
    if found is None:
        raise NotFoundError("no such tenancy")
    if found["closed_at"] is not None:
        raise TenancyEndedError(f"tenancy {tenancy_id}")
    return int(found["site_id"])
