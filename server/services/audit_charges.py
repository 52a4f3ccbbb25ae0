"""Statements and what was charged for them, both ways; days without a statement.

A day's first version is charged whole; a later one gives the version before it back and charges
anew, in one posting. A version that costs what the one before it did posts nothing, and names the
same posting, if any.
"""

from server.models.database import Connection, Row, rows
from server.services.audit_report import AuditReport, Progress
from server.services.audit_window import Window

RULE = "statement_posted"

CHARGES = """
WITH version AS (
    SELECT site_id, tenancy_id, day, version, amount_fen, ledger_transaction_id,
           lag(amount_fen, 1, 0::bigint) OVER versions AS before_fen,
           lag(ledger_transaction_id) OVER versions AS transaction_before
    FROM statement WHERE day >= $1 AND day < $2
    WINDOW versions AS (PARTITION BY site_id, tenancy_id, day ORDER BY version)
), charge AS (
    SELECT version.*,
           CASE version WHEN 1 THEN 'energy.charged' ELSE 'energy.corrected' END AS flow
    FROM version WHERE amount_fen <> before_fen
), judged AS (
    SELECT charge.tenancy_id, charge.day, charge.version, charge.amount_fen, charge.before_fen,
           coalesce(sum(transfer.amount_fen)
               FILTER (WHERE transfer.debit_account_id = account.id), 0) AS charged_fen,
           coalesce(sum(transfer.amount_fen)
               FILTER (WHERE transfer.credit_account_id = account.id), 0) AS given_back_fen
    FROM charge
    LEFT JOIN ledger_transaction posted ON posted.id = charge.ledger_transaction_id
        AND posted.site_id = charge.site_id AND posted.flow = charge.flow
    LEFT JOIN account ON account.site_id = charge.site_id
        AND account.kind = 'electricity_wallet'
        AND coalesce(account.tenancy_id, 0) = charge.tenancy_id
    LEFT JOIN ledger_transfer transfer ON transfer.transaction_id = posted.id
    GROUP BY charge.site_id, charge.tenancy_id, charge.day, charge.version, charge.amount_fen,
             charge.before_fen
    UNION ALL
    SELECT tenancy_id, day, version, amount_fen, before_fen, -1, -1 FROM version
    WHERE amount_fen = before_fen AND ledger_transaction_id IS DISTINCT FROM transaction_before
)
SELECT 'statement of tenancy ' || tenancy_id || ' day ' || day || ' version ' || version
           AS subject, amount_fen, before_fen, charged_fen::text, given_back_fen::text
FROM judged WHERE amount_fen <> charged_fen OR before_fen <> given_back_fen
ORDER BY tenancy_id, day, version LIMIT 1000
"""
# Its details name the day and version that an energy posting is for. Whatever they hold, this
# stays a date: a 30 February rolls on, and is no statement's day as it was written.
NAMED_NOWHERE = """
WITH named AS (
    SELECT posted.id, posted.site_id, posted.flow, account.tenancy_id,
        posted.details ->> 'day' AS day, posted.details ->> 'version' AS version,
        CASE WHEN posted.details ->> 'day' ~ '^[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9]$'
             THEN make_date(greatest(left(posted.details ->> 'day', 4)::int, 1),
                            substr(posted.details ->> 'day', 6, 2)::int, 1)
                  + (right(posted.details ->> 'day', 2)::int - 1) END AS on_day,
        CASE WHEN posted.details ->> 'version' ~ '^[0-9]{1,9}$'
             THEN (posted.details ->> 'version')::int END AS as_version
    FROM ledger_transaction posted
    LEFT JOIN LATERAL (
        SELECT wallet.tenancy_id FROM ledger_transfer transfer
        JOIN account wallet ON wallet.tenancy_id IS NOT NULL
            AND wallet.id IN (transfer.debit_account_id, transfer.credit_account_id)
        WHERE transfer.transaction_id = posted.id LIMIT 1
    ) AS account ON true
    WHERE posted.id BETWEEN $1 AND $2
      AND posted.flow = ANY($3::text[])
)
SELECT 'transaction ' || named.id AS subject, named.flow, named.tenancy_id, named.day,
       named.version
FROM named
LEFT JOIN statement ON statement.site_id = named.site_id
    AND statement.tenancy_id = named.tenancy_id AND statement.day = named.on_day
    AND statement.version = named.as_version
    AND to_char(statement.day, 'YYYY-MM-DD') = named.day
    AND statement.ledger_transaction_id = named.id
WHERE statement.site_id IS NULL
ORDER BY named.id LIMIT 1000
"""
FLOWS = ("energy.charged", "energy.charge_reversed", "energy.corrected")
# Days close in order, so that every day before the first open one has its statement.
DAYS = """
SELECT 'tenancy ' || tenancy.id AS subject, coalesce(closed.days, 0) AS days, wanted.days AS wanted
FROM tenancy JOIN site ON site.id = tenancy.site_id
LEFT JOIN (
    SELECT tenancy_id, count(DISTINCT day) AS days FROM statement
    WHERE day >= $1 AND day < $2 GROUP BY tenancy_id
) AS closed ON closed.tenancy_id = tenancy.id
CROSS JOIN LATERAL (
    SELECT greatest(0, least(tenancy.first_open_day, $2::date) - greatest(
        (tenancy.opened_at AT TIME ZONE site.timezone)::date, $1::date)) AS days
) AS wanted
WHERE coalesce(closed.days, 0) <> wanted.days
ORDER BY tenancy.id LIMIT 1000
"""


async def audit_charges(
    connection: Connection, window: Window, report: AuditReport, progress: Progress
) -> None:
    """What statements say against what was posted, and the other way round."""
    progress("statements against what was charged")
    for one in await rows(connection, CHARGES, *window.days):
        report.blame(RULE, one["subject"], _charge(one))
    for one in await rows(connection, NAMED_NOWHERE, *window.ids, list(FLOWS)):
        detail = (
            f"is a {one['flow']} for day {one['day']} version {one['version']} of tenancy"
            f" {one['tenancy_id']}, and no such statement names it"
        )
        report.blame(RULE, one["subject"], detail)
    for one in await rows(connection, DAYS, *window.days):
        detail = f"has statements of {one['days']} days where {one['wanted']} are closed"
        report.blame(RULE, one["subject"], detail)


def _charge(one: Row) -> str:
    said = f"says {one['amount_fen']} fen after {one['before_fen']}"
    if one["charged_fen"] == "-1":
        return f"{said}, and names another posting than the version before it"
    return f"{said}: {one['charged_fen']} were charged and {one['given_back_fen']} given back"
