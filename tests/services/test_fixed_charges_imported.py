"""What an import may change of fixed charges: nothing of the days that are charged."""

from datetime import datetime
from pathlib import Path

import pytest

from server.models.database import pool, rows
from server.services.site_file import SiteFileError
from server.services.site_import import import_site
from tests.services.conftest import NOW, PROFILES
from tests.services.test_fixed_charges import (
    CHARGES,
    DAY,
    charge_all,
    import_text,
    path,
    statements,
)

__all__ = ["path"]  # a fixture


async def change(path: Path, was: str, becomes: str, at: datetime) -> None:
    text = path.read_text(encoding="utf-8")
    assert was in text
    await import_text(path, text.replace(was, becomes, 1), at)


NEW_RULES = [
    ('fixed_charges = ["service", "lift"]', "", [462, 462]),
    ('fixed_charges = ["service", "lift"]', 'fixed_charges = ["lift"]', [462, 462, 50]),
    ('area_m2 = "36.5"', 'area_m2 = "73"', [462, 462, 874]),
]


@pytest.mark.parametrize(("was", "becomes", "amounts"), NEW_RULES)
async def test_what_an_import_changes_bills_nothing_back(
    path: Path, was: str, becomes: str, amounts: list[int]
) -> None:
    """No worker ran for two days; those are charged by the rules that held in them."""
    await change(path, was, becomes, NOW + 2 * DAY)
    await charge_all(NOW + 3 * DAY)
    assert [fen for _, _, fen in await statements()] == amounts


TOLD = "shop A1: {} changed; days up to 2026-05-21 are charged as before and stay so"
CHANGES = [
    (('"36.5"', '"73"'), ["area_m2"]),
    (('"36.5"', '"36.5"\nkva = "20"'), ["kva"]),
    (('"36.5"\nfixed_charges = ["service", "lift"]', '"20"'), ["area_m2 and fixed_charges"]),
    (('"36.5"', '"36.50"'), []),
    (('name = "茶饮"', 'name = "奶茶"'), []),
]


async def test_who_changes_what_was_charged_by_is_told_that_it_stays(path: Path) -> None:
    await charge_all(NOW + 2 * DAY)
    good = path.read_text(encoding="utf-8")
    for (was, becomes), changed in CHANGES:
        assert was in good
        path.write_text(good.replace(was, becomes, 1), encoding="utf-8")
        report = await import_site(path, PROFILES, NOW + 2 * DAY)
        told = [one.partition(" (")[0] for one in report.warnings]
        assert told == [TOLD.format(keys) for keys in changed]
        await import_text(path, good, NOW + 2 * DAY)
    assert [fen for _, _, fen in await statements()] == [462, 462]


LATER = """
[[fixed_charge]]
code = "lift"
valid_from = {}
per = "day"
price = "0.70"
"""
TOUCHES = [
    ('price = "0.50"', 'price = "0.60"', "fixed_charge[1]", "days up to 2026-05-21 are charged"),
    (CHARGES, CHARGES + LATER.format("2026-05-21"), "fixed_charge[2]", "a version from 2026-05-21"),
    (CHARGES, CHARGES + LATER.format("2026-01-02"), "fixed_charge[2]", "a version from 2026-01-02"),
    ('"Asia/Shanghai"', '"Asia/Tokyo"', "site.timezone", "days up to 2026-05-21 are closed"),
]


async def test_a_version_that_touches_charged_days_is_refused(path: Path) -> None:
    await charge_all(NOW + 2 * DAY)
    good = path.read_text(encoding="utf-8")
    for was, becomes, place, words in TOUCHES:
        path.write_text(good, encoding="utf-8")
        with pytest.raises(SiteFileError, match=words) as caught:
            await change(path, was, becomes, NOW + 2 * DAY)
        assert [fault.place for fault in caught.value.faults] == [place]


async def test_a_version_from_today_on_is_welcome(path: Path) -> None:
    await charge_all(NOW + 2 * DAY)
    await change(path, CHARGES, CHARGES + LATER.format("2026-05-22"), NOW + 2 * DAY)
    await charge_all(NOW + 3 * DAY)
    assert [fen for _, _, fen in await statements()] == [462, 462, 482]
    text = path.read_text(encoding="utf-8").replace('price = "0.50"', 'price = "0.5"')
    await import_text(path, text, NOW + 3 * DAY)  # the same price, written shorter


REFUSED = [
    ('["service", "lift"]', '["lift", "lift"]', "lift is there twice"),
    ('["service", "lift"]', '["air"]', "no such fixed charge: air"),
    ('price = "3.50"', 'price = "-3.50"', "a price is never negative"),
    ('price = "3.50"', 'price = "3.5000001"', "must be yuan with up to 9 digits and 6 decimals"),
    ('price = "3.50"', 'price = "10000.01"', r"price: must be at most 10000.00 yuan: '10000.01'"),
]


async def test_what_cannot_be_charged_is_refused(path: Path) -> None:
    kept = "SELECT fixed_charges, area_cm2 FROM shop ORDER BY id"
    good, before = path.read_text(encoding="utf-8"), await rows(pool(), kept)
    for was, becomes, words in REFUSED:
        path.write_text(good, encoding="utf-8")
        with pytest.raises(SiteFileError, match=words):
            await change(path, was, becomes, NOW)
        assert await rows(pool(), kept) == before


async def test_more_than_a_posting_can_hold_is_refused(path: Path) -> None:
    await change(path, 'price = "3.50"', 'price = "9999"', NOW)
    with pytest.raises(SiteFileError, match=r"shop\[0\]\.fixed_charges: are .*more than 100000000"):
        await change(path, 'area_m2 = "36.5"', 'area_m2 = "2000000"', NOW)
