"""The audit of fixed charges: quiet about good books, by name about each way of forging them."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from server.services.audit import audit
from server.services.fixed_charges import charge_due
from tests.imported import imported
from tests.services.conftest import NOW, PROFILES, SITE

CHARGE = """
[[fixed_charge]]
code = "service"
valid_from = 2026-01-01
basis = "m2"
price = "3.50"
"""
REPLICA = "SET session_replication_role = replica;"


@pytest_asyncio.fixture
async def books(database: None, database_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """Three charged days: 412, 412, 412 fen."""
    path = tmp_path / "site.toml"
    owed = 'name = "茶饮"\narea_m2 = "36.5"\nfixed_charges = ["service"]\n'
    path.write_text(SITE.replace('name = "茶饮"\n', owed) + CHARGE, encoding="utf-8")
    await imported(path, PROFILES, NOW)
    await charge_due(NOW + timedelta(days=3))
    yield database_url


async def execute(url: str, sql: str) -> None:
    owner = await asyncpg.connect(url)
    try:
        await owner.execute(REPLICA + sql)
    finally:
        await owner.close()


async def test_good_books_pass(books: str) -> None:
    report = await audit(lambda _: None)
    assert report.violations == []
    assert report.checked["fixed_charge_statements"] == 3
    of_a_day = await audit(lambda _: None, since=date(2026, 5, 21), until=date(2026, 5, 21))
    assert of_a_day.checked["fixed_charge_statements"] == 1
    assert of_a_day.violations == []


async def test_another_area_today_accuses_no_day_of_the_past(books: str) -> None:
    await execute(books, "UPDATE shop SET area_cm2 = 1; UPDATE shop SET fixed_charges = '[]'")
    assert (await audit(lambda _: None)).violations == []


NAMES = {
    "$day": "WHERE day = '2026-05-21'",
    "$set_line": "UPDATE fixed_charge_statement SET document = jsonb_set(document, ",
    "$copied": "SELECT (jsonb_populate_record(one, ",
}
FORGERIES = [
    (
        "UPDATE fixed_charge_statement SET amount_fen = 411 $day",
        {"fixed_charge_rated": "differs in amount_fen", "fixed_charge_posted": "says 411 fen, 412"},
    ),
    (
        "$set_line '{lines,0,amount_fen}', '411') $day",
        {"fixed_charge_rated": "differs in lines"},
    ),
    (
        "$set_line '{lines,0,quantity}', '100000') $day",
        {"fixed_charge_rated": "differs in lines, amount_fen"},
    ),
    (
        """$set_line '{lines,0,valid_from}', '"2026-02-01"') $day""",
        {"fixed_charge_rated": "names service's version of 2026-02-01; that of 2026-01-01 was"},
    ),
    (
        """$set_line '{lines,0,code}', '"air"') $day""",
        {"fixed_charge_rated": "names air's version of 2026-01-01; none was valid"},
    ),
    (
        "UPDATE fixed_charge_statement SET document = '{}' $day",
        {"fixed_charge_rated": "a fixed-charge document of format None"},
    ),
    (
        "UPDATE fixed_charge_statement SET version = 2 $day",
        {
            "fixed_charge_rated": "is a version 2",
            "fixed_charge_posted": "is a fixed_charge.charged for day 2026-05-21",
        },
    ),
    (
        "UPDATE fixed_charge_version SET definition = jsonb_set(definition, '{price}', '\"3.60\"')",
        {"fixed_charge_rated": "differs in lines, amount_fen"},
    ),
    (
        "DELETE FROM fixed_charge_statement $day",
        {"fixed_charge_posted": "is a fixed_charge.charged for day 2026-05-21, and no such"},
    ),
    (
        """UPDATE fixed_charge_statement SET ledger_transaction_id =
            (SELECT min(id) FROM ledger_transaction WHERE flow = 'opening_balance.set') $day""",
        {"fixed_charge_posted": "says 412 fen, 0 were posted"},
    ),
    (
        "UPDATE tenancy SET fixed_open_day = '2026-05-22'",
        {"fixed_charge_paid_once": "is charged, and the day to be charged next is 2026-05-22"},
    ),
    (
        "UPDATE tenancy SET opened_at = '2026-05-21 04:00Z'",
        {"fixed_charge_paid_once": "is before the tenancy, which moved in on 2026-05-21"},
    ),
    (
        "UPDATE tenancy SET closed_at = '2026-05-22 04:00Z'",
        {"fixed_charge_paid_once": "is the next one's: the tenancy moved out on 2026-05-22"},
    ),
    (
        "DELETE FROM tenancy",
        {"fixed_charge_paid_once": "is of a tenancy that is not there"},
    ),
    (
        """UPDATE tenancy SET closed_at = '2026-05-21 04:00Z';
INSERT INTO tenancy $copied '{"id": 2, "closed_at": null}')).* FROM tenancy one;
INSERT INTO fixed_charge_statement $copied '{"tenancy_id": 2}')).*
FROM fixed_charge_statement one $day""",
        {"fixed_charge_paid_once": "of the shop is charged to tenancy 1 too"},
    ),
]


@pytest.mark.parametrize(("forgery", "blamed"), FORGERIES)
async def test_a_forgery_is_named(books: str, forgery: str, blamed: dict[str, str]) -> None:
    for name, meaning in NAMES.items():
        forgery = forgery.replace(name, meaning)
    await execute(books, forgery)
    report = await audit(lambda _: None)
    for rule, detail in blamed.items():
        found = [one.detail for one in report.violations if one.rule == rule]
        assert any(one.startswith(detail) for one in found), report.violations
