"""Giving back in the audit: quiet about what was decided and done, by name about what was not."""

from contextlib import suppress
from pathlib import Path
from string import Template

import pytest

from payments.contract import Platform, Trade, TradeStatus
from server.core.refunds.cases import CaseDecision
from server.models.database import pool, rows, transaction
from server.services import money_by_hand, refund_payouts
from server.services.approvals import DEFAULT_LIMITS_FEN, Decision
from server.services.audit import audit
from server.services.audit_refund_acts import RULE, audit_refund_acts
from server.services.audit_report import AuditReport
from server.services.audit_window import Window
from server.services.case_decisions import Verdict, decide_case
from server.services.crediting import credit
from tests.fakes.refunding import Refunding, refunding
from tests.scenarios.world import World, local

LARGE = DEFAULT_LIMITS_FEN["refund"] + 500  # above what one may give back, or pay out, alone
CASE_LARGE = DEFAULT_LIMITS_FEN["case_credit"] + 50
OPEN = "SELECT id FROM payment_case WHERE decided_at IS NULL"


async def approve(office: Refunding, approval_no: str | None, said: str = "approve") -> None:
    assert approval_no is not None
    await money_by_hand.decide(
        approval_no, office.people["olga"], Decision(said), reason="", now=office.world.now
    )


async def paid_out(office: Refunding, amount_fen: int, reference: str) -> str | None:
    """The approval that it waits for, if any."""
    sql = "SELECT out_refund_no AS no FROM refund_part WHERE state = 'to_pay' AND amount_fen = $1"
    (part,) = await rows(pool(), sql, amount_fen)
    names = (part["no"], "cash", reference)
    done = await refund_payouts.pay_out(*names, office.people["fen"], office.world.now)
    return done.approval_no


async def credited(office: Refunding, amount_fen: int) -> str | None:
    """A payment that is nobody's is this shop's; the approval that it waits for, if any."""
    world, number = office.world, f"nobody-{amount_fen}"
    merchant = office.wechat.merchant_id
    trade = Trade(number, TradeStatus.PAID, merchant, amount_fen, "CNY", number, world.now)
    await credit(world.site_id, Platform.WECHAT, trade, world.now)
    (case,) = await rows(pool(), OPEN)
    verdict = Verdict(CaseDecision.CREDIT, "本店所付", world.tenancy_id)
    return (await decide_case(case["id"], office.people["fen"], verdict, world.now)).approval_no


@pytest.fixture
async def office(database: None, tmp_path: Path) -> Refunding:
    """Each kind alone and by two; a refund that was rejected, and one that waits."""
    world = World(local("2026-05-20 10:00"))
    await world.open(tmp_path, balance_fen=1_000_000)
    made = await refunding(world)
    await made.ask(300, key="alone")
    await approve(made, (await made.ask(LARGE, key="by two")).approval_no)
    await approve(made, (await made.ask(LARGE + 1, key="no")).approval_no, "reject")
    await made.ask(LARGE + 2, key="waits")
    assert await paid_out(made, 300, "P-1") is None
    await approve(made, await paid_out(made, LARGE, "P-2"))
    assert await credited(made, 70) is None
    await approve(made, await credited(made, CASE_LARGE))
    return made


async def test_what_was_decided_and_done_passes(office: Refunding) -> None:
    report = await audit(lambda _: None)
    assert (report.violations, report.checked["refund_acts"]) == ([], 6)
    assert office.world.tenancy_id
    assert await blamed() == []


