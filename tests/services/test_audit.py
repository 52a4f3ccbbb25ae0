"""The audit: quiet about good books, and by name about each way of forging them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from string import Template

import asyncpg
import pytest
import pytest_asyncio
from tortoise.exceptions import TransactionManagementError

from payments.contract import Platform
from server.models.database import rows
from server.services import crediting, payment_inbox
from server.services.audit import AuditReport, audit
from server.services.audit_journal import audit_wallets
from server.services.audit_window import snapshot
from server.services.desk import take_desk_payment
from server.services.readings import NewReading, keep
from server.services.settlement import settle_due
from tests.scenarios.world import World, local
from tests.services.test_money_by_hand import Office, people_of

BLOCKS = """kind = "block"
period = "month"
blocks = [{up_to_kwh = 5, price = "0.60"}, {price = "0.75"}]"""
FORGED = (
    *("account", "wallet", "ledger_transaction", "ledger_transfer", "payment_credit", "top_up"),
    *("statement", "reading", "tariff_version", "tenancy", "meter_installation", "desk_receipt"),
)
KEEP = "CREATE TABLE kept.{0} AS SELECT * FROM {0};"
RESTORE = "DELETE FROM {0}; INSERT INTO {0} SELECT * FROM kept.{0};"
REPLICA = "SET LOCAL session_replication_role = replica;"


async def execute(owner: asyncpg.Connection, *sql: str) -> None:
    async with owner.transaction():
        await owner.execute("\n".join(sql))


async def read_hourly(world: World, first_wh: int, hourly_wh: int, hours: int) -> None:
    """The meter goes on evenly."""
    start = world.now
    readings = [
        NewReading(
            world.meter_id, start + timedelta(hours=hour), first_wh + hourly_wh * hour, world.epoch
        )
        for hour in range(1, hours + 1)
    ]
    world.now = start + timedelta(hours=hours)
    await keep(readings, world.now)
    await settle_due(world.now)


async def fill(folder: Path) -> None:
    """Three closed days, an open one, payments by every way, a case."""
    world = World(local("2026-05-20 10:00"))
    await world.open(folder, balance_fen=10_000, tariff=BLOCKS)
    await read_hourly(world, 100_000, 300, 14)
    number = await world.order(5_000, "notice")
    world.paid_trade(number)
    headers, body = world.platform.notice_of(number)
    notice = world.platform.parse_notice(headers, body, world.now)
    _, notice_id = await payment_inbox.keep(world.site_id, world.platform, notice, world.now)
    assert notice_id is not None
    await payment_inbox.settle(notice_id, world.now)
    unknown = replace(world.paid_trade(await world.order(700, "late")), out_trade_no="nobody's")
    await crediting.credit(world.site_id, Platform.WECHAT, unknown, world.now)
    await take_desk_payment(
        world.tenancy_id, 300, method="cash", receipt_no="R-1", paid_at=world.now, now=world.now
    )
    office = Office(world.site_id, await people_of(world.site_id), world.now)
    await office.pay(
        amount_fen=400, method="bank_transfer", receipt_no="R-2", wallet="fixed_charges"
    )
    await office.say(await office.reverse("R-2"))
    await read_hourly(world, 104_200, 200, 50)
    assert await world.close() == 3
    await world.order(900, "never paid")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def books(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[asyncpg.Connection]:
    """The owner of a database with good books, and a copy of them in it; the pool is on it."""
    owner = await asyncpg.connect(module_database)
    await fill(tmp_path_factory.mktemp("books"))
    await execute(owner, "CREATE SCHEMA kept;", *(KEEP.format(table) for table in FORGED))
    yield owner
    await execute(owner, "DROP SCHEMA kept CASCADE")
    await owner.close()


@pytest_asyncio.fixture
async def copy(books: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """The books' owner; they are good again afterwards."""
    yield books
    await execute(books, REPLICA, *(RESTORE.format(table) for table in FORGED))


async def run_audit() -> AuditReport:
    return await audit(lambda _: None)


async def test_good_books_pass(copy: asyncpg.Connection) -> None:
    report = await run_audit()
    assert (report.violations, report.awaiting_correction) == ([], 0)
    assert report.checked["statements"] == 3
    assert report.checked["top_ups"] == 3
    assert report.passed


