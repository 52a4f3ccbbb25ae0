"""The journal by itself: every transfer sound and allowed, every posting as it was written.

The database recomputes each posting's hash and rules from its stored facts; whatever it does not
find in order is judged by the core, which has the last word. (It hands over too much, never too
little: its canonical text is that of the core for all that is plain ASCII.)
"""

from collections.abc import Mapping, Sequence
from typing import Any

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import AccountKind, AccountRef
from server.core.ledger.routing import RULES, check
from server.core.ledger.transfer import HASH_VERSION, Posting, Transfer, input_hash
from server.models.database import Connection, from_json, row, rows
from server.services.audit_report import AuditReport, Progress
from server.services.audit_window import Window

BATCH = 50_000
JUDGED_AT_ONCE = 500

PAGE = """
SELECT count(*) AS transactions, max(id) AS last_id FROM (
    SELECT id FROM ledger_transaction WHERE id >= $1 AND id <= $2 ORDER BY id LIMIT $3
) AS page
"""
# $3..$5: what each flow may debit and credit; $6: the version of the canonical form.
DOUBTFUL = """
WITH posted AS (
    SELECT id, site_id, flow, input_hash, details FROM ledger_transaction
    WHERE id >= $1 AND id <= $2
), legs AS (
    SELECT transfer.transaction_id AS id, count(*) AS transfers,
        bool_and((debit.site_id = posted.site_id AND credit.site_id = posted.site_id
                  AND (debit.tenancy_id IS NULL OR credit.tenancy_id IS NULL)
                  AND transfer.amount_fen > 0 AND route.flow IS NOT NULL) IS TRUE)
            AND count(DISTINCT CASE WHEN debit.tenancy_id IS NOT NULL THEN debit.id
                                    WHEN credit.tenancy_id IS NOT NULL THEN credit.id END) <= 1
            AS sound,
        string_agg('["' || debit.kind || '",' || coalesce(debit.tenancy_id::text, 'null') || ',"'
            || credit.kind || '",' || coalesce(credit.tenancy_id::text, 'null') || ','
            || transfer.amount_fen || ']', ',' ORDER BY transfer.id) AS text
    FROM ledger_transfer transfer JOIN posted ON posted.id = transfer.transaction_id
    LEFT JOIN account debit ON debit.id = transfer.debit_account_id
    LEFT JOIN account credit ON credit.id = transfer.credit_account_id
    LEFT JOIN unnest($3::text[], $4::text[], $5::text[]) AS route (flow, debit, credit)
        ON route.flow = posted.flow AND route.debit = debit.kind AND route.credit = credit.kind
    WHERE transfer.transaction_id >= $1 AND transfer.transaction_id <= $2
    GROUP BY transfer.transaction_id
), judged AS (
    SELECT posted.id, legs.transfers, legs.sound AND posted.input_hash =
        encode(sha256(convert_to('[' || $6::text || ',' || to_json(posted.flow)::text || ',['
            || legs.text || '],{' || CASE WHEN jsonb_typeof(posted.details) = 'object' THEN
                coalesce((SELECT string_agg(to_json(key)::text || ':' || value::text, ','
                                            ORDER BY key COLLATE "C")
                          FROM jsonb_each(posted.details)), '') END || '}]', 'UTF8')), 'hex')
        AS sound
    FROM posted LEFT JOIN legs ON legs.id = posted.id
)
SELECT coalesce(sum(transfers), 0)::bigint AS transfers,
       coalesce(array_agg(id ORDER BY id) FILTER (WHERE sound IS NOT TRUE), '{}') AS doubtful
FROM judged
"""
FACTS = """
SELECT posted.id, posted.site_id, posted.flow, posted.input_hash, posted.details,
       coalesce(legs.found, '[]') AS legs
FROM ledger_transaction posted
LEFT JOIN (
    SELECT transfer.transaction_id AS id,
        json_agg(json_build_array(debit.site_id, debit.kind, debit.tenancy_id,
                                  credit.site_id, credit.kind, credit.tenancy_id,
                                  transfer.amount_fen) ORDER BY transfer.id)::text AS found
    FROM ledger_transfer transfer
    LEFT JOIN account debit ON debit.id = transfer.debit_account_id
    LEFT JOIN account credit ON credit.id = transfer.credit_account_id
    WHERE transfer.transaction_id = ANY($1::bigint[]) GROUP BY transfer.transaction_id
) AS legs ON legs.id = posted.id
WHERE posted.id = ANY($1::bigint[]) ORDER BY posted.id
"""
TRANSFERS = """
SELECT count(*) AS transfers FROM ledger_transfer
WHERE transaction_id >= $1 AND transaction_id <= $2
"""
ORPHANS = """
SELECT 'transfer ' || transfer.id AS subject, transfer.transaction_id FROM ledger_transfer transfer
LEFT JOIN ledger_transaction posted ON posted.id = transfer.transaction_id
WHERE transfer.transaction_id >= $1 AND transfer.transaction_id <= $2 AND posted.id IS NULL
ORDER BY transfer.id LIMIT 1000
"""
ACCOUNTS = """
SELECT 'account ' || account.id AS subject FROM account
LEFT JOIN tenancy ON tenancy.id = account.tenancy_id
WHERE (account.kind IN ('electricity_wallet', 'fixed_charges_wallet'))
    <> (account.tenancy_id IS NOT NULL)
   OR (account.tenancy_id IS NOT NULL AND tenancy.site_id IS DISTINCT FROM account.site_id)
ORDER BY account.id LIMIT 1000
"""
WALLETS = """
SELECT coalesce(account.kind || ' of tenancy ' || account.tenancy_id,
                'wallet of account ' || coalesce(account.id, wallet.account_id)) AS subject,
       wallet.balance_fen,
       (coalesce(credited.fen, 0) - coalesce(debited.fen, 0))::text AS replayed_fen
FROM (SELECT * FROM account WHERE tenancy_id IS NOT NULL) AS account
FULL JOIN wallet ON wallet.account_id = account.id
LEFT JOIN (SELECT credit_account_id AS id, sum(amount_fen) AS fen FROM ledger_transfer
           GROUP BY credit_account_id) AS credited ON credited.id = account.id
LEFT JOIN (SELECT debit_account_id AS id, sum(amount_fen) AS fen FROM ledger_transfer
           GROUP BY debit_account_id) AS debited ON debited.id = account.id
WHERE account.id IS NULL OR wallet.balance_fen
    IS DISTINCT FROM coalesce(credited.fen, 0) - coalesce(debited.fen, 0)
LIMIT 1000
"""
COUNT_WALLETS = "SELECT count(*) AS wallets FROM wallet"

