"""How long `mallwatt audit` takes and how much memory, against one look at the same rows."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from tempfile import TemporaryDirectory

from bench.database import new_database
from bench.mall import OPENED, make_mall, write
from bench.measure import Figure, Measured, Result
from server.models.database import pool, rows
from server.services.audit_days import audit_days
from server.services.audit_report import AuditReport
from server.services.audit_window import Window, snapshot

RSS_MB_MAX = 300
DAY_S_MAX = 10  # "in seconds", at one million transfers

# The first tenancy's days for all: the meters ran alike, and so their documents differ by a name.
CHARGED = """
CREATE TEMP TABLE day_one AS
SELECT row_number() OVER (ORDER BY statement.day) AS place, count(*) OVER () AS days,
       statement.*, posted.booked_at, posted.created_at, posted.details,
       posted.details ->> 'energy_wh' AS wh
FROM statement JOIN ledger_transaction posted ON posted.id = statement.ledger_transaction_id;
INSERT INTO ledger_transaction
    (id, site_id, flow, idempotency_key, input_hash, booked_at, created_at, details)
SELECT (n - 1) * days + place, site_id, 'energy.charged', 'statement:' || n || ':' || day || ':1',
    encode(sha256(convert_to('[1,"energy.charged",[["electricity_wallet",' || n
        || ',"energy_revenue",null,' || amount_fen || ']],{"day":"' || day || '","energy_wh":'
        || wh || ',"version":1}]', 'UTF8')), 'hex'), booked_at, created_at, details
FROM generate_series(2, {shops}) AS n, day_one;
INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
SELECT (n - 1) * days + place, wallet.id, revenue.id, amount_fen
FROM generate_series(2, {shops}) AS n CROSS JOIN day_one
JOIN account wallet ON wallet.kind = 'electricity_wallet' AND wallet.tenancy_id = n
JOIN account revenue ON revenue.kind = 'energy_revenue';
INSERT INTO statement (site_id, tenancy_id, day, version, energy_wh, amount_fen, estimated,
                       document, ledger_transaction_id, closed_at)
SELECT site_id, n, day, version, energy_wh, amount_fen, estimated,
    replace(replace(document::text, '"M-1"', '"M-' || n || '"'), '"meter_id": 1,',
            '"meter_id": ' || n || ',')::jsonb, (n - 1) * days + place, closed_at
FROM generate_series(2, {shops}) AS n, day_one;
INSERT INTO reading (site_id, meter_id, read_at, register_wh, verdict, epoch, kept_at)
SELECT site_id, n, read_at, register_wh, verdict, epoch, kept_at
FROM generate_series(2, {shops}) AS n, reading;
"""
# Top-ups of 50 yuan, one each second, paid and credited.
PAID = """
CREATE TEMP TABLE paid AS
SELECT n, 1 + n % {shops} AS tenancy_id, {first} + n AS id,
       timestamptz '{opened}' + n * interval '{days} days' / {count} AS at
FROM generate_series(1, {count}) AS n;
INSERT INTO top_up (id, no, site_id, tenancy_id, wallet, amount_fen, status, idempotency_key,
                    input_hash, created_at, expires_at, paid_at, credited_at, refunded_fen)
SELECT n, 'T' || n, 1, tenancy_id, 'electricity_wallet', 5000, 'paid', n, '', at, at, at, at, 0
FROM paid;
INSERT INTO payment_order (id, top_up_id, site_id, platform, merchant_id, out_trade_no, method,
                           state, created_at, queries)
SELECT n, n, 1, 'wechat', 'm', 'O' || n, 'wechat_jsapi', 'paid', at, 0 FROM paid;
INSERT INTO payment_credit (platform, merchant_id, transaction_id, out_trade_no, order_id,
                            amount_fen, paid_at, ledger_transaction_id)
SELECT 'wechat', 'm', 'P' || n, 'O' || n, n, 5000, at, id FROM paid;
INSERT INTO ledger_transaction
    (id, site_id, flow, idempotency_key, input_hash, booked_at, created_at, details)
SELECT id, 1, 'top_up.settled', 'payment:wechat:m:P' || n, encode(sha256(convert_to(
        '[1,"top_up.settled",[["wechat_clearing",null,"electricity_wallet",' || tenancy_id
        || ',5000]],{{"out_trade_no":"O' || n || '","top_up_no":"T' || n
        || '","transaction_id":"P' || n || '"}}]', 'UTF8')), 'hex'), at, at,
    jsonb_build_object('out_trade_no', 'O' || n, 'top_up_no', 'T' || n,
                       'transaction_id', 'P' || n)
