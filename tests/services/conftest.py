"""A small mall for the services' tests: two shops, three meters, time in the test's hands."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from server.services.site_import import ImportReport
from tests.fakes.site_text import GATEWAY, PROFILES, meter_text, shop_text
from tests.imported import imported
from tests.scenarios.world import World

__all__ = ["NOW", "PROFILES", "SITE"]  # what the tests of this folder import from here

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)  # Wednesday, 10:00 in Shanghai

SITE = """
[site]
code = "demo"
name = "示范商场"
timezone = "Asia/Shanghai"

[supply_policy.immediate]
notice_minutes = []
no_disconnect = []

[weixin.templates]
low_balance = {id = "T-1", fields = {shop = "thing1", balance = "amount2"}}

[[tariff]]
code = "flat"
valid_from = 2026-01-01
kind = "flat"
price = "1.00"
"""
SITE += GATEWAY + meter_text("M-1", 1, "A1")
SITE += shop_text("A1", more="opening_balance_fen = 1000\n")


@pytest.fixture
def site_path(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(SITE, encoding="utf-8")
    return path


@pytest_asyncio.fixture
async def mall(database: None, site_path: Path) -> AsyncIterator[ImportReport]:
    yield await imported(site_path, PROFILES, NOW)


@pytest.fixture
def world(database: None) -> World:
    """The scenarios' mall on Wednesday morning, ten o'clock."""
    return World(NOW)
