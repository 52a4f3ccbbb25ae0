"""What a manager decides on a case, done in the decision's own transaction, once.

Which decisions a kind has is a table of the core (`refunds/cases`). What crosses the network goes
out later, by the refund's parts; a case is closed once what was decided is done.
"""

from dataclasses import dataclass
from datetime import datetime

from payments.contract import Refund, RefundStatus
from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.core.ledger.accounts import AccountRef
from server.core.ledger.flows import suspense_credited
from server.core.refunds.cases import CaseDecision, CaseKind, check_choice
from server.core.refunds.parts import PartEvent
from server.core.refunds.plan import PlannedPart
from server.models.database import Connection, Row, from_json, row, rows, transaction
from server.services import approvals
from server.services.approvals import Approval, Ask
from server.services.emergency_credit import end_within
from server.services.journal import post
from server.services.locks import lock_open_tenancy, lock_tenancies
from server.services.manager_acts import Deed, check_reason, record_act
from server.services.managers import Manager
from server.services.payment_cases import close_case, mark_decided
from server.services.refund_parts import Said, lock_part, take_in_within
from server.services.refund_payouts import withdraw_by_hand
from server.services.refund_starts import (
    RefundWish,
    case_refund_within,
    insert_parts,
    outside_refund_within,
    returned_refund_within,
)
from server.services.shipping import owe_within
from server.services.supply import decide_within
from server.services.wallets import WALLETS

CASE_CREDIT = "case_credit"
DECIDED = "case_decided"

CASE = "SELECT * FROM payment_case WHERE id = $1"
LOCK = "SELECT id FROM payment_case WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE"
AMOUNT = "SELECT amount_fen FROM payment_credit WHERE id = $1"
SHOP = """
SELECT shop.code FROM tenancy JOIN shop ON shop.id = tenancy.shop_id WHERE tenancy.id = $1
"""
CASE_OF_PART = """
SELECT refund.case_id FROM refund_part JOIN refund ON refund.id = refund_part.refund_id
WHERE refund_part.out_refund_no = $1
"""
# A payment that something went back of outside: whose wallet it is in, or the case that holds it.
PAYMENT = """
SELECT credit.id AS credit_id, credit.platform, credit.merchant_id, credit.out_trade_no,
    credit.amount_fen, coalesce(put.tenancy_id, top_up.tenancy_id) AS tenancy_id,
    coalesce(put.kind, top_up.wallet) AS wallet, held.id AS case_id,
    posted.flow = 'top_up.settled' OR put.kind IS NOT NULL AS in_wallet,
    held.decided_at IS NULL AND held.closed_at IS NULL AS is_open,
    credit.amount_fen - coalesce((SELECT sum(part.amount_fen) FROM refund_part part
        WHERE part.credit_id = credit.id AND part.state NOT IN ('failed', 'replaced')), 0)::bigint
        AS left_fen,
    EXISTS (SELECT 1 FROM refund_part WHERE out_refund_no = $4) AS is_known
FROM payment_credit credit
JOIN ledger_transaction posted ON posted.id = credit.ledger_transaction_id
LEFT JOIN payment_order ON payment_order.id = credit.order_id
LEFT JOIN top_up ON top_up.id = payment_order.top_up_id
LEFT JOIN payment_case held ON held.credit_id = credit.id
LEFT JOIN LATERAL (
    SELECT account.tenancy_id, account.kind FROM ledger_transaction moved
    JOIN ledger_transfer transfer ON transfer.transaction_id = moved.id
    JOIN account ON account.id = transfer.credit_account_id
    WHERE moved.site_id = held.site_id AND moved.idempotency_key = 'case:' || held.id || ':credited'
) put ON true
WHERE credit.platform = $1 AND credit.merchant_id = $2 AND credit.out_trade_no = $3
ORDER BY posted.flow = 'top_up.settled' DESC, credit.id LIMIT 1
"""


