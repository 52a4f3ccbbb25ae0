"""A bill's lines as they are kept, page by page: all of them would not fit into memory."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from server.models.database import Row, pool, rows
from server.services.reconciliation_days import Merchant

PAGE = 2_000

COUNT = """
SELECT count(*) AS lines FROM bill_line line JOIN reconciliation_day mark ON mark.id = line.day_id
WHERE mark.platform = $1 AND mark.merchant_id = $2 AND mark.day >= $3 AND mark.day < $4
"""
DAYS = """
SELECT id, day FROM reconciliation_day
WHERE platform = $1 AND merchant_id = $2 AND day >= $3 AND day < $4 ORDER BY day
"""
# $4 null: of all malls; $5: whose a line is where nobody knows its order
LINES = """
SELECT line.line, line.way, line.number, line.out_trade_no, line.transaction_id, line.amount_fen,
    line.fee_fen, line.at, line.status, line.our_number, site.code AS site_code,
    shop.code AS shop_code, top_up.no AS top_up_no
FROM bill_line line
LEFT JOIN payment_order placed ON placed.out_trade_no = line.out_trade_no
    AND placed.platform = $6 AND placed.merchant_id = $7
LEFT JOIN top_up ON top_up.id = placed.top_up_id
LEFT JOIN tenancy ON tenancy.id = top_up.tenancy_id LEFT JOIN shop ON shop.id = tenancy.shop_id
JOIN site ON site.id = coalesce(placed.site_id, $5)
WHERE line.day_id = $1 AND line.line > $2 AND ($4::bigint IS NULL OR site.id = $4)
ORDER BY line.line LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class LineView:
    """A line of a bill; `our_number` None: the books have nothing like it."""

    day: date
    way: str
    number: str
    out_trade_no: str
    transaction_id: str
    amount_fen: int
    fee_fen: int
    at: datetime
    status: str | None
    our_number: str | None
    site_code: str
    shop_code: str | None
    top_up_no: str | None


async def count_lines(merchant: Merchant, since: date, until: date) -> int:
    """How many lines these days' bills have."""
    return int((await rows(pool(), COUNT, *merchant.names, since, until))[0]["lines"])


async def pages_of_lines(
    merchant: Merchant, since: date, until: date, site_id: int | None
) -> AsyncIterator[Sequence[LineView]]:
    """The lines of these days in the order of the bills, a bounded number at a time."""
    for mark in await rows(pool(), DAYS, *merchant.names, since, until):
        last = 0
        while True:
            whose = (site_id, merchant.site_ids[0], *merchant.names)
            found = await rows(pool(), LINES, mark["id"], last, PAGE, *whose)
            if found:
                yield [_line(one, mark["day"]) for one in found]
            if len(found) < PAGE:
                break
            last = found[-1]["line"]


def _line(found: Row, day: date) -> LineView:
    values = {key: value for key, value in found.items() if key != "line"}
    return LineView(day=day, **values)
