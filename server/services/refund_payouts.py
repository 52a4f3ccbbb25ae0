"""What no payment can take back is paid out by hand: marked with its method and reference, once."""

from datetime import datetime

from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.core.refunds.parts import PartEvent, PartState
from server.models.database import Connection, Row, row, rows, transaction
from server.services import approvals
from server.services.approvals import Approval, Ask, Outcome
from server.services.desk import METHODS
from server.services.manager_acts import Deed, record_act
from server.services.managers import Manager
from server.services.refund_cases import OUTSIDE
from server.services.refund_parts import Said, lock_part, take_in_within

PAYOUT = "refund_payout"
REFERENCE_MAX = 64
SHOP = """
SELECT shop.code FROM tenancy JOIN shop ON shop.id = tenancy.shop_id WHERE tenancy.id = $1
"""
# A part that stands for one of the same refund of which the platform says that it did give back,
# and a manager has not said yet what to make of that.
GIVEN_BACK = """
SELECT 1 AS some FROM refund_part part JOIN payment_case told ON told.site_id = part.site_id
    AND told.kind = $2 AND told.subject = part.platform || ':' || part.out_refund_no
WHERE part.refund_id = $1 AND part.state = 'replaced' AND told.decided_at IS NULL LIMIT 1
"""
INSTEAD = """
SELECT by_hand.out_refund_no FROM refund_part part
JOIN refund_part by_hand ON by_hand.refund_id = part.refund_id
    AND by_hand.credit_id IS NULL AND by_hand.amount_fen = part.amount_fen
WHERE part.out_refund_no = $1 AND part.state = 'replaced' AND by_hand.state = 'to_pay'
ORDER BY by_hand.id DESC LIMIT 1
"""
PAID = "UPDATE refund_part SET method = $2, reference = $3, paid_by = $4 WHERE id = $1"


USED = """
SELECT refund.no FROM refund_part part JOIN refund ON refund.id = part.refund_id
WHERE part.site_id = $1 AND part.refund_id <> $2 AND part.credit_id IS NULL
  AND part.method = $3 AND part.reference = $4 LIMIT 1
"""


class ReferenceUsedError(ConflictError):
    """Another refund was paid out by it; nothing was written."""

    code = "reference_used"


class PaidOutError(ConflictError):
    """It was paid out otherwise, or is not to be paid out by hand."""

    code = "not_to_pay"


async def pay_out(
    out_refund_no: str, method: str, reference: str, manager: Manager, now: datetime
) -> Outcome:
    """Mark a part as paid out, alone within the site's limit; the same again changes nothing.

    Raises NotFoundError, PaidOutError.
    """
    if method not in METHODS:
        raise InvalidInputError(f"method is one of {', '.join(METHODS)}")
    if not 1 <= len(reference.strip()) <= REFERENCE_MAX or not reference.isprintable():
        raise InvalidInputError(f"a reference has 1 to {REFERENCE_MAX} characters")
    async with transaction() as connection:
        part = await lock_part(connection, out_refund_no)
        if part is None or manager.site_id not in (None, part["site_id"]):
            raise NotFoundError(f"refund part {out_refund_no!r}")
        if not _is_open(part, method, reference):
            return Outcome()
        ask = await _ask(connection, part, method, reference)
        asked = await approvals.asked_before(connection, ask, now)
        if asked is not None:
            return Outcome(approval_no=asked.no)
        alone = await approvals.may_alone(
            *(connection, part["site_id"], PAYOUT),
            actor=manager.name,
            subject=ask.subject,
            amount_fen=part["amount_fen"],
            now=now,
        )
        if not alone:
            asked = await approvals.ask_within(connection, ask, manager, now)
            return Outcome(approval_no=asked.no)
        await _pay(connection, part, method, reference, manager.name, now)
        deed = Deed(part["site_id"], manager.name, PAYOUT, ask.subject, part["reason"], ask.act)
        await record_act(connection, deed, now)
        return Outcome()


async def carry_out(connection: Connection, approval: Approval, now: datetime) -> None:
    """Pay out what a second person agreed to."""
    act = approval.act
    part = await lock_part(connection, str(act["out_refund_no"]))
    method, reference = str(act["method"]), str(act["reference"])
    if part is None or not _is_open(part, method, reference):
        raise PaidOutError(f"part {act['out_refund_no']}")
    await _pay(connection, part, method, reference, approval.asked_by, now)


def _is_open(part: Row, method: str, reference: str) -> bool:
    """Whether it is still to be paid out; not where it was, in the same way."""
    if part["state"] == PartState.TO_PAY.value:
        return True
    if part["credit_id"] is None and (part["method"], part["reference"]) == (method, reference):
        return False
    raise PaidOutError(f"part {part['out_refund_no']} is {part['state']}")


async def _ask(connection: Connection, part: Row, method: str, reference: str) -> Ask:
    shop = await row(connection, SHOP, part["tenancy_id"])
    code = str(shop["code"]) if shop is not None else ""
    subject = f"shop:{code}" if shop is not None else f"refund:{part['no']}"
    facts = {
        "shop": code,
        "amount_fen": part["amount_fen"],
        "method": method,
        "reference": reference,
        "refund_no": part["no"],
        "out_refund_no": part["out_refund_no"],
    }
    key = f"refund-payout:{part['out_refund_no']}:{method}:{reference}"
    tenancy_id = part["tenancy_id"]
    return Ask(part["site_id"], PAYOUT, tenancy_id, subject, part["reason"], key, False, facts)  # noqa: FBT003  may be asked for again


async def withdraw_by_hand(
    connection: Connection, out_refund_no: str | None, now: datetime
) -> None:
    """What was to be paid by hand instead of a part that the platform gave back after all."""
    instead = await row(connection, INSTEAD, out_refund_no)
    if instead is not None:
        await take_in_within(connection, instead["out_refund_no"], Said(PartEvent.GIVEN_BACK), now)


async def _pay(
    connection: Connection, part: Row, method: str, reference: str, paid_by: str, now: datetime
) -> None:
    if await row(connection, GIVEN_BACK, part["refund_id"], OUTSIDE) is not None:
        raise PaidOutError("the platform gave it back: decide that case first")
    used = await row(connection, USED, part["site_id"], part["refund_id"], method, reference)
    if used is not None:
        raise ReferenceUsedError(f"{reference!r} paid out {used['no']}")
    await rows(connection, PAID, part["id"], method, reference, paid_by)
    await take_in_within(connection, part["out_refund_no"], Said(PartEvent.PAID_OUT), now)
