"""A transfer and a posting: an unbalanced entry has no way to be written."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import AccountRef

AMOUNT_FEN_MAX = 1_000_000_000_000  # 10 thousand million yuan: above it a figure is a mistake
TRANSFERS_MAX = 8
DETAILS_MAX = 32
DETAIL_TEXT_MAX = 1_000
DETAIL_NUMBER_MAX = 2**63 - 1
FLOW_LENGTH_MAX = 48
HASH_VERSION = 1  # part of what is hashed: a change of the canonical form shows

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)

_canonical_text = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode  # ASCII only

Details = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Transfer:
    """`amount_fen`, always above zero, debited to one account and credited to another."""

    debit: AccountRef
    credit: AccountRef
    amount_fen: int

    def __post_init__(self) -> None:
        if not 0 < self.amount_fen <= AMOUNT_FEN_MAX:
            raise InvalidInputError(f"a transfer of {self.amount_fen} fen")
        if self.debit == self.credit:
            raise InvalidInputError(f"a transfer from {self.debit.kind} to itself")

    def swapped(self) -> "Transfer":
        """The transfer that undoes this one."""
        return Transfer(self.credit, self.debit, self.amount_fen)


@dataclass(frozen=True, slots=True)
class Posting:
    """One business event in the journal: a flow's code, its transfers, and the event's facts.

    `details` holds facts of the event only (never the time of a try), for they are hashed: the
    same event tried again must give the same hash.
    """

    flow: str
    transfers: tuple[Transfer, ...]
    details: Details

    def __post_init__(self) -> None:
        if not self.flow or len(self.flow) > FLOW_LENGTH_MAX:
            raise InvalidInputError(f"a flow's code has 1 to {FLOW_LENGTH_MAX} letters")
        if not 1 <= len(self.transfers) <= TRANSFERS_MAX:
            raise InvalidInputError(f"{len(self.transfers)} transfers in one posting")
        _check_details(self.details)
        object.__setattr__(self, "details", MappingProxyType(dict(self.details)))


def input_hash(posting: Posting) -> str:
    """The sha256 of all that was posted: the same idempotency key with another one is refused."""
    canonical = [
        HASH_VERSION,
        posting.flow,
        [
            [t.debit.kind, t.debit.tenancy_id, t.credit.kind, t.credit.tenancy_id, t.amount_fen]
            for t in posting.transfers
        ],
        dict(posting.details),
    ]
    return hashlib.sha256(_canonical_text(canonical).encode()).hexdigest()


def wallet_changes(posting: Posting) -> Mapping[AccountRef, int]:
    """By how much each wallet's balance changes; one that is touched is named even at 0."""
    changes: dict[AccountRef, int] = {}
    for transfer in posting.transfers:
        for account, change in (
            (transfer.debit, -transfer.amount_fen),  # a wallet is a liability
            (transfer.credit, transfer.amount_fen),
        ):
            if account.is_wallet:
                changes[account] = changes.get(account, 0) + change
    return changes


def _check_details(details: Details) -> None:
    if len(details) > DETAILS_MAX:
        raise InvalidInputError(f"{len(details)} details in one posting")
    for name, value in details.items():
        if not _NAME.fullmatch(name):
            raise InvalidInputError(f"not a detail's name: {name!r}")
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise InvalidInputError(f"detail {name} is neither text nor a whole number")
        if isinstance(value, str) and "\0" in value:
            raise InvalidInputError(f"detail {name} has a zero character")
        if isinstance(value, str) and len(value) > DETAIL_TEXT_MAX:
            raise InvalidInputError(f"detail {name} has more than {DETAIL_TEXT_MAX} characters")
        if isinstance(value, int) and abs(value) > DETAIL_NUMBER_MAX:
            raise InvalidInputError(f"detail {name} is no 64-bit number")
