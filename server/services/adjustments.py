"""A manager's change of a wallet by hand, up or down, with a reason that its tenant can read."""

from dataclasses import dataclass
from datetime import datetime

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import AccountRef
from server.core.ledger.flows import adjustment
from server.models.database import Connection
from server.services.emergency_credit import end_within
from server.services.journal import Posted, post
from server.services.locks import lock_open_tenancy
from server.services.manager_acts import check_reason
from server.services.supply import decide_within
from server.services.wallets import AMOUNT_FEN_MAX, WALLETS


@dataclass(frozen=True, slots=True)
class Adjustment:
    """By how much (below zero: down) which wallet is changed, and why; raises InvalidInputError."""

    tenancy_id: int
    amount_fen: int
    reason: str
    wallet: str = "electricity"

    def __post_init__(self) -> None:
        if self.wallet not in WALLETS:
            raise InvalidInputError(f"wallet is one of {', '.join(WALLETS)}")
        if self.amount_fen == 0 or abs(self.amount_fen) > AMOUNT_FEN_MAX:
            raise InvalidInputError(f"an adjustment has 1 to {AMOUNT_FEN_MAX} fen, up or down")
        check_reason(self.reason)


async def adjust_within(
    connection: Connection, wish: Adjustment, *, key: str, now: datetime
) -> Posted:
    """Post an adjustment once a key and decide the supply; raises IdempotencyMismatchError."""
    site_id = await lock_open_tenancy(connection, wish.tenancy_id)
    wallet = AccountRef(WALLETS[wish.wallet], wish.tenancy_id)
    posting = adjustment(wallet, wish.amount_fen, {"reason": wish.reason})
    posted = await post(connection, site_id, posting, key=key, booked_at=now)
    if not posted.repeated:
        if wish.amount_fen > 0:
            await end_within(connection, [wish.tenancy_id])
        await decide_within(connection, [wish.tenancy_id], now)
    return posted
