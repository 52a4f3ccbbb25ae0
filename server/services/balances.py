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
        WHERE open_day.tenancy_id = tenancy.id), 0) AS open_days_fen,
    coalesce((SELECT sum(refund.amount_fen)::bigint FROM refund
        WHERE refund.tenancy_id = tenancy.id AND refund.status = 'waiting'
          AND refund.wallet = 'electricity_wallet'), 0) AS reserved_fen,
    coalesce((SELECT sum(refund.amount_fen)::bigint FROM refund
        WHERE refund.tenancy_id = tenancy.id AND refund.status = 'waiting'
          AND refund.wallet = 'fixed_charges_wallet'), 0) AS fixed_reserved_fen
FROM tenancy WHERE tenancy.id = ANY($1::bigint[])
"""


@dataclass(frozen=True, slots=True)
class Balances:
    """A tenancy's money in fen; `available_fen` is what may be used up (decision 6).

    Reserved are refunds that wait for a second person; one that has started left the wallet.
    """

    wallet_fen: int
    open_days_fen: int
    reserved_fen: int
    fixed_charges_fen: int
    fixed_reserved_fen: int = 0

    @property
    def available_fen(self) -> int:
        """Wallet less open days less reserved refunds."""
        return self.wallet_fen - self.open_days_fen - self.reserved_fen

    @property
    def fixed_available_fen(self) -> int:
        """The same of the fixed-charges wallet, which has no open days."""
        return self.fixed_charges_fen - self.fixed_reserved_fen


async def balances(connection: Connection, tenancy_ids: Sequence[int]) -> dict[int, Balances]:
    """The balances of these tenancies."""
    found = await rows(connection, BALANCES, list(tenancy_ids))
    return {
        one["id"]: Balances(
            wallet_fen=one["wallet_fen"],
            open_days_fen=one["open_days_fen"],
            reserved_fen=one["reserved_fen"],
            fixed_charges_fen=one["fixed_charges_fen"],
            fixed_reserved_fen=one["fixed_reserved_fen"],
        )
        for one in found
    }
