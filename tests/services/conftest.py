"""A small mall for the services' tests: two shops, three meters, time in the test's hands."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from server.services.site_file import ProfileFacts
from server.services.site_import import ImportReport, import_site
from tests.scenarios.world import World

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)  # Wednesday, 10:00 in Shanghai

PROFILES = {
    "example/demo-relay": ProfileFacts(
        protocol="modbus",
        has_relay=True,
        permit_only=False,
        max_power_w=30_000,
        rollover_wh=1_000_000_000,
    )
}

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

[[gateway]]
code = "gw-01"
link = "modbus-tcp"
address = "127.0.0.1:15020"

[[meter]]
code = "M-1"
gateway = "gw-01"
unit = 1
profile = "example/demo-relay"
shop = "A1"

[[shop]]
code = "A1"
name = "茶饮"
tariff = "flat"
supply_policy = "immediate"
binding_code = "482913"
opening_balance_fen = 1000
"""


@pytest.fixture
def site_path(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(SITE, encoding="utf-8")
    return path


@pytest_asyncio.fixture
async def mall(database: None, site_path: Path) -> AsyncIterator[ImportReport]:
    yield await import_site(site_path, PROFILES, NOW)


@pytest.fixture
def world(database: None) -> World:
    """The scenarios' mall on Wednesday morning, ten o'clock."""
    return World(NOW)
