"""Orders of words and decisions in which money could go back twice, or from a wrong wallet."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from payments.contract import Method, Platform, Refund, RefundStatus, Trade, TradeStatus
from server.core.errors import ConflictError, ForbiddenError
from server.core.refunds.cases import CaseDecision
from server.core.refunds.parts import PartEvent
from server.models.database import pool, rows
from server.services import refund_views, refunds
from server.services.approvals import DEFAULT_LIMITS_FEN, Decision
from server.services.audit import audit
from server.services.case_decisions import Verdict, decide_case
from server.services.crediting import Outcome, credit
from server.services.money_by_hand import decide
from server.services.payment_attempts import Payer, change_method
from server.services.payment_inbox import keep, settle
from server.services.refund_parts import SAID, Said, ask_platform, take_due, take_in
from server.services.refund_payouts import PaidOutError, ReferenceUsedError, pay_out
from server.services.site_import import import_site
from server.workers.inbox import query_orders
from tests.fakes.refunding import Refunding, refunding
from tests.fakes.site_text import PROFILES
from tests.scenarios.world import SITE, World, local
from tests.services.money import wallet_fen


@pytest.fixture
async def office(database: None, tmp_path: Path) -> Refunding:
    world = World(local("2026-05-20 10:00"))
    await world.open(tmp_path, balance_fen=0)
    return await refunding(world)


async def test_an_outside_refund_told_at_another_sites_door_is_the_payers_sites(
    office: Refunding, tmp_path: Path
) -> None:
    world = office.world
    content = SITE.format(policy="", tariff='kind = "flat"\nprice = "1"', balance_fen=0)
    path = tmp_path / "other.toml"
    path.write_text(content.replace('"demo"', '"other"'), encoding="utf-8")
    other = (await import_site(path, PROFILES, world.now)).site_id
    paid = world.paid_trade(await world.order(5_000))
    word = Refund(
        "console-1", paid.out_trade_no, RefundStatus.SUCCEEDED, office.wechat.merchant_id, 300
    )
    notice = office.wechat.refund_notice_of(word)
    _, notice_id = await keep(other, office.wechat, notice, world.now)
    assert notice_id is not None
    await settle(notice_id, world.now)
    case = await world.row("SELECT site_id, tenancy_id FROM payment_case")
    assert case == {"site_id": world.site_id, "tenancy_id": world.tenancy_id}


async def test_an_attempt_given_back_outside_is_asked_about_no_more(office: Refunding) -> None:
    """The other attempt on a top-up that is credited: paid, too, and given back in the console."""
    world = office.world
    first = await world.order(5_000)
    number = (await world.row("SELECT no FROM top_up"))["no"]
    payer = Payer("http://mall.test")
    await change_method(number, Method.ALIPAY_QR, payer, world.directory, world.now)
    (second,) = await rows(
        pool(), "SELECT out_trade_no FROM payment_order WHERE platform = 'alipay'"
    )
    trade = world.paid_trade(first)
    await credit(world.site_id, Platform.WECHAT, trade, world.now)
    alipay = world.directory.platforms[Platform.ALIPAY]
    paid = alipay.pay(second["out_trade_no"], world.now)
    alipay.trades[second["out_trade_no"]] = replace(paid, status=TradeStatus.REFUNDED)
    world.now += timedelta(seconds=3)
    assert await query_orders(office.context, Platform.ALIPAY) == 1
    world.now += timedelta(days=1)
    assert await query_orders(office.context, Platform.ALIPAY) == 0
    kinds = await rows(pool(), "SELECT kind FROM payment_case ORDER BY kind")
    assert [one["kind"] for one in kinds] == ["refunded_before_credit", "refunded_outside"]


async def test_what_nobody_may_ask_any_more_can_be_rejected(office: Refunding) -> None:
    await office.world.pay(500_000)
    asked = await office.ask(DEFAULT_LIMITS_FEN["refund"] + 1)
    assert asked.approval_no is not None
    await rows(pool(), "UPDATE manager SET role = 'engineer' WHERE name = 'fen'")
    olga, now = office.people["olga"], office.world.now
    with pytest.raises(ForbiddenError):
        await decide(asked.approval_no, olga, Decision.APPROVE, reason="", now=now)
    assert (await office.left()).reserved_fen == 100_001
    await decide(asked.approval_no, olga, Decision.REJECT, reason="", now=now)
    assert (await office.left()).reserved_fen == 0


async def test_what_a_person_decides_on_is_asked_about_and_not_asked_for(
    office: Refunding,
) -> None:
    """A call on its way while it is given back by hand would be the second time."""
    await office.world.pay(5_000)
    await office.ask(5_000)
    wechat = office.world.directory.platforms.pop(Platform.WECHAT)
    for _ in range(5):
        await office.work(after_s=3_600)
    (part,) = await take_due(office.world.now + timedelta(hours=6), 1)
    said = await ask_platform(part, wechat, "http://mall.test", office.world.now)
    await take_in(part.out_refund_no, Said(PartEvent.GIVEN_BACK), office.world.now)
    await take_in(part.out_refund_no, said, office.world.now)
    assert wechat.refund_requests == []
    assert await office.parts() == [("failed", 5_000, "wechat")]


async def said_by_platform(office: Refunding, number: str, status: RefundStatus) -> None:
    refund = office.wechat.finish(number, status, office.world.now)
    await take_in(number, Said(SAID[status], refund), office.world.now)


async def decided(
    office: Refunding,
    kind: str,
    decision: CaseDecision,
    *,
    tenancy_id: int | None = None,
    amount_fen: int | None = None,
) -> None:
    sql = "SELECT id FROM payment_case WHERE kind = $1 AND decided_at IS NULL"
    (case,) = await rows(pool(), sql, kind)
    verdict = Verdict(decision, "核对无误", tenancy_id, amount_fen=amount_fen)
    await decide_case(case["id"], office.people["fen"], verdict, office.world.now)


@pytest.mark.parametrize("from_suspense", [False, True])
async def test_who_was_given_it_back_after_all_is_paid_nothing_by_hand(
    office: Refunding, from_suspense: bool
) -> None:
    """Abnormal, turned to the desk here, and cured in the platform's console by somebody else."""
    if from_suspense:
        trade = Trade(
            *("nobody", TradeStatus.PAID, office.wechat.merchant_id, 5_000, "CNY", "T-1"),
            office.world.now,
        )
        office.wechat.trades["nobody"] = trade
        await credit(office.world.site_id, Platform.WECHAT, trade, office.world.now)
        await decided(office, "unknown_order", CaseDecision.REFUND)
    else:
        await office.world.pay(5_000)
        await office.ask(5_000)
    await office.work()
    (number,) = office.wechat.refunds
    await said_by_platform(office, number, RefundStatus.ABNORMAL)
    await decided(office, "refund_abnormal", CaseDecision.BY_HAND)
    await said_by_platform(office, number, RefundStatus.SUCCEEDED)
    (part,) = await rows(pool(), "SELECT out_refund_no FROM refund_part WHERE credit_id IS NULL")
    fen, now = office.people["fen"], office.world.now
    with pytest.raises(PaidOutError):
        await pay_out(part["out_refund_no"], "cash", "R-1", fen, now)
    await decided(office, "refunded_outside", CaseDecision.RECORD)
    with pytest.raises(PaidOutError):
        await pay_out(part["out_refund_no"], "cash", "R-1", fen, now)
    assert await wallet_fen(office.world.tenancy_id) == 0
    for kind in ("refunds_in_progress", "suspense"):
        assert await office.in_progress_fen(kind) == 0
    assert (await audit(lambda _: None)).violations == []


