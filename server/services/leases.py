"""Who may speak on a bus: leases by the database's clock, with an epoch (design, decision 10)."""

from collections.abc import Mapping, Sequence

from server.models.database import Connection, pool, row, rows

HELD_S = 8  # others may take it over after so long without a renewal

# An owner whose time ran out in the midst of a transaction was paused there, with its locks. It may
# be between a statement's preparation and its start, where no timeout of PostgreSQL's 15 or 16
# reaches it. Its connections bear its name.
THROW_OUT = """
SELECT pg_terminate_backend(activity.pid) FROM pg_stat_activity activity
WHERE activity.datname = current_database() AND activity.xact_start IS NOT NULL
  AND activity.application_name IN (
      SELECT owner FROM gateway_lease WHERE owner <> $1 AND held_until < clock_timestamp())
"""
# Free or run out; a new owner starts a new epoch. Materialized, or the planner may run the inner
# statement again for each row and pass the limit.
CLAIM = """
WITH free AS MATERIALIZED (
    SELECT lease.gateway_id FROM gateway_lease lease
    JOIN gateway ON gateway.id = lease.gateway_id
    WHERE (lease.owner IS NULL OR lease.held_until < clock_timestamp())
      AND NOT gateway.link = ANY($4::text[])
    ORDER BY lease.gateway_id LIMIT $3 FOR UPDATE OF lease SKIP LOCKED)
UPDATE gateway_lease SET owner = $1, epoch = epoch + 1,
    held_until = clock_timestamp() + $2 * interval '1 second'
WHERE gateway_id IN (SELECT gateway_id FROM free)
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
# A key share stops a claim (which locks for update) until our commit, but not our own renewals.
HOLDS = """
SELECT 1 FROM gateway_lease JOIN meter ON meter.gateway_id = gateway_lease.gateway_id
WHERE meter.id = $1 AND gateway_lease.epoch = $2 AND gateway_lease.owner IS NOT NULL
  AND gateway_lease.held_until > clock_timestamp() FOR KEY SHARE OF gateway_lease
"""


async def claim_leases(
    owner: str, limit: int, *, held_s: float = HELD_S, without_links: Sequence[str] = ()
) -> dict[int, int]:
    """Take gateways that nobody holds, none with these links: gateway id -> epoch."""
    await rows(pool(), THROW_OUT, owner)
    found = await rows(pool(), CLAIM, owner, held_s, limit, list(without_links))
    return {one["gateway_id"]: one["epoch"] for one in found}


async def renew_leases(
    owner: str, epochs: Mapping[int, int], *, held_s: float = HELD_S
) -> set[int]:
    """The gateways that are still ours for another while; one that is missing is lost."""
    found = await rows(pool(), RENEW, owner, list(epochs), held_s, list(epochs.values()))
    return {one["gateway_id"] for one in found}


async def release_leases(owner: str, gateway_ids: Sequence[int]) -> None:
    """Give gateways up at a clean end, so that the next owner need not wait."""
    await rows(pool(), RELEASE, owner, list(gateway_ids))


async def holds_lease(connection: Connection, meter_id: int, epoch: int) -> bool:
    """Whether this epoch still owns the meter's gateway; keeps it so until the commit."""
    return await row(connection, HOLDS, meter_id, epoch) is not None