class DecidedError(ConflictError):
    """Somebody decided it already; nothing was changed."""

    code = "case_decided"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to become of a case; `tenancy_id` and `wallet` only to credit it.

    `amount_fen` only to record what went back outside, where the platform did not say how much.
    """

    decision: CaseDecision
    reason: str
    tenancy_id: int | None = None
    wallet: str = "electricity"
    amount_fen: int | None = None

    def __post_init__(self) -> None:
        check_reason(self.reason)
        if self.wallet not in WALLETS:
            raise InvalidInputError(f"wallet is one of {', '.join(WALLETS)}")
        if (self.decision is CaseDecision.CREDIT) != (self.tenancy_id is not None):
            raise InvalidInputError("a shop is named to credit, and only then", code="shop_needed")


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of it: done, or waiting for a second person; whose pages should hear of it."""

    approval_no: str | None = None
    tenancy_id: int | None = None


async def decide_case(case_id: int, manager: Manager, verdict: Verdict, now: datetime) -> Decided:
    """Decide a case of the manager's malls, once; what is credited above a limit by two people.

    Raises NotFoundError, DecidedError, ConflictError (`not_for_this_case`, …).
    """
    async with transaction() as connection:
        case = await _lock(connection, case_id, manager, verdict)
        check_choice(case["kind"], verdict.decision, has_money=case["credit_id"] is not None)
        if verdict.decision is CaseDecision.CREDIT:
            decided = await _ask_or_credit(connection, case, manager, verdict, now)
        else:
            await _do(connection, case, manager, verdict, now)
            decided = Decided(tenancy_id=case["tenancy_id"])
        if decided.approval_no is None:
            await _record(connection, case, manager, verdict, now)
        return decided


async def carry_out(connection: Connection, approval: Approval, now: datetime) -> None:
    """Credit what a second person agreed to; DecidedError, TenancyEndedError."""
    act = approval.act
    await rows(connection, LOCK, [int(act["case_id"])])
    case = await row(connection, CASE, int(act["case_id"]))
    if case is None or case["decided_at"] is not None:
        raise DecidedError(f"case {act['case_id']}")
    verdict = Verdict(
        CaseDecision.CREDIT, str(act["reason"]), int(act["tenancy_id"]), str(act["wallet"])
    )
    await _credit(connection, case, int(act["amount_fen"]), verdict, approval.asked_by, now)


async def _lock(connection: Connection, case_id: int, manager: Manager, verdict: Verdict) -> Row:
    """The open case as it is under all locks that its decision needs (docs/locks.md)."""
    seen = await row(connection, CASE, case_id)
    if seen is None or manager.site_id not in (None, seen["site_id"]):
        raise NotFoundError(f"case {case_id}")
    payment = await _payment(connection, seen)  # of another tenancy, where a manager put it there
    owner_id = payment["tenancy_id"] if payment is not None else None
    tenancies = {verdict.tenancy_id, seen["tenancy_id"], owner_id} - {None}
    await lock_tenancies(connection, [one for one in tenancies if one is not None])
    await rows(connection, LOCK, [case_id, *await _held(connection, seen)])
    case = await row(connection, CASE, case_id)
    if case is None or case["decided_at"] is not None:
        raise DecidedError(f"case {case_id}")
    return case


async def _held(connection: Connection, case: Row) -> list[int]:
    """The cases that hold the money it is about: they are locked with it, in one order."""
    payment = await _payment(connection, case)
    of_part = await row(connection, CASE_OF_PART, case["subject"])
    found = [one["case_id"] for one in (payment, of_part) if one is not None]
    return [case_id for case_id in found if case_id is not None]


async def _payment(connection: Connection, case: Row) -> Row | None:
    """The payment that a case about an outside refund names."""
    facts = from_json(case["facts"])
    names = (facts.get("platform"), facts.get("merchant_id"), facts.get("out_trade_no"))
    return await row(connection, PAYMENT, *names, facts.get("out_refund_no"))


