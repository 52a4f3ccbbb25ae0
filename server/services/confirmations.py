"""A tenant says that power may return: nobody is hurt by a hot plate that was left on."""

from datetime import datetime

from server.core.errors import ConflictError
from server.models.database import row, rows, transaction
from server.services.supply import decide_within

WAITING = "SELECT supply_state FROM tenancy WHERE id = $1 FOR NO KEY UPDATE"
CONFIRMED = "UPDATE tenancy SET reconnect_confirmed_at = $2 WHERE id = $1"


class NothingToConfirmError(ConflictError):
    """The supply does not wait for the tenant's word."""

    code = "nothing_to_confirm"


async def confirm_reconnection(tenancy_id: int, now: datetime) -> None:
    """Take the tenant's word and let the supply be connected; raises NothingToConfirmError."""
    async with transaction() as connection:
        tenancy = await row(connection, WAITING, tenancy_id)
        if tenancy is None or tenancy["supply_state"] != "ready_for_reconnection":
            raise NothingToConfirmError("the supply does not wait for a confirmation")
        await rows(connection, CONFIRMED, tenancy_id, now)
        await decide_within(connection, [tenancy_id], now)
