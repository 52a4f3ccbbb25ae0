"""Money by hand in the audit: quiet about what was decided and done, by name about what was not."""

from string import Template

import pytest_asyncio

from server.services.audit import audit
from server.services.desk import take_desk_payment
from tests.services.audited import blamed
from tests.services.test_money_by_hand import Office, office

__all__ = ["office"]  # a fixture
LARGE = 600_000  # above what one may take at the desk alone


@pytest_asyncio.fixture
async def acted(office: Office) -> Office:
    """Each kind of act, alone and by two; asked and refused, asked and waiting; the operator's."""
    await office.adjust(key="alone")
    await office.say(await office.adjust(amount_fen=-20_000, key="by two"))
    await office.say(await office.adjust(amount_fen=30_000, key="no"), "reject")
    await office.adjust(amount_fen=40_000, key="waits", wallet="fixed_charges")
    await office.pay(receipt_no="R-1")
    await office.say(await office.pay(amount_fen=LARGE, receipt_no="R-2", method="bank_transfer"))
    await office.say(await office.reverse("R-1"))
    await take_desk_payment(
        1, 700, method="cash", receipt_no="R-3", paid_at=office.now, now=office.now
    )
    return office


async def test_what_was_decided_and_done_passes(acted: Office) -> None:
    report = await audit(lambda _: None)
    assert (report.violations, report.checked["approvals"]) == ([], 3)
    assert await blamed() == []


NAMES = {
    "log": "act = 'approval_approved' AND facts ->> 'kind' = 'adjustment'",
    "approved": "decision = 'approve' AND kind = 'adjustment'",
    "posting": """INSERT INTO ledger_transaction
        (site_id, flow, idempotency_key, input_hash, booked_at, created_at, details)
    SELECT site_id, flow, 'by hand', input_hash, booked_at, created_at, details
    FROM ledger_transaction WHERE id = (SELECT min(id) FROM ledger_transaction WHERE flow =""",
    "transfer": """INSERT INTO ledger_transfer
        (transaction_id, debit_account_id, credit_account_id, amount_fen)
    SELECT (SELECT max(id) FROM ledger_transaction), debit_account_id, credit_account_id,
           amount_fen
    FROM ledger_transfer
    WHERE transaction_id = (SELECT min(id) FROM ledger_transaction WHERE flow =""",
}
BY_TWO = ["by -20000 fen; that is what 0 acts say"]
UNDONE = "was approved, and no adjustment was posted for it"
FORGERIES: list[tuple[tuple[str, ...], list[str]]] = [
    (  # a posting by hand, just like another
        ("$posting 'adjustment.made')", "$transfer 'adjustment.made')"),
        ["moves a wallet by 500 fen; that is what 0 acts say"],
    ),
    (
        ("$posting 'desk_payment.reversed')", "$transfer 'desk_payment.reversed')"),
        ["moves a wallet by -500 fen; that is what 0 acts say"],
    ),
    (("DELETE FROM manager_act WHERE act = 'adjustment'",), ["by 500 fen; that is what 0 acts"]),
    (("DELETE FROM manager_act WHERE act = 'desk_payment'",), ["by 500 fen; that is what 0 acts"]),
    (  # said twice, done once
        (
            """INSERT INTO manager_act (site_id, actor, act, subject, reason, facts, at)
            SELECT site_id, 'other', act, subject, reason, facts, at FROM manager_act
            WHERE act = 'adjustment'""",
        ),
        ["by 500 fen; that is what 2 acts say"],
    ),
    (("DELETE FROM manager_act WHERE $log",), BY_TWO),
    (  # the log or the approval alone is another
        ("""UPDATE manager_act SET facts = facts || '{"amount_fen": -2}' WHERE $log""",),
        BY_TWO,
    ),
    (("""UPDATE approval SET act = act || '{"amount_fen": -2}' WHERE $approved""",), BY_TWO),
    (("""UPDATE approval SET act = act || '{"amount_fen": "x"}' WHERE $approved""",), BY_TWO),
    *(  # both are
        (
            (
                f"UPDATE approval SET act = act || '{change}' WHERE $approved",  # noqa: S608 - ours
                f"UPDATE manager_act SET facts = facts || '{change}' WHERE $log",  # noqa: S608 - ours
            ),
            BY_TWO,
        )
        for change in (
            '{"amount_fen": 20000}',
            '{"tenancy_id": 2}',
            '{"wallet": "fixed_charges"}',
            '{"reason": "another"}',
            '{"method": "cash"}',
        )
    ),
    (("UPDATE approval SET decision = 'reject' WHERE $approved",), BY_TWO),
    (  # approved, and never done
        ("UPDATE approval SET decision = 'approve' WHERE decision = 'reject'",),
        [UNDONE],
    ),
    (  # done under another key
        (
            """UPDATE ledger_transaction SET idempotency_key = 'x' WHERE idempotency_key = (
            SELECT act ->> 'key' FROM approval WHERE $approved)""",
        ),
        [*BY_TWO, UNDONE],
    ),
    (
        ("UPDATE ledger_transfer SET amount_fen = 600001 WHERE amount_fen = 600000",),
        ["by 600001 fen; that is what 0 acts say"],
    ),
    (
        ("UPDATE desk_receipt SET taken_by = 'fen' WHERE taken_by = 'operator'",),
        ["by 700 fen; that is what 0 acts say"],
    ),
]


async def test_each_forgery_is_named(acted: Office) -> None:
    for forgery, details in FORGERIES:
        found = await blamed(*(Template(one).substitute(NAMES) for one in forgery))
        assert len(found) == len(details), (forgery, found)
        for one, detail in zip(found, details, strict=True):
            assert detail in one, (forgery, found)
    assert await blamed() == []
