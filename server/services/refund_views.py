"""Refunds and cases as managers see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from server.core.errors import NotFoundError
from server.core.refunds.cases import CaseDecision, choices
from server.models.database import Row, from_json, pool, rows
from server.services.wallets import WALLETS

LISTED_MAX = 100

_REFUNDS = """
SELECT refund.*, site.code AS site_code, site.timezone, shop.code AS shop_code
FROM refund JOIN site ON site.id = refund.site_id
LEFT JOIN tenancy ON tenancy.id = refund.tenancy_id LEFT JOIN shop ON shop.id = tenancy.shop_id
"""
REFUNDS = f"""{_REFUNDS} WHERE ($1::bigint IS NULL OR refund.site_id = $1)
    AND ($2::bigint IS NULL OR refund.tenancy_id = $2)
    AND (NOT $3 OR refund.finished_at IS NULL)
ORDER BY refund.finished_at IS NULL DESC, refund.id DESC LIMIT $4
"""
REFUND = f"{_REFUNDS} WHERE refund.no = $1 AND ($2::bigint IS NULL OR refund.site_id = $2)"
PARTS = "SELECT * FROM refund_part WHERE refund_id = ANY($1::bigint[]) ORDER BY id"
TO_PAY = """
SELECT count(*) AS parts FROM refund_part WHERE state = 'to_pay'
    AND finished_at IS NULL AND ($1::bigint IS NULL OR site_id = $1)
"""
_CASES = """
SELECT asked.*, site.code AS site_code, site.timezone, shop.code AS shop_code,
    credit.amount_fen AS suspended_fen
FROM payment_case asked JOIN site ON site.id = asked.site_id
LEFT JOIN tenancy ON tenancy.id = asked.tenancy_id LEFT JOIN shop ON shop.id = tenancy.shop_id
LEFT JOIN payment_credit credit ON credit.id = asked.credit_id
"""
CASES = f"""{_CASES} WHERE ($1::bigint IS NULL OR asked.site_id = $1)
    AND ($2::boolean IS NULL OR (asked.closed_at IS NULL) = $2)
ORDER BY asked.closed_at IS NULL DESC, asked.opened_at DESC, asked.id DESC LIMIT $3
"""
CASE = f"{_CASES} WHERE asked.id = $1 AND ($2::bigint IS NULL OR asked.site_id = $2)"


@dataclass(frozen=True, slots=True)
class PartView:
    """One part; `platform` None: paid out by hand."""

    out_refund_no: str
    amount_fen: int
    state: str
    platform: str | None
    out_trade_no: str | None
    attempts: int
    try_at: datetime | None
    finished_at: datetime | None
    code: str | None
    method: str | None
    reference: str | None
    paid_by: str | None


@dataclass(frozen=True, slots=True)
class RefundView:
    """A refund with its parts; `wallet` None: from suspense."""

    no: str
    site_code: str
    timezone: str
    shop_code: str | None
    wallet: str | None
    amount_fen: int
    reason: str
    asked_by: str
    approval_no: str | None
    status: str
    asked_at: datetime
    finished_at: datetime | None
    parts: tuple[PartView, ...]


@dataclass(frozen=True, slots=True)
class CaseView:
    """A case: `suspended_fen` is its money in suspense; `choices` are empty once it is decided."""

    id: int
    site_id: int
    site_code: str
    timezone: str
    kind: str
    facts: Mapping[str, str | int | None]
    shop_code: str | None
    suspended_fen: int | None
    opened_at: datetime
    decision: str | None
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None
    closed_at: datetime | None
    choices: tuple[CaseDecision, ...]


async def list_refunds(
    site_id: int | None, *, tenancy_id: int | None = None, only_open: bool = False
) -> list[RefundView]:
    """The newest refunds of a manager's malls (None: all), or of one tenancy; open ones first."""
    return await _with_parts(
        await rows(pool(), REFUNDS, site_id, tenancy_id, only_open, LISTED_MAX)
    )


async def find_refund(site_id: int | None, no: str) -> RefundView:
    """One refund of a manager's malls; raises NotFoundError."""
    found = await _with_parts(await rows(pool(), REFUND, no, site_id))
    if not found:
        raise NotFoundError(f"refund {no!r}")
    return found[0]


async def count_to_pay(site_id: int | None) -> int:
    """How many parts wait to be paid out by hand."""
    return int((await rows(pool(), TO_PAY, site_id))[0]["parts"])


async def list_cases(site_id: int | None, *, is_open: bool | None) -> list[CaseView]:
    """The newest cases of a manager's malls, open ones first; `is_open` None: all."""
    return [_case(one) for one in await rows(pool(), CASES, site_id, is_open, LISTED_MAX)]


async def find_case(site_id: int | None, case_id: int) -> CaseView:
    """One case of a manager's malls; raises NotFoundError."""
    found = await rows(pool(), CASE, case_id, site_id)
    if not found:
        raise NotFoundError(f"case {case_id}")
    return _case(found[0])


async def _with_parts(found: Sequence[Row]) -> list[RefundView]:
    parts: dict[int, list[PartView]] = {}
    for one in await rows(pool(), PARTS, [refund["id"] for refund in found]):
        parts.setdefault(one["refund_id"], []).append(_part(one))
    names = {kind.value: name for name, kind in WALLETS.items()}
    return [
        RefundView(
            no=one["no"],
            site_code=one["site_code"],
            timezone=one["timezone"],
            shop_code=one["shop_code"],
            wallet=names.get(one["wallet"]),
            amount_fen=one["amount_fen"],
            reason=one["reason"],
            asked_by=one["asked_by"],
            approval_no=one["approval_no"],
            status=one["status"],
            asked_at=one["asked_at"],
            finished_at=one["finished_at"],
            parts=tuple(parts.get(one["id"], ())),
        )
        for one in found
    ]


def _part(found: Row) -> PartView:
    return PartView(
        out_refund_no=found["out_refund_no"],
        amount_fen=found["amount_fen"],
        state=found["state"],
        platform=found["platform"],
        out_trade_no=found["out_trade_no"],
        attempts=found["attempts"],
        try_at=found["try_at"],
        finished_at=found["finished_at"],
        code=found["code"],
        method=found["method"],
        reference=found["reference"],
        paid_by=found["paid_by"],
    )


def _case(found: Row) -> CaseView:
    has_money = found["credit_id"] is not None
    return CaseView(
        id=found["id"],
        site_id=found["site_id"],
        site_code=found["site_code"],
        timezone=found["timezone"],
        kind=found["kind"],
        facts=from_json(found["facts"]),
        shop_code=found["shop_code"],
        suspended_fen=found["suspended_fen"],
        opened_at=found["opened_at"],
        decision=found["decision"],
        decided_by=found["decided_by"],
        decided_at=found["decided_at"],
        reason=found["reason"],
        closed_at=found["closed_at"],
        choices=choices(found["kind"], has_money=has_money) if not found["decided_at"] else (),
    )
