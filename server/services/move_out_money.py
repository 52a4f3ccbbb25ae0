"""What is left when somebody has moved out: paid out, or owed and perhaps written off.

Nothing is paid before everything is charged: the last day closed, corrections done, fixed charges
taken. Each wallet stands for itself. Money that goes back by a platform is left in its wallet for
the refund; what is owed stays as a fact. What is corrected later may be settled the same way again.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import AccountRef
from server.core.ledger.flows import adjustment, move_out_paid
from server.core.ledger.transfer import Posting
from server.models.database import Connection, row, transaction
from server.services.approvals import Approval, Ask, Outcome, ask_within, asked_before, may_alone
from server.services.desk import METHODS, RECEIPT_NO_MAX, ReceiptUsedError, ReversedError
from server.services.fixed_charges import charge_within, make_charged_months
from server.services.journal import IdempotencyMismatchError, post
from server.services.locks import lock_tenancies
from server.services.manager_acts import Deed, check_reason, record_act
from server.services.managers import Manager
from server.services.move_out_standing import (
    Leaver,
    MoreThanLeftError,
    catch_up,
    settled_fen,
)
from server.services.wallets import AMOUNT_FEN_MAX, WALLETS

PAYOUT, WRITE_OFF = "move_out_payout", "write_off"

POSTED = "SELECT 1 FROM ledger_transaction WHERE site_id = $1 AND idempotency_key = $2"


@dataclass(frozen=True, slots=True)
class Payout:
    """What a wallet is paid out: `amount_fen` by hand or bank, `rounding_fen` as cash cannot.

    Above zero the mall keeps the rounding, below zero it gave so much more. Raises
    InvalidInputError.
    """

    wallet: str
    method: str
    amount_fen: int
    receipt_no: str
    rounding_fen: int = 0

    def __post_init__(self) -> None:
        _check_wallet(self.wallet)
        if self.method not in METHODS:
            raise InvalidInputError(f"method is one of {', '.join(METHODS)}")
        if not 1 <= self.amount_fen <= AMOUNT_FEN_MAX:
            raise InvalidInputError(f"an amount has 1 to {AMOUNT_FEN_MAX} fen")
        number = self.receipt_no
        if not 1 <= len(number) <= RECEIPT_NO_MAX or not number.isprintable():
            raise InvalidInputError(f"a receipt number has 1 to {RECEIPT_NO_MAX} characters")
        if number != number.strip():
            raise InvalidInputError("a receipt number begins and ends with no space")
        self.posting(1)  # whether the rounding can be

    @property
    def taken_fen(self) -> int:
        """By how much the wallet falls."""
        return self.amount_fen + self.rounding_fen

    @property
    def key(self) -> str:
        """Once a receipt."""
        return f"move_out:{self.receipt_no}"

    @property
    def return_key(self) -> str:
        """Of what takes it back (services/move_out_returns)."""
        return f"move_out-return:{self.receipt_no}"

    def posting(self, tenancy_id: int) -> Posting:
        """What it does to the books."""
        return move_out_paid(
            self.method,
            AccountRef(WALLETS[self.wallet], tenancy_id),
            self.amount_fen,
            rounding_fen=self.rounding_fen,
            details={"receipt_no": self.receipt_no},
        )


@dataclass(frozen=True, slots=True)
class WriteOff:
    """What a wallet owes and nobody will pay, whole, and why; raises InvalidInputError."""

    wallet: str
    amount_fen: int
    reason: str

    def __post_init__(self) -> None:
        _check_wallet(self.wallet)
        if not 1 <= self.amount_fen <= AMOUNT_FEN_MAX:
            raise InvalidInputError(f"an amount has 1 to {AMOUNT_FEN_MAX} fen")
        check_reason(self.reason)


def _check_wallet(wallet: str) -> None:
    if wallet not in WALLETS:
        raise InvalidInputError(f"wallet is one of {', '.join(WALLETS)}")


async def pay_out(leaver: Leaver, payout: Payout, manager: Manager, now: datetime) -> Outcome:
    """Pay a wallet out, once a receipt, with a second person above the site's limit.

    Raises NotFoundError, NotSettledError, MoreThanLeftError, ReceiptUsedError, and ReversedError
    for a receipt that was taken back.
    """
    await catch_up(leaver, now)
    await make_charged_months(now)
    facts: dict[str, str | int] = {
        "shop": leaver.shop_code,
        "tenancy_id": leaver.tenancy_id,
        "wallet": payout.wallet,
        "method": payout.method,
        "amount_fen": payout.amount_fen,
        "rounding_fen": payout.rounding_fen,
        "receipt_no": payout.receipt_no,
    }
    ask = Ask(
        *(leaver.site_id, PAYOUT, leaver.tenancy_id, leaver.subject, "", payout.key),
        once=False,
        facts=facts,
    )
    async with transaction() as connection:
        await lock_tenancies(connection, [leaver.tenancy_id])
        if await row(connection, POSTED, leaver.site_id, payout.key) is None:
            asked = await asked_before(connection, ask, now)
            if asked is not None:
                return Outcome(approval_no=asked.no)
            await _check_payout(connection, leaver, payout, now)
            if not await _alone(connection, ask, PAYOUT, payout.amount_fen, manager, now):
                asked = await ask_within(connection, ask, manager, now)
                return Outcome(approval_no=asked.no)
            await _record(connection, ask, PAYOUT, manager, now)
        elif await row(connection, POSTED, leaver.site_id, payout.return_key) is not None:
            raise ReversedError(f"receipt {payout.receipt_no!r}: pay again on another one")
        return Outcome(await _pay(connection, leaver, payout, now))


async def write_off(
    leaver: Leaver, wish: WriteOff, manager: Manager, now: datetime, *, key: str
) -> Outcome:
    """Forgive what a wallet owes, once an Idempotency-Key of this manager's.

    It is an adjustment, and counts as one for the second person. Raises as `pay_out` does.
    """
    await catch_up(leaver, now)
    own = f"write_off:{manager.id}:{hashlib.sha256(key.encode()).hexdigest()}"
    facts: dict[str, str | int] = {
        "shop": leaver.shop_code,
        "tenancy_id": leaver.tenancy_id,
        "wallet": wish.wallet,
        "amount_fen": wish.amount_fen,
    }
    ask = Ask(
        *(leaver.site_id, WRITE_OFF, leaver.tenancy_id, leaver.subject, wish.reason, own),
        once=True,
        facts=facts,
    )
    async with transaction() as connection:
        await lock_tenancies(connection, [leaver.tenancy_id])
        asked = await asked_before(connection, ask, now)
        if asked is not None:
            return Outcome(approval_no=asked.no)
        if await row(connection, POSTED, leaver.site_id, own) is None:
            await _check_owed(connection, leaver, wish)
            if not await _alone(connection, ask, "adjustment", wish.amount_fen, manager, now):
                asked = await ask_within(connection, ask, manager, now)
                return Outcome(approval_no=asked.no)
            await _record(connection, ask, "adjustment", manager, now)
        return Outcome(await _forgive(connection, leaver, wish, own, now))


async def pay_approved(connection: Connection, approval: Approval, now: datetime) -> None:
    """Carry a payout out that a second person approved, if it still can be."""
    act = approval.act
    payout = Payout(
        wallet=str(act["wallet"]),
        method=str(act["method"]),
        amount_fen=int(act["amount_fen"]),
        receipt_no=str(act["receipt_no"]),
        rounding_fen=int(act["rounding_fen"]),
    )
    leaver = _leaver(approval)
    if await row(connection, POSTED, leaver.site_id, payout.key) is not None:
        raise ReceiptUsedError(f"receipt {payout.receipt_no!r}")
    await _check_payout(connection, leaver, payout, now)
    await _pay(connection, leaver, payout, now)


async def forgive_approved(connection: Connection, approval: Approval, now: datetime) -> None:
    """Carry a write-off out that a second person approved, if it still can be."""
    act = approval.act
    wish = WriteOff(str(act["wallet"]), int(act["amount_fen"]), str(act["reason"]))
    leaver = _leaver(approval)
    await _check_owed(connection, leaver, wish)
    await _forgive(connection, leaver, wish, str(act["key"]), now)


def _leaver(approval: Approval) -> Leaver:
    act = approval.act
    return Leaver(approval.site_id, str(act["shop"]), int(act["tenancy_id"]))


async def _check_payout(
    connection: Connection, leaver: Leaver, payout: Payout, now: datetime
) -> None:
    await charge_within(connection, [leaver.tenancy_id], now)
    left_fen = await settled_fen(connection, leaver, payout.wallet)
    if payout.taken_fen > left_fen:
        raise MoreThanLeftError(f"{payout.taken_fen} fen of {left_fen}")
    if payout.rounding_fen and payout.taken_fen != left_fen:
        raise InvalidInputError("only what is left whole is rounded")


async def _check_owed(connection: Connection, leaver: Leaver, wish: WriteOff) -> None:
    owed_fen = -await settled_fen(connection, leaver, wish.wallet)
    if wish.amount_fen != owed_fen:
        raise MoreThanLeftError(f"{wish.amount_fen} fen, but {max(owed_fen, 0)} fen are owed")


async def _alone(
    connection: Connection, ask: Ask, kind: str, amount_fen: int, manager: Manager, now: datetime
) -> bool:
    return await may_alone(
        *(connection, ask.site_id, kind),
        actor=manager.name,
        subject=ask.subject,
        amount_fen=amount_fen,
        now=now,
    )


async def _record(
    connection: Connection, ask: Ask, act: str, manager: Manager, now: datetime
) -> None:
    deed = Deed(ask.site_id, manager.name, act, ask.subject, ask.reason, ask.act)
    await record_act(connection, deed, now)


async def _pay(connection: Connection, leaver: Leaver, payout: Payout, now: datetime) -> int:
    posting = payout.posting(leaver.tenancy_id)
    try:
        posted = await post(connection, leaver.site_id, posting, key=payout.key, booked_at=now)
    except IdempotencyMismatchError as error:
        raise ReceiptUsedError(f"receipt {payout.receipt_no!r}") from error
    return posted.transaction_id


async def _forgive(
    connection: Connection, leaver: Leaver, wish: WriteOff, key: str, now: datetime
) -> int:
    wallet = AccountRef(WALLETS[wish.wallet], leaver.tenancy_id)
    posting = adjustment(wallet, wish.amount_fen, {"reason": wish.reason})
    posted = await post(connection, leaver.site_id, posting, key=key, booked_at=now)
    return posted.transaction_id
