"""Emergency credit: a tenant asks once; the supply is decided at once; a top-up ends it.

It is no money: nothing is posted, and no balance knows of it. It only moves the two limits of the
supply policy (core/supply/policy) while `tenancy.emergency_credit_fen` is above zero.
"""

from collections.abc import Sequence
from datetime import datetime

from server.core.errors import ConflictError
from server.core.supply.emergency import EmergencyCredit, emergency_credit, ends
from server.models.database import Connection, rows, transaction
from server.services.balances import balances
from server.services.locks import lock_open_tenancy
from server.services.manager_acts import Deed, record_act
from server.services.site_rules import site_rules
from server.services.supply import decide_within

TENANT = "tenant"  # who acts, in the audit log

TENANCY = """
SELECT tenancy.emergency_credit_fen, shop.code AS shop_code, shop.supply_policy_code
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id WHERE tenancy.id = $1
"""
GRANT = "UPDATE tenancy SET emergency_credit_fen = $2, emergency_credit_at = $3 WHERE id = $1"
GRANTED = """
SELECT id, emergency_credit_fen FROM tenancy
WHERE id = ANY($1::bigint[]) AND emergency_credit_fen > 0
"""
END = "UPDATE tenancy SET emergency_credit_fen = 0 WHERE id = ANY($1::bigint[])"


class EmergencyCreditError(ConflictError):
    """It cannot be had now; the code says why."""


_REFUSED = {
    EmergencyCredit.NOT_OFFERED: "no_emergency_credit",
    EmergencyCredit.RUNNING: "emergency_credit_running",
    EmergencyCredit.NOT_NEEDED: "emergency_credit_not_needed",
}


async def grant(tenancy_id: int, user_id: int, now: datetime) -> int:
    """Grant it, once, and decide the supply; how much. Raises EmergencyCreditError."""
    async with transaction() as connection:
        site_id = await lock_open_tenancy(connection, tenancy_id)
        [tenancy] = await rows(connection, TENANCY, tenancy_id)
        rules = await site_rules(connection, site_id)
        policy = rules.policies[tenancy["supply_policy_code"]]
        amount_fen = policy.emergency_credit_fen
        owned = (await balances(connection, [tenancy_id]))[tenancy_id]
        said = emergency_credit(
            policy,
            available_fen=owned.available_fen,
            granted_fen=tenancy["emergency_credit_fen"],
        )
        if said is not EmergencyCredit.OFFERED:
            raise EmergencyCreditError(said.value, code=_REFUSED[said])
        await rows(connection, GRANT, tenancy_id, amount_fen, now)
        facts = {"tenancy_id": tenancy_id, "user_id": user_id, "amount_fen": amount_fen}
        subject = f"shop:{tenancy['shop_code']}"
        deed = Deed(site_id, TENANT, "emergency_credit", subject, "", facts)
        await record_act(connection, deed, now)
        await decide_within(connection, [tenancy_id], now)
        return amount_fen


async def end_within(connection: Connection, tenancy_ids: Sequence[int]) -> None:
    """End it where the money that was just posted brought the balance to zero or above.

    To be called by whatever brings money in, between posting and deciding, under the tenancy's
    lock.
    """
    granted = await rows(connection, GRANTED, list(tenancy_ids))
    if not granted:
        return
    owned = await balances(connection, [one["id"] for one in granted])
    over = [
        one["id"]
        for one in granted
        if ends(
            available_fen=owned[one["id"]].available_fen, granted_fen=one["emergency_credit_fen"]
        )
    ]
    await rows(connection, END, over)
