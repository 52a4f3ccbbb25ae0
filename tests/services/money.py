"""What tests ask of the books, straight from the tables."""

from server.models.database import pool, rows

WALLET = """
SELECT balance_fen FROM wallet JOIN account ON account.id = wallet.account_id
WHERE account.tenancy_id = $1 AND account.kind = $2
"""
SUM = """
SELECT coalesce(sum(change), 0)::bigint AS fen FROM (
    SELECT account.id, coalesce((SELECT sum(amount_fen) FROM ledger_transfer
                                 WHERE credit_account_id = account.id), 0)
           - coalesce((SELECT sum(amount_fen) FROM ledger_transfer
                       WHERE debit_account_id = account.id), 0) AS change
    FROM account) AS accounts
"""


async def wallet_fen(tenancy_id: int, kind: str = "electricity_wallet") -> int:
    """The balance row of a wallet."""
    return int((await rows(pool(), WALLET, tenancy_id, kind))[0]["balance_fen"])


async def sum_of_all_accounts_fen() -> int:
    """Of the replayed journal; zero, always."""
    return int((await rows(pool(), SUM))[0]["fen"])
