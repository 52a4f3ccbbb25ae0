"""The tables are what the models say, months are there when they are needed, keys are used."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tortoise import Tortoise
from tortoise.migrations.autodetector import MigrationAutodetector
from tortoise.migrations.operations import AlterModelOptions

from server.models.database import database_config, pool, rows
from server.models.table import Table
from server.services import audit_paths, day_inputs, readings
from server.services.site_import import ImportReport

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)


async def test_the_migrations_make_what_the_models_say(database: None) -> None:
    """Else: change a model, make 0001 (or a new one) by `tortoise makemigrations`."""
    assert Tortoise.apps is not None
    apps = database_config("postgres://nobody@nowhere/none")["apps"]
    found = await MigrationAutodetector(Tortoise.apps, apps).changes()
    operations = [operation for migration in found for operation in migration.operations]
    # Tortoise sees other options wherever a primary key is a relation; they make no SQL
    assert [one for one in operations if not isinstance(one, AlterModelOptions)] == []


async def test_no_model_has_its_source_read(database: None) -> None:
    """Else each command takes longer to start: make it by `Table`."""
    assert Tortoise.apps is not None
    models = [model for app in Tortoise.apps.values() for model in app.values()]
    assert [model.__name__ for model in models if not isinstance(model, Table)] == []


MONTHS = [
    (datetime(2026, 5, 31, 15, 59, tzinfo=UTC), "202605"),
    (datetime(2026, 6, 1, 0, 30, tzinfo=ZoneInfo("Asia/Shanghai")), "202605"),
    (datetime(2026, 5, 31, 22, 0, tzinfo=ZoneInfo("America/New_York")), "202606"),
    (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), "202612"),
]


async def test_a_reading_of_any_timezone_finds_its_month(mall: ImportReport) -> None:
    meter = await rows(pool(), "SELECT id FROM meter")
    for at, month in MONTHS:
        readings.forget_months()
        await readings.keep([readings.NewReading(meter[0]["id"], at, 5, 0)], at)
        found = await rows(
            pool(), "SELECT tableoid::regclass::text AS part FROM reading WHERE read_at = $1", at
        )
        assert found == [{"part": f"reading_{month}"}]


async def test_months_are_made_ahead_and_by_many_at_once(database: None) -> None:
    for _ in range(3):
        readings.forget_months()
        await asyncio.gather(*(readings.make_months_ahead(NOW) for _ in range(5)))
    found = await rows(
        pool(),
        "SELECT inhrelid::regclass::text AS part FROM pg_inherits"
        " WHERE inhparent IN ('reading'::regclass, 'statement'::regclass) ORDER BY 1",
    )
    assert {one["part"] for one in found} >= {
        *("reading_202605", "reading_202606", "reading_202607"),
        *("statement_202605", "statement_202606", "statement_202607"),
    }


FILL = """
INSERT INTO reading (site_id, meter_id, read_at, register_wh, verdict, epoch, kept_at)
SELECT 1, meter, $1::timestamptz + number * interval '15 minutes', number, 'trusted', 0, $1
FROM generate_series(1, 20) AS meter, generate_series(1, 2000) AS number
"""
LATER = NOW + timedelta(days=5)
PLANS: list[tuple[str, tuple[object, ...]]] = [
    (day_inputs.PATHS, ([1] * 20, [1] * 20, [LATER] * 20, [LATER + timedelta(days=1)] * 20)),
    (readings.AROUND, ([1] * 20, list(range(1, 21)), [LATER] * 20, [LATER] * 20)),
    (
        audit_paths.READINGS,
        ([1] * 20, [1] * 20, list(range(1, 21)), [NOW] * 20, [LATER] * 20, [LATER] * 20),
    ),
]


async def test_no_question_reads_all_readings_of_a_month(mall: ImportReport) -> None:
    """Whatever the planner knows: at first nothing, later everything."""
    await readings.ensure_months("reading", [NOW, NOW + timedelta(days=31)])
    await rows(pool(), FILL, NOW)
    for statistics in ("SELECT 1", "ANALYZE"):
        await rows(pool(), statistics)
        for sql, values in PLANS:
            plan = await rows(pool(), f"EXPLAIN {sql}", *values)
            scans = [one["QUERY PLAN"] for one in plan if "Scan" in one["QUERY PLAN"]]
            assert [scan for scan in scans if "Seq Scan on reading_" in scan] == []
            assert any("reading_202605" in scan for scan in scans)
