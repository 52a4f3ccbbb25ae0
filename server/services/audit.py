"""Proving the books: what the journal, the wallets, the payments and the statements say agrees.

Sums are made in the database; statements are rated afresh in batches, so memory stays flat.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import AccountKind
from server.core.ledger.routing import is_allowed
from server.core.settlement.day import settle_day
from server.core.settlement.document import (
    StatementInputs,
    document_differences,
    read_inputs,
    statement_document,
)
from server.core.settlement.interval import path_from_rows
from server.core.tariff.parse import parse_tariff
from server.core.tariff.versions import TariffVersion
from server.models.database import Row, from_json, pool, rows
from server.services.site_rules import chinese_holidays

BATCH = 500
NAMED_MAX = 1_000  # violations named; the rest are counted

COUNTS = """
SELECT (SELECT count(*) FROM ledger_transaction) AS transactions,
       (SELECT count(*) FROM ledger_transfer) AS transfers,
       (SELECT count(*) FROM wallet) AS wallets,
       (SELECT count(*) FROM top_up) AS top_ups
"""
# Every transfer has two sides by its columns; what can still be wrong is what it joins.
FOREIGN = """
SELECT 'transfer ' || transfer.id AS subject FROM ledger_transfer transfer
JOIN ledger_transaction transaction ON transaction.id = transfer.transaction_id
JOIN account debit ON debit.id = transfer.debit_account_id
JOIN account credit ON credit.id = transfer.credit_account_id
WHERE debit.site_id <> transaction.site_id OR credit.site_id <> transaction.site_id
LIMIT 1000
"""
ROUTES = """
SELECT transaction.flow, debit.kind AS debit, credit.kind AS credit, min(transfer.id) AS example
FROM ledger_transfer transfer
JOIN ledger_transaction transaction ON transaction.id = transfer.transaction_id
JOIN account debit ON debit.id = transfer.debit_account_id
JOIN account credit ON credit.id = transfer.credit_account_id
GROUP BY transaction.flow, debit.kind, credit.kind
"""
EMPTY = """
SELECT 'transaction ' || id AS subject FROM ledger_transaction transaction
WHERE NOT EXISTS (SELECT 1 FROM ledger_transfer WHERE transaction_id = transaction.id) LIMIT 1000
"""
REPLAY = """
SELECT account.kind || ' of tenancy ' || account.tenancy_id AS subject, wallet.balance_fen,
       coalesce(credited.fen, 0)::bigint - coalesce(debited.fen, 0)::bigint AS replayed_fen
FROM wallet JOIN account ON account.id = wallet.account_id
LEFT JOIN (SELECT credit_account_id AS id, sum(amount_fen) AS fen FROM ledger_transfer
           GROUP BY credit_account_id) AS credited ON credited.id = account.id
LEFT JOIN (SELECT debit_account_id AS id, sum(amount_fen) AS fen FROM ledger_transfer
           GROUP BY debit_account_id) AS debited ON debited.id = account.id
WHERE wallet.balance_fen <> coalesce(credited.fen, 0) - coalesce(debited.fen, 0) LIMIT 1000
"""
# A paid top-up has exactly one credit of its amount in its wallet; a credit has its transaction.
TOP_UPS = """
SELECT 'top-up ' || top_up.no AS subject, top_up.status, count(transfer.id) AS credits
FROM top_up
LEFT JOIN payment_order ON payment_order.top_up_id = top_up.id
LEFT JOIN payment_credit ON payment_credit.order_id = payment_order.id
LEFT JOIN ledger_transaction transaction ON transaction.id = payment_credit.ledger_transaction_id
    AND transaction.flow = 'top_up.settled'
LEFT JOIN ledger_transfer transfer ON transfer.transaction_id = transaction.id
    AND transfer.amount_fen = top_up.amount_fen
GROUP BY top_up.id
HAVING count(transfer.id) <> (CASE WHEN top_up.credited_at IS NULL THEN 0 ELSE 1 END)
    OR (top_up.status IN ('paid', 'refunding', 'refunded')) <> (top_up.credited_at IS NOT NULL)
LIMIT 1000
"""
CREDITS = """
SELECT 'payment ' || credit.platform || ':' || credit.transaction_id AS subject,
       credit.amount_fen, coalesce(sum(transfer.amount_fen), 0)::bigint AS posted_fen
