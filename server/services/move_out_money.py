"""What is left when somebody has moved out: paid out, or owed and perhaps written off.

Nothing is paid before everything is charged: the last day closed, corrections done, fixed charges
taken. Each wallet stands for itself. Money that goes back by a platform is left in its wallet for
the refund; what is owed stays as a fact. What is corrected later may be settled the same way again.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.core.ledger.accounts import AccountRef
from server.core.ledger.flows import adjustment, move_out_paid
from server.core.ledger.transfer import Posting
from server.models.database import Connection, Row, pool, row, rows, transaction
from server.services.approvals import Approval, Ask, Outcome, ask_within, asked_before, may_alone
from server.services.balances import balances
from server.services.corrections import correct_due
from server.services.desk import METHODS, RECEIPT_NO_MAX, ReceiptUsedError
from server.services.fixed_charges import charge_due, charge_within, make_charged_months
from server.services.journal import IdempotencyMismatchError, post
from server.services.locks import lock_tenancies
from server.services.manager_acts import Deed, check_reason, record_act
from server.services.managers import Manager
from server.services.readings import ensure_months
from server.services.settlement import close_next_days, settle_due
from server.services.wallets import AMOUNT_FEN_MAX, WALLETS

PAYOUT, WRITE_OFF = "move_out_payout", "write_off"
LISTED_MAX = 20

_ENDED = """
SELECT tenancy.id, tenancy.site_id, shop.code AS shop_code, tenancy.opened_at, tenancy.closed_at,
    tenancy.first_open_day, local.last_day,
    coalesce(tenancy.fixed_open_day < local.last_day, false) AS charges_wait,
    EXISTS (SELECT 1 FROM settlement_due WHERE tenancy_id = tenancy.id)
        OR EXISTS (SELECT 1 FROM correction_due WHERE tenancy_id = tenancy.id) AS settlement_waits
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id JOIN site ON site.id = tenancy.site_id
CROSS JOIN LATERAL (
    SELECT (tenancy.closed_at AT TIME ZONE site.timezone)::date AS last_day
) AS local
"""
ONE = f"{_ENDED} WHERE shop.site_id = $1 AND shop.code = $2 AND tenancy.id = $3"
OF_SHOP = f"""{_ENDED} WHERE shop.site_id = $1 AND shop.code = $2 AND tenancy.closed_at IS NOT NULL
ORDER BY tenancy.closed_at DESC, tenancy.id DESC LIMIT {LISTED_MAX}
"""
POSTED = "SELECT 1 FROM ledger_transaction WHERE site_id = $1 AND idempotency_key = $2"


class Waits(StrEnum):
    """What has to happen before anything can be paid out."""

    LAST_DAY = "last_day"
    SETTLEMENT = "settlement"  # readings are being settled, or closed days corrected
    FIXED_CHARGES = "fixed_charges"


@dataclass(frozen=True, slots=True)
class Standing:
    """An ended tenancy: what it still waits for, and what is available in each of its wallets."""

    site_id: int
    shop_code: str
    tenancy_id: int
    moved_in_at: datetime
    moved_out_at: datetime
    first_open_day: date
    last_day: date
    waits_for: tuple[Waits, ...]
    available_fen: dict[str, int]


class NotSettledError(ConflictError):
    """Something is still to be charged; the detail says what."""

    code = "move_out_not_settled"


class MoreThanLeftError(ConflictError):
    """The wallet has not so much, or owes another amount."""

    code = "more_than_left"


@dataclass(frozen=True, slots=True)
class Leaver:
    """Whose money it is: a tenancy that has ended, and where it was."""

    site_id: int
    shop_code: str
    tenancy_id: int

    @property
    def subject(self) -> str:
        """How the audit log names it."""
        return f"shop:{self.shop_code}"


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


async def ended_tenancies(site_id: int, shop_code: str) -> list[Standing]:
    """The last ones who moved out of a shop, the newest first."""
    found = await rows(pool(), OF_SHOP, site_id, shop_code)
    return [await _standing(pool(), one) for one in found]


async def standing_of(leaver: Leaver) -> Standing:
    """How one of them stands; NotFoundError, ConflictError (`not_moved_out`)."""
    return await _standing(pool(), await _ended(pool(), leaver))


async def catch_up(leaver: Leaver, now: datetime) -> None:
    """Do at once what workers would do in a moment, so that nobody waits for them at the desk."""
    ended, only = await _ended(pool(), leaver), leaver.tenancy_id
    while await settle_due(now, only=only):
        pass
    while await correct_due(now, only=only):
        pass
    while await charge_due(now, only=only):
        pass
    while ended["first_open_day"] <= ended["last_day"]:
        day = ended["first_open_day"]
        await ensure_months("statement", {datetime(day.year, day.month, day.day, 12, tzinfo=UTC)})
        if not await close_next_days([only], now):
            return
        ended = await _ended(pool(), leaver)


async def pay_out(leaver: Leaver, payout: Payout, manager: Manager, now: datetime) -> Outcome:
    """Pay a wallet out, once a receipt, with a second person above the site's limit.

    Raises NotFoundError, NotSettledError, MoreThanLeftError, ReceiptUsedError.
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


async def _ended(connection: Connection, leaver: Leaver) -> Row:
    found = await row(connection, ONE, leaver.site_id, leaver.shop_code, leaver.tenancy_id)
    if found is None:
        raise NotFoundError(f"no tenancy {leaver.tenancy_id} of shop {leaver.shop_code!r}")
    if found["closed_at"] is None:
        raise ConflictError(f"tenancy {leaver.tenancy_id} goes on", code="not_moved_out")
    return found


async def _standing(connection: Connection, ended: Row) -> Standing:
    waits = {
        Waits.LAST_DAY: ended["first_open_day"] <= ended["last_day"],
        Waits.SETTLEMENT: ended["settlement_waits"],
        Waits.FIXED_CHARGES: ended["charges_wait"],
    }
    owned = (await balances(connection, [ended["id"]]))[ended["id"]]
    return Standing(
        site_id=ended["site_id"],
        shop_code=ended["shop_code"],
        tenancy_id=ended["id"],
        moved_in_at=ended["opened_at"],
        moved_out_at=ended["closed_at"],
        first_open_day=ended["first_open_day"],
        last_day=ended["last_day"],
        waits_for=tuple(one for one, waiting in waits.items() if waiting),
        available_fen={
            "electricity": owned.available_fen,
            "fixed_charges": owned.fixed_available_fen,
        },
    )


async def settled_fen(connection: Connection, leaver: Leaver, wallet: str) -> int:
    """What is available in a wallet, under the tenancy's lock; NotSettledError before that."""
    standing = await _standing(connection, await _ended(connection, leaver))
    if standing.waits_for:
        waits = ", ".join(standing.waits_for)
        text = f"waits for {waits}: {standing.first_open_day} to {standing.last_day}"
        raise NotSettledError(
            text if Waits.LAST_DAY in standing.waits_for else f"waits for {waits}"
        )
    return standing.available_fen[wallet]


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
