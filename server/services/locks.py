"""The tenancy's lock, taken in one way everywhere (docs/locks.md has the order of all locks)."""

from collections.abc import Iterable

from server.core.errors import ConflictError, NotFoundError
from server.models.database import Connection, row, rows

LOCK = "SELECT id FROM tenancy WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE"

# All that ever were in a shop.
OF_SHOP = """
SELECT tenancy.id FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
WHERE shop.site_id = $1 AND shop.code = $2
"""
# Readings that are just being kept come before or after: none may find a tenancy as it was, and not
# be seen by us. To be taken before the tenancies.
METERS = """
SELECT status.meter_id FROM meter_status status
JOIN meter_installation installed ON installed.meter_id = status.meter_id
WHERE installed.shop_id = (SELECT id FROM shop WHERE site_id = $1 AND code = $2)
ORDER BY status.meter_id FOR NO KEY UPDATE OF status
"""

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


async def lock_shop(connection: Connection, site_id: int, code: str) -> list[int]:
    """A shop's meters' news, then all its tenancies: nobody moves in or out but us; their ids."""
    await rows(connection, METERS, site_id, code)
    held: list[int] = []
    while True:  # whoever moved in while we waited has a higher id
        found = [one["id"] for one in await rows(connection, OF_SHOP, site_id, code)]
        fresh = [one for one in found if one not in held]
        if not fresh:
            return held
        await lock_tenancies(connection, fresh)
        held += sorted(fresh)
