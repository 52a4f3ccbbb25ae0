"""Tariffs on their way in: what is refused, with its minute; and holidays nobody knows yet."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from server.core.calendar import DayType, HolidayCalendar
from server.models.database import from_json, pool, rows
from server.services import audit_days, holidays, site_import, site_rules
from server.services.audit import audit
from server.services.corrections import correct_due
from server.services.health import table_numbers
from server.services.holidays import learn_holidays
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from server.services.site_file import SiteFileError
from server.services.site_import import ImportReport, import_site
from server.services.site_rules import chinese_holidays, forget_site_rules
from tests.services.conftest import NOW, PROFILES, SITE
from tests.services.money import sum_of_all_accounts_fen

FLAT = 'kind = "flat"\nprice = "1.00"'
PERIODS = """kind = "tou"
prices = {{peak = "1.20", valley = "0.40"}}
periods = [{{{months}{days}valley = ["00:00-{first}"], peak = ["{second}-24:00"]}}]"""


def tou(first: str = "08:00", second: str = "08:00", months: str = "", days: str = "") -> str:
    return PERIODS.format(first=first, second=second, months=months, days=days)


BAD: list[tuple[str, str, str]] = [
    (tou("08:00", "08:01"), "periods", "month 1-12: workday: minute 08:00-08:01 has no period"),
    (tou("08:01", "08:00"), "periods", "minute 08:00-08:01 has valley and peak"),
    (tou().replace("24:00", "23:59"), "periods", "minute 23:59-24:00 has no period"),
    (tou(months="months = [1,2,3], "), "periods", "month 4-12: holiday: minute 00:00-24:00 has no"),
    (tou(days='days = "workday", '), "periods", "month 1-12: holiday: minute 00:00-24:00 has no"),
    (tou().replace("00:00-08:00", "22:00-08:00"), "periods[0].valley[0]", "ends before it starts"),
    (tou().replace('"0.40"', '"-0.40"'), "prices.valley", "a price is never negative: '-0.40'"),
    (tou().replace(', valley = "0.40"', ""), "prices.valley", "is required: the period is used"),
    (FLAT.replace("1.00", "-1"), "price", "a price is never negative: '-1'"),
    (FLAT.replace("1.00", "-0"), "price", "a price is never negative: '-0'"),
    (FLAT.replace("1.00", "0.1234567"), "price", "up to 9 digits and 6 decimals: '0.1234567'"),
    (FLAT.replace("1.00", "1234567890"), "price", "up to 9 digits and 6 decimals: '1234567890'"),
    (FLAT.replace("1.00", "100.01"), "price", "must be at most 100.00 yuan: '100.01'"),
    (FLAT.replace("1.00", "1e3"), "price", "up to 9 digits and 6 decimals: '1e3'"),
    (FLAT.replace("1.00", "１"), "price", "up to 9 digits and 6 decimals: '１'"),
    (FLAT.replace('"1.00"', "1.00"), "price", 'a price is a text such as "0.6172", not 1.0'),
    (
        'blocks = [{up_to_kwh = 5, price = "1"}, {up_to_kwh = 5, price = "2"}, {price = "3"}]',
        "blocks[1].up_to_kwh",
        "must be more than that of the block before",
    ),
    (
        'blocks = [{up_to_kwh = 5, price = "1"}]',
        "blocks[0].up_to_kwh",
        "the last block is without end",
    ),
]
STATE = """
SELECT (SELECT array_agg(definition::text) FROM tariff_version) AS tariffs,
       (SELECT rules_version FROM site) AS version
