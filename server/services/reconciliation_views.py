"""Reconciled days as finance sees them: on the pages, in the table, on the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from server.core.errors import NotFoundError
from server.core.reconciliation.compare import Finding, Kind, Sums
from server.core.reconciliation.cures import CURES, Act
from server.models.database import Row, pool, rows
from server.services.reconciliation_days import Merchant

DAYS = """
SELECT mark.*, mark.id AS day_id FROM reconciliation_day mark
WHERE mark.platform = $1 AND mark.merchant_id = $2 AND mark.day >= $3 AND mark.day < $4
ORDER BY mark.day
"""
# $2: of this mall alone (null: of all). A difference is settled once its case is closed.
DIFFERENCES = """
SELECT found.*, site.code AS site_code, shop.code AS shop_code, shown.closed_at AS case_closed_at,
    shown.decision
FROM reconciliation_difference found JOIN site ON site.id = found.site_id
LEFT JOIN payment_case shown ON shown.id = found.case_id
LEFT JOIN payment_order placed ON placed.out_trade_no = found.out_trade_no
LEFT JOIN top_up ON top_up.id = placed.top_up_id
LEFT JOIN tenancy ON tenancy.id = top_up.tenancy_id LEFT JOIN shop ON shop.id = tenancy.shop_id
WHERE found.day_id = ANY($1::bigint[]) AND ($2::bigint IS NULL OR found.site_id = $2)
ORDER BY found.cured_at IS NOT NULL, found.id LIMIT $3
"""
DIFFERENCES_MAX = 5_000


@dataclass(frozen=True, slots=True)
class DifferenceView:
    """One difference; open where it was neither cured nor decided."""

    finding: Finding
    site_code: str
    shop_code: str | None
    number: str
    out_trade_no: str
    our_fen: int | None
    our_state: str | None
    bill_fen: int | None
    bill_state: str | None
    answer: str
    case_id: int | None
    decision: str | None
    found_at: datetime
    cured_at: datetime | None
    is_open: bool

    @property
    def kind(self) -> Kind:
        """Which of the four."""
        return self.finding.kind

    @property
    def outcome(self) -> str:
        """What became of it: `cured`, `decided`, `case` or `waiting`."""
        if self.cured_at is not None:
            return "cured"
        if not self.is_open:
            return "decided"
        return "waiting" if self.case_id is None else "case"

    @property
    def cured_by(self) -> Act:
        """What cures its like by itself."""
        return CURES[self.finding].act


@dataclass(frozen=True, slots=True)
class DayView:
    """A merchant's day; `sums` are hidden where they are other malls' too."""

    day: date
    state: str  # agreed, differs, pending
    problem: str | None
    fetched_at: datetime | None
    finished_at: datetime | None
    changed_at: datetime | None
    bill: Sums | None
    ours: Sums | None
    differences: Sequence[DifferenceView]

    @property
    def open_count(self) -> int:
        """How many differences are neither cured nor decided."""
        return sum(one.is_open for one in self.differences)


async def days_of(
    merchant: Merchant, since: date, until: date, site_id: int | None = None
) -> Mapping[date, DayView]:
    """The days known from `since` until before `until`, as a manager of one mall (None: all) sees.

    Raises NotFoundError for a merchant by whom that mall is not paid.
    """
    if site_id is not None and site_id not in merchant.site_ids:
        raise NotFoundError("no such merchant")
    found = await rows(pool(), DAYS, *merchant.names, since, until)
    ids = [one["day_id"] for one in found]
    by_day: dict[int, list[DifferenceView]] = {}
    for one in await rows(pool(), DIFFERENCES, ids, site_id, DIFFERENCES_MAX):
        by_day.setdefault(one["day_id"], []).append(_difference(one))
    shares = site_id is not None and len(merchant.site_ids) > 1
    return {
        one["day"]: _day(one, by_day.get(one["day_id"], ()), shows_sums=not shares) for one in found
    }


def _difference(found: Row) -> DifferenceView:
    keys = ("site_code", "shop_code", "number", "out_trade_no", "our_fen", "our_state", "bill_fen")
    more = ("bill_state", "answer", "case_id", "decision", "found_at", "cured_at")
    values = {key: found[key] for key in (*keys, *more)}
    is_open = found["cured_at"] is None and found["case_closed_at"] is None
    return DifferenceView(finding=Finding(found["finding"]), is_open=is_open, **values)


def _day(found: Row, differences: Sequence[DifferenceView], *, shows_sums: bool) -> DayView:
    state = "pending"
    if found["finished_at"] is not None:
        state = "differs" if any(one.is_open for one in differences) else "agreed"
    names = ("payments", "payments_fen", "refunds", "refunds_fen")
    has_sums = shows_sums and found["finished_at"] is not None
    return DayView(
        day=found["day"],
        state=state,
        problem=found["problem"],
        fetched_at=found["fetched_at"],
        finished_at=found["finished_at"],
        changed_at=found["changed_at"],
        bill=Sums(**{name: found[f"bill_{name}"] for name in names}) if has_sums else None,
        ours=Sums(**{name: found[f"our_{name}"] for name in names}) if has_sums else None,
        differences=differences,
    )


def of_names(known: Sequence[Merchant], platform: str, merchant_id: str) -> Merchant:
    """The one of these; raises NotFoundError."""
    for merchant in known:
        if merchant.names == (platform, merchant_id):
            return merchant
    raise NotFoundError("no such merchant")
