"""Money taken at the mall's desk or by bank transfer, once a receipt, and what takes it back."""

from dataclasses import dataclass
from datetime import datetime

from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.core.ledger.accounts import AccountKind, AccountRef
from server.core.ledger.flows import desk_payment, reverse
from server.core.ledger.transfer import Posting
from server.models.database import Connection, Row, pool, row, rows, transaction
from server.services.emergency_credit import end_within
from server.services.journal import IdempotencyMismatchError, Posted, post
from server.services.locks import lock_open_tenancy, lock_tenancies
from server.services.supply import decide_within
from server.services.wallets import AMOUNT_FEN_MAX, WALLETS

METHODS = ("cash", "bank_transfer")
RECEIPT_NO_MAX = 64
OPERATOR = "operator"  # who has the command line

RECEIPT = """
SELECT receipt.*, shop.code AS shop_code, reversal.id AS reversal_id FROM desk_receipt receipt
JOIN tenancy ON tenancy.id = receipt.tenancy_id JOIN shop ON shop.id = tenancy.shop_id
LEFT JOIN ledger_transaction reversal ON reversal.site_id = receipt.site_id
    AND reversal.idempotency_key = 'desk-reversal:' || receipt.receipt_no
WHERE receipt.site_id = $1 AND receipt.receipt_no = $2
"""
NEW_RECEIPT = """
INSERT INTO desk_receipt (site_id, receipt_no, tenancy_id, wallet, method, amount_fen, taken_by,
                          created_at, ledger_transaction_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

RECEIPTS = """
SELECT receipt.receipt_no, receipt.wallet, receipt.method, receipt.amount_fen, receipt.taken_by,
       receipt.created_at, EXISTS (SELECT 1 FROM ledger_transaction reversal
           WHERE reversal.site_id = receipt.site_id
             AND reversal.idempotency_key = 'desk-reversal:' || receipt.receipt_no) AS is_reversed
FROM desk_receipt receipt WHERE receipt.tenancy_id = $1 ORDER BY receipt.id DESC LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One payment at the desk as managers see it."""

    receipt_no: str
    wallet: str
    method: str
    amount_fen: int
    taken_by: str
    created_at: datetime
    is_reversed: bool


@dataclass(frozen=True, slots=True)
class DeskPayment:
    """What somebody brought to the desk, for which of WALLETS; raises InvalidInputError."""

    tenancy_id: int
    amount_fen: int
    method: str
    receipt_no: str
    wallet: str = "electricity"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidInputError(f"method is one of {', '.join(METHODS)}")
        if self.wallet not in WALLETS:
            raise InvalidInputError(f"wallet is one of {', '.join(WALLETS)}")
        if not 1 <= self.amount_fen <= AMOUNT_FEN_MAX:
            raise InvalidInputError(f"an amount has 1 to {AMOUNT_FEN_MAX} fen")
        number = self.receipt_no
        if not 1 <= len(number) <= RECEIPT_NO_MAX or not number.isprintable():
            raise InvalidInputError(f"a receipt number has 1 to {RECEIPT_NO_MAX} characters")
        if number != number.strip():
            raise InvalidInputError("a receipt number begins and ends with no space")

    @property
    def account(self) -> AccountRef:
        """The wallet it is for."""
        return AccountRef(WALLETS[self.wallet], self.tenancy_id)

    @property
    def posting(self) -> Posting:
        """What it does to the books."""
        details = {"receipt_no": self.receipt_no}
        return desk_payment(self.method, self.account, self.amount_fen, details)


class ReceiptUsedError(ConflictError):
    """The receipt's number was used for another payment; nothing was written."""

    code = "receipt_used"


class ReversedError(ConflictError):
    """The payment was taken back already."""

    code = "already_reversed"


async def take_desk_payment(
    tenancy_id: int,
    amount_fen: int,
    *,
    method: str,
    receipt_no: str,
    paid_at: datetime,
    now: datetime,
    wallet: str = "electricity",
) -> Posted:
    """The operator's own way, without a manager; `take_within` tells the rest."""
    payment = DeskPayment(tenancy_id, amount_fen, method, receipt_no, wallet)
    async with transaction() as connection:
        return await take_within(connection, payment, paid_at=paid_at, now=now, taken_by=OPERATOR)