NAMES = {
    "wallet": "(SELECT id FROM account WHERE kind = 'electricity_wallet')",
    "credit": "(SELECT min(id) FROM ledger_transaction WHERE flow = 'top_up.settled')",
    "desk": "(SELECT min(id) FROM ledger_transaction WHERE flow = 'desk_payment.received')",
    "day": "day = '2026-05-21'",
}
FORGERIES = [
    (
        "UPDATE wallet SET balance_fen = balance_fen + 1 WHERE account_id = $wallet",
        "account_replay",
        "electricity_wallet of tenancy 1",
    ),
    (
        "DELETE FROM wallet WHERE account_id = $wallet",
        "account_replay",
        "electricity_wallet",
    ),
    (
        "UPDATE ledger_transfer SET amount_fen = amount_fen + 1 WHERE id = 1",
        "account_replay",
        "electricity_wallet",
    ),
    (
        "DELETE FROM ledger_transfer WHERE transaction_id = $credit",
        "transfer_balanced",
        "transaction",
    ),
    (
        "DELETE FROM ledger_transaction WHERE id = $credit",
        "transfer_balanced",
        "transfer",
    ),
    (
        "UPDATE account SET kind = 'treasure' WHERE kind = 'desk'",
        "transfer_balanced",
        "transaction",
    ),
    (
        "DELETE FROM account WHERE kind = 'desk'",
        "transfer_balanced",
        "transaction $desk",
    ),
    (
        "UPDATE account SET site_id = 99 WHERE kind = 'desk'",
        "transfer_balanced",
        "transaction $desk",
    ),
    (
        "UPDATE ledger_transaction SET details = '[1]' WHERE id = $desk",
        "transfer_balanced",
        "transaction $desk",
    ),
    (
        "UPDATE ledger_transaction SET flow = 'energy.charged' WHERE flow = 'top_up.settled'",
        "flow_allowed",
        "transaction",
    ),
    (  # two wallets in one posting, each moved along
        """
INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
VALUES ($desk, (SELECT id FROM account WHERE kind = 'desk'),
        (SELECT id FROM account WHERE kind = 'fixed_charges_wallet'), 7);
UPDATE wallet SET balance_fen = 7 WHERE account_id <> $wallet""",
        "flow_allowed",
        "transaction $desk",
    ),
    (  # a posting by hand, its wallet moved along: nothing but its hash is wrong
        """
INSERT INTO ledger_transaction
    (site_id, flow, idempotency_key, input_hash, booked_at, created_at, details)
SELECT site_id, 'adjustment.made', 'by hand', repeat('0', 64), booked_at, created_at,
    '{"reason": "a present"}' FROM ledger_transaction WHERE id = $credit;
INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
SELECT max(ledger_transaction.id), (SELECT id FROM account WHERE kind = 'adjustments'), $wallet, 100
FROM ledger_transaction;
UPDATE wallet SET balance_fen = balance_fen + 100 WHERE account_id = $wallet""",
        "input_hash",
        "transaction",
    ),
    (  # a higher amount in all four places
        """UPDATE ledger_transfer SET amount_fen = 5001 WHERE transaction_id = $credit;
UPDATE wallet SET balance_fen = balance_fen + 1 WHERE account_id = $wallet;
UPDATE payment_credit SET amount_fen = 5001 WHERE ledger_transaction_id = $credit;
UPDATE top_up SET amount_fen = 5001 WHERE amount_fen = 5000""",
        "input_hash",
        "transaction $credit",
    ),
    (
        """UPDATE ledger_transaction SET details = '{"receipt_no": "R-2"}' WHERE id = $desk""",
        "input_hash",
        "transaction $desk",
    ),
    (  # the same characters, in another place
        """
UPDATE ledger_transaction SET details = '{"receipt_no\\":\\"R-1": ""}' WHERE id = $desk""",
        "transfer_balanced",
        "transaction $desk",
    ),
    (
        """
INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
SELECT transaction_id, debit_account_id, credit_account_id, 1 FROM ledger_transfer
WHERE transaction_id = $desk;
UPDATE wallet SET balance_fen = balance_fen + 1 WHERE account_id = $wallet""",
        "input_hash",
        "transaction $desk",
    ),
    (
        "UPDATE account SET tenancy_id = 99 WHERE kind = 'fixed_charges_wallet'",
        "account_replay",
        "account",
    ),
    (
        """INSERT INTO wallet (account_id, balance_fen)
SELECT id, 0 FROM account WHERE kind = 'desk'""",
        "account_replay",
        "wallet of account",
    ),
    (
        "UPDATE top_up SET tenancy_id = 99 WHERE amount_fen = 5000",
        "credited_once",
        "top-up",
    ),
    (
        "UPDATE payment_credit SET ledger_transaction_id = $desk WHERE amount_fen = 700",
        "credited_once",
        "payment wechat:",
    ),
    (  # the wallet was edited to agree, and still
        """UPDATE ledger_transfer SET amount_fen = 5001 WHERE transaction_id = $credit;
UPDATE wallet SET balance_fen = balance_fen + 1 WHERE account_id = $wallet""",
        "credited_once",
        "top-up",
    ),
    (
        "DELETE FROM payment_credit WHERE amount_fen = 5000",
        "credited_once",
        "top-up",
    ),
    (  # a missing credit, without a trace in the journal
        """DELETE FROM payment_credit WHERE amount_fen = 5000;
DELETE FROM ledger_transfer WHERE transaction_id = $credit;
DELETE FROM ledger_transaction WHERE id = $credit;
UPDATE wallet SET balance_fen = balance_fen - 5000 WHERE account_id = $wallet;
UPDATE top_up SET status = 'closed', paid_at = NULL, credited_at = NULL WHERE amount_fen = 5000""",
        "credited_once",
        "notice 1",
    ),
    (  # a double credit: the wallet agrees with the journal, and nobody paid it
        """
INSERT INTO ledger_transaction
    (site_id, flow, idempotency_key, input_hash, booked_at, created_at, details)
SELECT site_id, flow, 'again', input_hash, booked_at, created_at, details
FROM ledger_transaction WHERE id = $credit;
INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
SELECT (SELECT max(id) FROM ledger_transaction), debit_account_id, credit_account_id, amount_fen
FROM ledger_transfer WHERE transaction_id = $credit;
UPDATE wallet SET balance_fen = balance_fen + 5000 WHERE account_id = $wallet""",
        "credited_once",
        "transaction",
    ),
    (
        "UPDATE payment_credit SET amount_fen = 4999 WHERE amount_fen = 5000",
        "credited_once",
        "payment wechat:",
    ),
    (
        "UPDATE top_up SET status = 'paid' WHERE amount_fen = 900",
        "credited_once",
        "top-up",
    ),
    (
        "UPDATE statement SET amount_fen = amount_fen - 1 WHERE $day",
        "statement_posted",
        "day 2026-05-21",
    ),
    (
        "DELETE FROM desk_receipt",
        "desk_receipt",
        "transaction $desk",
    ),
    (
        "UPDATE desk_receipt SET amount_fen = 301",
        "desk_receipt",
        "receipt R-1",
    ),
    (
        "UPDATE desk_receipt SET method = 'bank_transfer'",
        "desk_receipt",
        "receipt R-1",
    ),
    (
        "UPDATE desk_receipt SET tenancy_id = 99",
        "desk_receipt",
        "receipt R-1",
    ),
    (
        "UPDATE desk_receipt SET ledger_transaction_id = $credit",
        "desk_receipt",
        "receipt R-1",
    ),
    (  # a receipt taken back a second time, with a key of its own
        """
INSERT INTO ledger_transaction
    (site_id, flow, idempotency_key, input_hash, booked_at, created_at, details)
SELECT site_id, 'desk_payment.reversed', 'again', input_hash, booked_at, created_at, details
FROM ledger_transaction WHERE id = $desk;
INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
SELECT (SELECT max(id) FROM ledger_transaction), credit_account_id, debit_account_id, amount_fen
FROM ledger_transfer WHERE transaction_id = $desk""",
        "desk_receipt",
        "transaction",
    ),
    (  # another day's charge
        """
UPDATE statement SET ledger_transaction_id = (SELECT max(id) FROM ledger_transaction) WHERE $day""",
        "statement_posted",
        "day 2026-05-21 version 1",
    ),
    (
        "UPDATE statement SET ledger_transaction_id = 9999 WHERE $day",
        "statement_posted",
        "day 2026-05-21 version 1",
    ),
    (  # a free day, and its charge left behind
        "UPDATE statement SET amount_fen = 0, ledger_transaction_id = NULL WHERE $day",
        "statement_posted",
        "transaction",
    ),
    (  # no day of any calendar, and no number
        """UPDATE ledger_transaction SET details = '{"day": "2026-02-30", "version": "x"}'
WHERE flow = 'energy.charged'""",
        "statement_posted",
        "transaction",
    ),
    (  # a version that nobody posted
        """
INSERT INTO statement SELECT site_id, tenancy_id, day, 2, energy_wh, amount_fen - 1, estimated,
    document, ledger_transaction_id, closed_at FROM statement WHERE $day""",
        "statement_posted",
        "day 2026-05-21 version 2",
    ),
    (  # one that costs the same posts nothing, and names what the one before it does
        """
INSERT INTO statement SELECT site_id, tenancy_id, day, 2, energy_wh, amount_fen, estimated,
    document, $desk, closed_at FROM statement WHERE $day""",
        "statement_posted",
        "day 2026-05-21 version 2",
    ),
    (
        "UPDATE statement SET energy_wh = energy_wh + 1 WHERE $day",
        "statement_rated",
        "day 2026-05-21",
    ),
    (
        "UPDATE statement SET document = jsonb_set(document, '{lines,0,block}', '1') WHERE $day",
        "statement_rated",
        "day 2026-05-21",
    ),
    (
        "UPDATE statement SET document = jsonb_set(document, '{block_start_wh}', '0') WHERE $day",
        "statement_rated",
        "day 2026-05-21",
    ),
    (
        """
UPDATE statement SET document = jsonb_set(document, '{ends_at}', '"2026-05-21T20:00:00+08:00"')
WHERE $day""",
        "statement_rated",
        "day 2026-05-21",
    ),
    (
        """
UPDATE statement SET document = jsonb_set(document, '{readings,0,rollover_wh}', '0')
WHERE $day""",
        "statement_rated",
        "day 2026-05-21",
    ),
    (  # a ratio is the device's, whatever a statement says
        """
UPDATE statement SET document = jsonb_set(document, '{readings,0,transformer_ratio}', '7')
WHERE $day""",
        "statement_rated",
        "day 2026-05-21",
    ),
    (  # another device, where nobody recorded an exchange
        """
UPDATE statement SET document = jsonb_set(document, '{readings,0,ended_by_exchange}', 'true')
WHERE $day""",
        "statement_rated",
        "day 2026-05-21",
    ),
    (  # a meter that was somewhere else, or came and went within the day
        "UPDATE meter_installation SET installed_at = '2026-05-22 00:00+08'",
        "statement_rated",
        "day 2026-05-21",
    ),
    (
        "UPDATE meter_installation SET removed_at = '2026-05-21 12:00+08'",
        "statement_rated",
        "day 2026-05-21",
    ),
    (
        "DELETE FROM meter_installation",
        "statement_rated",
        "day 2026-05-20",
    ),
    (
        "UPDATE statement SET document = '[1]' WHERE $day",
        "statement_rated",
        "day 2026-05-21",
    ),
    (
        "UPDATE statement SET document = 'null' WHERE $day",
        "statement_rated",
        "day 2026-05-21",
    ),
    (
        "DELETE FROM statement WHERE $day",
        "statement_posted",
        "tenancy 1",
    ),
    (
        "UPDATE statement SET tenancy_id = 99 WHERE day = '2026-05-22'",
        "statement_rated",
        "tenancy 99",
    ),
    (
        "DELETE FROM reading WHERE read_at = '2026-05-21 12:00+08'",
        "statement_rated",
        "day 2026-05-21",
    ),
    (
        "UPDATE reading SET register_wh = register_wh - 50 WHERE read_at = '2026-05-21 00:00+08'",
        "statement_rated",
        "day 2026-05-20",
    ),
    (
        """
UPDATE tariff_version SET definition = jsonb_set(definition, '{blocks,0,price}', '"0.10"')""",
        "statement_rated",
        "day 2026-05-20",
    ),
    (
        """UPDATE tariff_version SET valid_from = '2026-05-21',
    definition = jsonb_set(definition, '{valid_from}', '"2026-05-21"')""",
        "statement_rated",
        "day 2026-05-22",
    ),
    (
        "UPDATE tariff_version SET definition = '{}'",
        "statement_rated",
        "tariff tariff",
    ),
    (
        "DELETE FROM tariff_version",
        "statement_rated",
        "day 2026-05-20",
    ),
    (
        "UPDATE tenancy SET first_open_day = first_open_day - 1",
        "statement_posted",
        "tenancy 1",
    ),
]


