"""Money that came in: every paid top-up credited exactly once, and nothing credited unpaid."""

from server.models.database import Connection, rows
from server.services.audit_report import AuditReport, Progress
from server.services.audit_window import Window

RULE = "credited_once"

# A paid top-up has exactly one credit of its amount in its wallet; a credit has its transaction,
# a transaction that brings a payment in has its payment, and what was told as credited was.
# $1..$2: ids of the journal, $3..$4: times. A window's top-ups: ordered in it, or credited in it.
TOP_UPS = """
WITH asked AS (
    SELECT id FROM top_up WHERE created_at >= $3 AND created_at < $4
    UNION ALL
    SELECT DISTINCT top_up.id FROM payment_credit
    JOIN payment_order ON payment_order.id = payment_credit.order_id
    JOIN top_up ON top_up.id = payment_order.top_up_id
    WHERE payment_credit.ledger_transaction_id BETWEEN $1 AND $2
      AND (top_up.created_at < $3 OR top_up.created_at >= $4)
), judged AS (
    SELECT top_up.id, top_up.no, top_up.status, top_up.credited_at, count(transfer.id) AS credits
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
), counted AS (
    SELECT count(*) AS top_ups FROM judged
)
SELECT counted.top_ups, 'top-up ' || judged.no AS subject, judged.status, judged.credits
FROM counted LEFT JOIN (
    SELECT * FROM judged
    WHERE credits <> (CASE WHEN credited_at IS NULL THEN 0 ELSE 1 END)
       OR (status IN ('paid', 'refunding', 'refunded')) <> (credited_at IS NOT NULL)
    ORDER BY id LIMIT 1000
) AS judged ON true
"""
CREDITS = """
WITH judged AS (
    SELECT credit.id, credit.platform, credit.transaction_id, credit.amount_fen,
        coalesce(sum(transfer.amount_fen), 0) AS posted_fen
    FROM payment_credit credit
    LEFT JOIN ledger_transaction posted ON posted.id = credit.ledger_transaction_id
        AND posted.flow IN ('top_up.settled', 'suspense.received')
    LEFT JOIN ledger_transfer transfer ON transfer.transaction_id = posted.id
    WHERE credit.ledger_transaction_id BETWEEN $1 AND $2
    GROUP BY credit.id
), counted AS (
    SELECT count(*) AS payments FROM judged
)
SELECT counted.payments, 'payment ' || judged.platform || ':' || judged.transaction_id AS subject,
       judged.amount_fen, judged.posted_fen::text
FROM counted LEFT JOIN (
    SELECT * FROM judged WHERE amount_fen <> posted_fen ORDER BY id LIMIT 1000
) AS judged ON true
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
    progress("top-ups and payments against the journal")
    for one in await rows(connection, TOP_UPS, *window.ids, *window.times):
        report.checked["top_ups"] = one["top_ups"]
        if one["subject"] is not None:
            detail = f"is {one['status']} with {one['credits']} credits of its amount in its wallet"
            report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, CREDITS, *window.ids):
        report.checked["payments"] = one["payments"]
        if one["subject"] is not None:
            detail = f"brought {one['amount_fen']} fen, {one['posted_fen']} were posted"
            report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, UNPAID, *window.ids):
        detail = f"is a {one['flow']} of {one['payments']} payments"
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, NOTICES, *window.times):
        report.blame(RULE, one["subject"], "was credited, and its payment is not there")