async def take_within(
    connection: Connection,
    payment: DeskPayment,
    *,
    paid_at: datetime,
    now: datetime,
    taken_by: str,
) -> Posted:
    """Post a payment once a receipt and decide the supply; ReceiptUsedError for other facts."""
    site_id = await lock_open_tenancy(connection, payment.tenancy_id)
    posted = await post_within(
        connection, site_id, payment, paid_at=paid_at, now=now, taken_by=taken_by
    )
    if not posted.repeated:
        await end_within(connection, [payment.tenancy_id])
        await decide_within(connection, [payment.tenancy_id], now)
    return posted


async def post_within(
    connection: Connection,
    site_id: int,
    payment: DeskPayment,
    *,
    paid_at: datetime,
    now: datetime,
    taken_by: str,
) -> Posted:
    """The payment and its receipt alone, under the tenancy's lock; raises ReceiptUsedError."""
    before = await taken_before(connection, site_id, payment)
    if before is not None:
        return before
    key = f"desk:{payment.receipt_no}"
    try:
        posted = await post(connection, site_id, payment.posting, key=key, booked_at=paid_at)
    except IdempotencyMismatchError as error:  # another tenancy's, at this very moment
        raise ReceiptUsedError(f"receipt {payment.receipt_no!r}") from error
    await rows(
        connection,
        NEW_RECEIPT,
        *(site_id, payment.receipt_no, payment.tenancy_id, WALLETS[payment.wallet].value),
        *(payment.method, payment.amount_fen, taken_by, now, posted.transaction_id),
    )
    return posted


async def taken_before(connection: Connection, site_id: int, payment: DeskPayment) -> Posted | None:
    """The first result of this receipt with the same facts; raises ReceiptUsedError for others."""
    found = await row(connection, RECEIPT, site_id, payment.receipt_no)
    if found is None:
        return None
    if _payment(found) != payment:
        raise ReceiptUsedError(f"receipt {payment.receipt_no!r}")
    return Posted(found["ledger_transaction_id"], repeated=True)


async def receipts_of(tenancy_id: int, limit: int = 10) -> list[Receipt]:
    """The newest payments of a tenancy at the desk."""
    names = {kind.value: name for name, kind in WALLETS.items()}
    found = await rows(pool(), RECEIPTS, tenancy_id, limit)
    return [Receipt(**{**one, "wallet": names[one["wallet"]]}) for one in found]


async def payment_of_receipt(
    connection: Connection, site_id: int, shop_code: str, receipt_no: str
) -> DeskPayment:
    """What was paid on a receipt at a shop, also by who moved out since; NotFoundError."""
    found = await row(connection, RECEIPT, site_id, receipt_no)
    if found is None or found["shop_code"] != shop_code:
        raise NotFoundError(f"receipt {receipt_no!r}")
    if found["reversal_id"] is not None:
        raise ReversedError(f"receipt {receipt_no!r}")
    return _payment(found)


async def reverse_within(
    connection: Connection, site_id: int, payment: DeskPayment, reason: str, now: datetime
) -> Posted:
    """Take a payment back (a bounced transfer), once, and decide the supply.

    It is posted whatever is left in the wallet, and of a tenancy that has ended, too.
    """
    await lock_tenancies(connection, [payment.tenancy_id])
    posting = reverse(payment.posting, {"reason": reason})
    key = f"desk-reversal:{payment.receipt_no}"
    try:
        posted = await post(connection, site_id, posting, key=key, booked_at=now)
    except IdempotencyMismatchError as error:
        raise ReversedError(f"receipt {payment.receipt_no!r}") from error
    if posted.repeated:
        raise ReversedError(f"receipt {payment.receipt_no!r}")
    await decide_within(connection, [payment.tenancy_id], now)
    return posted


def _payment(found: Row) -> DeskPayment:
    names = {kind: name for name, kind in WALLETS.items()}
    return DeskPayment(
        tenancy_id=found["tenancy_id"],
        amount_fen=found["amount_fen"],
        method=found["method"],
        receipt_no=found["receipt_no"],
        wallet=names[AccountKind(found["wallet"])],
    )
