"""Proving the books: what the journal, the wallets, the payments and the statements say agrees.

Each part is one question after the other to one connection that sees one state of the books: what
is written meanwhile is no false alarm. Sums are made in the database; statements are rated afresh
in batches, so memory stays flat. What a report does not name under `checked` was not checked.
"""

from datetime import date

from server.services.audit_by_hand import audit_by_hand
from server.services.audit_charges import audit_charges
from server.services.audit_days import audit_days
from server.services.audit_desk import audit_desk
from server.services.audit_fixed_charges import audit_fixed_charges
from server.services.audit_journal import audit_journal, audit_wallets
from server.services.audit_payments import audit_payments
from server.services.audit_refund_acts import audit_refund_acts
from server.services.audit_refunds import audit_refunds
from server.services.audit_report import AuditReport, Progress
from server.services.audit_window import snapshot, window_of

__all__ = ["AuditReport", "Progress", "audit"]


async def audit(
    progress: Progress, *, since: date | None = None, until: date | None = None
) -> AuditReport:
    """Prove all books, or those of the days from `since` through `until`, and all wallets.

    A day's books are its statements, and what was written in the journal from its first to its
    last instant. The report names each violation.
    """
    report = AuditReport(since=since, until=until)
    async with snapshot() as connection:
        window = await window_of(connection, since, until)
        await audit_journal(connection, window, report, progress)
        await audit_wallets(connection, report, progress)
        await audit_payments(connection, window, report, progress)
        await audit_refunds(connection, window, report, progress)
        await audit_refund_acts(connection, window, report, progress)
        await audit_desk(connection, window, report, progress)
        await audit_by_hand(connection, window, report, progress)
        await audit_charges(connection, window, report, progress)
        await audit_days(connection, window, report, progress)
        await audit_fixed_charges(connection, window, report, progress)
    return report
