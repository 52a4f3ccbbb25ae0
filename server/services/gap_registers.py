"""What the registers of the periods showed on both sides of each gap: asked for only there."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from server.core.settlement.interval import MeterPath, PeriodRegisters
from server.models.database import Connection, rows
from server.services.site_rules import GAP_S_MIN

REGISTERS = """
SELECT wanted.number, reading.read_at, reading.periods_wh
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::timestamptz[])
    AS wanted (number, site_id, meter_id, read_at)
JOIN reading ON reading.site_id = wanted.site_id AND reading.meter_id = wanted.meter_id
    AND reading.read_at = wanted.read_at AND reading.verdict = 'trusted'
WHERE reading.periods_wh IS NOT NULL
"""


async def with_registers(
    connection: Connection, paths: Sequence[tuple[int, MeterPath]]
) -> list[MeterPath]:
    """These paths, each with its site's id, knowing the registers beside their gaps."""
    wanted = [
        (number, site_id, path.meter_id, at)
        for number, (site_id, path) in enumerate(paths)
        for at in _beside_gaps(path)
    ]
    known: dict[int, dict[datetime, PeriodRegisters]] = {}
    if wanted:
        found = await rows(connection, REGISTERS, *(list(one) for one in zip(*wanted, strict=True)))
        for one in found:
            registers_wh = known.setdefault(one["number"], {})
            registers_wh[one["read_at"]] = tuple(one["periods_wh"])
    return [
        replace(path, registers_wh=known[number]) if number in known else path
        for number, (_, path) in enumerate(paths)
    ]


def _beside_gaps(path: MeterPath) -> list[datetime]:
    """The readings beside what any site may call a gap."""
    times, shortest = path.curve.times, timedelta(seconds=GAP_S_MIN)
    if path.longest_pause <= shortest:
        return []
    beside: dict[datetime, None] = {}
    for number in range(1, len(times)):
        if times[number] - times[number - 1] > shortest:
            beside[times[number - 1]] = beside[times[number]] = None
    return list(beside)
