"""Proving the books: what the journal, the wallets, the payments and the statements say agrees.

Sums are made in the database; statements are rated afresh in batches, so memory stays flat. Each
statement here sees one state of the books, so it may run beside everything else.
"""

from server.core.ledger.accounts import AccountKind
from server.core.ledger.routing import is_allowed
from server.models.database import pool, rows
from server.services.audit_days import audit_days
from server.services.audit_report import AuditReport, Progress

__all__ = ["AuditReport", "Progress", "audit"]

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
FROM account LEFT JOIN wallet ON wallet.account_id = account.id
LEFT JOIN (SELECT credit_account_id AS id, sum(amount_fen) AS fen FROM ledger_transfer
           GROUP BY credit_account_id) AS credited ON credited.id = account.id
LEFT JOIN (SELECT debit_account_id AS id, sum(amount_fen) AS fen FROM ledger_transfer
           GROUP BY debit_account_id) AS debited ON debited.id = account.id
WHERE account.tenancy_id IS NOT NULL
  AND wallet.balance_fen IS DISTINCT FROM coalesce(credited.fen, 0) - coalesce(debited.fen, 0)
LIMIT 1000
"""
# A paid top-up has exactly one credit of its amount in its wallet; a credit has its transaction,
# a transaction that brings a payment in has its payment, and what was told as credited was.
TOP_UPS = """
SELECT 'top-up ' || top_up.no AS subject, top_up.status, count(transfer.id) AS credits
FROM top_up
LEFT JOIN payment_order ON payment_order.top_up_id = top_up.id
LEFT JOIN payment_credit ON payment_credit.order_id = payment_order.id
LEFT JOIN ledger_transaction transaction ON transaction.id = payment_credit.ledger_transaction_id
    AND transaction.flow = 'top_up.settled'
