"""What is left: the wallet, less what was used since the last statement, less what is reserved."""

from collections.abc import Sequence
from dataclasses import dataclass

from server.models.database import Connection, rows

BALANCES = """
SELECT tenancy.id,
    coalesce((SELECT wallet.balance_fen FROM account
        JOIN wallet ON wallet.account_id = account.id
        WHERE account.site_id = tenancy.site_id AND account.kind = 'electricity_wallet'
          AND coalesce(account.tenancy_id, 0) = tenancy.id), 0) AS wallet_fen,
    coalesce((SELECT wallet.balance_fen FROM account
        JOIN wallet ON wallet.account_id = account.id
        WHERE account.site_id = tenancy.site_id AND account.kind = 'fixed_charges_wallet'
          AND coalesce(account.tenancy_id, 0) = tenancy.id), 0) AS fixed_charges_fen,
    coalesce((SELECT sum(open_day.amount_fen)::bigint FROM open_day
        WHERE open_day.tenancy_id = tenancy.id), 0) AS open_days_fen
FROM tenancy WHERE tenancy.id = ANY($1::bigint[])
"""


@dataclass(frozen=True, slots=True)
class Balances:
    """A tenancy's money in fen; `available_fen` is what may be used up (decision 6)."""

    wallet_fen: int
    open_days_fen: int
    reserved_fen: int
    fixed_charges_fen: int

    @property
    def available_fen(self) -> int:
        """Wallet less open days less reserved refunds."""
        return self.wallet_fen - self.open_days_fen - self.reserved_fen


async def balances(connection: Connection, tenancy_ids: Sequence[int]) -> dict[int, Balances]:
    """The balances of these tenancies; a refund leaves the wallet as it starts: none reserved."""
    found = await rows(connection, BALANCES, list(tenancy_ids))
    return {
        one["id"]: Balances(
            wallet_fen=one["wallet_fen"],
            open_days_fen=one["open_days_fen"],
            reserved_fen=0,
            fixed_charges_fen=one["fixed_charges_fen"],
        )
        for one in found
    }
