"""Money taken at the desk: a receipt for each posting, a posting for each receipt."""

from server.core.ledger.flows import SOURCES
from server.models.database import Connection, row, rows
from server.services.audit_report import AuditReport, Progress
from server.services.audit_window import Window
from server.services.desk import METHODS

RULE = "desk_receipt"

COUNT = """
SELECT count(*) AS desk_receipts FROM desk_receipt WHERE ledger_transaction_id BETWEEN $1 AND $2
"""
# $3, $4: where the money of each method is.
RECEIPTS = """
SELECT 'receipt ' || receipt.receipt_no AS subject, receipt.amount_fen,
       coalesce(sum(transfer.amount_fen), 0)::text AS posted_fen
FROM desk_receipt receipt
LEFT JOIN ledger_transaction posted ON posted.id = receipt.ledger_transaction_id
    AND posted.site_id = receipt.site_id AND posted.flow = 'desk_payment.received'
    AND posted.details ->> 'receipt_no' = receipt.receipt_no
LEFT JOIN account wallet ON wallet.site_id = receipt.site_id AND wallet.kind = receipt.wallet
    AND coalesce(wallet.tenancy_id, 0) = receipt.tenancy_id
LEFT JOIN unnest($3::text[], $4::text[]) AS source (method, kind)
    ON source.method = receipt.method
LEFT JOIN account till ON till.site_id = receipt.site_id AND till.kind = source.kind
    AND coalesce(till.tenancy_id, 0) = 0
LEFT JOIN ledger_transfer transfer ON transfer.transaction_id = posted.id
    AND transfer.debit_account_id = till.id AND transfer.credit_account_id = wallet.id
WHERE receipt.ledger_transaction_id BETWEEN $1 AND $2
GROUP BY receipt.id HAVING receipt.amount_fen <> coalesce(sum(transfer.amount_fen), 0)
ORDER BY receipt.id LIMIT 1000
"""
UNRECEIPTED = """
SELECT 'transaction ' || posted.id AS subject, count(receipt.id) AS receipts
FROM ledger_transaction posted
LEFT JOIN desk_receipt receipt ON receipt.ledger_transaction_id = posted.id
WHERE posted.id BETWEEN $1 AND $2 AND posted.flow = 'desk_payment.received'
GROUP BY posted.id HAVING count(receipt.id) <> 1 ORDER BY posted.id LIMIT 1000
"""
# Its key makes a reversal one a receipt; it gives back what the receipt says, from its wallet.
REVERSED = """
SELECT 'transaction ' || posted.id AS subject, posted.details ->> 'receipt_no' AS receipt_no
FROM ledger_transaction posted
LEFT JOIN desk_receipt receipt ON receipt.site_id = posted.site_id
    AND posted.idempotency_key = 'desk-reversal:' || receipt.receipt_no
    AND posted.details ->> 'receipt_no' = receipt.receipt_no
LEFT JOIN account wallet ON wallet.site_id = receipt.site_id AND wallet.kind = receipt.wallet
    AND coalesce(wallet.tenancy_id, 0) = receipt.tenancy_id
LEFT JOIN ledger_transfer transfer ON transfer.transaction_id = posted.id
    AND transfer.debit_account_id = wallet.id AND transfer.amount_fen = receipt.amount_fen
WHERE posted.id BETWEEN $1 AND $2 AND posted.flow = 'desk_payment.reversed'
  AND transfer.id IS NULL
ORDER BY posted.id LIMIT 1000
"""


async def audit_desk(
    connection: Connection, window: Window, report: AuditReport, progress: Progress
) -> None:
    """Receipts and what was posted for them, both ways, and what was taken back."""
    count = await row(connection, COUNT, *window.ids) or {}
    report.checked |= count
    progress(f"{count['desk_receipts']} receipts of the desk")
    sources = list(METHODS), [SOURCES[method].kind.value for method in METHODS]
    for one in await rows(connection, RECEIPTS, *window.ids, *sources):
        detail = f"says {one['amount_fen']} fen, {one['posted_fen']} were posted as it says"
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, UNRECEIPTED, *window.ids):
        report.blame(RULE, one["subject"], f"is a desk payment of {one['receipts']} receipts")
    for one in await rows(connection, REVERSED, *window.ids):
        detail = f"takes back what no receipt {one['receipt_no']} says"
        report.blame(RULE, one["subject"], detail)