NAMES = {
    "refund": f"amount_fen = {LARGE} AND approval_no IS NOT NULL",
    "paid": f"credit_id IS NULL AND state = 'done' AND amount_fen = {LARGE}",
    "case": "id = (SELECT max(id) FROM payment_case)",
    "put": "(SELECT max(id) FROM ledger_transaction WHERE flow = 'suspense.credited')",
    "log": "act = 'approval_approved' AND facts ->> 'kind' =",
    "yes": "decision = 'approve' AND kind =",
}
REFUND, PART, CASE, APPROVAL = "refund R", "refund part R", "case ", "approval "
ACT, POSTED = "act ", "transaction "
FORGERIES: list[tuple[tuple[str, ...], list[str]]] = [
    # a refund: not as approved, without its approval or its log, twice, or never
    (("UPDATE refund SET amount_fen = amount_fen + 1 WHERE $refund",), [REFUND, APPROVAL]),
    (  # its payout had the same reason
        ("UPDATE refund SET reason = 'another' WHERE $refund",),
        [REFUND, PART, APPROVAL, APPROVAL],
    ),
    (("UPDATE refund SET asked_by = 'olga' WHERE $refund",), [REFUND, APPROVAL]),
    (("UPDATE refund SET tenancy_id = tenancy_id + 1 WHERE $refund",), [REFUND, APPROVAL]),
    (
        ("UPDATE refund SET wallet = 'fixed_charges_wallet' WHERE $refund",),
        [REFUND, APPROVAL],
    ),
    (("UPDATE refund SET approval_no = NULL WHERE $refund",), [REFUND, APPROVAL]),
    (
        ("UPDATE refund SET idempotency_key = 'another' WHERE $refund",),
        [REFUND, APPROVAL],
    ),
    (("UPDATE approval SET decision = 'reject' WHERE $yes 'refund'",), [REFUND]),
    (("DELETE FROM approval WHERE $yes 'refund'",), [REFUND]),
    (("DELETE FROM manager_act WHERE $log 'refund'",), [REFUND, APPROVAL]),
    (
        ("""UPDATE manager_act SET facts = facts || '{"amount_fen": 2}' WHERE $log 'refund'""",),
        [REFUND, APPROVAL],
    ),
    (("DELETE FROM refund WHERE $refund",), [APPROVAL, APPROVAL]),
    (("UPDATE refund SET started_at = NULL WHERE $refund",), [APPROVAL]),
    (("UPDATE refund SET started_at = now() WHERE status = 'waiting'",), [REFUND]),
    (("UPDATE refund SET started_at = now() WHERE status = 'rejected'",), [REFUND]),
    (
        ("UPDATE approval SET decision = 'approve' WHERE decision = 'reject'",),
        [APPROVAL],
    ),
    (("DELETE FROM manager_act WHERE act = 'refund'",), [REFUND]),
    (("DELETE FROM refund WHERE amount_fen = 300",), [ACT, ACT]),
    (
        (
            """INSERT INTO refund (no, site_id, tenancy_id, wallet, amount_fen, reason, asked_by,
                approval_no, idempotency_key, input_hash, status, asked_at, started_at, finished_at)
            SELECT 'R2', site_id, tenancy_id, wallet, amount_fen, reason, asked_by, approval_no,
                'more', input_hash, status, asked_at, started_at, finished_at
            FROM refund WHERE $refund""",
        ),
        ["refund R2"],
    ),
    *(  # as if a case had begun it
        (
            (f"UPDATE refund SET approval_no = NULL, idempotency_key = {key} WHERE $refund",),  # noqa: S608 - ours
            [APPROVAL, REFUND],
        )
        for key in ("'another'", "'outside:' || (SELECT max(id) FROM payment_case)")
    ),
    # a payout
    (("UPDATE refund_part SET reference = 'P-9' WHERE $paid",), [PART, APPROVAL]),
    (("UPDATE refund_part SET method = 'bank_transfer' WHERE $paid",), [PART, APPROVAL]),
    (("UPDATE refund_part SET paid_by = 'ed' WHERE $paid",), [PART, APPROVAL]),
    (("UPDATE refund_part SET amount_fen = amount_fen - 1 WHERE $paid",), [PART, APPROVAL]),
    (("UPDATE refund_part SET state = 'to_pay', finished_at = NULL WHERE $paid",), [APPROVAL]),
    (("UPDATE approval SET decision = 'reject' WHERE $yes 'refund_payout'",), [PART]),
    (("DELETE FROM manager_act WHERE $log 'refund_payout'",), [PART, APPROVAL]),
    (("DELETE FROM manager_act WHERE act = 'refund_payout'",), [PART]),
    (
        (
            """INSERT INTO manager_act (site_id, actor, act, subject, reason, facts, at)
            SELECT site_id, actor, act, subject, reason, facts, at FROM manager_act
            WHERE act = 'refund_payout'""",
        ),
        [PART],
    ),
    # a credited case
    (
        ("UPDATE ledger_transfer SET amount_fen = 1 WHERE transaction_id = $put",),
        [CASE, APPROVAL],
    ),
    (
        (
            """UPDATE ledger_transfer SET credit_account_id = (SELECT id FROM account
                WHERE kind = 'fixed_charges_wallet' LIMIT 1)
            WHERE transaction_id = $put""",
        ),
        [CASE, APPROVAL],
    ),
    (
        ("UPDATE ledger_transaction SET idempotency_key = 'x' WHERE id = $put",),
        [CASE, APPROVAL, POSTED],
    ),
    (
        ("""UPDATE ledger_transaction SET details = '{"reason": "another"}' WHERE id = $put""",),
        [CASE, APPROVAL],
    ),
    (("UPDATE payment_case SET decided_by = 'ed' WHERE $case",), [CASE, APPROVAL]),
    (("UPDATE payment_case SET decision = 'seen' WHERE $case",), [APPROVAL, POSTED]),
    (("UPDATE approval SET decision = 'reject' WHERE $yes 'case_credit'",), [CASE]),
    (
        (
            """UPDATE approval SET act = act || '{"amount_fen": 2}' WHERE $yes 'case_credit'""",
            """UPDATE manager_act SET facts = facts || '{"amount_fen": 2}'
            WHERE $log 'case_credit'""",
        ),
        [CASE, APPROVAL],
    ),
    (("DELETE FROM manager_act WHERE $log 'case_credit'",), [CASE, APPROVAL]),
    (("DELETE FROM manager_act WHERE act = 'case_credit'",), [CASE]),
]


async def blamed(*forgery: str) -> list[str]:
    """What is named while it stands; nothing of it stays."""
    report = AuditReport()
    with suppress(ZeroDivisionError):
        async with transaction() as connection:
            await rows(connection, "SET LOCAL session_replication_role = replica")
            for statement in forgery:
                await rows(connection, statement)
            await audit_refund_acts(connection, Window(), report, lambda _: None)
            raise ZeroDivisionError("undone")
    assert {one.rule for one in report.violations} <= {RULE}
    return [one.subject for one in report.violations]


async def test_each_forgery_is_named(office: Refunding) -> None:
    for forgery, subjects in FORGERIES:
        found = await blamed(*(Template(one).substitute(NAMES) for one in forgery))
        assert len(found) == len(subjects), (forgery, found)
        for one, subject in zip(found, subjects, strict=True):
            assert one.startswith(subject), (forgery, found)
    assert office.world.tenancy_id
    assert await blamed() == []
