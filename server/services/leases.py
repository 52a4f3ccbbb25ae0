"""Who may speak on a bus: leases by the database's clock, with an epoch (design, decision 10)."""

from collections.abc import Sequence

from server.models.database import Connection, pool, row, rows

HELD_S = 8  # others may take it over after so long without a renewal

# Free, run out, or already ours; a new owner starts a new epoch.
CLAIM = """
UPDATE gateway_lease SET owner = $1, held_until = clock_timestamp() + $2 * interval '1 second',
    epoch = epoch + CASE WHEN owner = $1 AND held_until > clock_timestamp() THEN 0 ELSE 1 END
WHERE gateway_id IN (
    SELECT gateway_id FROM gateway_lease
    WHERE owner IS NULL OR held_until < clock_timestamp()
    ORDER BY gateway_id LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING gateway_id, epoch
"""
RENEW = """
UPDATE gateway_lease SET held_until = clock_timestamp() + $3 * interval '1 second'
FROM unnest($2::bigint[], $4::bigint[]) AS mine (gateway_id, epoch)
WHERE gateway_lease.gateway_id = mine.gateway_id AND gateway_lease.epoch = mine.epoch
  AND gateway_lease.owner = $1 AND gateway_lease.held_until > clock_timestamp()
RETURNING gateway_lease.gateway_id
"""
RELEASE = """
UPDATE gateway_lease SET owner = NULL, held_until = NULL
WHERE owner = $1 AND gateway_id = ANY($2::bigint[])
"""
HOLDS = """
SELECT 1 AS held FROM gateway_lease JOIN meter ON meter.gateway_id = gateway_lease.gateway_id
WHERE meter.id = $1 AND gateway_lease.epoch = $2 AND gateway_lease.owner IS NOT NULL
  AND gateway_lease.held_until > clock_timestamp() FOR SHARE OF gateway_lease
"""


async def claim_leases(owner: str, limit: int) -> dict[int, int]:
    """Take gateways that nobody holds: gateway id -> epoch."""
    found = await rows(pool(), CLAIM, owner, HELD_S, limit)
    return {one["gateway_id"]: one["epoch"] for one in found}


async def renew_leases(owner: str, epochs: dict[int, int]) -> set[int]:
    """The gateways that are still ours for another eight seconds."""
    found = await rows(pool(), RENEW, owner, list(epochs), HELD_S, list(epochs.values()))
    return {one["gateway_id"] for one in found}


async def release_leases(owner: str, gateway_ids: Sequence[int]) -> None:
    """Give gateways up at a clean end, so that the next owner need not wait."""
    await rows(pool(), RELEASE, owner, list(gateway_ids))


async def holds_lease(connection: Connection, meter_id: int, epoch: int) -> bool:
    """Whether this epoch still owns the meter's gateway; keeps it so until the commit."""
    return await row(connection, HOLDS, meter_id, epoch) is not None
