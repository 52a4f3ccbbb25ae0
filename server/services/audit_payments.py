"""Money that came in: every paid top-up credited exactly once, and nothing credited unpaid."""

from server.models.database import Connection, row, rows
from server.services.audit_report import AuditReport, Progress
from server.services.audit_window import Window

RULE = "credited_once"

# A paid top-up has exactly one credit of its amount in its wallet; a credit has its transaction,
# a transaction that brings a payment in has its payment, and what was told as credited was.
# $1..$2: ids of the journal, $3..$4: times. A window's top-ups: ordered in it, or credited in it.
COUNTS = """
SELECT (SELECT count(*) FROM top_up WHERE created_at >= $3 AND created_at < $4) AS top_ups,
       (SELECT count(*) FROM payment_credit WHERE ledger_transaction_id BETWEEN $1 AND $2)
           AS payments
"""
TOP_UPS = """
WITH asked AS (
    SELECT id FROM top_up WHERE created_at >= $3 AND created_at < $4
    UNION ALL
    SELECT DISTINCT top_up.id FROM payment_credit
    JOIN payment_order ON payment_order.id = payment_credit.order_id
    JOIN top_up ON top_up.id = payment_order.top_up_id
    WHERE payment_credit.ledger_transaction_id BETWEEN $1 AND $2
      AND (top_up.created_at < $3 OR top_up.created_at >= $4)
)
SELECT 'top-up ' || top_up.no AS subject, top_up.status, count(transfer.id) AS credits
FROM asked JOIN top_up ON top_up.id = asked.id
LEFT JOIN payment_order ON payment_order.top_up_id = top_up.id
LEFT JOIN payment_credit ON payment_credit.order_id = payment_order.id
LEFT JOIN ledger_transaction posted ON posted.id = payment_credit.ledger_transaction_id
    AND posted.flow = 'top_up.settled'
LEFT JOIN account ON account.site_id = posted.site_id AND account.kind = top_up.wallet
    AND coalesce(account.tenancy_id, 0) = top_up.tenancy_id
LEFT JOIN ledger_transfer transfer ON transfer.transaction_id = posted.id
    AND transfer.credit_account_id = account.id AND transfer.amount_fen = top_up.amount_fen
GROUP BY top_up.id
HAVING count(transfer.id) <> (CASE WHEN top_up.credited_at IS NULL THEN 0 ELSE 1 END)
    OR (top_up.status IN ('paid', 'refunding', 'refunded')) <> (top_up.credited_at IS NOT NULL)
ORDER BY top_up.id LIMIT 1000
"""
CREDITS = """
SELECT 'payment ' || credit.platform || ':' || credit.transaction_id AS subject,
       credit.amount_fen, coalesce(sum(transfer.amount_fen), 0)::text AS posted_fen
FROM payment_credit credit
LEFT JOIN ledger_transaction posted ON posted.id = credit.ledger_transaction_id
    AND posted.flow IN ('top_up.settled', 'suspense.received')
LEFT JOIN ledger_transfer transfer ON transfer.transaction_id = posted.id
WHERE credit.ledger_transaction_id BETWEEN $1 AND $2
GROUP BY credit.id HAVING credit.amount_fen <> coalesce(sum(transfer.amount_fen), 0)
ORDER BY credit.id LIMIT 1000
"""
UNPAID = """
SELECT 'transaction ' || posted.id AS subject, posted.flow, count(credit.id) AS payments
FROM ledger_transaction posted
LEFT JOIN payment_credit credit ON credit.ledger_transaction_id = posted.id
WHERE posted.id BETWEEN $1 AND $2 AND posted.flow IN ('top_up.settled', 'suspense.received')
GROUP BY posted.id HAVING count(credit.id) <> 1 ORDER BY posted.id LIMIT 1000
"""
NOTICES = """
SELECT 'notice ' || notice.id AS subject FROM payment_notice notice
WHERE notice.received_at >= $1 AND notice.received_at < $2
  AND notice.outcome = 'credited' AND NOT EXISTS (
    SELECT 1 FROM payment_credit credit WHERE credit.platform = notice.platform
      AND credit.merchant_id = notice.merchant_id
      AND credit.transaction_id = notice.trade ->> 'transaction_id')
ORDER BY notice.id LIMIT 1000
"""


async def audit_payments(
    connection: Connection, window: Window, report: AuditReport, progress: Progress
) -> None:
    """Top-ups, payments and notices against the journal, both ways."""
    counts = await row(connection, COUNTS, *window.ids, *window.times) or {}
    report.checked |= counts
    progress(f"{counts['top_ups']} top-ups and {counts['payments']} payments")
    for one in await rows(connection, TOP_UPS, *window.ids, *window.times):
        detail = f"is {one['status']} with {one['credits']} credits of its amount in its wallet"
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, CREDITS, *window.ids):
        detail = f"brought {one['amount_fen']} fen, {one['posted_fen']} were posted"
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, UNPAID, *window.ids):
        detail = f"is a {one['flow']} of {one['payments']} payments"
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, NOTICES, *window.times):
        report.blame(RULE, one["subject"], "was credited, and its payment is not there")
