"""Money taken at the mall's desk, by cash or bank transfer, once a receipt."""

from datetime import datetime

from server.core.errors import InvalidInputError, NotFoundError
from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import desk_payment
from server.models.database import row, transaction
from server.services.journal import Posted, post
from server.services.supply import decide_within

METHODS = ("cash", "bank_transfer")
TENANCY = "SELECT site_id FROM tenancy WHERE id = $1 AND closed_at IS NULL FOR NO KEY UPDATE"


async def take_desk_payment(
    tenancy_id: int,
    amount_fen: int,
    *,
    method: str,
    receipt_no: str,
    paid_at: datetime,
    now: datetime,
) -> Posted:
    """Post a payment to the electricity wallet; the same receipt with another amount is refused."""
    if method not in METHODS:
        raise InvalidInputError(f"method is one of {', '.join(METHODS)}")
    if not 1 <= len(receipt_no) <= 64:
        raise InvalidInputError("a receipt number has 1 to 64 characters")
    async with transaction() as connection:
        tenancy = await row(connection, TENANCY, tenancy_id)
        if tenancy is None:
            raise NotFoundError("no such tenancy, or it has ended")
        posting = desk_payment(
            method, electricity_wallet(tenancy_id), amount_fen, {"receipt_no": receipt_no}
        )
        key = f"desk:{receipt_no}"
        posted = await post(connection, tenancy["site_id"], posting, key=key, booked_at=paid_at)
        await decide_within(connection, [tenancy_id], now)
        return posted
