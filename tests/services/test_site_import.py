import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from server.models.database import pool, rows
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from server.services.site_file import SiteFileError
from server.services.site_import import ImportReport, import_site
from tests.fakes.site_text import PROFILES, SECOND_SHOP, change, meter_text

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)


@pytest_asyncio.fixture
async def mall(database: None, site_path: Path) -> ImportReport:
    """Imported by the product itself, each time."""
    return await import_site(site_path, PROFILES, NOW)


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


FAULTS = [
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
    ("[site]", "[approval]\nadjustment_fen = -1\n[site]", "approval.adjustment_fen"),
    ("[site]", "[approval]\nsupply = true\n[site]", "approval.supply"),
]


async def test_a_bad_file_names_the_place_and_changes_nothing(
    mall: ImportReport, site_path: Path
) -> None:
    before = await rows(pool(), "SELECT (SELECT count(*) FROM ledger_transaction), * FROM meter")
    content = site_path.read_text(encoding="utf-8")
    for was, becomes, place in FAULTS:
        assert was in content
        site_path.write_text(content.replace(was, becomes, 1), encoding="utf-8")
        with pytest.raises(SiteFileError) as caught:
            await import_site(site_path, PROFILES, NOW)
        assert any(fault.place.startswith(place) for fault in caught.value.faults), caught.value
    after = await rows(pool(), "SELECT (SELECT count(*) FROM ledger_transaction), * FROM meter")
    assert after == before


async def test_limits_of_one_person_come_and_go_with_the_file(
    mall: ImportReport, site_path: Path
) -> None:
    content = site_path.read_text(encoding="utf-8")
    own = "[approval]\nadjustment_fen = 7\n"
    for text, kept in ((own, '{"adjustment_fen": 7}'), ("", "{}")):
        site_path.write_text(text + content, encoding="utf-8")
        assert (await import_site(site_path, PROFILES, NOW)).updated == {"site": 1}
        assert await rows(pool(), "SELECT approval FROM site") == [{"approval": kept}]


SECOND_METER = meter_text("M-2", 2, "A2") + SECOND_SHOP


async def keep_readings(*registers_wh: int, every: timedelta = timedelta(hours=1)) -> datetime:
    """Readings of M-1 since the import; the time of the last."""
    found = await rows(pool(), "SELECT id FROM meter WHERE code = 'M-1'")
    at = NOW
    for number, register_wh in enumerate(registers_wh):
        at = NOW + every * number
        await keep([NewReading(found[0]["id"], at, register_wh, 0)], at)
    await settle_due(at)
    return at


async def test_meters_may_swap_their_places(mall: ImportReport, site_path: Path) -> None:
    site_path.write_text(site_path.read_text(encoding="utf-8") + SECOND_METER, encoding="utf-8")
    await import_site(site_path, PROFILES, NOW)
    change(site_path, ("unit = 1", "unit = 3"), ("unit = 2", "unit = 1"))
    change(site_path, ("unit = 3", "unit = 2"))
    report = await import_site(site_path, PROFILES, NOW)
    assert report.updated == {"meter": 2}
    found = await rows(pool(), "SELECT code, unit FROM meter ORDER BY code")
    assert found == [{"code": "M-1", "unit": 2}, {"code": "M-2", "unit": 1}]
    assert (await import_site(site_path, PROFILES, NOW)).updated == {}


async def test_two_meters_in_one_place_are_refused(mall: ImportReport, site_path: Path) -> None:
    content = site_path.read_text(encoding="utf-8") + SECOND_METER
    for place in ("unit = 1", 'unit = 1\naddress = "12"'):
        site_path.write_text(content.replace("unit = 2", place), encoding="utf-8")
        with pytest.raises(SiteFileError, match="two meters at unit 1"):
            await import_site(site_path, PROFILES, NOW)
    site_path.write_text(content, encoding="utf-8")
    assert (await import_site(site_path, PROFILES, NOW)).created["meter"] == 1


