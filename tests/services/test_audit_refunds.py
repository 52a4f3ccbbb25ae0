"""Refunds by the audit: quiet about good ones, and by name about each way of forging them."""

from contextlib import suppress
from pathlib import Path
from string import Template

import pytest

from payments.contract import Platform, RefundStatus, Trade, TradeStatus
from server.models.database import rows, transaction
from server.services.audit import audit
from server.services.audit_refunds import RULE, audit_refunds
from server.services.audit_report import AuditReport
from server.services.audit_window import Window
from server.services.crediting import credit
from tests.fakes.refunding import Refunding, refunding
from tests.scenarios.world import World, local

POSTING = """
WITH event AS (
    INSERT INTO ledger_transaction
        (site_id, flow, idempotency_key, input_hash, booked_at, created_at, details)
    SELECT id, '{flow}', 'by hand', 'none', now(), now(), '{{}}' FROM site RETURNING id
)
INSERT INTO ledger_transfer (transaction_id, debit_account_id, credit_account_id, amount_fen)
SELECT event.id, debit.id, credit.id, 7 FROM event, account debit, account credit
WHERE debit.kind = '{debit}' AND credit.kind = '{credit}'
"""
NAMES = {
    "done": "(SELECT id FROM refund_part WHERE state = 'done' AND amount_fen = 5000)",
    "posted": "(SELECT id FROM ledger_transaction WHERE flow = 'refund.done')",
}

# what somebody does with the triggers switched off, and who is blamed for it
FORGERIES = [
    ("UPDATE refund_part SET state = 'failed' WHERE id = $done", "refund part"),
    ("UPDATE refund_part SET amount_fen = 4999 WHERE id = $done", "refund part"),
    ("UPDATE refund_part SET platform = 'alipay' WHERE id = $done", "refund part"),
    ("UPDATE refund_part SET state = 'done', finished_at = now() WHERE state = 'due'",
     "refund part"),
    ("UPDATE refund_part SET state = 'due', finished_at = NULL WHERE state = 'failed'",
     "refund part"),
    ("UPDATE ledger_transfer SET amount_fen = 5001 WHERE transaction_id = $posted",
     "refund part"),
    ("DELETE FROM refund_part WHERE id = $done", "transaction"),
    ("UPDATE refund SET wallet = 'fixed_charges_wallet' WHERE wallet IS NOT NULL", "refund R"),
    ("UPDATE refund SET amount_fen = amount_fen + 1", "refund R"),
    ("UPDATE refund SET status = 'done', finished_at = now() WHERE status = 'in_progress'",
     "refund R"),
    ("UPDATE refund SET no = 'another'||id", "transaction"),
    ("UPDATE top_up SET refunded_fen = 4999 WHERE refunded_fen > 0", "top-up"),
    ("UPDATE top_up SET status = 'paid' WHERE status = 'refunded'", "top-up"),
    ("UPDATE payment_credit SET amount_fen = 4999 WHERE amount_fen = 5000", "payment wechat"),
    (POSTING.format(flow="refund.done", debit="refunds_in_progress", credit="desk"),
     "refunds_in_progress of demo"),
    (POSTING.format(flow="refund.returned", debit="desk", credit="refunds_in_progress"),
     "transaction"),
    (POSTING.format(flow="suspense.refunded", debit="suspense", credit="desk"), "transaction"),
    (POSTING.format(flow="suspense.received", debit="desk", credit="suspense"),
     "suspense of demo"),
    ("DELETE FROM payment_case WHERE closed_at IS NULL", "suspense of demo"),
    ("UPDATE payment_case SET closed_at = now() WHERE decided_at IS NOT NULL", "suspense of demo"),
]  # fmt: skip


@pytest.fixture
async def office(database: None, tmp_path: Path) -> Refunding:
    """Done, failed, under way, by hand; paid twice and given back; a case that waits."""
    world = World(local("2026-05-20 10:00"))
    await world.open(tmp_path, balance_fen=1_000)
    made = await refunding(world)
    await world.pay(5_000, "key-1")
    twice = made.wechat.trades[next(iter(made.wechat.trades))]
    await made.ask(5_100, key="done")
    await made.work()
    made.finish()
    await made.work(after_s=60)
    await world.pay(300, "key-2")
    await made.ask(300, key="failed")
    made.wechat.refuses = "NO"
    await made.work()
    await world.pay(400, "key-3")
    await made.ask(400, key="due")
    unknown = Trade("nobody", TradeStatus.PAID, made.wechat.merchant_id, 70, "CNY", "T", world.now)
    await credit(world.site_id, Platform.WECHAT, unknown, world.now)
    paid = made.wechat.trades[made.wechat.requests[-1].out_trade_no]
    assert twice.paid_fen == 5_000
    await credit(
        world.site_id,
        Platform.WECHAT,
        Trade(paid.out_trade_no, TradeStatus.PAID, paid.merchant_id, 400, "CNY", "T-2", world.now),
        world.now,
    )
    return made


async def blamed_for(forgery: str) -> list[str]:
    """What is named while it stands; nothing of it stays."""
    report = AuditReport()
    with suppress(ZeroDivisionError):
        async with transaction() as connection:
            await rows(connection, "SET LOCAL session_replication_role = replica")
            await rows(connection, Template(forgery).substitute(NAMES))
            await audit_refunds(connection, Window(), report, lambda _: None)
            raise ZeroDivisionError("undone")
    assert {one.rule for one in report.violations} <= {RULE}
    return [one.subject for one in report.violations]


async def test_each_forgery_is_named(office: Refunding) -> None:
    states = [part[0] for part in await office.parts()]
    assert states == ["done", "to_pay", "failed", "due", "due"]
    assert RefundStatus.SUCCEEDED in {one.status for one in office.wechat.refunds.values()}
    good = await audit(lambda _: None)
    assert good.violations == []
    assert good.checked["refunds"] == 4
    for forgery, subject in FORGERIES:
        blamed = await blamed_for(forgery)
        assert any(one.startswith(subject) for one in blamed), (forgery, blamed)
    assert (await audit(lambda _: None)).passed
