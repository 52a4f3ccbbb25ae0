"""Fixed charges proved: each charged day rated afresh, posted as it says, and paid by one tenancy.

What may be taken from elsewhere is: the tenancy's time, the version of each charge on that day. How
much area or capacity the shop had is what the statement names; a shop's own may have changed.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import date

from server.core.errors import InvalidInputError
from server.core.settlement.document import document_differences
from server.core.settlement.fixed_day import (
    NamedCharge,
    charge_fixed_day,
    fixed_day_document,
    read_named_charges,
)
from server.core.tariff.parse import parse_fixed_charge
from server.core.tariff.versions import FixedCharge, fixed_charge_on
from server.models.database import Connection, Row, from_json, rows
from server.services.audit_charges import NAMED_NOWHERE
from server.services.audit_report import AuditReport, Progress
from server.services.audit_window import Window

BATCH = 500
RATED, POSTED, PAID = "fixed_charge_rated", "fixed_charge_posted", "fixed_charge_paid_once"

# In the order of the primary key, from behind the last one seen. OFFSET 0 and LIMIT 1 keep the rest
# to steps into keys, whatever the statistics say.
STATEMENTS = """
SELECT charged.site_id, charged.tenancy_id, charged.day, charged.version, charged.amount_fen,
       charged.document, tenancy.id IS NOT NULL AS is_of_tenancy, tenancy.fixed_open_day,
       (tenancy.opened_at AT TIME ZONE site.timezone)::date AS moved_in,
       (tenancy.closed_at AT TIME ZONE site.timezone)::date AS moved_out,
       (SELECT coalesce(sum(posted.amount_fen), 0)::text FROM (
            SELECT transfer.amount_fen, transfer.debit_account_id
            FROM ledger_transaction event
            JOIN ledger_transfer transfer ON transfer.transaction_id = event.id
            WHERE event.id = charged.ledger_transaction_id AND event.site_id = charged.site_id
              AND event.flow = 'fixed_charge.charged' OFFSET 0
        ) AS posted
        WHERE (SELECT account.kind = 'fixed_charges_wallet'
                   AND account.tenancy_id = charged.tenancy_id
               FROM account WHERE account.id = posted.debit_account_id)) AS posted_fen,
       (SELECT min(neighbour.id) FROM tenancy neighbour
        CROSS JOIN LATERAL (
            SELECT 1 FROM fixed_charge_statement other
            WHERE other.site_id = charged.site_id AND other.tenancy_id = neighbour.id
              AND other.day = charged.day LIMIT 1
        ) AS paid
        WHERE neighbour.shop_id = tenancy.shop_id AND neighbour.id < tenancy.id) AS paid_by
FROM (
    SELECT * FROM fixed_charge_statement
    WHERE (site_id, tenancy_id, day, version) > ($1::bigint, $2::bigint, $3::date, $4::integer)
      AND day >= $6 AND day < $7
    ORDER BY site_id, tenancy_id, day, version LIMIT $5
) AS charged
LEFT JOIN tenancy ON tenancy.id = charged.tenancy_id AND tenancy.site_id = charged.site_id
LEFT JOIN site ON site.id = charged.site_id
ORDER BY charged.site_id, charged.tenancy_id, charged.day, charged.version
"""
CHARGES = """
SELECT site_id, code, definition FROM fixed_charge_version
WHERE site_id = ANY($1::bigint[]) ORDER BY site_id, code, valid_from
"""
NO_STATEMENT = NAMED_NOWHERE.replace("statement", "fixed_charge_statement")
FLOWS = ("fixed_charge.charged", "fixed_charge.reversed", "fixed_charge.corrected")

Charges = Mapping[tuple[int, str], Sequence[FixedCharge]]


async def audit_fixed_charges(
    connection: Connection, window: Window, report: AuditReport, progress: Progress
) -> None:
    """Every charged day of the window, batch by batch, and every posting of a fixed charge."""
    done = 0
    async for batch in _statements(connection, window):
        charges = await _charges(connection, {one["site_id"] for one in batch})
        for one in batch:
            _audit(report, one, charges)
        done += len(batch)
        progress(f"{done} days of fixed charges rated afresh")
    report.checked["fixed_charge_statements"] = done
    for one in await rows(connection, NO_STATEMENT, *window.ids, list(FLOWS)):
        detail = f"is a {one['flow']} for day {one['day']}, and no such statement names it"
        report.blame(POSTED, one["subject"], detail)


async def _statements(connection: Connection, window: Window) -> AsyncIterator[Sequence[Row]]:
    last: tuple[int, int, date, int] = (0, 0, date.min, 0)
    while batch := await rows(connection, STATEMENTS, *last, BATCH, *window.days):
        yield batch
        end = batch[-1]
        last = (end["site_id"], end["tenancy_id"], end["day"], end["version"])


async def _charges(connection: Connection, site_ids: set[int]) -> Charges:
    charges: dict[tuple[int, str], list[FixedCharge]] = {}
    for one in await rows(connection, CHARGES, list(site_ids)):
        charge = parse_fixed_charge(from_json(one["definition"]))
        charges.setdefault((one["site_id"], one["code"]), []).append(charge)
    return charges


def _audit(report: AuditReport, one: Row, charges: Charges) -> None:
    subject = f"fixed charges of tenancy {one['tenancy_id']} day {one['day']}"
    try:
        named = read_named_charges(from_json(one["document"]))
        detail = _rating_fault(one, named, charges)
    except InvalidInputError as error:
        detail = error.detail
    if detail is not None:
        report.blame(RATED, subject, detail)
    if one["posted_fen"] != str(one["amount_fen"]):
        detail = f"says {one['amount_fen']} fen, {one['posted_fen']} were posted"
        report.blame(POSTED, subject, detail)
    for detail in _payer_faults(one):
        report.blame(PAID, subject, detail)


def _rating_fault(one: Row, named: Sequence[NamedCharge], charges: Charges) -> str | None:
    """What is wrong with the document or the amount beside it."""
    if one["version"] != 1:
        return f"is a version {one['version']}, and charged days are not corrected"
    rated: list[tuple[FixedCharge, int]] = []
    for code, valid_from, quantity in named:
        charge = fixed_charge_on(charges.get((one["site_id"], code), ()), one["day"])
        if charge is None or charge.valid_from != valid_from:
            valid = "none was valid" if charge is None else f"that of {charge.valid_from} was valid"
            return f"names {code}'s version of {valid_from}; {valid}"
        rated.append((charge, quantity))
    charged = charge_fixed_day(one["day"], rated)
    different = document_differences(from_json(one["document"]), fixed_day_document(charged))
    if charged.amount_fen != one["amount_fen"]:
        different = tuple(dict.fromkeys((*different, "amount_fen")))
    return f"differs in {', '.join(different)}" if different else None


def _payer_faults(one: Row) -> Iterator[str]:
    """A day is one tenancy's: that which has the shop when the day ends."""
    if not one["is_of_tenancy"]:
        yield "is of a tenancy that is not there"
        return
    if one["day"] < one["moved_in"]:
        yield f"is before the tenancy, which moved in on {one['moved_in']}"
    if one["moved_out"] is not None and one["day"] >= one["moved_out"]:
        yield f"is the next one's: the tenancy moved out on {one['moved_out']}"
    if one["fixed_open_day"] is None or one["day"] >= one["fixed_open_day"]:
        yield f"is charged, and the day to be charged next is {one['fixed_open_day']}"
    if one["paid_by"] is not None:
        yield f"of the shop is charged to tenancy {one['paid_by']} too"
