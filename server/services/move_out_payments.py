"""What somebody who has moved out owes, paid at the desk or by bank transfer, once a receipt.

A desk payment like any other, counted with them for the second person, but never more than the
wallet owes once everything is charged; and it decides about nobody's supply.
"""

from dataclasses import asdict
from datetime import datetime

from server.core.errors import ConflictError
from server.models.database import Connection, transaction
from server.services import approvals
from server.services.approvals import Approval, Ask, Outcome
from server.services.desk import DeskPayment, ReceiptUsedError, post_within, taken_before
from server.services.locks import lock_tenancies
from server.services.manager_acts import Deed, record_act
from server.services.managers import Manager
from server.services.move_out_standing import Leaver, catch_up, settled_fen

DEBT_PAYMENT = "move_out_payment"
ALONE = "desk_payment"  # as what it is limited and logged when one manager does it alone


class MoreThanOwedError(ConflictError):
    """The wallet does not owe so much; nothing was written."""

    code = "more_than_owed"


async def pay_debt(
    leaver: Leaver, payment: DeskPayment, manager: Manager, now: datetime
) -> Outcome:
    """Take what the payment's tenancy, the leaver's, owes or a part of it.

    Raises NotFoundError, ConflictError (`not_moved_out`), NotSettledError, MoreThanOwedError,
    ReceiptUsedError.
    """
    await catch_up(leaver, now)
    ask = Ask(
        *(leaver.site_id, DEBT_PAYMENT, leaver.tenancy_id, leaver.subject, ""),
        key=f"desk:{payment.receipt_no}",
        once=False,
        facts={"shop": leaver.shop_code, **asdict(payment)},
    )
    async with transaction() as connection:
        await lock_tenancies(connection, [leaver.tenancy_id])
        before = await taken_before(connection, leaver.site_id, payment)
        if before is not None:
            return Outcome(before.transaction_id)
        asked = await _asked(connection, ask, payment, now)
        if asked is not None:
            return Outcome(approval_no=asked.no)
        await _check_owed(connection, leaver, payment)
        if not await _alone(connection, ask, payment, manager, now):
            asked = await approvals.ask_within(connection, ask, manager, now)
            return Outcome(approval_no=asked.no)
        posted = await post_within(
            connection, leaver.site_id, payment, paid_at=now, now=now, taken_by=manager.name
        )
        deed = Deed(leaver.site_id, manager.name, ALONE, ask.subject, ask.reason, ask.act)
        await record_act(connection, deed, now)
        return Outcome(posted.transaction_id)


async def carry_out(connection: Connection, approval: Approval, now: datetime) -> None:
    """Take what a second person approved, if it still is owed."""
    act = approval.act
    payment = DeskPayment(
        tenancy_id=int(act["tenancy_id"]),
        amount_fen=int(act["amount_fen"]),
        method=str(act["method"]),
        receipt_no=str(act["receipt_no"]),
        wallet=str(act["wallet"]),
    )
    if await taken_before(connection, approval.site_id, payment) is not None:
        raise ReceiptUsedError(f"receipt {payment.receipt_no!r}")
    leaver = Leaver(approval.site_id, str(act["shop"]), payment.tenancy_id)
    await _check_owed(connection, leaver, payment)
    times = {"paid_at": approval.asked_at, "now": now}
    await post_within(connection, leaver.site_id, payment, **times, taken_by=approval.asked_by)


async def _asked(
    connection: Connection, ask: Ask, payment: DeskPayment, now: datetime
) -> Approval | None:
    try:
        return await approvals.asked_before(connection, ask, now)
    except approvals.OtherAskError as error:
        raise ReceiptUsedError(f"receipt {payment.receipt_no!r}") from error


async def _check_owed(connection: Connection, leaver: Leaver, payment: DeskPayment) -> None:
    owed_fen = max(-await settled_fen(connection, leaver, payment.wallet), 0)
    if payment.amount_fen > owed_fen:
        raise MoreThanOwedError(f"{payment.amount_fen} fen, but {owed_fen} fen are owed")


async def _alone(
    connection: Connection, ask: Ask, payment: DeskPayment, manager: Manager, now: datetime
) -> bool:
    return await approvals.may_alone(
        *(connection, ask.site_id, ALONE),
        actor=manager.name,
        subject=ask.subject,
        amount_fen=payment.amount_fen,
        now=now,
    )