LEFT JOIN account ON account.tenancy_id = top_up.tenancy_id AND account.kind = top_up.wallet
LEFT JOIN ledger_transfer transfer ON transfer.transaction_id = transaction.id
    AND transfer.credit_account_id = account.id AND transfer.amount_fen = top_up.amount_fen
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
PAYMENTS = """
SELECT 'transaction ' || transaction.id AS subject, transaction.flow, count(credit.id) AS payments
FROM ledger_transaction transaction
LEFT JOIN payment_credit credit ON credit.ledger_transaction_id = transaction.id
WHERE transaction.flow IN ('top_up.settled', 'suspense.received')
GROUP BY transaction.id HAVING count(credit.id) <> 1 LIMIT 1000
"""
NOTICES = """
SELECT 'notice ' || notice.id AS subject FROM payment_notice notice
WHERE notice.outcome = 'credited' AND NOT EXISTS (
    SELECT 1 FROM payment_credit credit WHERE credit.platform = notice.platform
      AND credit.merchant_id = notice.merchant_id
      AND credit.transaction_id = notice.trade ->> 'transaction_id') LIMIT 1000
"""
# Each version of a day was charged by the transaction that it names: the first one by a charge, a
# later one by a correction that gave the one before it back. One that costs the same as the one
# before it posted nothing, and names the same transaction.
CHARGES = """
WITH version AS (
    SELECT statement.*, lag(amount_fen, 1, 0::bigint) OVER days AS before_fen,
           lag(ledger_transaction_id) OVER days AS transaction_before
    FROM statement WINDOW days AS (PARTITION BY site_id, tenancy_id, day ORDER BY version)
), posted AS (
    SELECT version.*,
           CASE WHEN version = 1 THEN 'energy.charged' ELSE 'energy.corrected' END AS flow
    FROM version WHERE version = 1 OR amount_fen <> before_fen
)
SELECT 'statement of tenancy ' || posted.tenancy_id || ' day ' || posted.day || ' version '
           || posted.version AS subject, posted.amount_fen, posted.before_fen,
       coalesce(sum(transfer.amount_fen) FILTER (WHERE transfer.debit_account_id = account.id),
                0)::bigint AS charged_fen,
       coalesce(sum(transfer.amount_fen) FILTER (WHERE transfer.credit_account_id = account.id),
                0)::bigint AS given_back_fen
FROM posted
LEFT JOIN ledger_transaction transaction ON transaction.id = posted.ledger_transaction_id
    AND transaction.site_id = posted.site_id AND transaction.flow = posted.flow
LEFT JOIN account ON account.site_id = posted.site_id AND account.kind = 'electricity_wallet'
    AND coalesce(account.tenancy_id, 0) = posted.tenancy_id
LEFT JOIN ledger_transfer transfer ON transfer.transaction_id = transaction.id
GROUP BY posted.site_id, posted.tenancy_id, posted.day, posted.version, posted.amount_fen,
    posted.before_fen
HAVING posted.amount_fen <> coalesce(sum(transfer.amount_fen)
           FILTER (WHERE transfer.debit_account_id = account.id), 0)
    OR posted.before_fen <> coalesce(sum(transfer.amount_fen)
           FILTER (WHERE transfer.credit_account_id = account.id), 0)
UNION ALL
SELECT 'statement of tenancy ' || tenancy_id || ' day ' || day || ' version ' || version,
       amount_fen, before_fen, 0, 0
FROM version WHERE version > 1 AND amount_fen = before_fen
    AND ledger_transaction_id IS DISTINCT FROM transaction_before
LIMIT 1000
"""
CHARGED = """
SELECT 'transaction ' || transaction.id AS subject, transaction.flow,
       count(DISTINCT (statement.tenancy_id, statement.day)) AS days
FROM ledger_transaction transaction
LEFT JOIN statement ON statement.ledger_transaction_id = transaction.id
WHERE transaction.flow IN ('energy.charged', 'energy.corrected')
GROUP BY transaction.id HAVING count(DISTINCT (statement.tenancy_id, statement.day)) <> 1
LIMIT 1000
"""
# Days close in order, so that every day before the first open one has its statement.
DAYS = """
SELECT 'tenancy ' || tenancy.id AS subject, coalesce(closed.days, 0) AS days,
       tenancy.first_open_day - (tenancy.opened_at AT TIME ZONE site.timezone)::date AS wanted
FROM tenancy JOIN site ON site.id = tenancy.site_id
LEFT JOIN (SELECT tenancy_id, count(DISTINCT day) AS days FROM statement GROUP BY tenancy_id)
    AS closed ON closed.tenancy_id = tenancy.id
WHERE coalesce(closed.days, 0)
    <> tenancy.first_open_day - (tenancy.opened_at AT TIME ZONE site.timezone)::date LIMIT 1000
"""


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
        flow, debit, credit = one["flow"], one["debit"], one["credit"]
        known = {kind.value for kind in AccountKind} >= {debit, credit}
        if not known or not is_allowed(flow, AccountKind(debit), AccountKind(credit)):
            detail = f"{flow} may not debit {debit} and credit {credit}"
            report.blame("transfer_balanced", f"transfer {one['example']}", detail)


async def _audit_wallets(report: AuditReport) -> None:
    for one in await rows(pool(), REPLAY):
        detail = f"shows {one['balance_fen']} fen, the journal gives {one['replayed_fen']}"
        report.blame("account_replay", one["subject"], detail)


async def _audit_payments(report: AuditReport) -> None:
    for one in await rows(pool(), TOP_UPS):
        detail = f"is {one['status']} with {one['credits']} credits of its amount in its wallet"
        report.blame("credited_once", one["subject"], detail)
    for one in await rows(pool(), CREDITS):
        detail = f"brought {one['amount_fen']} fen, {one['posted_fen']} were posted"
        report.blame("credited_once", one["subject"], detail)
    for one in await rows(pool(), PAYMENTS):
        detail = f"is a {one['flow']} of {one['payments']} payments"
        report.blame("credited_once", one["subject"], detail)
    for one in await rows(pool(), NOTICES):
        report.blame("credited_once", one["subject"], "was credited, and its payment is not there")


async def _audit_statements(report: AuditReport, progress: Progress) -> None:
    for one in await rows(pool(), CHARGES):
        detail = (
            f"says {one['amount_fen']} fen after {one['before_fen']}: {one['charged_fen']} were "
            f"posted, and {one['given_back_fen']} given back"
        )
        report.blame("statement_posted", one["subject"], detail)
    for one in await rows(pool(), CHARGED):
        detail = f"is a {one['flow']} that statements of {one['days']} days name"
        report.blame("statement_posted", one["subject"], detail)
    for one in await rows(pool(), DAYS):
        detail = f"has statements of {one['days']} days where {one['wanted']} are closed"
        report.blame("statement_posted", one["subject"], detail)
    await audit_days(report, progress)
