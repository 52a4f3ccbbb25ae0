"""The cases that a refund's parts open and close: what is shown of them to a manager."""

from datetime import datetime

from payments.contract import Platform, Refund
from server.core.refunds.parts import Attention
from server.models.database import Connection, Row, row, rows
from server.services.payment_cases import NewCase, close_by_subject, open_case

OUTSIDE = Attention.OUTSIDE.value
# What a part waits for; over when it has ended.
WAITS = (Attention.ABNORMAL.value, Attention.UNANSWERED.value)

PAYER = """
SELECT payment_order.site_id, top_up.tenancy_id
FROM payment_order JOIN top_up ON top_up.id = payment_order.top_up_id
WHERE payment_order.platform = $1 AND payment_order.merchant_id = $2
  AND payment_order.out_trade_no = $3
"""
LOCK_CASES = """
SELECT id FROM payment_case
WHERE id = $1 OR (site_id = $2 AND kind = ANY($3::text[]) AND subject = $4)
ORDER BY id FOR UPDATE
"""
WAITED_FOR = """
SELECT 1 AS some FROM payment_case
WHERE site_id = $1 AND kind = ANY($2::text[]) AND subject = $3 AND closed_at IS NULL LIMIT 1
"""


async def lock_cases(connection: Connection, part: Row) -> None:
    """The case that holds a part's money and those of what it waits for, in one order."""
    own = (part["site_id"], list(WAITS), part["out_refund_no"])
    await rows(connection, LOCK_CASES, part["case_id"], *own)


async def close_waits(connection: Connection, part: Row, now: datetime) -> None:
    """A part has ended: nobody needs to look at it any more."""
    for kind in WAITS:
        await close_by_subject(connection, (part["site_id"], kind, part["out_refund_no"]), now)


async def show_part(
    connection: Connection,
    part: Row,
    attention: Attention,
    told: Refund | None,
    code: str | None,
    now: datetime,
) -> None:
    """Open the case of a step; of suspense the case that asked for the refund is open again."""
    if attention is Attention.FAILED and part["wallet"] is None:
        return
    if attention is Attention.OUTSIDE and told is not None:
        platform = Platform(part["platform"])
        await show_outside(connection, part["site_id"], platform, told, now)
        return
    if attention is Attention.UNANSWERED:
        own = (part["site_id"], list(WAITS), part["out_refund_no"])
        if await row(connection, WAITED_FOR, *own) is not None:
            return  # it is before a manager already
        code = code or part["code"]  # "unknown there" has none: what was said before it
    facts = {
        "platform": part["platform"],
        "refund_no": part["no"],
        "out_trade_no": part["out_trade_no"],
        "out_refund_no": part["out_refund_no"],
        "amount_fen": part["amount_fen"],
        "code": code,
        "state": part["state"],
        "status": told.status.value if told else None,
        "refund_fen": told.refund_fen if told else None,
    }
    case = NewCase(
        part["site_id"], attention.value, part["out_refund_no"], facts, part["tenancy_id"]
    )
    await open_case(connection, case, now)


async def show_outside(
    connection: Connection, site_id: int, platform: Platform, refund: Refund, now: datetime
) -> None:
    """A platform gave back what nobody asked for: a case of the payer's mall, or of `site_id`."""
    names = (platform.value, refund.merchant_id, refund.out_trade_no)
    payer = await row(connection, PAYER, *names)
    facts = {
        "platform": platform.value,
        "merchant_id": refund.merchant_id,
        "out_trade_no": refund.out_trade_no,
        "out_refund_no": refund.out_refund_no,
        "refund_fen": refund.refund_fen,
        "status": refund.status.value,
    }
    subject = f"{platform.value}:{refund.out_refund_no}"
    tenancy_id = payer["tenancy_id"] if payer else None
    owner_id = payer["site_id"] if payer else site_id
    await open_case(connection, NewCase(owner_id, OUTSIDE, subject, facts, tenancy_id), now)
