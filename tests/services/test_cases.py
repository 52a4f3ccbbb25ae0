"""Cases: each kind ends by what a manager decides, once, with its money where it belongs."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from payments.contract import Method, Platform, Refund, RefundStatus, Trade, TradeStatus
from server.core.errors import ConflictError, InvalidInputError, MallwattError, NotFoundError
from server.core.refunds.cases import CaseDecision
from server.models.database import Row, pool, rows
from server.services import case_decisions, money_by_hand, refund_payouts
from server.services.approvals import DEFAULT_LIMITS_FEN, Decision, OwnApprovalError
from server.services.audit import audit
from server.services.case_decisions import Decided, DecidedError, Verdict
from server.services.crediting import Outcome, credit
from server.services.desk import DeskPayment
from server.services.payment_attempts import Payer, change_method
from server.services.payment_inbox import Kept, keep, settle
from server.services.refund_payouts import PaidOutError
from server.workers.inbox import settle_notices
from tests.fakes.refunding import Refunding, refunding
from tests.scenarios.world import World, local
from tests.services.money import sum_of_all_accounts_fen, wallet_fen

D = CaseDecision


@pytest.fixture
async def office(database: None, tmp_path: Path) -> Refunding:
    world = World(local("2026-05-20 10:00"))
    await world.open(tmp_path, balance_fen=0)
    return await refunding(world)


async def case_of(kind: str) -> Row:
    (found,) = await rows(pool(), "SELECT * FROM payment_case WHERE kind = $1", kind)
    return found


async def decide(
    office: Refunding,
    kind: str,
    decision: CaseDecision,
    who: str = "fen",
    *,
    amount_fen: int | None = None,
) -> Decided:
    case = await case_of(kind)
    tenancy_id = office.world.tenancy_id if decision is D.CREDIT else None
    verdict = Verdict(decision, "核对无误", tenancy_id, amount_fen=amount_fen)
    return await case_decisions.decide_case(
        case["id"], office.people[who], verdict, office.world.now
    )


async def proved(office: Refunding) -> None:
    assert await sum_of_all_accounts_fen() == 0
    report = await audit(lambda _: None)
    assert report.violations == []
    held = (
        "SELECT coalesce(sum(amount_fen), 0)::bigint AS fen FROM payment_case JOIN payment_credit"
    )
    open_fen = await rows(pool(), f"{held} credit ON credit.id = credit_id WHERE closed_at IS NULL")
    assert await office.in_progress_fen("suspense") == open_fen[0]["fen"]


async def other_amount(office: Refunding) -> None:
    trade = office.world.paid_trade(await office.world.order(5_000))
    changed = replace(trade, paid_fen=4_999)
    office.wechat.trades[trade.out_trade_no] = changed
    await credit(office.world.site_id, Platform.WECHAT, changed, office.world.now)


async def unknown_order(office: Refunding) -> None:
    now, wechat = office.world.now, office.wechat
    trade = Trade("nobody", TradeStatus.PAID, wechat.merchant_id, 4_999, "CNY", "T-1", now)
    wechat.trades["nobody"] = trade
    await credit(office.world.site_id, Platform.WECHAT, trade, now)


Story = Callable[[Refunding], Awaitable[None]]
SUSPENDED: list[tuple[str, Story]] = [
    ("other_amount", other_amount),
    ("unknown_order", unknown_order),
]


@pytest.mark.parametrize(("kind", "happens"), SUSPENDED)
async def test_money_in_suspense_is_credited_where_a_manager_says(
    office: Refunding, kind: str, happens: Story
) -> None:
    await happens(office)
    await proved(office)
    await decide(office, kind, D.CREDIT)
    assert await wallet_fen(office.world.tenancy_id) == 4_999
    case = await case_of(kind)
    assert (case["decision"], case["decided_by"], case["reason"]) == ("credit", "fen", "核对无误")
    assert case["closed_at"] == office.world.now
    with pytest.raises(DecidedError):
        await decide(office, kind, D.REFUND)
    await proved(office)


@pytest.mark.parametrize(("kind", "happens"), SUSPENDED)
async def test_or_it_goes_back_to_its_payer(office: Refunding, kind: str, happens: Story) -> None:
    await happens(office)
    await decide(office, kind, D.REFUND)
    assert (await case_of(kind))["closed_at"] is None
    with pytest.raises(DecidedError):
        await decide(office, kind, D.CREDIT)
    await office.work()
    office.finish()
    await office.work(after_s=10)
    assert await office.parts() == [("done", 4_999, "wechat")]
    assert (await case_of(kind))["closed_at"] == office.world.now
    assert await office.in_progress_fen("suspense") == 0
    await proved(office)


async def test_a_stuck_refund_from_suspense_meets_its_worker_in_no_deadlock(
    office: Refunding,
) -> None:
    """No tenancy's lock stands before the two cases: they are taken in the order of their ids."""
    await unknown_order(office)
    await decide(office, "unknown_order", D.REFUND)
    await office.work()
    office.finish(RefundStatus.ABNORMAL)
    await office.work(after_s=10)
    for _ in range(6):
        await asyncio.gather(decide(office, "refund_abnormal", D.AGAIN), office.work())
        await office.work()
    await decide(office, "refund_abnormal", D.GIVE_BACK)
    assert (await case_of("unknown_order"))["decided_at"] is None
    assert await office.in_progress_fen("suspense") == 4_999
    await proved(office)


