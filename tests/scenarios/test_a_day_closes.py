"""A day becomes a statement that explains itself, and one entry in the journal."""

from datetime import timedelta
from pathlib import Path

from server.models.database import from_json
from server.services.audit import audit
from tests.scenarios.world import World, local

TOU = """kind = "tou"
prices = {peak = "1.00", valley = "0.50"}
periods = [{valley = ["00:00-08:00"], peak = ["08:00-24:00"]}]"""


async def test_energy_is_priced_by_the_hour_at_which_it_was_used(
    world: World, tmp_path: Path
) -> None:
    world.now = local("2026-05-20 00:00")
    await world.open(tmp_path, balance_fen=100_000, tariff=TOU)
    await world.use(energy_wh=8_000, over=timedelta(hours=8))
    await world.use(energy_wh=4_000, over=timedelta(hours=16, minutes=10))
    assert await world.close() == 1
    statement = await world.row("SELECT energy_wh, amount_fen, estimated, document FROM statement")
    document = from_json(statement["document"])
    lines = {line["period"]: (line["energy_wh"], line["amount_fen"]) for line in document["lines"]}
    valley_wh, peak_wh = lines["valley"][0], lines["peak"][0]
    assert valley_wh == 8_000
    assert lines["valley"][1] == 400
    assert 3_900 < peak_wh < 4_000  # the last ten minutes belong to the next day
    assert statement["energy_wh"] == valley_wh + peak_wh
    assert not statement["estimated"]
    assert sum(hour["amount_fen"] for hour in document["hours"]) == statement["amount_fen"]
    assert (await audit(lambda _: None)).passed


async def test_a_day_waits_for_its_last_reading(world: World, tmp_path: Path) -> None:
    await world.open(tmp_path, balance_fen=100_000)
    await world.use(energy_wh=1_000, over=timedelta(hours=3))
    world.now = local("2026-05-21 06:00")
    assert await world.close() == 0
    await world.poll()  # eleven hours without a reading: the energy in them is an estimate
    assert await world.close() == 0
    await world.use(energy_wh=0, over=timedelta(days=3))
    assert await world.close() == 4
    first = await world.row("SELECT estimated FROM statement ORDER BY day LIMIT 1")
    assert first == {"estimated": True}