async def test_money_in_suspense_that_went_back_outside_is_told(office: Refunding) -> None:
    """Or a manager would credit what its payer has again."""
    trade = replace(office.world.paid_trade(await office.world.order(5_000)), paid_fen=4_999)
    for status in (TradeStatus.PAID, TradeStatus.REFUNDED, TradeStatus.REFUNDED):
        told = replace(trade, status=status)
        await credit(office.world.site_id, Platform.WECHAT, told, office.world.now)
    await decided(office, "refunded_outside", CaseDecision.RECORD)
    assert await rows(pool(), "SELECT 1 AS some FROM payment_case WHERE closed_at IS NULL") == []
    assert await office.in_progress_fen("suspense") == 0
    assert (await audit(lambda _: None)).violations == []


@pytest.mark.parametrize("back_fen", [300, 5_000])
async def test_what_went_back_before_it_was_credited_may_be_a_part_of_it(
    office: Refunding, back_fen: int
) -> None:
    """The platform's word of the payment is one for both; the rest is the tenant's."""
    world = office.world
    trade = world.paid_trade(await world.order(5_000))
    told = replace(trade, status=TradeStatus.REFUNDED)
    outcome = (await credit(world.site_id, Platform.WECHAT, told, world.now)).outcome
    assert outcome is Outcome.REFUNDED_BEFORE_CREDIT
    assert await office.in_progress_fen("suspense") == 5_000
    if back_fen < 5_000:
        with pytest.raises(ConflictError):  # nobody has the rest before it is credited
            await decided(office, "refunded_outside", CaseDecision.RECORD, amount_fen=back_fen)
        tenancy_id = world.tenancy_id
        await decided(office, outcome.value, CaseDecision.CREDIT, tenancy_id=tenancy_id)
    await decided(office, "refunded_outside", CaseDecision.RECORD, amount_fen=back_fen)
    assert await rows(pool(), "SELECT 1 AS some FROM payment_case WHERE closed_at IS NULL") == []
    assert await wallet_fen(world.tenancy_id) == 5_000 - back_fen
    assert await office.in_progress_fen("suspense") == 0
    assert (await audit(lambda _: None)).violations == []


