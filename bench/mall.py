"""A mall of any size: one shop by import, as every mall begins, the others copied from it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from server.models.database import pool, row
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from server.services.site_file import ProfileFacts
from server.services.site_import import import_site

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
code = "bench"
name = "示范商场"
timezone = "Asia/Shanghai"

[supply_policy.shop]

[[tariff]]
code = "tou"
valid_from = 2020-01-01
kind = "tou"
prices = {sharp = "1.2345", peak = "1.0288", flat = "0.6172", valley = "0.2891"}

[[tariff.periods]]
months = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
days = "all"
valley = ["00:00-08:00"]
flat = ["08:00-10:00", "12:00-18:00", "22:00-24:00"]
peak = ["10:00-12:00"]
sharp = ["18:00-22:00"]

[[gateway]]
code = "gw-01"
link = "modbus-tcp"
address = "127.0.0.1:15020"

[[meter]]
code = "M-1"
gateway = "gw-01"
unit = 1
profile = "example/demo-relay"
shop = "S-1"

[[shop]]
code = "S-1"
name = "茶饮"
tariff = "tou"
supply_policy = "shop"
binding_code = "482913"
"""
OPENED = datetime(2026, 2, 28, 16, 0, tzinfo=UTC)  # 1 March in Shanghai
READ_EVERY = timedelta(hours=1)
HOURLY_WH = 700
BATCH = 20_000  # readings kept at once
LEASE = """
UPDATE gateway_lease SET owner = 'bench', epoch = epoch + 1,
    held_until = clock_timestamp() + interval '1 day' RETURNING epoch
"""
# Shop, tenancy and meter n go together; whatever is not named is as the first one's.
COPIES = """
INSERT INTO shop SELECT (jsonb_populate_record(shop, jsonb_build_object(
    'id', n, 'code', 'S-' || n, 'token', md5('shop ' || n)))).*
FROM shop, generate_series(2, {shops}) AS n WHERE shop.id = 1;
INSERT INTO tenancy SELECT (jsonb_populate_record(tenancy, jsonb_build_object(
    'id', n, 'shop_id', n))).*
FROM tenancy, generate_series(2, {shops}) AS n WHERE tenancy.id = 1;
INSERT INTO account (site_id, kind, tenancy_id)
SELECT site_id, kind, n FROM account, generate_series(2, {shops}) AS n WHERE tenancy_id = 1;
INSERT INTO wallet (account_id, balance_fen)
SELECT id, 0 FROM account WHERE tenancy_id BETWEEN 2 AND {shops};
INSERT INTO meter SELECT (jsonb_populate_record(meter, jsonb_build_object(
    'id', n, 'code', 'M-' || n, 'shop_id', n, 'unit', n))).*
FROM meter, generate_series(2, {shops}) AS n WHERE meter.id = 1;
INSERT INTO meter_control SELECT (jsonb_populate_record(meter_control, jsonb_build_object(
    'meter_id', n))).* FROM meter_control, generate_series(2, {shops}) AS n WHERE meter_id = 1;
INSERT INTO meter_installation SELECT (jsonb_populate_record(installed, jsonb_build_object(
    'id', n, 'meter_id', n, 'shop_id', n))).*
FROM meter_installation installed, generate_series(2, {shops}) AS n WHERE installed.id = 1;
INSERT INTO meter_status SELECT (jsonb_populate_record(meter_status, jsonb_build_object(
    'meter_id', n))).* FROM meter_status, generate_series(2, {shops}) AS n WHERE meter_id = 1;
"""


async def make_mall(url: str, *, shops: int, days: int = 0) -> None:
    """A site with tenancies, shops and meters 1 to `shops`, open since OPENED.

    The first one has `days` closed days, by the product's own hand: read each hour.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "site.toml"
        path.write_text(SITE, encoding="utf-8")
        await import_site(path, PROFILES, OPENED)
    if days:
        await live(days)
    if shops > 1:
        await write(url, COPIES.format(shops=shops))
    await write(url, "ANALYZE")


async def live(days: int) -> None:
    """The first meter counts evenly, is read, and its days are closed."""
    epoch = (await row(pool(), LEASE) or {})["epoch"]
    now = OPENED + timedelta(days=days)
    readings = [
        NewReading(1, OPENED + READ_EVERY * hour, HOURLY_WH * hour, epoch)
        for hour in range(days * 24 + 1)
    ]
    for start in range(0, len(readings), BATCH):
        await keep(readings[start : start + BATCH], now)
    while await settle_due(now):
        pass
    while await close_days(now):
        pass


async def write(url: str, *sql: str) -> None:
    """Run statements as fast as the machine goes: no triggers, no waiting for the disk."""
    owner = await asyncpg.connect(url)
    try:
        await owner.execute(
            "SET session_replication_role = replica; SET synchronous_commit = off;"
            " SET work_mem = '256MB'; SET maintenance_work_mem = '256MB'"
        )
        for one in sql:
            await owner.execute(one)
    finally:
        await owner.close()