async def test_a_refund_from_suspense_that_fails_opens_its_case_again(office: Refunding) -> None:
    await other_amount(office)
    await decide(office, "other_amount", D.REFUND)
    office.wechat.refuses = "NOT_ENOUGH"
    await office.work()
    case = await case_of("other_amount")
    assert (case["decision"], case["closed_at"]) == (None, None)
    await proved(office)
    office.wechat.refuses = ""
    await decide(office, "other_amount", D.REFUND)
    await office.work()
    office.finish()
    await office.work(after_s=10)
    assert [part[0] for part in await office.parts()] == ["failed", "done"]
    await proved(office)


async def test_a_told_amount_and_its_money_are_one_case_in_the_end(office: Refunding) -> None:
    """The notice came first, and was answered as failure; then the platform was asked."""
    number = await office.world.order(5_000)
    office.wechat.pay(number, office.world.now, paid_fen=4_999)
    notice = office.wechat.parse_notice(*office.wechat.notice_of(number), office.world.now)
    kept, _ = await keep(office.world.site_id, office.wechat, notice, office.world.now)
    assert kept is Kept.CONTRADICTED
    trade = await office.wechat.query(number, office.world.now)
    await credit(office.world.site_id, Platform.WECHAT, trade, office.world.now)
    cases = await rows(
        pool(),
        "SELECT credit_id IS NULL AS told, decided_by, closed_at FROM payment_case ORDER BY id",
    )
    assert cases == [
        {"told": True, "decided_by": "mallwatt", "closed_at": office.world.now},
        {"told": False, "decided_by": None, "closed_at": None},
    ]
    await proved(office)


async def test_crediting_above_the_limit_needs_a_second_person(office: Refunding) -> None:
    limit = DEFAULT_LIMITS_FEN["case_credit"]
    trade = office.world.paid_trade(await office.world.order(5_000))
    await credit(
        office.world.site_id, Platform.WECHAT, replace(trade, paid_fen=limit + 1), office.world.now
    )
    first = await decide(office, "other_amount", D.CREDIT)
    assert first.approval_no is not None
    assert await decide(office, "other_amount", D.CREDIT) == first
    assert await wallet_fen(office.world.tenancy_id) == 0
    say = (first.approval_no, office.people["fen"], Decision.APPROVE)
    with pytest.raises(OwnApprovalError):
        await money_by_hand.decide(*say, reason="", now=office.world.now)
    say = (first.approval_no, office.people["olga"], Decision.APPROVE)
    await money_by_hand.decide(*say, reason="", now=office.world.now)
    assert await wallet_fen(office.world.tenancy_id) == limit + 1
    assert (await case_of("other_amount"))["decided_by"] == "fen"
    await proved(office)


async def test_who_paid_twice_has_it_back_without_asking(office: Refunding) -> None:
    """By two codes of one platform: one is credited, the other goes back by itself."""
    world = office.world
    trade = world.paid_trade(await world.order(5_000))
    await credit(world.site_id, Platform.WECHAT, trade, world.now)
    again = replace(trade, transaction_id="T-again")
    assert (await credit(world.site_id, Platform.WECHAT, again, world.now)).outcome is (
        Outcome.SECOND_PAYMENT
    )
    await proved(office)
    await office.work()
    office.finish()
    await office.work(after_s=10)
    assert await office.parts() == [("done", 5_000, "wechat")]
    assert await wallet_fen(world.tenancy_id) == 5_000
    top_up = await world.top_up()
    assert (top_up["status"], top_up["refunded_fen"]) == ("paid", 0)
    case = await case_of("second_payment")
    assert (case["decided_by"], case["closed_at"]) == ("mallwatt", world.now)
    await proved(office)


async def refunded_outside(office: Refunding, *, refund_fen: int = 2_000) -> None:
    """A notice about a refund of a credited payment that nobody here asked for."""
    await office.world.pay(5_000)
    (number,) = office.wechat.trades
    refund = Refund(
        "elsewhere", number, RefundStatus.SUCCEEDED, office.wechat.merchant_id, refund_fen
    )
    notice = office.wechat.refund_notice_of(refund)
    _, notice_id = await keep(office.world.site_id, office.wechat, notice, office.world.now)
    assert notice_id is not None
    await settle(notice_id, office.world.now)


