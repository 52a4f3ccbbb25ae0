"""Money that went back: each part posted once as it ended, and what is on its way or waits.

Refunds are few beside payments: all of them are looked at, whatever days were asked for.
"""

from server.core.ledger.flows import SOURCES
from server.models.database import Connection, row, rows
from server.services.audit_report import AuditReport, Progress
from server.services.audit_window import Window

RULE = "refund"

COUNT = "SELECT count(*) AS refunds FROM refund"
# What came back after it was done is a refund of its own (`returned:` and the part's number), that
# begins with what came back instead of with a wallet.
# $1, $2: where the money of each way out is. A part that was done has one posting out of what is
# in progress (or in suspense), one that failed has one back, and no part has another.
PARTS = """
SELECT 'refund part ' || part.out_refund_no AS subject, part.state, part.amount_fen,
    coalesce(out.fen, 0)::text AS out_fen, coalesce(back.fen, 0)::text AS back_fen
FROM refund_part part JOIN refund ON refund.id = part.refund_id
LEFT JOIN unnest($1::text[], $2::text[]) AS source (way, kind)
    ON source.way = coalesce(part.platform, part.method)
LEFT JOIN LATERAL (
    SELECT sum(CASE WHEN debit.kind = CASE WHEN refund.wallet IS NULL THEN 'suspense'
        ELSE 'refunds_in_progress' END AND credit.kind = source.kind
        THEN transfer.amount_fen ELSE 0 END) AS fen
    FROM ledger_transaction posted JOIN ledger_transfer transfer
        ON transfer.transaction_id = posted.id
    JOIN account debit ON debit.id = transfer.debit_account_id
    JOIN account credit ON credit.id = transfer.credit_account_id
    WHERE posted.site_id = part.site_id
      AND posted.idempotency_key = 'refund-part:' || part.out_refund_no || ':done'
) out ON true
LEFT JOIN LATERAL (
    SELECT sum(CASE WHEN credit.kind = refund.wallet AND credit.tenancy_id = refund.tenancy_id
        AND debit.kind = 'refunds_in_progress' THEN transfer.amount_fen ELSE 0 END) AS fen
    FROM ledger_transaction posted JOIN ledger_transfer transfer
        ON transfer.transaction_id = posted.id
    JOIN account debit ON debit.id = transfer.debit_account_id
    JOIN account credit ON credit.id = transfer.credit_account_id
    WHERE posted.site_id = part.site_id
      AND posted.idempotency_key = 'refund-part:' || part.out_refund_no || ':back'
) back ON true
WHERE coalesce(out.fen, 0) <> CASE WHEN part.state = 'done' THEN part.amount_fen ELSE 0 END
   OR coalesce(back.fen, 0) <> CASE WHEN part.state = 'failed' AND refund.wallet IS NOT NULL
        THEN part.amount_fen ELSE 0 END
ORDER BY part.id LIMIT 1000
"""
REFUNDS = """
SELECT 'refund ' || refund.no AS subject, refund.status, refund.amount_fen,
    coalesce(started.fen, 0)::text AS started_fen, coalesce(parts.fen, 0)::text AS parts_fen
FROM refund
LEFT JOIN LATERAL (
    SELECT sum(transfer.amount_fen) AS fen FROM ledger_transaction posted
    JOIN ledger_transfer transfer ON transfer.transaction_id = posted.id
    JOIN account debit ON debit.id = transfer.debit_account_id
    WHERE posted.site_id = refund.site_id AND posted.idempotency_key = 'refund:' || refund.no
      AND (posted.flow = 'refund.started' AND debit.kind = refund.wallet
            AND debit.tenancy_id = refund.tenancy_id
        OR posted.flow = 'refund.returned' AND EXISTS (SELECT 1 FROM refund_part part
            JOIN refund own ON own.id = part.refund_id AND own.wallet = refund.wallet
                AND own.tenancy_id = refund.tenancy_id
            WHERE refund.idempotency_key = 'returned:' || part.out_refund_no
              AND part.state = 'done' AND part.amount_fen = refund.amount_fen
              AND debit.kind = part.platform || '_clearing'))
) started ON true
LEFT JOIN LATERAL (
    SELECT sum(part.amount_fen) FILTER (WHERE part.state <> 'replaced') AS fen,
        sum(part.amount_fen) FILTER (WHERE part.state = 'done') AS done_fen,
        sum(part.amount_fen) FILTER (WHERE part.state = 'failed') AS failed_fen,
        bool_or(part.finished_at IS NULL) AS under_way
    FROM refund_part part WHERE part.refund_id = refund.id
) parts ON true
WHERE coalesce(started.fen, 0) <> CASE WHEN refund.started_at IS NOT NULL
        AND refund.wallet IS NOT NULL THEN refund.amount_fen ELSE 0 END
   OR coalesce(parts.fen, 0) <> CASE WHEN refund.started_at IS NOT NULL
        THEN refund.amount_fen ELSE 0 END
   OR refund.started_at IS NOT NULL AND refund.status <> CASE WHEN parts.under_way
        THEN 'in_progress' WHEN parts.failed_fen IS NULL THEN 'done'
        WHEN parts.done_fen IS NULL THEN 'failed' ELSE 'partly' END
   OR refund.started_at IS NULL AND refund.status NOT IN ('waiting', 'rejected', 'expired')
ORDER BY refund.id LIMIT 1000
"""
PAYMENTS = """
SELECT 'payment ' || credit.platform || ':' || credit.transaction_id AS subject,
    credit.amount_fen, sum(part.amount_fen)::text AS taken_fen
FROM payment_credit credit JOIN refund_part part ON part.credit_id = credit.id
WHERE part.state NOT IN ('failed', 'replaced') GROUP BY credit.id
HAVING sum(part.amount_fen) > credit.amount_fen ORDER BY credit.id LIMIT 1000
"""
TOP_UPS = """
WITH given_back AS (
    SELECT placed.top_up_id, bool_or(part.finished_at IS NULL) AS under_way,
        sum(part.amount_fen) FILTER (WHERE part.state = 'done') AS fen
    FROM refund_part part JOIN refund ON refund.id = part.refund_id AND refund.wallet IS NOT NULL
    JOIN payment_credit credit ON credit.id = part.credit_id
    JOIN ledger_transaction posted ON posted.id = credit.ledger_transaction_id
        AND posted.flow = 'top_up.settled'
    JOIN payment_order placed ON placed.id = credit.order_id GROUP BY placed.top_up_id
)
SELECT 'top-up ' || top_up.no AS subject, top_up.status, top_up.refunded_fen,
    coalesce(given_back.fen, 0)::text AS fen
FROM top_up LEFT JOIN given_back ON given_back.top_up_id = top_up.id
WHERE (top_up.refunded_fen <> 0 OR top_up.status IN ('refunding', 'refunded')
        OR given_back.top_up_id IS NOT NULL)
  AND (top_up.refunded_fen <> coalesce(given_back.fen, 0)
    OR top_up.status <> CASE WHEN given_back.under_way THEN 'refunding'
        WHEN coalesce(given_back.fen, 0) >= top_up.amount_fen THEN 'refunded' ELSE 'paid' END)
ORDER BY top_up.id LIMIT 1000
"""
UNASKED = """
SELECT 'transaction ' || posted.id AS subject, posted.flow FROM ledger_transaction posted
WHERE posted.id BETWEEN $1 AND $2
  AND posted.flow IN ('refund.started', 'refund.returned', 'refund.done', 'refund.failed',
    'suspense.refunded')
  AND NOT EXISTS (SELECT 1 FROM refund WHERE refund.site_id = posted.site_id
    AND posted.flow IN ('refund.started', 'refund.returned')
    AND posted.idempotency_key = 'refund:' || refund.no)
  AND NOT EXISTS (SELECT 1 FROM refund_part part WHERE part.site_id = posted.site_id
    AND posted.idempotency_key = 'refund-part:' || part.out_refund_no || CASE
        WHEN posted.flow = 'refund.failed' THEN ':back' ELSE ':done' END)
ORDER BY posted.id LIMIT 1000
"""
# What the books hold back is what is on its way, and what is in suspense is what open cases hold.
HELD = """
SELECT account.kind, site.code, coalesce(sum(CASE WHEN transfer.credit_account_id = account.id
        THEN transfer.amount_fen ELSE -transfer.amount_fen END), 0)::text AS held_fen,
    CASE account.kind WHEN 'suspense' THEN
        coalesce((SELECT sum(credit.amount_fen) FROM payment_case waiting
            JOIN payment_credit credit ON credit.id = waiting.credit_id
            WHERE waiting.site_id = site.id AND waiting.closed_at IS NULL), 0)
    ELSE coalesce((SELECT sum(part.amount_fen) FROM refund_part part
            JOIN refund ON refund.id = part.refund_id AND refund.wallet IS NOT NULL
            WHERE part.site_id = site.id AND part.finished_at IS NULL), 0) END::text AS known_fen
FROM account JOIN site ON site.id = account.site_id
LEFT JOIN LATERAL (
    SELECT credit_account_id, amount_fen FROM ledger_transfer
    WHERE credit_account_id = account.id
    UNION ALL
    SELECT credit_account_id, amount_fen FROM ledger_transfer
    WHERE debit_account_id = account.id
) transfer ON true
WHERE account.kind IN ('suspense', 'refunds_in_progress')
GROUP BY account.id, site.id ORDER BY account.id
"""