async def test_a_reference_pays_out_one_refund(office: Refunding) -> None:
    await office.world.pay(5_000)
    office.world.now += timedelta(days=366)  # too old for its platform
    for key in ("one", "two"):
        await office.ask(700, key=key)
    parts = await rows(pool(), "SELECT out_refund_no FROM refund_part ORDER BY id")
    first, second = (one["out_refund_no"] for one in parts)
    fen, now = office.people["fen"], office.world.now
    for _ in range(2):
        await pay_out(first, "bank_transfer", "B-17", fen, now)
    with pytest.raises(ReferenceUsedError):
        await pay_out(second, "bank_transfer", "B-17", fen, now)
    await pay_out(second, "bank_transfer", "B-18", fen, now)
    assert await office.in_progress_fen() == 0


async def test_a_reservation_that_cannot_end_holds_up_no_refund(
    office: Refunding, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("no rules for this tenancy")

    await office.world.pay(500_000)
    await office.ask(DEFAULT_LIMITS_FEN["refund"] + 1, key="forgotten")
    office.world.now += timedelta(days=7)
    await office.ask(700, key="small")
    with monkeypatch.context() as patched:
        patched.setattr(refunds, "decide_within", broken)
        await office.work()
    assert [one["status"] for one in await office.refunds()] == ["waiting", "in_progress"]
    assert await office.parts() == [("processing", 700, "wechat")]
    await office.work()
    assert (await office.left()).reserved_fen == 0


async def test_what_is_still_to_be_paid_by_hand_is_listed_first(
    office: Refunding, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.world.pay(5_000)
    office.world.now += timedelta(days=366)  # too old for its platform
    for key in ("one", "two"):
        await office.ask(700, key=key)
    open_no, done_no = (one["no"] for one in await office.refunds())
    done = await refund_views.find_refund(None, done_no)
    fen, now = office.people["fen"], office.world.now
    await pay_out(done.parts[0].out_refund_no, "cash", "R-1", fen, now)
    monkeypatch.setattr(refund_views, "LISTED_MAX", 1)
    assert [one.no for one in await refund_views.list_refunds(None)] == [open_no]


async def test_what_a_manager_credited_and_went_back_outside_is_taken_from_that_wallet(
    office: Refunding,
) -> None:
    trade = replace(office.world.paid_trade(await office.world.order(5_000)), paid_fen=4_999)
    await credit(office.world.site_id, Platform.WECHAT, trade, office.world.now)
    case = await office.world.row("SELECT id FROM payment_case")
    verdict = Verdict(CaseDecision.CREDIT, "核对无误", office.world.tenancy_id, "fixed_charges")
    await decide_case(case["id"], office.people["fen"], verdict, office.world.now)
    assert (await office.left()).fixed_charges_fen == 4_999
    given_back = replace(trade, status=TradeStatus.REFUNDED)
    await credit(office.world.site_id, Platform.WECHAT, given_back, office.world.now)
    await decided(office, "refunded_outside", CaseDecision.RECORD)
    assert (await office.left()).fixed_charges_fen == 0
    assert (await office.world.top_up())["status"] == "closed"
    assert (await audit(lambda _: None)).violations == []
