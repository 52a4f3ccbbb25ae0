"""Money by hand: each posting is somebody's act, and what two people decided was done as decided.

Whether a manager was within the limit alone is not proved: limits of the past are not kept.
"""

from server.core.ledger.flows import SOURCES
from server.core.ledger.routing import FlowCode
from server.models.database import Connection, row, rows
from server.services.audit_report import AuditReport, Progress
from server.services.audit_window import Window
from server.services.desk import METHODS, OPERATOR
from server.services.money_by_hand import ADJUSTMENT, DESK_PAYMENT, DESK_REVERSAL
from server.services.move_out_money import PAYOUT, WRITE_OFF
from server.services.move_out_payments import DEBT_PAYMENT
from server.services.move_out_returns import PAYOUT_RETURN
from server.services.wallets import WALLETS

RULE = "by_hand"

# What each kind of act posts, and which way it moves the wallet by the amount that it names.
KINDS = (
    (ADJUSTMENT, FlowCode.ADJUSTMENT, 1),
    (WRITE_OFF, FlowCode.ADJUSTMENT, 1),
    (DESK_PAYMENT, FlowCode.DESK_PAYMENT, 1),
    (DESK_REVERSAL, FlowCode.DESK_PAYMENT_REVERSED, -1),
    (DEBT_PAYMENT, FlowCode.DESK_PAYMENT, 1),
    (PAYOUT, FlowCode.MOVE_OUT_PAID, -1),
    (PAYOUT_RETURN, FlowCode.MOVE_OUT_RETURNED, 1),
)
ALONE = (ADJUSTMENT, DESK_PAYMENT, PAYOUT)  # reversals take two; a write-off is an adjustment,
# and who pays a debt alone has made a desk payment