"""


async def test_a_bad_tariff_is_refused_and_nothing_changed(
    mall: ImportReport, site_path: Path
) -> None:
    before = await rows(pool(), STATE)
    assert FLAT in SITE
    for table, place, words in BAD:
        site_path.write_text(SITE.replace(FLAT, table), encoding="utf-8")
        with pytest.raises(SiteFileError) as caught:
            await import_site(site_path, PROFILES, NOW)
        faults = caught.value.faults
        assert {fault.place for fault in faults} == {f"tariff[0].{place}"}, table
        assert any(words in fault.message for fault in faults), faults
        assert await rows(pool(), STATE) == before


async def test_a_code_that_no_table_can_hold_is_refused(database: None, site_path: Path) -> None:
    for code in ("x" * 33, "x" * 64, "x" * 65):
        text = SITE.replace('"flat"\nvalid_from', f'"{code}"\nvalid_from')
        text = text.replace('tariff = "flat"', f'tariff = "{code}"')
        site_path.write_text(text, encoding="utf-8")
        with pytest.raises(SiteFileError, match=r"tariff\[0\].code: has at most 32"):
            await import_site(site_path, PROFILES, NOW)


REAL_DAYS = [
    ("2004-01-01", DayType.HOLIDAY),
    ("2026-01-03", DayType.HOLIDAY),  # a Saturday off
    ("2026-01-04", DayType.WORKDAY),  # a worked Sunday
    ("2026-02-14", DayType.WORKDAY),  # a worked Saturday
    ("2026-02-17", DayType.HOLIDAY),  # the lunar New Year
    ("2026-10-10", DayType.WORKDAY),
    ("2026-10-11", DayType.WEEKEND),
]


@pytest.mark.parametrize(("day", "day_type"), REAL_DAYS)
def test_chinas_days_are_what_was_announced(day: str, day_type: DayType) -> None:
    assert chinese_holidays().day_type(date.fromisoformat(day)) is day_type


def test_each_year_that_is_known_is_known_whole() -> None:
    """Also the last one: a first day of the year after it makes that one not known."""
    calendar = chinese_holidays()
    assert calendar.first_year == 2004
    for year in range(calendar.first_year, calendar.last_year + 1):
        assert sum(day.year == year for day in calendar.holidays) > 20, year
    assert not calendar.knows(calendar.first_unknown_day)
    assert calendar.knows(calendar.first_unknown_day - timedelta(days=1))


BY_DAYS = """kind = "tou"
prices = {peak = "1.20", valley = "0.40"}
periods = [
  {days = "workday", peak = ["00:00-24:00"]},
  {days = "weekend", peak = ["00:00-24:00"]},
  {days = "holiday", valley = ["00:00-24:00"]},
]"""
QUIET = ("no_disconnect = []", 'no_disconnect = ["weekend"]')
FLAT_AGAIN = f'[[tariff]]\ncode = "flat"\nvalid_from = 2026-06-01\n{FLAT}\n'
UNKNOWN = datetime(chinese_holidays().last_year + 1, 1, 1, tzinfo=UTC)
SOON, LATER = UNKNOWN - timedelta(days=30), UNKNOWN - timedelta(days=100)
WARNED: list[tuple[tuple[str, str], datetime, list[str]]] = [
    ((FLAT, FLAT), SOON, []),
    ((FLAT, tou()), SOON, []),  # the same on all kinds of days
    ((FLAT, BY_DAYS), LATER, []),
    ((FLAT, BY_DAYS), SOON, ["tariff flat"]),
    ((FLAT, BY_DAYS), UNKNOWN + timedelta(days=200), ["tariff flat"]),
    ((FLAT, BY_DAYS + "\n" + FLAT_AGAIN), SOON, []),  # it holds no more by then
    (QUIET, SOON, ["supply policy immediate"]),
    (QUIET, LATER, []),
]


@pytest.mark.parametrize(("change", "now", "names"), WARNED)
async def test_holidays_that_are_not_known_are_told_beforehand(
    database: None, site_path: Path, change: tuple[str, str], now: datetime, names: list[str]
) -> None:
    site_path.write_text(SITE.replace(*change), encoding="utf-8")
    report = await import_site(site_path, PROFILES, now)
    assert [warning.partition(" asks for")[0] for warning in report.warnings] == names
    for warning in report.warnings:
        assert f"from {UNKNOWN.date()} on Monday to Friday count as workdays" in warning
    numbers = await table_numbers(now)
    assert numbers["sites_without_holidays"] == bool(names)


async def test_a_shop_without_its_rules_stops_no_numbers(mall: ImportReport) -> None:
    await rows(pool(), "UPDATE shop SET tariff_code = 'gone', supply_policy_code = 'gone'")
    assert (await table_numbers(SOON))["sites_without_holidays"] == 0


LABOUR_DAY = datetime(2026, 4, 30, 16, tzinfo=UTC)


def know(monkeypatch: pytest.MonkeyPatch, last_year: int) -> None:
    """Another edition of the calendar, after a restart."""
    real = chinese_holidays()
    edition = HolidayCalendar(real.holidays, real.moved_workdays, real.first_year, last_year)
    for module in (audit_days, holidays, site_import, site_rules):
        monkeypatch.setattr(module, "chinese_holidays", lambda: edition)
    forget_site_rules()


async def test_days_closed_before_their_holidays_were_known_are_corrected(
    database: None, site_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, 2025)
    site_path.write_text(SITE.replace(FLAT, BY_DAYS), encoding="utf-8")
    await import_site(site_path, PROFILES, LABOUR_DAY)
    meter = (await rows(pool(), "SELECT id FROM meter"))[0]["id"]
    for hour in range(50):
        await keep(
            [NewReading(meter, at := LABOUR_DAY + timedelta(hours=hour), 5_000 + 100 * hour, 0)], at
        )
    now = LABOUR_DAY + timedelta(hours=50)
    await settle_due(now)
    while await close_days(now):
        pass
    assert await newest() == [("2026-05-01", 1, 288, False), ("2026-05-02", 1, 288, False)]
    assert (await audit(lambda _: None)).violations == []

    know(monkeypatch, 2026)
    late = await audit(lambda _: None)
    assert (late.violations, late.awaiting_correction) == ([], 2)
    for _ in range(2):  # the second time there is nothing to learn
        await learn_holidays(now)
        while await correct_due(now):
            pass
        await settle_due(now)
        assert await newest() == [("2026-05-01", 2, 96, True), ("2026-05-02", 2, 96, True)]
    found = await rows(pool(), "SELECT amount_fen FROM open_day")
    assert found == [{"amount_fen": 4}]  # one hour of 3 May, a holiday too
    proved = await audit(lambda _: None)
    assert (proved.violations, proved.awaiting_correction) == ([], 0)
    assert await sum_of_all_accounts_fen() == 0


async def test_a_first_day_that_is_still_open_learns_its_holiday_too(
    database: None, site_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a kilowatt-hour of New Year's Day, of which nothing is closed yet."""
    know(monkeypatch, 2025)
    site_path.write_text(SITE.replace(FLAT, BY_DAYS), encoding="utf-8")
    new_year = datetime(2025, 12, 31, 16, tzinfo=UTC)
    await import_site(site_path, PROFILES, new_year)
    meter = (await rows(pool(), "SELECT id FROM meter"))[0]["id"]
    hours = [NewReading(meter, new_year + timedelta(hours=n), 100 * n, 0) for n in range(1, 7)]
    now = hours[-1].read_at
    await keep(hours, now)
    for year, amount_fen in ((2025, 60), (2026, 20)):
        know(monkeypatch, year)
        await learn_holidays(now)
        await settle_due(now)
        found = await rows(pool(), "SELECT day::text, amount_fen FROM open_day")
        assert found == [{"day": "2026-01-01", "amount_fen": amount_fen}]


async def newest() -> list[tuple[str, int, int, bool]]:
    """Each closed day by its newest version: its fen, and whether its holidays were known."""
    found = await rows(
        pool(),
        "SELECT DISTINCT ON (day) day::text, version, amount_fen, document FROM statement"
        " ORDER BY day, version DESC",
    )
    return [
        (
            one["day"],
            one["version"],
            one["amount_fen"],
            from_json(one["document"])["holidays_known"],
        )
        for one in found
    ]