@pytest.mark.parametrize(("forgery", "rule", "subject"), FORGERIES)
async def test_forged_books_are_named(
    copy: asyncpg.Connection, forgery: str, rule: str, subject: str
) -> None:
    """By somebody who switches the triggers off."""
    numbers = {name: str(await number(NAMES[name])) for name in ("credit", "desk")}
    await execute(copy, REPLICA, Template(forgery).substitute(NAMES))
    report = await run_audit()
    assert not report.passed
    blamed = [one.subject for one in report.violations if one.rule == rule]
    wanted = Template(subject).substitute(numbers)
    assert any(wanted in one for one in blamed), report.violations


async def number(question: str) -> int:
    return int((await World.row(f"SELECT {question} AS number"))["number"])


async def test_what_is_written_meanwhile_is_no_false_alarm(copy: asyncpg.Connection) -> None:
    """An audit sees one state of the books, and cannot change it."""
    report = AuditReport()
    async with snapshot() as connection:
        await rows(connection, "SELECT 1 FROM wallet")
        await execute(copy, "UPDATE wallet SET balance_fen = balance_fen + 1")
        await audit_wallets(connection, report, lambda _: None)
        with pytest.raises(TransactionManagementError, match="read-only"):
            await rows(connection, "UPDATE wallet SET balance_fen = 0")
    assert report.passed
    assert not (await run_audit()).passed


