"""What a platform says of a refund, by notice or by answer."""

from datetime import datetime

from payments.contract import Platform, Refund
from server.models.database import Connection
from server.services.payment_cases import NewCase, open_case

UNKNOWN_REFUND = "refunded_outside"


async def told_within(
    connection: Connection, site_id: int, platform: Platform, refund: Refund, now: datetime
) -> int | None:
    """Look at the refund that a notice names; one that nobody here asked for is a case.

    Whose pages should hear of it; None: nobody's.
    """
    facts = {
        "platform": platform.value,
        "out_trade_no": refund.out_trade_no,
        "out_refund_no": refund.out_refund_no,
        "refund_fen": refund.refund_fen,
        "status": refund.status.value,
    }
    subject = f"{platform.value}:{refund.out_refund_no}"
    await open_case(connection, NewCase(site_id, UNKNOWN_REFUND, subject, facts), now)
    return None
