"""Refunds, payouts by hand and credited cases: each was somebody's act, and done once as it says.

That the journal has what a refund and its parts say is `audit_refunds`'s. Refunds are few beside
payments: all of them are looked at, whatever days were asked for.
"""

from server.models.database import Connection, row, rows
from server.services.audit_report import AuditReport, Progress
from server.services.audit_window import Window
from server.services.case_decisions import CASE_CREDIT
from server.services.refund_payouts import PAYOUT
from server.services.refunds import REFUND
from server.services.wallets import WALLETS

RULE = "refund_act"
KINDS = (REFUND, PAYOUT, CASE_CREDIT)

COUNT = """
SELECT (SELECT count(*) FROM approval WHERE decision = 'approve' AND kind = ANY($1::text[]))
    + (SELECT count(*) FROM manager_act WHERE act = ANY($1::text[])) AS refund_acts
"""
# What was done, as the act must have said it; what a case credits is read from its posting. A
# refund with another key and no approval is a case's (OF_NO_CASE). What was said is the log's word,
# or an approval together with the log's word that it was approved.
_WITH = """
WITH wallets AS (
    SELECT * FROM unnest($1::text[], $2::text[]) AS wallets (name, kind)
), done AS (
    SELECT 'refund ' || refund.no AS subject, 'refund' AS kind, refund.site_id,
        refund.asked_by AS by, coalesce(refund.approval_no, '') AS approval_no,
        jsonb_build_object('key', refund.idempotency_key, 'tenancy_id', refund.tenancy_id,
            'wallet', wallets.name, 'amount_fen', refund.amount_fen, 'reason', refund.reason
        ) AS facts
    FROM refund LEFT JOIN wallets ON wallets.kind = refund.wallet
    WHERE refund.started_at IS NOT NULL
      AND (refund.idempotency_key LIKE 'refund:%' OR refund.approval_no IS NOT NULL)
    UNION ALL
    SELECT 'refund part ' || part.out_refund_no, 'refund_payout', part.site_id, part.paid_by, NULL,
        jsonb_build_object('key', 'refund-payout:' || part.out_refund_no || ':' || part.method
                || ':' || part.reference,
            'refund_no', refund.no, 'out_refund_no', part.out_refund_no, 'method', part.method,
            'reference', part.reference, 'amount_fen', part.amount_fen, 'reason', refund.reason)
    FROM refund_part part JOIN refund ON refund.id = part.refund_id
    WHERE part.credit_id IS NULL AND part.state = 'done'
    UNION ALL
    SELECT 'case ' || decided.id, 'case_credit', decided.site_id, decided.decided_by, NULL,
        jsonb_build_object('key', 'case:' || decided.id, 'case_id', decided.id,
            'tenancy_id', put.tenancy_id, 'wallet', put.wallet, 'amount_fen', put.fen,
            'reason', CASE WHEN put.reason = decided.reason THEN put.reason END)
    FROM payment_case decided LEFT JOIN LATERAL (
        SELECT credit.tenancy_id, wallets.name AS wallet, transfer.amount_fen AS fen,
            posted.details ->> 'reason' AS reason
        FROM ledger_transaction posted
        JOIN ledger_transfer transfer ON transfer.transaction_id = posted.id
        JOIN account debit ON debit.id = transfer.debit_account_id AND debit.kind = 'suspense'
        JOIN account credit ON credit.id = transfer.credit_account_id
        JOIN wallets ON wallets.kind = credit.kind
        WHERE posted.site_id = decided.site_id AND posted.flow = 'suspense.credited'
          AND posted.idempotency_key = 'case:' || decided.id || ':credited'
    ) put ON true
    WHERE decided.decision = 'credit'
), said AS (
    SELECT 'act ' || id AS subject, act AS kind, site_id, actor AS by, '' AS approval_no, facts
    FROM manager_act WHERE act = ANY($3::text[])
    UNION ALL
    SELECT 'approval ' || approval.no, approval.kind, approval.site_id,
        log.facts ->> 'asked_by', approval.no, approval.act
    FROM approval LEFT JOIN manager_act log
        ON log.site_id = approval.site_id AND log.act = 'approval_approved'
        AND log.facts ->> 'approval_no' = approval.no AND log.facts @> approval.act
    WHERE approval.decision = 'approve' AND approval.kind = ANY($3::text[])
)
"""
# `approval_no` is NULL where what was done does not keep it; its key names it all the same.
_SAME = """
    said.kind = done.kind AND said.site_id = done.site_id AND said.by = done.by
    AND said.facts ->> 'key' = done.facts ->> 'key' AND said.facts @> done.facts
    AND said.approval_no = coalesce(done.approval_no, said.approval_no)
"""
NOT_SAID = f"""{_WITH}
SELECT done.subject, done.facts ->> 'amount_fen' AS amount_fen, done.by,
    count(said.subject) AS acts
FROM done LEFT JOIN said ON {_SAME}
GROUP BY done.subject, done.facts, done.by HAVING count(said.subject) <> 1
ORDER BY done.subject LIMIT 1000
"""  # noqa: S608 - made of constants of this file
NOT_DONE = f"""{_WITH}
SELECT said.subject, said.kind, count(done.subject) AS times
FROM said LEFT JOIN done ON {_SAME}
GROUP BY said.subject, said.kind HAVING count(done.subject) <> 1
ORDER BY said.subject LIMIT 1000
"""  # noqa: S608 - made of constants of this file
# What a case's decision took from a wallet: what went back outside, or came back from a bank.
OF_NO_CASE = """
SELECT 'refund ' || refund.no AS subject FROM refund
WHERE refund.started_at IS NOT NULL AND refund.wallet IS NOT NULL
  AND refund.approval_no IS NULL AND refund.idempotency_key NOT LIKE 'refund:%'
  AND NOT EXISTS (
    SELECT 1 FROM payment_case decided JOIN manager_act said
        ON said.act = 'case_decided' AND said.facts ->> 'case_id' = decided.id::text
        AND said.facts ->> 'decision' = decided.decision
    WHERE said.actor = refund.asked_by AND said.reason = refund.reason
      AND refund.idempotency_key = CASE
        WHEN decided.decision = 'record' THEN 'outside:' || decided.id
        WHEN decided.kind = 'refund_returned' AND decided.decision IN ('by_hand', 'give_back')
            AND decided.site_id = refund.site_id THEN 'returned:' || decided.subject END)
ORDER BY refund.id LIMIT 1000
"""
UNASKED = """
SELECT 'transaction ' || posted.id AS subject FROM ledger_transaction posted
WHERE posted.id BETWEEN $1 AND $2 AND posted.flow = 'suspense.credited'
  AND NOT EXISTS (SELECT 1 FROM payment_case decided
    WHERE decided.site_id = posted.site_id AND decided.decision = 'credit'
      AND posted.idempotency_key = 'case:' || decided.id || ':credited')
ORDER BY posted.id LIMIT 1000
"""


async def audit_refund_acts(
    connection: Connection, window: Window, report: AuditReport, progress: Progress
) -> None:
    """What managers gave back, paid out and credited, against the log and approvals, both ways."""
    count = await row(connection, COUNT, list(KINDS)) or {}
    report.checked |= count
    progress(f"{count['refund_acts']} acts of giving back")
    wallets = list(WALLETS), [kind.value for kind in WALLETS.values()]
    for one in await rows(connection, NOT_SAID, *wallets, list(KINDS)):
        detail = f"{one['amount_fen']} fen by {one['by']}: that is what {one['acts']} acts say"
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, NOT_DONE, *wallets, list(KINDS)):
        detail = f"is a {one['kind']} that was done as it says {one['times']} times"
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, OF_NO_CASE):
        report.blame(RULE, one["subject"], "is what nobody asked for, and no case was decided so")
    for one in await rows(connection, UNASKED, *window.ids):
        report.blame(RULE, one["subject"], "credits what no case was decided to credit")
