"""A mall whose meters were all read at the same times, and count evenly: 1 kW."""

from datetime import UTC, date, datetime, timedelta

from bench.mall import OPENED, make_mall, write
from server.models.database import pool, rows
from server.services.readings import NewReading, ensure_months
from server.services.settlement import settle_due

FIRST_DAY = date(2026, 3, 1)
FIRST_WH = 1_000_000
WALLET_FEN = 500_000
MONTH = OPENED.astimezone(UTC)
READINGS = """
INSERT INTO reading (site_id, meter_id, read_at, register_wh, verdict, epoch, kept_at)
SELECT 1, meter, '{since}'::timestamptz + n * interval '{minutes} minutes',
       {first_wh} + n * {minutes} * 50 / 3, 'trusted', 0, '{since}'
FROM generate_series(1, {meters}) AS meter, generate_series(0, {count} - 1) AS n
ORDER BY 2, 3;
UPDATE meter_status SET read_at = '{last}', register_wh = {last_wh};
UPDATE wallet SET balance_fen = {fen};
UPDATE tenancy SET supply_state = 'connected', supply_reasons = '["paid_up"]',
    notice_memory = '{{"low_sent_fen": [], "pending_sent_minutes": [], "told": "connected"}}';
DELETE FROM settlement_due;
INSERT INTO settlement_due (tenancy_id, first_day, try_at) VALUES (1, '{day}', '{since}');
"""
# All are alike: what the product made of the first one's readings is true of the others' too.
ALIKE = """
INSERT INTO open_day (site_id, tenancy_id, day, energy_wh, amount_fen, estimated, complete,
                      has_later_reading, rules_version, block_start_wh, cells_wh, meter_ids,
                      read_ats, registers_wh, computed_at)
SELECT site_id, n, day, energy_wh, amount_fen, estimated, complete, has_later_reading,
       rules_version, block_start_wh, cells_wh, array_replace(meter_ids, 1, n), read_ats,
       registers_wh, computed_at
FROM open_day, generate_series(2, {meters}::bigint) AS n WHERE tenancy_id = 1 ORDER BY n, day
"""


def register_wh(at: datetime) -> int:
    """What every meter shows then."""
    return FIRST_WH + (at - OPENED) // timedelta(minutes=1) * 50 // 3


async def make_read_mall(url: str, *, meters: int, readings: int, minutes: int) -> datetime:
    """A mall whose meters, one a shop, were read so often and settled; when for the last time."""
    await make_mall(url, shops=meters)
    last = OPENED + timedelta(minutes=minutes * (readings - 1))
    await ensure_months("reading", [MONTH, last])
    await write(
        url,
        READINGS.format(
            since=OPENED.isoformat(),
            last=last.isoformat(),
            minutes=minutes,
            first_wh=FIRST_WH,
            last_wh=register_wh(last),
            meters=meters,
            count=readings,
            day=FIRST_DAY,
            fen=WALLET_FEN,
        ),
    )
    await settle_due(last)
    if meters > 1:
        await write(url, ALIKE.format(meters=meters))
    await rows(pool(), "VACUUM ANALYZE")
    return last


def readings_at(at: datetime, meters: int) -> list[NewReading]:
    """The next reading of the first so many meters, as collectors bring them."""
    shown_wh = register_wh(at)
    return [NewReading(meter_id, at, shown_wh, epoch=0) for meter_id in range(1, meters + 1)]