_ROUTES = [(flow, *pair) for flow, rule in RULES.items() for pair in rule.pairs]
ROUTES = tuple([str(one[part]) for one in _ROUTES] for part in range(3))


async def audit_journal(
    connection: Connection, window: Window, report: AuditReport, progress: Progress
) -> None:
    """Every posting of the window: its accounts, its routes, its hash."""
    transactions = transfers = 0
    first_id, last_id = window.ids
    while True:
        page = await row(connection, PAGE, first_id, last_id, BATCH) or {}
        if not page["transactions"]:
            break
        end_id = page["last_id"]
        ours = await row(connection, DOUBTFUL, first_id, end_id, *ROUTES, str(HASH_VERSION)) or {}
        await _judge(connection, report, ours["doubtful"])
        transactions += page["transactions"]
        transfers += ours["transfers"]
        progress(f"{transfers} transfers of {transactions} transactions recomputed")
        first_id = end_id + 1
    report.checked |= {"transactions": transactions, "transfers": transfers}
    there = await row(connection, TRANSFERS, *window.ids) or {}
    if there["transfers"] != transfers:
        for one in await rows(connection, ORPHANS, *window.ids):
            detail = f"is of transaction {one['transaction_id']}, which is not there"
            report.blame("transfer_balanced", one["subject"], detail)


async def audit_wallets(connection: Connection, report: AuditReport, progress: Progress) -> None:
    """Every wallet against the replay of the whole journal."""
    count = await row(connection, COUNT_WALLETS) or {}
    progress(f"{count['wallets']} wallets against the replay of the journal")
    for one in await rows(connection, ACCOUNTS):
        detail = "is no site's account and no wallet of a tenancy there"
        report.blame("account_replay", one["subject"], detail)
    for one in await rows(connection, WALLETS):
        detail = f"shows {one['balance_fen']} fen, the journal gives {one['replayed_fen']}"
        report.blame("account_replay", one["subject"], detail)
    report.checked["wallets"] = count["wallets"]


async def _judge(connection: Connection, report: AuditReport, doubtful: Sequence[int]) -> None:
    for start in range(0, len(doubtful), JUDGED_AT_ONCE):
        part = list(doubtful[start : start + JUDGED_AT_ONCE])
        for one in await rows(connection, FACTS, part):
            fault = _fault(one)
            if fault is not None:
                report.blame(fault[0], f"transaction {one['id']}", fault[1])


def _fault(one: Mapping[str, Any]) -> tuple[str, str] | None:
    """What the core says against a posting: the rule and the detail."""
    legs = from_json(one["legs"])
    if not legs:
        return "transfer_balanced", "has no transfer"
    if any(site_id != one["site_id"] for leg in legs for site_id in (leg[0], leg[3])):
        return "transfer_balanced", "joins accounts that its site does not have"
    try:
        posting = Posting(one["flow"], tuple(map(_transfer, legs)), from_json(one["details"]))
    except (InvalidInputError, ValueError, TypeError, AttributeError) as error:
        return "transfer_balanced", f"cannot have been posted: {error}"
    try:
        check(posting)
    except InvalidInputError as error:
        return "flow_allowed", error.detail
    if input_hash(posting) != one["input_hash"]:
        return "input_hash", f"({posting.flow}) is not what was posted: its hash is another"
    return None


def _transfer(leg: Sequence[Any]) -> Transfer:
    _, debit, debit_tenancy, _, credit, credit_tenancy, amount_fen = leg
    return Transfer(
        AccountRef(AccountKind(debit), debit_tenancy),
        AccountRef(AccountKind(credit), credit_tenancy),
        amount_fen,
    )
