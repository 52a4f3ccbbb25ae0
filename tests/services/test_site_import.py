from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.models.database import pool, rows
from server.services.site_file import ProfileFacts, SiteFileError
from server.services.site_import import ImportReport, import_site

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)
PROFILES = {"example/demo-relay": ProfileFacts("modbus", True, False, 30_000, 1_000_000_000)}


async def test_a_first_import_creates_everything_and_posts_the_opening_balance(
    mall: ImportReport,
) -> None:
    assert mall.created == {
        "site": 1,
        "supply_policy": 2,  # the file's own, and the default one
        "tariff": 1,
        "gateway": 1,
        "shop": 1,
        "meter": 1,
        "tenancy": 1,
    }
    assert await rows(pool(), "SELECT balance_fen FROM wallet ORDER BY account_id") == [
        {"balance_fen": 1000},
        {"balance_fen": 0},
    ]


async def test_the_same_file_again_changes_nothing(mall: ImportReport, site_path: Path) -> None:
    again = await import_site(site_path, PROFILES, NOW)
    assert (again.created, again.updated) == ({}, {})
    assert again.unchanged["tenancy"] == 1


@pytest.mark.parametrize(
    ("was", "becomes", "place"),
    [
        ('timezone = "Asia/Shanghai"', 'timezone = "Asia/Nowhere"', "site.timezone"),
        ('price = "1.00"', 'price = "-1"', "tariff[0].price"),
        ("unit = 1", "unit = 300", "meter[0].unit"),
        ('gateway = "gw-01"', 'gateway = "gw-09"', "meter[0].gateway"),
        ('profile = "example/demo-relay"', 'profile = "no/such"', "meter[0].profile"),
        ('tariff = "flat"', 'tariff = "other"', "shop[0].tariff"),
        ("notice_minutes = []", "notice_minutes = [1, 2]", "supply_policy.immediate"),
        ("notice_minutes = []", "surprise = 1", "supply_policy.immediate.surprise"),
        ("opening_balance_fen = 1000", "opening_balance_fen = 2000", "shop[0].opening_balance"),
        ('address = "127.0.0.1:15020"', 'address = "nowhere"', "gateway[0].address"),
        ('binding_code = "482913"', "", "shop[0].binding_code"),
    ],
)
async def test_a_bad_file_names_the_place_and_changes_nothing(
    mall: ImportReport, site_path: Path, was: str, becomes: str, place: str
) -> None:
    before = await rows(pool(), "SELECT (SELECT count(*) FROM ledger_transaction), * FROM meter")
    content = site_path.read_text(encoding="utf-8")
    site_path.write_text(content.replace(was, becomes, 1), encoding="utf-8")
    with pytest.raises(SiteFileError) as caught:
        await import_site(site_path, PROFILES, NOW)
    assert any(fault.place.startswith(place) for fault in caught.value.faults), caught.value
    after = await rows(pool(), "SELECT (SELECT count(*) FROM ledger_transaction), * FROM meter")
    assert after == before