async def test_a_place_that_a_meter_outside_the_file_has_is_refused(
    mall: ImportReport, site_path: Path
) -> None:
    change(site_path, ('code = "M-1"', 'code = "M-9"'))
    with pytest.raises(SiteFileError, match="meter M-1 is already there on gateway gw-01"):
        await import_site(site_path, PROFILES, NOW)


async def test_a_moved_meter_leaves_what_was_used_before(
    mall: ImportReport, site_path: Path
) -> None:
    """Both shops are settled anew; what the meter counted until then stays the old one's."""
    site_path.write_text(site_path.read_text(encoding="utf-8") + SECOND_METER, encoding="utf-8")
    await import_site(site_path, PROFILES, NOW)
    at = await keep_readings(5_000, 6_000)
    change(site_path, ('shop = "A1"', 'shop = "A2"'))
    await import_site(site_path, PROFILES, at)
    assert len(await settle_due(at)) == 2
    found = await rows(
        pool(),
        "SELECT code, amount_fen FROM open_day JOIN tenancy ON tenancy.id = tenancy_id"
        " JOIN shop ON shop.id = shop_id ORDER BY code",
    )
    assert found == [{"code": "A1", "amount_fen": 100}, {"code": "A2", "amount_fen": 0}]


async def test_a_part_of_the_file_says_nothing_of_other_meters(
    mall: ImportReport, site_path: Path
) -> None:
    only_permits = replace(PROFILES["example/demo-relay"], permit_only=True)
    await import_site(site_path, {"example/demo-relay": only_permits}, NOW)
    site_path.write_text(
        '[site]\ncode = "demo"\nname = "示范商场"\ntimezone = "Asia/Shanghai"\n', encoding="utf-8"
    )
    await import_site(site_path, PROFILES, NOW)
    assert await rows(pool(), "SELECT permit_only FROM meter_control") == [{"permit_only": True}]


async def test_a_meter_without_a_relay_any_more_has_nothing_to_control(
    mall: ImportReport, site_path: Path
) -> None:
    no_relay = replace(PROFILES["example/demo-relay"], has_relay=False)
    await import_site(site_path, {"example/demo-relay": no_relay}, NOW)
    assert await rows(pool(), "SELECT meter_id FROM meter_control") == []
    await import_site(site_path, PROFILES, NOW)
    assert len(await rows(pool(), "SELECT meter_id FROM meter_control")) == 1


async def test_a_new_price_holds_from_the_import_on(mall: ImportReport, site_path: Path) -> None:
    """For the open days too, and at once: nobody goes on by rules that were kept."""
    at = await keep_readings(5_000, 6_000)
    change(site_path, ('price = "1.00"', 'price = "2.00"'))
    await import_site(site_path, PROFILES, at)
    await settle_due(at)
    assert await rows(pool(), "SELECT amount_fen FROM open_day") == [{"amount_fen": 200}]


async def test_another_timezone_loses_no_hour(mall: ImportReport, site_path: Path) -> None:
    """While nothing is closed: 10:00 in Shanghai was 22:00 of the day before in New York."""
    at = await keep_readings(*range(5_000, 5_600, 100))
    used = "SELECT day::text, energy_wh FROM open_day ORDER BY day"
    first = "SELECT first_open_day::text AS day, fixed_open_day::text AS fixed FROM tenancy"
    for was, becomes, days in (
        ("Asia/Shanghai", "America/New_York", {"2026-05-19": 200, "2026-05-20": 300}),
        ("America/New_York", "Asia/Shanghai", {"2026-05-20": 500}),
    ):
        change(site_path, (was, becomes))
        await import_site(site_path, PROFILES, at)
        await settle_due(at)
        assert {one["day"]: one["energy_wh"] for one in await rows(pool(), used)} == days
        assert await rows(pool(), first) == [{"day": min(days), "fixed": min(days)}]