FROM payment_credit credit
LEFT JOIN ledger_transfer transfer ON transfer.transaction_id = credit.ledger_transaction_id
GROUP BY credit.id HAVING credit.amount_fen <> coalesce(sum(transfer.amount_fen), 0) LIMIT 1000
"""
CHARGES = """
SELECT 'statement of tenancy ' || statement.tenancy_id || ' day ' || statement.day AS subject,
       statement.amount_fen, coalesce(transfer.amount_fen, 0) AS posted_fen
FROM statement
LEFT JOIN ledger_transfer transfer ON transfer.transaction_id = statement.ledger_transaction_id
WHERE statement.version = 1 AND statement.amount_fen <> coalesce(transfer.amount_fen, 0) LIMIT 1000
"""
# In the order of the primary key, from behind the last one seen.
STATEMENTS = """
SELECT site_id, tenancy_id, day, version, energy_wh, amount_fen, document FROM statement
WHERE (tenancy_id, day, version) > ($1::bigint, $2::date, $3::integer)
  AND version = (SELECT max(version) FROM statement newest WHERE newest.site_id = statement.site_id
                 AND newest.tenancy_id = statement.tenancy_id AND newest.day = statement.day)
ORDER BY tenancy_id, day, version LIMIT $4
"""
READINGS = """
SELECT wanted.number, reading.read_at, reading.register_wh
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
    AS wanted (number, site_id, meter_id, first_at, last_at)
JOIN reading ON reading.site_id = wanted.site_id AND reading.meter_id = wanted.meter_id
    AND reading.verdict = 'trusted'
    AND reading.read_at BETWEEN wanted.first_at AND wanted.last_at
"""
TARIFFS = "SELECT site_id, code, valid_from, definition FROM tariff_version"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that does not agree."""

    rule: str
    subject: str
    detail: str


@dataclass(slots=True)
class AuditReport:
    """What was looked at, and what does not agree."""

    checked: dict[str, int] = field(default_factory=dict)
    awaiting_correction: int = 0
    violations: list[Violation] = field(default_factory=list)
    violation_count: int = 0

    @property
    def passed(self) -> bool:
        """Whether the books are proved."""
        return self.violation_count == 0

    def blame(self, rule: str, subject: str, detail: str) -> None:
        """Name a violation; beyond a thousand they are only counted."""
        self.violation_count += 1
        if len(self.violations) < NAMED_MAX:
            self.violations.append(Violation(rule, subject, detail))


Progress = Callable[[str], None]


async def audit(progress: Progress) -> AuditReport:
    """Prove everything; the report names each violation."""
    report = AuditReport()
    counts = (await rows(pool(), COUNTS))[0]
    report.checked.update(counts)
    progress(f"{counts['transfers']} transfers of {counts['transactions']} transactions")
    await _audit_transfers(report)
    progress(f"{counts['wallets']} wallets against the replay of the journal")
    await _audit_wallets(report)
    progress(f"{counts['top_ups']} top-ups and their credits")
    await _audit_payments(report)
    await _audit_statements(report, progress)
    return report


async def _audit_transfers(report: AuditReport) -> None:
    for one in await rows(pool(), EMPTY):
        report.blame("transfer_balanced", one["subject"], "has no transfer")
    for one in await rows(pool(), FOREIGN):
        report.blame("transfer_balanced", one["subject"], "joins accounts of another site")
    for one in await rows(pool(), ROUTES):
        debit, credit = AccountKind(one["debit"]), AccountKind(one["credit"])
        if not is_allowed(one["flow"], debit, credit):
            detail = f"{one['flow']} may not debit {debit.value} and credit {credit.value}"
            report.blame("transfer_balanced", f"transfer {one['example']}", detail)


async def _audit_wallets(report: AuditReport) -> None:
    for one in await rows(pool(), REPLAY):
        detail = f"shows {one['balance_fen']} fen, the journal gives {one['replayed_fen']}"
        report.blame("account_replay", one["subject"], detail)


async def _audit_payments(report: AuditReport) -> None:
    for one in await rows(pool(), TOP_UPS):
        detail = f"is {one['status']} with {one['credits']} credits of its amount"
        report.blame("credited_once", one["subject"], detail)
    for one in await rows(pool(), CREDITS):
        detail = f"brought {one['amount_fen']} fen, {one['posted_fen']} were posted"
        report.blame("credited_once", one["subject"], detail)