async def audit_refunds(
    connection: Connection, window: Window, report: AuditReport, progress: Progress
) -> None:
    """Refunds, their parts and cases against the journal, both ways."""
    count = await row(connection, COUNT) or {}
    report.checked |= count
    progress(f"{count['refunds']} refunds")
    sources = list(SOURCES), [account.kind.value for account in SOURCES.values()]
    for one in await rows(connection, PARTS, *sources):
        detail = (
            f"is {one['state']} with {one['amount_fen']} fen: {one['out_fen']} were posted out,"
            f" {one['back_fen']} back"
        )
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, REFUNDS):
        detail = (
            f"is {one['status']} with {one['amount_fen']} fen: {one['started_fen']} left its"
            f" wallet, its parts have {one['parts_fen']}"
        )
        report.blame(RULE, one["subject"], detail)
    await _audit_what_is_held(connection, window, report)


async def _audit_what_is_held(connection: Connection, window: Window, report: AuditReport) -> None:
    for one in await rows(connection, PAYMENTS):
        detail = f"brought {one['amount_fen']} fen, {one['taken_fen']} go back"
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, TOP_UPS):
        detail = (
            f"is {one['status']} with {one['refunded_fen']} fen back, its parts say {one['fen']}"
        )
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, UNASKED, *window.ids):
        report.blame(RULE, one["subject"], f"is a {one['flow']} that nobody asked for")
    for one in await rows(connection, HELD):
        if one["held_fen"] != one["known_fen"]:
            detail = f"holds {one['held_fen']} fen, {one['known_fen']} are known of"
            report.blame(RULE, f"{one['kind']} of {one['code']}", detail)