COUNT = """
SELECT count(*) AS approvals FROM approval
WHERE decision = 'approve' AND kind = ANY($3::text[]) AND decided_at >= $1 AND decided_at < $2
"""
# An act is the log's word for it, or an approval together with the log's word that it was approved.
_WITH = """
WITH kinds AS (
    SELECT * FROM unnest($3::text[], $4::text[], $5::int[]) AS kinds (kind, flow, sign)
), wallets AS (
    SELECT * FROM unnest($6::text[], $7::text[]) AS wallets (name, kind)
), sources AS (
    SELECT * FROM unnest($8::text[], $9::text[]) AS sources (method, kind)
), acts AS (
    SELECT site_id, act AS kind, facts FROM manager_act WHERE act = ANY($10::text[])
    UNION ALL
    SELECT site_id, kind, act FROM approval
    WHERE decision = 'approve' AND EXISTS (
        SELECT 1 FROM manager_act said
        WHERE said.site_id = approval.site_id AND said.act = 'approval_approved'
          AND said.facts ->> 'approval_no' = approval.no AND said.facts @> approval.act)
), wanted AS (
    SELECT acts.site_id, kinds.flow, acts.facts ->> 'key' AS key, wallets.kind AS wallet,
           acts.facts ->> 'tenancy_id' AS tenancy,
           coalesce(acts.facts ->> 'method', '') AS method,
           coalesce(acts.facts ->> 'reason', '') AS reason,
           kinds.sign * (amounts.fen + amounts.rounding_fen) AS change_fen
    FROM acts JOIN kinds USING (kind) JOIN wallets ON wallets.name = acts.facts ->> 'wallet'
    CROSS JOIN LATERAL (
        SELECT CASE WHEN acts.facts ->> 'amount_fen' ~ '^-?[0-9]{1,15}$'
                    THEN (acts.facts ->> 'amount_fen')::bigint END AS fen,
               CASE WHEN acts.facts ->> 'rounding_fen' ~ '^-?[0-9]{1,15}$'
                    THEN (acts.facts ->> 'rounding_fen')::bigint ELSE 0 END AS rounding_fen
    ) AS amounts
), posted AS (
    SELECT posted.id, posted.site_id, posted.flow, posted.idempotency_key AS key,
           wallet.kind AS wallet, wallet.tenancy_id::text AS tenancy,
           coalesce(max(sources.method), '') AS method,
           coalesce(posted.details ->> 'reason', '') AS reason,
           sum(CASE WHEN transfer.credit_account_id = wallet.id THEN transfer.amount_fen
                    ELSE -transfer.amount_fen END)::bigint AS change_fen
    FROM ledger_transaction posted
    JOIN ledger_transfer transfer ON transfer.transaction_id = posted.id
    JOIN account debit ON debit.id = transfer.debit_account_id
    JOIN account credit ON credit.id = transfer.credit_account_id
    JOIN account wallet ON wallet.id IN (debit.id, credit.id)
        AND wallet.kind IN (SELECT kind FROM wallets)
    LEFT JOIN sources ON sources.kind IN (debit.kind, credit.kind)
    WHERE posted.id BETWEEN $1 AND $2 AND posted.flow IN (SELECT flow FROM kinds)
    GROUP BY posted.id, wallet.id
)
"""
# The operator's own payments, by the command line, leave a receipt in the operator's name.
NOBODYS = f"""{_WITH}
SELECT 'transaction ' || posted.id AS subject, posted.change_fen, count(wanted.key) AS acts
FROM posted
LEFT JOIN wanted USING (site_id, flow, key, wallet, tenancy, method, reason, change_fen)
WHERE NOT EXISTS (
    SELECT 1 FROM desk_receipt receipt
    WHERE receipt.ledger_transaction_id = posted.id AND receipt.taken_by = $11)
GROUP BY posted.id, posted.change_fen HAVING count(wanted.key) <> 1
ORDER BY posted.id LIMIT 1000
"""  # noqa: S608 - made of constants of this file
NOT_DONE = """
SELECT 'approval ' || approval.no AS subject, approval.kind
FROM approval JOIN unnest($3::text[], $4::text[]) AS kinds (kind, flow) USING (kind)
LEFT JOIN ledger_transaction posted ON posted.site_id = approval.site_id
    AND posted.idempotency_key = approval.act ->> 'key' AND posted.flow = kinds.flow
WHERE approval.decision = 'approve' AND approval.decided_at >= $1 AND approval.decided_at < $2
  AND posted.id IS NULL
ORDER BY approval.no LIMIT 1000
"""
# A payout taken back is the one of its receipt, leg for leg the other way round.
RETURNED = """
SELECT 'transaction ' || posted.id AS subject, posted.details ->> 'receipt_no' AS receipt_no
FROM ledger_transaction posted
LEFT JOIN ledger_transaction paid ON paid.site_id = posted.site_id
    AND paid.flow = 'move_out.paid' AND posted.idempotency_key = 'move_out-return:' ||
        (posted.details ->> 'receipt_no')
    AND paid.idempotency_key = 'move_out:' || (posted.details ->> 'receipt_no')
WHERE posted.id BETWEEN $1 AND $2 AND posted.flow = 'move_out.returned'
  AND (paid.id IS NULL OR ARRAY(
      SELECT ROW (debit_account_id, credit_account_id, amount_fen) FROM ledger_transfer
      WHERE transaction_id = paid.id ORDER BY 1
  ) <> ARRAY(
      SELECT ROW (credit_account_id, debit_account_id, amount_fen) FROM ledger_transfer
      WHERE transaction_id = posted.id ORDER BY 1
  ))
ORDER BY posted.id LIMIT 1000
"""


async def audit_by_hand(
    connection: Connection, window: Window, report: AuditReport, progress: Progress
) -> None:
    """What managers posted, against the log and what two people decided, both ways.

    A key is posted once (the journal's own rule), so that what was decided is done at most once.
    """
    kinds, flows = [kind for kind, _, _ in KINDS], [flow.value for _, flow, _ in KINDS]
    count = await row(connection, COUNT, *window.times, kinds) or {}
    report.checked |= count
    progress(f"{count['approvals']} approved acts")
    for one in await rows(
        connection,
        NOBODYS,
        *(*window.ids, kinds, flows, [sign for _, _, sign in KINDS]),
        *(list(WALLETS), [kind.value for kind in WALLETS.values()]),
        *(list(METHODS), [SOURCES[method].kind.value for method in METHODS]),
        *(list(ALONE), OPERATOR),
    ):
        detail = f"moves a wallet by {one['change_fen']} fen; that is what {one['acts']} acts say"
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, RETURNED, *window.ids):
        detail = f"takes back what was not paid out on receipt {one['receipt_no']}"
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, NOT_DONE, *window.times, kinds, flows):
        report.blame(RULE, one["subject"], f"was approved, and no {one['kind']} was posted for it")