async def _audit_statements(report: AuditReport, progress: Progress) -> None:
    for one in await rows(pool(), CHARGES):
        detail = f"says {one['amount_fen']} fen, {one['posted_fen']} were posted"
        report.blame("statement_posted", one["subject"], detail)
    versions = await _tariff_versions()
    done = 0
    async for batch in _statements():
        await _audit_batch(report, batch, versions)
        done += len(batch)
        progress(f"{done} statements rated afresh")
    report.checked["statements"] = done


async def _tariff_versions() -> dict[tuple[int, str, date], TariffVersion]:
    return {
        (one["site_id"], one["code"], one["valid_from"]): parse_tariff(from_json(one["definition"]))
        for one in await rows(pool(), TARIFFS)
    }


async def _statements() -> AsyncIterator[Sequence[Row]]:
    last: tuple[int, date, int] = (0, date.min, 0)
    while True:
        batch = await rows(pool(), STATEMENTS, *last, BATCH)
        if not batch:
            return
        yield batch
        end = batch[-1]
        last = (end["tenancy_id"], end["day"], end["version"])


async def _audit_batch(
    report: AuditReport,
    batch: Sequence[Row],
    versions: Mapping[tuple[int, str, date], TariffVersion],
) -> None:
    """Rate each statement of a batch from the readings that it names."""
    kept: list[tuple[Row, dict[str, object], StatementInputs]] = []
    for one in batch:
        document = from_json(one["document"])
        try:
            kept.append((one, document, read_inputs(document)))
        except InvalidInputError as error:
            report.blame("statement_rated", _subject(one), error.detail)
    readings = await _readings([(one["site_id"], inputs) for one, _, inputs in kept])
    for (one, document, inputs), paths in zip(kept, readings, strict=True):
        version = versions.get((one["site_id"], inputs.tariff_code, inputs.tariff_valid_from))
        if version is None:
            report.blame("statement_rated", _subject(one), "names a tariff version that is gone")
            continue
        if any(
            len(path) != meter.reading_count
            for path, meter in zip(paths, inputs.meters, strict=True)
        ):
            report.awaiting_correction += 1
            continue
        fresh = _rate(document, inputs, paths, version)
        different = list(document_differences(document, fresh))
        for name in ("energy_wh", "amount_fen"):
            if one[name] != fresh[name] and name not in different:
                different.append(name)
        if different:
            report.blame("statement_rated", _subject(one), f"differs in {', '.join(different)}")


def _subject(one: Row) -> str:
    return f"statement of tenancy {one['tenancy_id']} day {one['day']} version {one['version']}"


Paths = list[list[tuple[datetime, int]]]


async def _readings(wanted: Sequence[tuple[int, StatementInputs]]) -> list[Paths]:
    """For each statement, for each of its meters, the trusted readings it was made from."""
    paths: list[Paths] = [[[] for _ in inputs.meters] for _, inputs in wanted]
    flat: list[list[tuple[datetime, int]]] = []
    asked: list[tuple[int, int, int, datetime, datetime]] = []
    for (site_id, inputs), mine in zip(wanted, paths, strict=True):
        for meter, path in zip(inputs.meters, mine, strict=True):
            if meter.first_read_at is not None and meter.last_read_at is not None:
                number = len(flat)
                flat.append(path)
                asked.append(
                    (number, site_id, meter.meter_id, meter.first_read_at, meter.last_read_at)
                )
    columns = [list(column) for column in zip(*asked, strict=True)] if asked else [[]] * 5
    for one in await rows(pool(), READINGS, *columns):
        flat[one["number"]].append((one["read_at"], one["register_wh"]))
    return paths


def _rate(
    document: Mapping[str, object],
    inputs: StatementInputs,
    paths: Paths,
    version: TariffVersion,
) -> dict[str, object]:
    fresh = settle_day(
        inputs.day,
        ZoneInfo(str(document["timezone"])),
        [
            path_from_rows(
                meter.meter_id,
                meter.meter_code,
                meter.transformer_ratio,
                meter.rollover_wh,
                path,
            )
            for meter, path in zip(inputs.meters, paths, strict=True)
        ],
        version,
        chinese_holidays(),
        block_start_wh=inputs.block_start_wh,
        gap_s=inputs.gap_s,
        opened_at=inputs.opened_at,
        closed_at=inputs.closed_at,
    )
    return statement_document(fresh, version)