FROM paid;
INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
SELECT paid.id, clearing.id, wallet.id, 5000 FROM paid
JOIN account wallet ON wallet.kind = 'electricity_wallet' AND wallet.tenancy_id = paid.tenancy_id
JOIN account clearing ON clearing.kind = 'wechat_clearing' ORDER BY paid.id;
UPDATE wallet SET balance_fen = moved.fen FROM (
    SELECT id, sum(fen) AS fen FROM (
        SELECT credit_account_id AS id, amount_fen AS fen FROM ledger_transfer
        UNION ALL SELECT debit_account_id, -amount_fen FROM ledger_transfer
    ) AS sides GROUP BY id
) AS moved WHERE moved.id = wallet.account_id;
"""
SCAN = """
SELECT count(*) AS transfers, sum(transfer.amount_fen), max(posted.input_hash),
       max(posted.details ->> 'day')
FROM ledger_transaction posted JOIN ledger_transfer transfer ON transfer.transaction_id = posted.id
"""
READ = """
SELECT (SELECT sum(length(document::text)) FROM statement),
       (SELECT sum(register_wh) FROM reading)
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is audited: a statement for each shop and day, the other transfers top-ups."""

    transfers: int = 1_000_000
    shops: int = 500
    days: int = 20


async def results(size: Size | None = None) -> AsyncIterator[Measured]:
    """The whole command on good books, a day of them, and the rating of days alone."""
    size = size or Size()
    if os.environ.get("FULL"):
        size = replace(size, transfers=10_000_000, shops=50, days=200)
    async with new_database() as url:
        begun = time.perf_counter()
        await make_books(url, size)
        yield Figure(
            f"making {size.transfers:,} transfers by SQL", time.perf_counter() - begun, "s"
        )
        begun = time.perf_counter()
        scanned = (await rows(pool(), SCAN))[0]["transfers"]
        scan_s = time.perf_counter() - begun
        whole_s, rss_mb = await _command(url, scanned)
        name = f"audit of {scanned:,} transfers and {size.shops * size.days:,} statements"
        looked = "one SELECT over the same transfers"
        yield Result(name, "transfers", scanned / whole_s, looked, scanned / scan_s)
        yield Figure(f"peak memory of the {name}", rss_mb, "MB", RSS_MB_MAX)
        day = (OPENED + timedelta(days=size.days // 2)).date().isoformat()
        day_s, _ = await _command(url, None, "--day", day)
        yield Figure(f"audit of one of {size.days} days, and all wallets", day_s, "s", DAY_S_MAX)
        yield await _rating(size)


async def make_books(url: str, size: Size) -> None:
    """Good books of that size."""
    await make_mall(url, shops=size.shops, days=size.days)
    charges = size.shops * size.days
    paid = PAID.format(
        shops=size.shops,
        first=charges,
        count=size.transfers - charges,
        opened=OPENED.isoformat(),
        days=size.days,
    )
    await write(url, CHARGED.replace("{shops}", str(size.shops)), paid, "VACUUM ANALYZE")


async def _command(url: str, transfers: int | None, *words: str) -> tuple[float, float]:
    """The command in a process of its own: its seconds, and its largest memory in MB."""
    with TemporaryDirectory() as folder:
        environment = {**os.environ, "MALLWATT_DATABASE_URL": url, "MALLWATT_DATA_DIR": folder}
        command = (sys.executable, "-m", "server.cli", "audit", "--json", *words)
        begun = time.perf_counter()
        said, rss_kb = await asyncio.to_thread(_run, command, environment)
        seconds = time.perf_counter() - begun
    answer = json.loads(said)
    if not answer["passed"] or transfers not in {None, answer["checked"]["transfers"]}:
        raise RuntimeError(f"good books did not pass: {said[:2000]}")
    return seconds, rss_kb / 1024


def _run(command: tuple[str, ...], environment: dict[str, str]) -> tuple[str, int]:
    """What a command wrote, and its largest resident set in KB, as the kernel tells who waits.

    (Never below that of this process: the kernel counts what was there before it became another.)
    """
    reading, writing = os.pipe()
    to_pipe = [(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_CLOSE, reading)]
    process = os.posix_spawn(command[0], command, environment, file_actions=to_pipe)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    used = os.wait4(process, 0)[2].ru_maxrss
    return said, used // 1024 if sys.platform == "darwin" else used


async def _rating(size: Size) -> Result:
    """Statements rated afresh, in this process."""
    report = AuditReport()
    statements = size.shops * size.days
    begun = time.perf_counter()
    await rows(pool(), READ)
    read_s = time.perf_counter() - begun
    begun = time.perf_counter()
    async with snapshot() as connection:
        await audit_days(connection, Window(), report, lambda _: None)
    rated_s = time.perf_counter() - begun
    return Result(
        "audit: days rated afresh, read each hour",
        "statements",
        statements / rated_s,
        "one SELECT over the same documents and readings",
        statements / read_s,
    )
