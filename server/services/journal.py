"""The one writer of the books: a posting is one SQL statement, once a key (design, decision 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tortoise.exceptions import IntegrityError

from server.core.errors import ConflictError
from server.core.ledger.accounts import WALLET_KINDS, AccountKind
from server.core.ledger.routing import check
from server.core.ledger.transfer import AMOUNT_FEN_MAX, Posting, input_hash
from server.models.database import Connection, Row, rows, to_json

# Both legs' wallets move in the statement that writes the transfers; a key seen before writes
# nothing at all. Transfers are numbered in the posting's order, for that is hashed. Fewer put, or
# wallets moved, than wanted: an account is not open.
POST = """
WITH wanted AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[])
        AS one (idempotency_key, flow, input_hash, booked_at, details)
), written AS (
    INSERT INTO ledger_transaction
        (site_id, flow, idempotency_key, input_hash, booked_at, created_at, details)
    SELECT $1, flow, idempotency_key, input_hash, booked_at, clock_timestamp(), details::jsonb
    FROM wanted ORDER BY idempotency_key
    ON CONFLICT (site_id, idempotency_key) DO NOTHING
    RETURNING id, idempotency_key
), legs AS (
    SELECT written.id, d.id AS debit, c.id AS credit, leg.amount_fen, leg.place
    FROM unnest($7::text[], $8::text[], $9::bigint[], $10::text[], $11::bigint[], $12::bigint[])
        WITH ORDINALITY AS leg (idempotency_key, debit_kind, debit_tenancy, credit_kind,
                                credit_tenancy, amount_fen, place)
    JOIN written ON written.idempotency_key = leg.idempotency_key
    JOIN account d ON d.site_id = $1 AND d.kind = leg.debit_kind
        AND coalesce(d.tenancy_id, 0) = leg.debit_tenancy
    JOIN account c ON c.site_id = $1 AND c.kind = leg.credit_kind
        AND coalesce(c.tenancy_id, 0) = leg.credit_tenancy
), put AS (
    INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
    SELECT id, debit, credit, amount_fen FROM legs ORDER BY place
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
SELECT id, idempotency_key, (SELECT count(*) FROM put) AS put,
       (SELECT count(*) FROM moved) AS moved
FROM written
"""

# One posting's statement is planned once a session; a batch's for what is in it. Without the range
# (no check: a posting has none outside it) the planner expects ten legs of one, reads all accounts
# for them and takes half as long again (bench/posting.py).
POST_ONE = POST.replace(
    "JOIN written ON written.idempotency_key = leg.idempotency_key",
    "JOIN written ON written.idempotency_key = leg.idempotency_key"
    f" AND leg.amount_fen BETWEEN 1 AND {AMOUNT_FEN_MAX}",
)

SEEN = """
SELECT id, idempotency_key, input_hash FROM ledger_transaction
WHERE site_id = $1 AND idempotency_key = ANY($2::text[])
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

NEVER_EMPTY = "never_empty"  # the guard of migration 0003
_NOT_OPEN = "a posting names an account that is not open"


@dataclass(frozen=True, slots=True)
class Entry:
    """A posting on its way into the journal, with the key under which it is written once."""

    posting: Posting
    key: str
    booked_at: datetime


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
    return (await post_many(connection, site_id, [Entry(posting, key, booked_at)]))[0]


async def post_many(connection: Connection, site_id: int, entries: Sequence[Entry]) -> list[Posted]:
    """Write postings of a site, each once, by one statement; `post` tells the rest."""
    if not entries:
        return []
    if len({entry.key for entry in entries}) != len(entries):
        raise ValueError("one key twice in a batch of postings")
    for entry in entries:
        check(entry.posting)
    written = await _write(connection, site_id, entries)
    seen = {}
    if len(written) < len(entries):
        keys = [entry.key for entry in entries if entry.key not in written]
        found = await rows(connection, SEEN, site_id, keys)
        seen = {one["idempotency_key"]: one for one in found}
    return [
        Posted(written[entry.key], repeated=False)
        if entry.key in written
        else _repeated(entry, seen.get(entry.key))
        for entry in entries
    ]


async def _write(
    connection: Connection, site_id: int, entries: Sequence[Entry]
) -> Mapping[str, int]:
    """The transactions' ids by key, of those keys that were not there before."""
    legs = [(entry.key, leg) for entry in entries for leg in entry.posting.transfers]
    values = (
        [entry.key for entry in entries],
        [entry.posting.flow for entry in entries],
        [input_hash(entry.posting) for entry in entries],
        [entry.booked_at for entry in entries],
        [to_json(entry.posting.details) for entry in entries],
        [key for key, _ in legs],
        [leg.debit.kind.value for _, leg in legs],
        [leg.debit.tenancy_id or 0 for _, leg in legs],
        [leg.credit.kind.value for _, leg in legs],
        [leg.credit.tenancy_id or 0 for _, leg in legs],
        [leg.amount_fen for _, leg in legs],
    )
    try:
        found = await rows(connection, POST_ONE if len(legs) == 1 else POST, site_id, *values)
    except IntegrityError as error:
        if getattr(error.__cause__, "constraint_name", None) != NEVER_EMPTY:
            raise
        raise MissingAccountError(_NOT_OPEN) from error  # none of its legs found its accounts
    written = {one["idempotency_key"]: int(one["id"]) for one in found}
    if found:
        wanted = [leg for key, leg in legs if key in written]
        wallets = {side for leg in wanted for side in (leg.debit, leg.credit) if side.is_wallet}
        if found[0]["put"] != len(wanted) or found[0]["moved"] != len(wallets):
            raise MissingAccountError(_NOT_OPEN)
    return written


def _repeated(entry: Entry, seen: Row | None) -> Posted:
    if seen is None or seen["input_hash"] != input_hash(entry.posting):
        raise IdempotencyMismatchError(f"key {entry.key!r} was used for another posting")
    return Posted(seen["id"], repeated=True)


async def open_accounts(connection: Connection, site_id: int, tenancy_id: int | None) -> None:
    """Open a tenancy's wallets, or (None) the site's own accounts; opening twice is nothing."""
    wanted = [
        kind.value for kind in AccountKind if (kind in WALLET_KINDS) == (tenancy_id is not None)
    ]
    await rows(connection, OPEN_ACCOUNTS, site_id, wanted, tenancy_id)