async def test_what_went_back_outside_is_taken_from_the_wallet(office: Refunding) -> None:
    await refunded_outside(office)
    await decide(office, "refunded_outside", D.RECORD)
    assert await wallet_fen(office.world.tenancy_id) == 3_000
    assert await office.parts() == [("done", 2_000, "wechat")]
    top_up = await office.world.top_up()
    assert (top_up["status"], top_up["refunded_fen"]) == ("paid", 2_000)
    await proved(office)
    await office.ask(3_000)  # and later refunds know of it
    assert (await office.parts())[1] == ("due", 3_000, "wechat")


async def test_no_more_than_was_paid_can_have_gone_back(office: Refunding) -> None:
    await refunded_outside(office, refund_fen=5_001)
    with pytest.raises(ConflictError):
        await decide(office, "refunded_outside", D.RECORD)
    await decide(office, "refunded_outside", D.SEEN)
    assert await wallet_fen(office.world.tenancy_id) == 5_000
    await proved(office)


async def test_a_trade_refunded_without_us_says_so_once_and_one_by_us_does_not(
    office: Refunding,
) -> None:
    world = office.world
    await world.pay(5_000, "key-1")
    (ours,) = office.wechat.trades.values()
    await office.ask(1_000)
    given_back = replace(ours, status=TradeStatus.REFUNDED)
    await credit(world.site_id, Platform.WECHAT, given_back, world.now)
    assert await rows(pool(), "SELECT 1 AS some FROM payment_case") == []
    trade = world.paid_trade(await world.order(700, "key-2"))
    await credit(world.site_id, Platform.WECHAT, trade, world.now)
    for _ in range(2):
        given_back = replace(trade, status=TradeStatus.REFUNDED)
        await credit(world.site_id, Platform.WECHAT, given_back, world.now)
    await decide(office, "refunded_outside", D.RECORD, amount_fen=300)
    assert await wallet_fen(world.tenancy_id) == 4_400
    await proved(office)


async def abnormal(office: Refunding) -> None:
    await office.world.pay(5_000)
    await office.ask(5_000)
    await office.work()
    office.finish(RefundStatus.ABNORMAL)
    await office.work(after_s=10)


async def test_an_abnormal_refund_is_paid_out_by_hand(office: Refunding) -> None:
    await abnormal(office)
    await decide(office, "refund_abnormal", D.BY_HAND)
    assert [part[0] for part in await office.parts()] == ["replaced", "to_pay"]
    assert (await case_of("refund_abnormal"))["decision"] == "by_hand"
    assert await office.in_progress_fen() == 5_000
    (part,) = await rows(pool(), "SELECT out_refund_no FROM refund_part WHERE state = 'to_pay'")
    number, fen, now = part["out_refund_no"], office.people["fen"], office.world.now
    for _ in range(2):
        done = await refund_payouts.pay_out(number, "bank_transfer", "B-17", fen, now)
        assert done.approval_no is None
    with pytest.raises(PaidOutError):
        await refund_payouts.pay_out(number, "cash", "B-18", fen, now)
    assert await office.in_progress_fen() == 0
    assert await office.in_progress_fen("bank") == 5_000
    assert [one["status"] for one in await office.refunds()] == ["done"]
    assert len(await rows(pool(), "SELECT 1 FROM manager_act WHERE act = 'refund_payout'")) == 1
    await proved(office)


async def test_or_it_is_asked_for_again_or_given_back(office: Refunding) -> None:
    await abnormal(office)
    await decide(office, "refund_abnormal", D.AGAIN)
    await office.work()
    assert await office.parts() == [("abnormal", 5_000, "wechat")]  # the platform says the same
    assert (await case_of("refund_abnormal"))["decided_at"] is None
    await decide(office, "refund_abnormal", D.GIVE_BACK)
    assert await wallet_fen(office.world.tenancy_id) == 5_000
    assert (await case_of("refund_abnormal"))["decided_by"] == "fen"
    assert await office.parts() == [("failed", 5_000, "wechat")]
    await proved(office)


RETURNED: list[tuple[CaseDecision, str, int, int]] = [
    (D.BY_HAND, "to_pay", 0, 5_000),
    (D.GIVE_BACK, "failed", 5_000, 0),
]