async def _do(
    connection: Connection, case: Row, manager: Manager, verdict: Verdict, now: datetime
) -> None:
    decision = verdict.decision
    if decision is CaseDecision.AGAIN:
        await take_in_within(connection, case["subject"], Said(PartEvent.ASKED_AGAIN), now)
        return
    by = (decision.value, manager.name, verdict.reason, now)
    await mark_decided(connection, case["id"], *by)
    if decision is CaseDecision.SEEN:
        await close_case(connection, case["id"], now)
    elif decision is CaseDecision.REFUND:
        await case_refund_within(
            connection, case["id"], asked_by=manager.name, reason=verdict.reason, now=now
        )
    elif decision is CaseDecision.RECORD:
        await _record_outside(connection, case, manager, verdict, now)
        await close_case(connection, case["id"], now)
    elif case["kind"] == CaseKind.REFUND_RETURNED.value:
        await _take_back(connection, case, manager, verdict, now)
        await close_case(connection, case["id"], now)
    elif decision is CaseDecision.GIVE_BACK:
        await take_in_within(connection, case["subject"], Said(PartEvent.GIVEN_BACK), now)
    elif decision is CaseDecision.BY_HAND:
        await _turn_to_hand(connection, case["subject"], now)


async def _take_back(
    connection: Connection, case: Row, manager: Manager, verdict: Verdict, now: datetime
) -> None:
    """What the payer's bank sent back is to be paid out by hand, or is the wallet's again."""
    part = await lock_part(connection, case["subject"])
    if part is None or part["wallet"] is None:
        raise ConflictError("it was in no wallet", code="not_for_this_case")
    number = await returned_refund_within(
        connection, part, verdict.reason, asked_by=manager.name, now=now
    )
    if verdict.decision is CaseDecision.GIVE_BACK:
        await take_in_within(connection, number, Said(PartEvent.GIVEN_BACK), now)


async def _turn_to_hand(connection: Connection, out_refund_no: str, now: datetime) -> None:
    """Another part of the same refund has the money, before this one gives it up."""
    part = await lock_part(connection, out_refund_no)
    if part is None:
        raise NotFoundError(f"refund part {out_refund_no!r}")
    refund = {"id": part["refund_id"], "site_id": part["site_id"]}
    await insert_parts(connection, refund, [PlannedPart(None, part["amount_fen"], now)], {}, now)
    await take_in_within(connection, out_refund_no, Said(PartEvent.TURNED_TO_HAND), now)


async def _ask_or_credit(
    connection: Connection, case: Row, manager: Manager, verdict: Verdict, now: datetime
) -> Decided:
    amount_fen = int((await rows(connection, AMOUNT, case["credit_id"]))[0]["amount_fen"])
    tenancy_id = verdict.tenancy_id
    shop = await row(connection, SHOP, tenancy_id)
    if shop is None or tenancy_id is None:
        raise NotFoundError("no such tenancy")
    facts = {
        "shop": str(shop["code"]),
        "tenancy_id": tenancy_id,
        "amount_fen": amount_fen,
        "wallet": verdict.wallet,
        "case_id": case["id"],
        "case": case["kind"],
    }
    subject, key = f"shop:{shop['code']}", f"case:{case['id']}"
    ask = Ask(case["site_id"], CASE_CREDIT, tenancy_id, subject, verdict.reason, key, False, facts)  # noqa: FBT003  may be asked for again
    asked = await approvals.asked_before(connection, ask, now)
    if asked is not None:
        return Decided(approval_no=asked.no)
    alone = await approvals.may_alone(
        *(connection, case["site_id"], CASE_CREDIT),
        actor=manager.name,
        subject=subject,
        amount_fen=amount_fen,
        now=now,
    )
    if not alone:
        asked = await approvals.ask_within(connection, ask, manager, now)
        return Decided(approval_no=asked.no)
    await _credit(connection, case, amount_fen, verdict, manager.name, now)
    deed = Deed(case["site_id"], manager.name, CASE_CREDIT, subject, verdict.reason, ask.act)
    await record_act(connection, deed, now)
    return Decided(tenancy_id=tenancy_id)