TODAY = "(SELECT max(created_at AT TIME ZONE 'Asia/Shanghai')::date FROM ledger_transaction)"
DAYS = [
    ("UPDATE statement SET energy_wh = energy_wh + 1 WHERE day = '2026-05-22'", "2026-05-22"),
    ("UPDATE ledger_transaction SET input_hash = '' WHERE id = $credit", TODAY),
    ("UPDATE top_up SET status = 'paid', created_at = now() WHERE amount_fen = 900", TODAY),
]


@pytest.mark.parametrize(("forgery", "day"), DAYS)
async def test_a_day_is_proved_by_itself(copy: asyncpg.Connection, forgery: str, day: str) -> None:
    """Its statements and its journal, not its neighbours'; and all wallets."""
    found = (await World.row(f"SELECT {day} AS day"))["day"] if day == TODAY else None
    asked = found or date.fromisoformat(day)
    await execute(copy, REPLICA, Template(forgery).substitute(NAMES))
    for distance, passed in ((-1, True), (0, False), (1, True)):
        one = asked + timedelta(days=distance)
        report = await audit(lambda _: None, since=one, until=one)
        assert report.passed is passed, (one, report.violations)
        assert report.checked["wallets"] == 2
    assert not (await audit(lambda _: None, since=asked)).passed
    assert (await audit(lambda _: None, since=asked + timedelta(days=1))).passed


