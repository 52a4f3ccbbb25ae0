"""From readings to open day, to a statement, to a posting; and the supply that follows."""

from datetime import UTC, datetime, timedelta

import pytest

from server.models.database import Row, pool, rows
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from server.services.site_import import ImportReport

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)


async def read(meter: str, at: datetime, register_wh: int) -> None:
    found = await rows(pool(), "SELECT id FROM meter WHERE code = $1", meter)
    await keep([NewReading(found[0]["id"], at, register_wh, epoch=0)], at)


async def one(sql: str) -> Row:
    found = await rows(pool(), sql)
    assert len(found) == 1, found
    return found[0]


async def test_energy_is_taken_at_once_and_posted_when_the_day_closes(mall: ImportReport) -> None:
    for minutes, register_wh in ((0, 5_000), (60, 7_000), (120, 9_000)):
        await read("M-1", NOW + timedelta(minutes=minutes), register_wh)
    assert len(await settle_due(NOW + timedelta(hours=2))) == 1
    day = await one("SELECT day, energy_wh, amount_fen, complete FROM open_day")
    assert (day["energy_wh"], day["amount_fen"], day["complete"]) == (4_000, 400, False)
    assert (await one("SELECT count(*) AS n FROM statement"))["n"] == 0

    for hours in range(3, 16):
        await read("M-1", NOW + timedelta(hours=hours), 9_000)
    later = NOW + timedelta(hours=15)
    await settle_due(later)
    assert await close_days(later) == 1
    assert await close_days(later) == 0
    statement = await one("SELECT energy_wh, amount_fen, estimated FROM statement")
    assert statement == {"energy_wh": 4_000, "amount_fen": 400, "estimated": False}
    wallets = await rows(pool(), "SELECT balance_fen FROM wallet ORDER BY account_id")
    assert wallets[0] == {"balance_fen": 600}


async def test_a_shop_that_runs_empty_is_to_be_disconnected(mall: ImportReport) -> None:
    await read("M-1", NOW, 5_000)
    await read("M-1", NOW + timedelta(hours=1), 15_100)
    await settle_due(NOW + timedelta(hours=1))
    tenancy = await one("SELECT supply_state, supply_reasons FROM tenancy")
    assert tenancy == {"supply_state": "disconnected", "supply_reasons": '["overdrawn"]'}
    control = await one("SELECT policy_state, next_action_at IS NOT NULL AS due FROM meter_control")
    assert control == {"policy_state": "disconnected", "due": True}


@pytest.mark.parametrize(
    ("projected_fen", "state"), [(1_100, "connected"), (1_099, "disconnected")]
)
async def test_closing_decides_where_a_day_costs_other_than_was_projected(
    mall: ImportReport, projected_fen: int, state: str
) -> None:
    """It cost 11 yuan of 10; that nobody was cut yet can only be seen by deciding."""
    for hours in range(16):
        await read("M-1", NOW + timedelta(hours=hours), 5_000 + min(hours, 1) * 11_000)
    later = NOW + timedelta(hours=15)
    await settle_due(later)
    await rows(pool(), "UPDATE open_day SET amount_fen = $1 WHERE energy_wh > 0", projected_fen)
    await rows(pool(), "UPDATE tenancy SET supply_state = 'connected', overdrawn_since = NULL")
    assert await close_days(later) == 1
    assert await one("SELECT supply_state FROM tenancy") == {"supply_state": state}