async def _credit(
    connection: Connection, case: Row, amount_fen: int, verdict: Verdict, by: str, now: datetime
) -> None:
    """From suspense to the wallet, once a case; whoever moved out since gets nothing."""
    tenancy_id = verdict.tenancy_id
    if tenancy_id is None:
        raise InvalidInputError("a shop is named to credit", code="shop_needed")
    site_id = await lock_open_tenancy(connection, tenancy_id)
    if site_id != case["site_id"]:
        raise InvalidInputError("a shop of the mall that has the money", code="shop_needed")
    wallet = AccountRef(WALLETS[verdict.wallet], tenancy_id)
    posting = suspense_credited(wallet, amount_fen, {"reason": verdict.reason})
    await post(connection, site_id, posting, key=f"case:{case['id']}:credited", booked_at=now)
    await owe_within(connection, case["credit_id"], now)
    await mark_decided(connection, case["id"], verdict.decision.value, by, verdict.reason, now)
    await close_case(connection, case["id"], now)
    await end_within(connection, [tenancy_id])
    await decide_within(connection, [tenancy_id], now)


async def _record_outside(
    connection: Connection, case: Row, manager: Manager, verdict: Verdict, now: datetime
) -> None:
    """Money went back without us: out of the wallet, or of the suspense, that has it."""
    facts = from_json(case["facts"])
    await withdraw_by_hand(connection, facts.get("out_refund_no"), now)
    payment = await _payment(connection, case)
    if payment is None:
        raise ConflictError("no payment of ours", code="no_such_payment")
    amount_fen = verdict.amount_fen or facts.get("refund_fen") or payment["left_fen"]
    if not 1 <= amount_fen <= payment["left_fen"]:
        raise ConflictError(f"{payment['left_fen']} fen are left of it", code="above_payment")
    number = None if payment["is_known"] else facts.get("out_refund_no")
    if payment["in_wallet"]:
        names = {kind.value: name for name, kind in WALLETS.items()}
        wish = RefundWish(
            payment["tenancy_id"], amount_fen, verdict.reason, names[payment["wallet"]]
        )
        key = f"outside:{case['id']}"
        number = await outside_refund_within(
            connection, wish, payment, asked_by=manager.name, key=key, now=now, number=number
        )
    else:
        if not payment["is_open"] or amount_fen != payment["amount_fen"]:
            raise ConflictError("its own case has to be decided", code="case_decided")
        by = (CaseDecision.REFUND.value, manager.name, verdict.reason, now)
        await mark_decided(connection, payment["case_id"], *by)
        number = await case_refund_within(
            *(connection, payment["case_id"]),
            asked_by=manager.name,
            reason=verdict.reason,
            now=now,
            number=number,
        )
    done = Refund(
        number, payment["out_trade_no"], RefundStatus.SUCCEEDED, payment["merchant_id"], amount_fen
    )
    await take_in_within(connection, number, Said(PartEvent.SUCCEEDED, done), now)


async def _record(
    connection: Connection, case: Row, manager: Manager, verdict: Verdict, now: datetime
) -> None:
    shop = await row(connection, SHOP, case["tenancy_id"])
    facts = {
        "case_id": case["id"],
        "kind": case["kind"],
        "subject": case["subject"],
        "decision": verdict.decision.value,
        "facts": from_json(case["facts"]),
    }
    subject = f"shop:{shop['code']}" if shop is not None else f"case:{case['id']}"
    deed = Deed(case["site_id"], manager.name, DECIDED, subject, verdict.reason, facts)
    await record_act(connection, deed, now)
