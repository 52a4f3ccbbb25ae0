"""The one writer of the books: a posting is one SQL statement, once a key (design, decision 6)."""

from dataclasses import dataclass
from datetime import datetime

from server.core.errors import ConflictError
from server.core.ledger.accounts import WALLET_KINDS, AccountKind, AccountRef
from server.core.ledger.routing import check
from server.core.ledger.transfer import Posting, input_hash
from server.models.database import Connection, row, rows, to_json

# Both legs' wallets move in the statement that writes the transfers; a key seen before writes
# nothing at all. `missing` counts legs whose account does not exist, which undoes the whole.
POST = """
WITH wanted AS (
    SELECT * FROM unnest($7::text[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[])
        AS leg (debit_kind, debit_tenancy, credit_kind, credit_tenancy, amount_fen)
), written AS (
    INSERT INTO ledger_transaction
        (site_id, flow, idempotency_key, input_hash, booked_at, created_at, details)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp(), $6::jsonb)
    ON CONFLICT (site_id, idempotency_key) DO NOTHING
    RETURNING id
), legs AS (
    SELECT written.id, d.id AS debit, c.id AS credit, wanted.amount_fen
    FROM written, wanted
    JOIN account d ON d.site_id = $1 AND d.kind = wanted.debit_kind
        AND coalesce(d.tenancy_id, 0) = wanted.debit_tenancy
    JOIN account c ON c.site_id = $1 AND c.kind = wanted.credit_kind
        AND coalesce(c.tenancy_id, 0) = wanted.credit_tenancy
), put AS (
    INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
    SELECT id, debit, credit, amount_fen FROM legs
    RETURNING id
), changes AS (
    SELECT account_id, sum(change) AS change FROM (
        SELECT debit AS account_id, -amount_fen AS change FROM legs
        UNION ALL SELECT credit, amount_fen FROM legs
    ) AS sides GROUP BY account_id
), moved AS (
    UPDATE wallet SET balance_fen = wallet.balance_fen + changes.change
    FROM changes WHERE wallet.account_id = changes.account_id
    RETURNING wallet.account_id
)
SELECT (SELECT id FROM written) AS id,
       (SELECT count(*) FROM wanted) - (SELECT count(*) FROM put) AS missing,
       (SELECT count(*) FROM moved) AS moved
"""

SEEN = """
SELECT id, input_hash FROM ledger_transaction WHERE site_id = $1 AND idempotency_key = $2
"""

OPEN_ACCOUNTS = """
WITH made AS (
    INSERT INTO account (site_id, kind, tenancy_id)
    SELECT $1, kind, $3::bigint FROM unnest($2::text[]) AS kind
    ON CONFLICT (site_id, kind, coalesce(tenancy_id, 0)) DO NOTHING
    RETURNING id
)
INSERT INTO wallet (account_id, balance_fen) SELECT id, 0 FROM made WHERE $3::bigint IS NOT NULL
"""

BALANCE = """
SELECT wallet.balance_fen FROM account JOIN wallet ON wallet.account_id = account.id
WHERE account.site_id = $1 AND account.kind = $2 AND coalesce(account.tenancy_id, 0) = $3
"""


@dataclass(frozen=True, slots=True)
class Posted:
    """A transaction of the journal; `repeated`: the same key and input were there already."""

    transaction_id: int
    repeated: bool


class IdempotencyMismatchError(ConflictError):
    """The key was used for another input; nothing was written."""

    code = "idempotency_mismatch"


class MissingAccountError(ConflictError):
    """A leg names an account that was never opened."""

    code = "missing_account"


async def post(
    connection: Connection, site_id: int, posting: Posting, *, key: str, booked_at: datetime
) -> Posted:
    """Write a posting once; must run inside a transaction, which the errors undo."""
    check(posting)
    digest = input_hash(posting)
    legs = posting.transfers
    written = await row(
        connection,
        POST,
        site_id,
        posting.flow,
        key,
        digest,
        booked_at,
        to_json(posting.details),
        [leg.debit.kind.value for leg in legs],
        [leg.debit.tenancy_id or 0 for leg in legs],
        [leg.credit.kind.value for leg in legs],
        [leg.credit.tenancy_id or 0 for leg in legs],
        [leg.amount_fen for leg in legs],
    )
    assert written is not None  # noqa: S101  a SELECT without FROM always answers one row
    if written["id"] is None:
        return await _repeated(connection, site_id, key, digest)
    wallets = {side for leg in legs for side in (leg.debit, leg.credit) if side.is_wallet}
    if written["missing"] or written["moved"] != len(wallets):
        raise MissingAccountError(f"{posting.flow}: an account is not open")
    return Posted(written["id"], repeated=False)


async def _repeated(connection: Connection, site_id: int, key: str, digest: str) -> Posted:
    seen = await row(connection, SEEN, site_id, key)
    if seen is None or seen["input_hash"] != digest:
        raise IdempotencyMismatchError(f"key {key!r} was used for another posting")
    return Posted(seen["id"], repeated=True)


async def open_accounts(connection: Connection, site_id: int, tenancy_id: int | None) -> None:
    """Open a tenancy's wallets, or (None) the site's own accounts; opening twice is nothing."""
    wanted = [
        kind.value for kind in AccountKind if (kind in WALLET_KINDS) == (tenancy_id is not None)
    ]
    await rows(connection, OPEN_ACCOUNTS, site_id, wanted, tenancy_id)


async def wallet_balance_fen(connection: Connection, site_id: int, wallet: AccountRef) -> int:
    """What the journal says is in a wallet; a wallet that was never opened is empty."""
    found = await row(connection, BALANCE, site_id, wallet.kind.value, wallet.tenancy_id or 0)
    return 0 if found is None else int(found["balance_fen"])