TOUCHES_CLOSED_DAYS = [
    ('price = "1.00"', 'price = "2.00"', "days up to 2026-05-20 are closed"),
    ("valid_from = 2026-01-01", "valid_from = 2026-05-20", "days up to 2026-05-20 are closed"),
    ('"Asia/Shanghai"', '"Asia/Tokyo"', "days up to 2026-05-20 are closed by it"),
]


async def test_what_touches_closed_days_is_refused(mall: ImportReport, site_path: Path) -> None:
    at = await keep_readings(*range(5_000, 7_000, 100))
    assert await close_days(at) == 1
    content = site_path.read_text(encoding="utf-8")
    for was, becomes, fault in TOUCHES_CLOSED_DAYS:
        site_path.write_text(content, encoding="utf-8")
        change(site_path, (was, becomes))
        with pytest.raises(SiteFileError, match=fault):
            await import_site(site_path, PROFILES, at)


async def test_a_tariff_that_a_shop_left_still_guards_its_closed_days(
    mall: ImportReport, site_path: Path
) -> None:
    at = await keep_readings(*range(5_000, 7_000, 100))
    await close_days(at)
    other = '[[tariff]]\ncode = "other"\nkind = "flat"\nprice = "3"\nvalid_from = 2026-01-01\n'
    change(site_path, ("[[gateway]]", other + "[[gateway]]"))
    change(site_path, ('tariff = "flat"', 'tariff = "other"'))
    assert (await import_site(site_path, PROFILES, at)).warnings == []
    change(site_path, ('price = "1.00"', 'price = "2.00"'))
    with pytest.raises(SiteFileError, match="days up to 2026-05-20 are closed"):
        await import_site(site_path, PROFILES, at)


async def test_another_tariff_says_since_when_it_is_the_price(
    mall: ImportReport, site_path: Path
) -> None:
    """Nothing of three days is closed; the file cannot say when the shop changed."""
    at = await keep_readings(5_000, 6_000, every=timedelta(days=2))
    other = '[[tariff]]\ncode = "other"\nkind = "flat"\nprice = "3"\nvalid_from = 2026-01-01\n'
    change(site_path, ("[[gateway]]", other + "[[gateway]]"))
    change(site_path, ('tariff = "flat"', 'tariff = "other"'))
    told = "the price of all days that are not closed, from 2026-05-20 on"
    assert (await import_site(site_path, PROFILES, at)).warnings == [
        f"shop A1: tariff other in place of flat is {told}"
    ]
    assert (await import_site(site_path, PROFILES, at)).warnings == []


UNWORKABLE = [
    ("valid_from = 2026-01-01", "valid_from = 2026-05-21", "shop[0].tariff"),
    ('name = "茶饮"', 'name = "\\u0000"', "shop[0].name"),
    ('timezone = "Asia/Shanghai"', 'timezone = "localtime"', "site.timezone"),
]


async def test_a_first_file_that_could_not_be_worked_with_is_refused(
    database: None, site_path: Path
) -> None:
    content = site_path.read_text(encoding="utf-8")
    for was, becomes, place in UNWORKABLE:
        site_path.write_text(content, encoding="utf-8")
        change(site_path, (was, becomes))
        with pytest.raises(SiteFileError) as caught:
            await import_site(site_path, PROFILES, NOW)
        assert [fault.place for fault in caught.value.faults] == [place]
    assert await rows(pool(), "SELECT id FROM site") == []


async def test_two_imports_at_once_are_one_after_the_other(database: None, site_path: Path) -> None:
    reports = await asyncio.gather(*(import_site(site_path, PROFILES, NOW) for _ in range(4)))
    assert sorted(report.created.get("shop", 0) for report in reports) == [0, 0, 0, 1]
    posted = await rows(pool(), "SELECT count(*) AS n FROM ledger_transaction")
    assert posted == [{"n": 1}]
