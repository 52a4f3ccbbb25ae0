"""What was paid out to somebody who has moved out, and what takes it back: always two people.

A wrong method, a transfer that came back: the wallet has the money again, whole with its rounding,
to be paid out anew on another receipt.
"""

from dataclasses import asdict, dataclass
from datetime import datetime

from server.core.errors import NotFoundError
from server.core.ledger.accounts import AccountKind
from server.core.ledger.flows import SOURCES, reverse
from server.core.ledger.routing import FlowCode
from server.models.database import Connection, Row, pool, rows, transaction
from server.services.approvals import Approval, Ask, Outcome, ask_within, asked_before
from server.services.desk import METHODS, ReversedError
from server.services.journal import post
from server.services.locks import lock_tenancies
from server.services.manager_acts import check_reason
from server.services.managers import Manager
from server.services.move_out_money import Payout
from server.services.move_out_standing import Leaver, standing_of
from server.services.wallets import WALLETS

PAYOUT_RETURN = "move_out_return"
LISTED_MAX = 20

# $4: the key of one payout; null: all of them.
PAID_OUT = f"""
SELECT wallet.kind AS wallet, till.kind AS till, posted.details ->> 'receipt_no' AS receipt_no,
    paid.amount_fen, posted.created_at, returned.id IS NOT NULL AS is_returned,
    coalesce(CASE WHEN odd.debit_account_id = wallet.id THEN odd.amount_fen
                  ELSE -odd.amount_fen END, 0) AS rounding_fen
FROM account wallet
JOIN ledger_transfer paid ON paid.debit_account_id = wallet.id
JOIN ledger_transaction posted ON posted.id = paid.transaction_id
    AND posted.flow = '{FlowCode.MOVE_OUT_PAID.value}'
JOIN account till ON till.id = paid.credit_account_id AND till.kind = ANY($5::text[])
LEFT JOIN ledger_transfer odd ON odd.transaction_id = posted.id AND odd.id <> paid.id
LEFT JOIN ledger_transaction returned ON returned.site_id = posted.site_id
    AND returned.idempotency_key = 'move_out-return:' || (posted.details ->> 'receipt_no')
WHERE wallet.site_id = $1 AND coalesce(wallet.tenancy_id, 0) = $2 AND wallet.kind = ANY($3::text[])
  AND ($4::text IS NULL OR posted.idempotency_key = $4)
ORDER BY posted.id DESC LIMIT {LISTED_MAX}
"""  # noqa: S608 - made of constants of this file


@dataclass(frozen=True, slots=True)
class PaidOut:
    """One payout as managers see it."""

    payout: Payout
    paid_at: datetime
    is_returned: bool


async def paid_out(leaver: Leaver) -> list[PaidOut]:
    """The last ones to somebody who has moved out, the newest first."""
    return await _paid_out(pool(), leaver, None)


async def take_back(
    leaver: Leaver, receipt_no: str, reason: str, manager: Manager, now: datetime
) -> Outcome:
    """Ask a second person to take a payout back; NotFoundError, ReversedError."""
    check_reason(reason)
    await standing_of(leaver)  # whether it is of this shop
    async with transaction() as connection:
        await lock_tenancies(connection, [leaver.tenancy_id])
        payout = await _standing_payout(connection, leaver, receipt_no)
        facts = {"shop": leaver.shop_code, "tenancy_id": leaver.tenancy_id, **asdict(payout)}
        ask = Ask(
            *(leaver.site_id, PAYOUT_RETURN, leaver.tenancy_id, leaver.subject, reason),
            key=payout.return_key,
            once=False,
            facts=facts,
        )
        asked = await asked_before(connection, ask, now)
        if asked is None:
            asked = await ask_within(connection, ask, manager, now)
        return Outcome(approval_no=asked.no)


async def carry_out(connection: Connection, approval: Approval, now: datetime) -> None:
    """Take a payout back that a second person approved, once, whatever the wallet holds."""
    act = approval.act
    leaver = Leaver(approval.site_id, str(act["shop"]), int(act["tenancy_id"]))
    payout = await _standing_payout(connection, leaver, str(act["receipt_no"]))
    posting = reverse(payout.posting(leaver.tenancy_id), {"reason": str(act["reason"])})
    await post(connection, leaver.site_id, posting, key=payout.return_key, booked_at=now)


async def _standing_payout(connection: Connection, leaver: Leaver, receipt_no: str) -> Payout:
    """The payout of a receipt that was not taken back, under the tenancy's lock."""
    found = await _paid_out(connection, leaver, f"move_out:{receipt_no}")
    if not found:
        raise NotFoundError(f"receipt {receipt_no!r}")
    if found[0].is_returned:
        raise ReversedError(f"receipt {receipt_no!r}")
    return found[0].payout


async def _paid_out(connection: Connection, leaver: Leaver, key: str | None) -> list[PaidOut]:
    kinds = [kind.value for kind in WALLETS.values()]
    tills = [SOURCES[method].kind.value for method in METHODS]
    found = await rows(connection, PAID_OUT, leaver.site_id, leaver.tenancy_id, kinds, key, tills)
    return [_paid(one) for one in found]


def _paid(found: Row) -> PaidOut:
    wallets = {kind: name for name, kind in WALLETS.items()}
    methods = {SOURCES[method].kind: method for method in METHODS}
    payout = Payout(
        wallet=wallets[AccountKind(found["wallet"])],
        method=methods[AccountKind(found["till"])],
        amount_fen=found["amount_fen"],
        receipt_no=found["receipt_no"],
        rounding_fen=found["rounding_fen"],
    )
    return PaidOut(payout, found["created_at"], found["is_returned"])