@pytest.mark.parametrize(("decision", "state", "fen", "held_fen"), RETURNED)
async def test_what_a_bank_sent_back_after_all_is_paid_out_or_given_back(
    office: Refunding, decision: CaseDecision, state: str, fen: int, held_fen: int
) -> None:
    """It was done and is in no wallet: the done part stays, and a refund of its own goes on."""
    await office.world.pay(5_000)
    await office.ask(5_000)
    await office.work()
    office.finish()
    await office.work(after_s=10)
    (number,) = office.wechat.refunds
    for _ in range(2):
        refund = office.wechat.finish(number, RefundStatus.ABNORMAL, office.world.now)
        notice = office.wechat.refund_notice_of(refund)
        _, notice_id = await keep(office.world.site_id, office.wechat, notice, office.world.now)
        assert notice_id is not None
        await settle_notices(office.context)
    await proved(office)
    await decide(office, "refund_returned", decision)
    with pytest.raises(DecidedError):
        await decide(office, "refund_returned", D.SEEN)
    assert await office.parts() == [("done", 5_000, "wechat"), (state, 5_000, None)]
    assert await wallet_fen(office.world.tenancy_id) == fen
    assert await office.in_progress_fen() == held_fen
    await proved(office)


async def test_paying_out_above_the_limit_needs_a_second_person(office: Refunding) -> None:
    amount_fen = DEFAULT_LIMITS_FEN["refund_payout"] + 1
    await rows(pool(), "UPDATE site SET approval = '{\"refund_fen\": 100000000}'")
    await money_by_hand.take_payment(
        money_by_hand.ShopRef(office.world.site_id, "A1"),
        DeskPayment(office.world.tenancy_id, amount_fen, "cash", "R-1"),
        office.people["olga"],
        office.world.now,
    )
    await office.ask(amount_fen)
    (part,) = await rows(pool(), "SELECT out_refund_no FROM refund_part")
    pay = (part["out_refund_no"], "cash", "C-1", office.people["fen"], office.world.now)
    asked = await refund_payouts.pay_out(*pay)
    assert asked.approval_no is not None
    assert await refund_payouts.pay_out(*pay) == asked
    say = (asked.approval_no, office.people["olga"], Decision.APPROVE)
    await money_by_hand.decide(*say, reason="", now=office.world.now)
    (part,) = await rows(pool(), "SELECT state, paid_by, reference FROM refund_part")
    assert part == {"state": "done", "paid_by": "fen", "reference": "C-1"}
    await proved(office)


REFUSED: list[tuple[str, Callable[[Refunding], Awaitable[object]], type[MallwattError]]] = [
    ("another mall's", lambda o: decide(o, "other_amount", D.REFUND, "guest"), NotFoundError),
    ("not its way out", lambda o: decide(o, "other_amount", D.SEEN), ConflictError),
    ("by hand", lambda o: decide(o, "other_amount", D.BY_HAND), ConflictError),
]


@pytest.mark.parametrize(("why", "act", "error"), REFUSED)
async def test_what_a_case_may_not_come_to_is_refused(
    office: Refunding,
    why: str,
    act: Callable[[Refunding], Awaitable[object]],
    error: type[MallwattError],
) -> None:
    await other_amount(office)
    office.people["guest"] = replace(office.people["fen"], site_id=99)
    with pytest.raises(error):
        await act(office)
    assert (await case_of("other_amount"))["decided_at"] is None, why
    await proved(office)


VERDICTS: list[tuple[CaseDecision, int | None, str, str]] = [
    (D.CREDIT, None, "r", "electricity"),
    (D.REFUND, 1, "r", "electricity"),
    (D.SEEN, None, " ", "electricity"),
    (D.CREDIT, 1, "r", "gold"),
]


@pytest.mark.parametrize(("decision", "tenancy_id", "reason", "wallet"), VERDICTS)
def test_a_verdict_is_whole(
    decision: CaseDecision, tenancy_id: int | None, reason: str, wallet: str
) -> None:
    with pytest.raises(InvalidInputError):
        Verdict(decision, reason, tenancy_id, wallet)


async def test_paid_on_both_platforms_one_goes_back(office: Refunding) -> None:
    """The story of a tenant with two phones: credited once, the later payment refunded."""
    world = office.world
    number = await world.order(5_000)
    alipay = world.directory.alipay
    # both codes stand on the kiosk's screen
    payer = Payer("http://mall.test")
    no = (await world.top_up())["no"]
    other = await change_method(no, Method.ALIPAY_QR, payer, world.directory, world.now)
    assert other.payment is not None
    assert len(other.payables) == 2
    by_alipay = alipay.pay(other.payment["out_trade_no"], world.now)
    await credit(world.site_id, Platform.ALIPAY, by_alipay, world.now)
    by_wechat = world.paid_trade(number)
    told = await credit(world.site_id, Platform.WECHAT, by_wechat, world.now)
    assert told.outcome is Outcome.SECOND_PAYMENT
    await office.work()
    office.finish()
    await office.work(after_s=10)
    assert await office.parts() == [("done", 5_000, "wechat")]
    assert await wallet_fen(world.tenancy_id) == 5_000
    await proved(office)
