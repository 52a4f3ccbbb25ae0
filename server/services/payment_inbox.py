"""The inbox of payment notices: kept and committed before they are answered, settled once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from payments.contract import (
    Notice,
    PaymentPlatform,
    Platform,
    Refund,
    RefundNotice,
    RefundStatus,
    Trade,
    TradeStatus,
)
from server.core.errors import UnavailableError
from server.core.refunds.parts import PartState
from server.models.database import Row, from_json, pool, row, rows, to_json, transaction
from server.services.crediting import Credited, Outcome, credit_within
from server.services.group_commit import GroupCommit
from server.services.payment_cases import NewCase, open_case
from server.services.refund_parts import doubted_in, told_within

NUMBER_MAX = 64
GROUP_MAX = 128  # notices in one commit
KEEP_S = 2.0  # a database that does not answer holds nobody up for longer
WAITING_MAX = 2_000  # for their commit; more are told to come again
# One statement is one transaction and one way there and back, whatever the number of notices. They
# are put in one order of keys by everybody, so that two groups with the same ones never wait for
# each other in a ring (docs/locks.md).
KEEP = """
WITH told AS (
    SELECT told.*, told.paid_fen <> top_up.amount_fen AS other_amount
    FROM unnest($1::int[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
                $7::text[], $8::jsonb[], $9::text[], $10::timestamptz[], $11::bigint[])
        AS told (place, site_id, platform, merchant_id, digest, out_trade_no, out_refund_no, trade,
                 content, received_at, paid_fen)
    LEFT JOIN payment_order ON told.paid_fen IS NOT NULL
        AND payment_order.out_trade_no = told.out_trade_no
        AND payment_order.platform = told.platform
        AND payment_order.merchant_id = told.merchant_id
    LEFT JOIN top_up ON top_up.id = payment_order.top_up_id
), kept AS (
    INSERT INTO payment_notice (site_id, platform, merchant_id, digest, out_trade_no,
                                out_refund_no, trade, content, received_at, attempts, try_at)
    SELECT site_id, platform, merchant_id, digest, out_trade_no, out_refund_no, trade, content,
           received_at, 0, received_at
    FROM told WHERE other_amount IS NOT TRUE ORDER BY platform, merchant_id, digest
    ON CONFLICT (platform, merchant_id, digest) DO NOTHING
    RETURNING id, platform, merchant_id, digest
)
SELECT told.other_amount, coalesce(kept.id, before.id) AS id FROM told
LEFT JOIN kept USING (platform, merchant_id, digest)
LEFT JOIN payment_notice before USING (platform, merchant_id, digest) ORDER BY told.place
"""
KEPT = """
SELECT id FROM payment_notice WHERE platform = $1 AND merchant_id = $2 AND digest = $3
"""
CLAIM = """
UPDATE payment_notice SET attempts = attempts + 1,
    try_at = $1::timestamptz + power(2, least(attempts, 12)) * interval '1 second'
WHERE id = ANY(ARRAY(
    SELECT id FROM payment_notice WHERE settled_at IS NULL AND try_at <= $1
    ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))
RETURNING id
"""
OPEN = "SELECT * FROM payment_notice WHERE id = $1 AND settled_at IS NULL FOR UPDATE"
SETTLED = "UPDATE payment_notice SET settled_at = $2, outcome = $3 WHERE id = $1"


class Kept(StrEnum):
    """Whether a notice may be answered with success."""

    ACCEPTED = "accepted"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True)
class Told:
    """A notice that proved itself, at whose door, and when."""

    site_id: int
    platform: PaymentPlatform
    notice: Notice | RefundNotice
    now: datetime


@dataclass(frozen=True, slots=True)
class Doubt:
    """A kept notice that may be older than what is known: its platform is to be asked.

    `state` is what its part is meanwhile.
    """

    notice_id: int
    site_id: int
    platform: Platform
    refund: Refund
    state: PartState


class Intake:
    """The way into the inbox of one door: notices that come together are committed together."""

    def __init__(self) -> None:
        self._group = GroupCommit(_keep_all, group_max=GROUP_MAX, waiting_max=WAITING_MAX)

    async def keep(self, told: Told) -> tuple[Kept, int | None]:
        """Keep a verified notice; one that contradicts its merchant or order becomes a case.

        Raises UnavailableError: it may be kept or not, and is to be told again.
        """
        contradiction = _contradiction(told.platform, told.notice)
        if contradiction is None:
            kept = await self._group.done(told)
            if kept["other_amount"] is not True:
                return Kept.ACCEPTED, kept["id"] or await _kept_by_another(told)
            contradiction = "other_amount"
        await _open_case(told, contradiction)
        return Kept.CONTRADICTED, None


async def keep(
    site_id: int, platform: PaymentPlatform, notice: Notice | RefundNotice, now: datetime
) -> tuple[Kept, int | None]:
    """As `Intake.keep`, for one that comes alone."""
    return await Intake().keep(Told(site_id, platform, notice, now))


async def _keep_all(told: Sequence[Told]) -> Sequence[Row]:
    """All in one commit; of each its number, or that its order is of another amount.

    Neither where another process keeps the same notice at this very moment.
    """
    values = [_values(one) for one in told]
    columns = [list(column) for column in zip(*values, strict=True)]
    try:
        async with asyncio.timeout(KEEP_S):
            return await rows(pool(), KEEP, list(range(len(told))), *columns)
    except TimeoutError:
        raise UnavailableError("the database is too slow") from None


def _values(told: Told) -> tuple[object, ...]:
    notice, about = told.notice, _about(told.notice)
    refund_no = about["out_refund_no"][:NUMBER_MAX] if "out_refund_no" in about else None
    is_paid = isinstance(notice, Notice) and notice.trade.status is TradeStatus.PAID
    return (
        told.site_id,
        *(told.platform.platform.value, notice.merchant_id, notice.digest),
        *(about["out_trade_no"][:NUMBER_MAX], refund_no, to_json(about), notice.raw, told.now),
        (notice.trade.paid_fen or 0) if isinstance(notice, Notice) and is_paid else None,
    )


async def _kept_by_another(told: Told) -> int | None:
    names = (told.platform.platform.value, told.notice.merchant_id, told.notice.digest)
    kept = await row(pool(), KEPT, *names)
    return kept["id"] if kept else None


def _contradiction(platform: PaymentPlatform, notice: Notice | RefundNotice) -> str | None:
    """What of a notice is not this merchant's; whether its amount is asked for, the tables say."""
    if notice.merchant_id != platform.merchant_id:
        return "other_merchant"
    if isinstance(notice, RefundNotice):
        return None
    if notice.app_id != platform.app_id:
        return "other_app"
    return None if notice.trade.currency == "CNY" else "other_currency"


async def _open_case(told: Told, contradiction: str) -> None:
    subject = f"notice:{told.platform.platform.value}:{told.notice.digest}"
    facts = _facts(told.platform, told.notice)
    async with transaction() as connection:
        case = NewCase(told.site_id, contradiction, subject, facts)
        await open_case(connection, case, told.now)


async def claim_open(now: datetime, limit: int) -> Sequence[int]:
    """Unsettled notices whose turn it is; each comes again, later and later, until settled."""
    async with transaction() as connection:
        return [one["id"] for one in await rows(connection, CLAIM, now, limit)]


async def settle(
    notice_id: int, now: datetime, *, asked: tuple[Doubt, Refund] | None = None
) -> Credited | Doubt | None:
    """Do what a kept notice says, credit or refund; None where that is done already.

    A Doubt, and nothing done, where the platform has to be asked first: call it again with the
    doubt and what it answered. It is a doubt again where the part has come further since.
    """
    async with transaction() as connection:
        notice = await row(connection, OPEN, notice_id)
        if notice is None:
            return None
        site_id, platform = notice["site_id"], Platform(notice["platform"])
        if notice["out_refund_no"] is None:
            credited = await credit_within(connection, site_id, platform, _trade(notice), now)
        else:
            refund = asked[1] if asked is not None else _refund(notice)
            state = await doubted_in(connection, refund)
            if state is not None and (asked is None or state is not asked[0].state):
                return Doubt(notice_id, site_id, platform, refund, state)
            tenancy_id = await told_within(connection, site_id, platform, refund, now)
            credited = Credited(Outcome.REFUND_TOLD, tenancy_id)
        await rows(connection, SETTLED, notice_id, now, credited.outcome.value)
        return credited


def _facts(platform: PaymentPlatform, notice: Notice | RefundNotice) -> dict[str, object]:
    of_app = {"app_id": notice.app_id} if isinstance(notice, Notice) else {}
    return {
        "platform": platform.platform.value,
        "merchant_id": notice.merchant_id,
        **of_app,
        "digest": notice.digest,
        **_about(notice),
    }


def _about(notice: Notice | RefundNotice) -> dict[str, Any]:
    if isinstance(notice, Notice):
        return _trade_facts(notice.trade)
    return {
        "out_trade_no": notice.refund.out_trade_no,
        "out_refund_no": notice.refund.out_refund_no,
        "status": notice.refund.status.value,
        "merchant_id": notice.refund.merchant_id,
        "refund_fen": notice.refund.refund_fen,
        "refund_id": notice.refund.refund_id,
        "finished_at": _iso(notice.refund.finished_at),
    }


def _trade_facts(trade: Trade) -> dict[str, Any]:
    return {
        "out_trade_no": trade.out_trade_no,
        "status": trade.status.value,
        "merchant_id": trade.merchant_id,
        "paid_fen": trade.paid_fen,
        "currency": trade.currency,
        "transaction_id": trade.transaction_id,
        "paid_at": _iso(trade.paid_at),
    }


def _trade(notice: Row) -> Trade:
    facts = from_json(notice["trade"])
    return Trade(
        out_trade_no=facts["out_trade_no"],
        status=TradeStatus(facts["status"]),
        merchant_id=facts["merchant_id"],
        paid_fen=facts["paid_fen"],
        currency=facts["currency"],
        transaction_id=facts["transaction_id"],
        paid_at=_time(facts["paid_at"]),
    )


def _refund(notice: Row) -> Refund:
    facts = from_json(notice["trade"])
    return Refund(
        out_refund_no=facts["out_refund_no"],
        out_trade_no=facts["out_trade_no"],
        status=RefundStatus(facts["status"]),
        merchant_id=facts["merchant_id"],
        refund_fen=facts["refund_fen"],
        refund_id=facts["refund_id"],
        finished_at=_time(facts["finished_at"]),
    )


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
