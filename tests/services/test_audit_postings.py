"""The audit's two canonical texts of a posting, the database's and the core's, are one."""

from datetime import UTC, datetime

from server.core.ledger.accounts import electricity_wallet, fixed_charges_wallet
from server.core.ledger.flows import (
    desk_payment,
    energy_corrected,
    fixed_charge_corrected,
    move_out_paid,
)
from server.core.ledger.transfer import HASH_VERSION, Details
from server.models.database import pool, row, transaction
from server.services.audit_journal import DOUBTFUL, ROUTES, audit_journal
from server.services.audit_report import AuditReport
from server.services.audit_window import ID_MAX, Window, snapshot
from server.services.journal import Entry, post_many
from server.services.site_import import ImportReport

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)


async def test_whatever_was_posted_is_found_as_it_was(mall: ImportReport) -> None:
    """What is plain ASCII never reaches the second judge; all else does, and is in order."""
    mine = (await row(pool(), "SELECT id FROM tenancy") or {})["id"]
    plain: Details = {
        "b": "x",
        "a": -(2**63 - 1),
        "aa": 0,
        "z_1": "a\"b\\c/\n\t\r\b\f\x01 {}[],:'",
        "c": "",
    }
    odd: Details = {"reason": "退款\x7f\u2028 𝄞 é"}
    wallet = electricity_wallet(mine)
    postings = [
        desk_payment("cash", wallet, 10_003, plain),
        move_out_paid("cash", wallet, 10_000, rounding_fen=3, details=odd),
        energy_corrected(wallet, reversed_fen=7, charged_fen=9),
        fixed_charge_corrected(fixed_charges_wallet(mine), reversed_fen=9, charged_fen=7),
    ]
    entries = [Entry(one, str(place), NOW) for place, one in enumerate(postings) if one]
    async with transaction() as connection:
        written = await post_many(connection, mall.site_id, entries)
    report = AuditReport()
    async with snapshot() as connection:
        found = await row(connection, DOUBTFUL, 0, ID_MAX, *ROUTES, str(HASH_VERSION)) or {}
        await audit_journal(connection, Window(), report, lambda _: None)
    assert found["doubtful"] == [written[1].transaction_id]
    assert report.violations == []
