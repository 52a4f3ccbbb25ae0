"""What was taken for a time that is over, until its tenancy was told of it (ADR 19).

What corrections take, what open days cost more where their blocks go on from corrected ones, and
what comes in at once for the time in which a meter was silent.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from server.models.database import Connection, rows

OPEN = """
SELECT tenancy_id, sum(amount_fen)::bigint AS fen, array_agg(day) FILTER (WHERE estimated) AS gaps
FROM open_day WHERE tenancy_id = ANY($1::bigint[]) GROUP BY tenancy_id
"""
# What was given back first makes good what was taken before without a word.
BACK_BILLED = """
UPDATE tenancy SET back_billing_fen = greatest(tenancy.back_billing_fen + taken.fen, 0),
    back_billing_at = CASE WHEN taken.fen > 0 THEN $3 ELSE tenancy.back_billing_at END
FROM unnest($1::bigint[], $2::bigint[]) AS taken (tenancy_id, fen)
WHERE tenancy.id = taken.tenancy_id
"""


@dataclass(frozen=True, slots=True)
class OpenSum:
    """What a tenancy's open days cost together, and which of them have a gap."""

    fen: int = 0
    gaps: frozenset[date] = frozenset()


async def add_back_billing(
    connection: Connection, taken_fen: Mapping[int, int], now: datetime
) -> None:
    """Remember what was taken (below zero: given back); before the decision, under the locks."""
    if taken_fen:
        await rows(connection, BACK_BILLED, list(taken_fen), list(taken_fen.values()), now)


async def open_sums(connection: Connection, tenancy_ids: Collection[int]) -> dict[int, OpenSum]:
    """The open days of these tenancies as they are kept."""
    sums = dict.fromkeys(tenancy_ids, OpenSum())
    if tenancy_ids:
        for one in await rows(connection, OPEN, list(tenancy_ids)):
            sums[one["tenancy_id"]] = OpenSum(one["fen"], frozenset(one["gaps"] or ()))
    return sums


async def add_what_came_at_once(
    connection: Connection,
    before: Mapping[int, OpenSum],
    corrected: Collection[int],
    now: datetime,
) -> None:
    """Remember what open days cost more than `before`, by a correction or by a gap that ended.

    What was used as ever since the last look is in it, too: in favour of the tenant.
    """
    taken = {}
    for tenancy_id, after in (await open_sums(connection, before.keys())).items():
        more_fen = after.fen - before[tenancy_id].fen
        if more_fen > 0 and (tenancy_id in corrected or after.gaps - before[tenancy_id].gaps):
            taken[tenancy_id] = more_fen
    await add_back_billing(connection, taken, now)