async def test_a_window_holds_what_was_written_in_it(copy: asyncpg.Connection) -> None:
    today = (await World.row(f"SELECT {TODAY} AS day"))["day"]
    report = await audit(lambda _: None, since=today, until=today)
    whole = await run_audit()
    assert report.passed
    assert report.checked["transactions"] == whole.checked["transactions"] > 0
    assert (report.checked["statements"], whole.checked["statements"]) == (0, 3)
    await execute(copy, "UPDATE wallet SET balance_fen = 1")
    long_ago = date(2020, 1, 1)
    report = await audit(lambda _: None, since=long_ago, until=long_ago)
    assert [one.rule for one in report.violations] == ["account_replay"] * 2
    assert report.checked["transactions"] == 0


LATE = None
HELD_APART = """
UPDATE reading SET verdict = 'quarantined', reason = 'jump' WHERE read_at = '2026-05-21 12:00+08'
"""


@pytest.mark.parametrize("change", [LATE, HELD_APART], ids=["late", "held_apart"])
async def test_a_day_that_awaits_its_correction_is_counted_apart(
    copy: asyncpg.Connection, change: str | None
) -> None:
    """A reading was held apart since, or came late: no forgery."""
    if change is not None:
        await execute(copy, change)
    else:
        found = await World.row(
            "SELECT meter_id, register_wh, epoch FROM reading WHERE read_at = $1",
            local("2026-05-21 12:00"),
        )
        late = NewReading(
            found["meter_id"], local("2026-05-21 12:03"), found["register_wh"], found["epoch"]
        )
        assert (await keep([late], local("2026-05-23 12:00"))).kept == 1
    audited = await run_audit()
    assert (audited.violations, audited.awaiting_correction) == ([], 1)
    assert audited.passed
