"""A wallet's journal for its tenant, newest first: what changed the balance, by how much, why."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import msgspec

from server.core.errors import InvalidInputError
from server.core.ledger.routing import FlowCode
from server.models.database import from_json, pool, rows
from server.services.wallets import WALLETS

PAGE_MAX = 50
ID_MAX = 2**63 - 1
# What a tenant may read of a posting; platform numbers and managers' names stay inside.
SHOWN_DETAILS = frozenset(
    {
        *("day", "version", "energy_wh", "charge", "month", "top_up_no", "receipt_no", "reason"),
        "refund_no",
    }
)

JOURNAL = """
WITH owned AS (
    SELECT account.id FROM account JOIN tenancy ON tenancy.site_id = account.site_id
    WHERE tenancy.id = $1 AND account.kind = $2 AND coalesce(account.tenancy_id, 0) = $1
), moved AS (
    (SELECT transfer.id, transfer.transaction_id, transfer.amount_fen
     FROM ledger_transfer transfer WHERE transfer.credit_account_id = (SELECT id FROM owned)
       AND transfer.id < $3 ORDER BY transfer.id DESC LIMIT $4)
    UNION ALL
    (SELECT transfer.id, transfer.transaction_id, -transfer.amount_fen
     FROM ledger_transfer transfer WHERE transfer.debit_account_id = (SELECT id FROM owned)
       AND transfer.id < $3 ORDER BY transfer.id DESC LIMIT $4)
)
SELECT moved.id, moved.amount_fen, event.flow, event.booked_at, event.created_at, event.details,
       charged.document -> 'lines' AS charges
FROM moved JOIN ledger_transaction event ON event.id = moved.transaction_id
LEFT JOIN fixed_charge_statement charged ON charged.site_id = event.site_id
    AND charged.tenancy_id = $1 AND charged.ledger_transaction_id = event.id
    AND charged.day = CASE WHEN event.flow = $5 THEN (event.details ->> 'day')::date END
ORDER BY moved.id DESC LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class FixedChargeLine:
    """One charge of a day, as its statement has it: the `day_number`-th part of `day_count`.

    Of `period_fen`, the price times the quantity (in cm², VA or shops), the days before it cost
    `before_fen`.
    """

    code: str
    valid_from: date
    per: str
    basis: str
    price_micro_yuan: int
    quantity: int
    unit: str
    day_number: int
    day_count: int
    period_fen: int
    before_fen: int
    amount_fen: int


@dataclass(frozen=True, slots=True)
class WalletMove:
    """One change of a wallet; `amount_fen` is below zero where it fell.

    `booked_at` is when it counts from, `created_at` when it was written down; `charges` are what
    a day of fixed charges is made of.
    """

    id: int
    kind: str
    amount_fen: int
    booked_at: datetime
    created_at: datetime
    details: Mapping[str, str | int]
    charges: tuple[FixedChargeLine, ...] = ()


@dataclass(frozen=True, slots=True)
class WalletMoves:
    """One page of a journal; `next_cursor` None: there is nothing older."""

    items: tuple[WalletMove, ...]
    next_cursor: str | None


async def moves(
    tenancy_id: int, wallet: str, cursor: str | None, *, limit: int = PAGE_MAX
) -> WalletMoves:
    """What is older than the cursor (None: the newest); raises InvalidInputError."""
    if wallet not in WALLETS:
        raise InvalidInputError(f"no wallet {wallet!r}: electricity or fixed_charges")
    before = ID_MAX if cursor is None else read_cursor(cursor)
    size = min(limit, PAGE_MAX)
    kind, charged = WALLETS[wallet].value, FlowCode.FIXED_CHARGE_CHARGED.value
    found = await rows(pool(), JOURNAL, tenancy_id, kind, before, size + 1, charged)
    items = tuple(
        WalletMove(
            id=one["id"],
            kind=one["flow"],
            amount_fen=one["amount_fen"],
            booked_at=one["booked_at"],
            created_at=one["created_at"],
            details=_shown(from_json(one["details"])),
            charges=_charges(one["charges"]),
        )
        for one in found[:size]
    )
    return WalletMoves(items, write_cursor(items[-1].id) if len(found) > size else None)


def write_cursor(item_id: int) -> str:
    """The opaque place in a list behind an item."""
    return base64.urlsafe_b64encode(f"after:{item_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """The item of a place; raises InvalidInputError for anything that `write_cursor` never made."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidInputError("not a cursor of this list") from error
    digits = text.removeprefix("after:")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19:
        raise InvalidInputError("not a cursor of this list")
    item_id = int(digits)
    if item_id > ID_MAX or write_cursor(item_id) != cursor:
        raise InvalidInputError("not a cursor of this list")
    return item_id


def _charges(lines: str | None) -> tuple[FixedChargeLine, ...]:
    return msgspec.convert(from_json(lines or "[]"), tuple[FixedChargeLine, ...])


def _shown(details: Mapping[str, str | int]) -> dict[str, str | int]:
    return {name: fact for name, fact in details.items() if name in SHOWN_DETAILS}
