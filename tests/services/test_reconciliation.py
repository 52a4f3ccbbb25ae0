"""A day against the bill: what differs is cured by what cures it on other days, or shown."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from payments.contract import (
    Bill,
    BillEntryKind,
    BillNotReadyError,
    BillUnsoundError,
    PaymentError,
    Platform,
    PlatformRefusedError,
    PlatformUnavailableError,
    RefundStatus,
    TradeStatus,
)
from server.core.errors import InvalidInputError, NotFoundError
from server.core.refunds.cases import CaseDecision
from server.core.refunds.parts import PartEvent
from server.models.database import pool, rows
from server.services import (
    crediting,
    reconciliation,
    reconciliation_cures,
    reconciliation_report,
)
from server.services.case_decisions import Verdict, decide_case
from server.services.reconciliation_views import days_of
from server.services.refund_parts import Said, take_in
from server.services.wakeups import Wakeups
from tests.fakes.empty_site import empty_site
from tests.fakes.payment_platform import FakePlatform
from tests.fakes.reconciling import Reconciling
from tests.fakes.refunding import Refunding, refunding
from tests.scenarios.world import World

DONE = RefundStatus.SUCCEEDED


@pytest_asyncio.fixture
async def books(world: World, tmp_path: Path) -> Reconciling:
    """A mall with 10 yuan in its one shop's wallet, paid by both platforms' merchants."""
    await world.open(tmp_path, balance_fen=1_000)
    made = Reconciling(world)
    await made.open()
    return made


@pytest_asyncio.fixture
async def back(books: Reconciling) -> Refunding:
    return await refunding(books.world)


async def agreed_day(books: Reconciling) -> None:
    assert (await books.run()).problem is None
    assert await books.told() == ("agreed", [])


async def test_a_day_that_agrees_is_finished_with_its_sums(
    books: Reconciling, back: Refunding
) -> None:
    await books.world.pay(5_000, "k1")
    await books.world.pay(3_000, "k2")
    await back.ask(2_500)
    await back.work()
    back.finish()
    await back.work(11)
    books.write_bill()
    books.next_morning()
    await agreed_day(books)
    seen = await books.seen()
    assert seen.bill == seen.ours
    assert seen.bill is not None
    assert (seen.bill.payments_fen, seen.bill.refunds_fen) == (8_000, 2_500)
    assert await books.clearing_fen() == seen.bill.net_fen
    assert await books.cases() == []


async def test_a_day_on_which_nobody_paid_agrees(books: Reconciling) -> None:
    books.next_morning()
    await agreed_day(books)


async def test_missing_here_is_credited_once_the_platform_bears_it_out(books: Reconciling) -> None:
    """Every notice was lost, and nobody asked in time."""
    number = await books.world.order(5_000)
    books.world.paid_trade(number)
    books.write_bill()
    books.next_morning()
    result = await books.run()
    assert (result.problem, list(result.tenancies)) == (None, [books.world.tenancy_id])
    assert await books.told() == ("agreed", [("missing_here", "cured")])
    assert (await books.world.top_up())["status"] == "paid"
    seen = await books.seen()
    assert seen.bill is not None
    assert (await books.clearing_fen(), seen.ours) == (seen.bill.net_fen, seen.bill)
    await books.run()
    assert await books.told() == ("agreed", [("missing_here", "cured")]), "and told once"
    assert await books.clearing_fen() == 5_000


async def test_a_payment_that_nobody_ordered_is_in_suspense(books: Reconciling) -> None:
    entry = books.stranger_entry()
    books.put([entry])
    books.wechat.trades[entry.out_trade_no] = replace(
        await books.wechat.query(entry.out_trade_no, books.world.now),
        status=TradeStatus.PAID,
        paid_fen=777,
        transaction_id=entry.transaction_id,
        paid_at=entry.at,
    )
    books.next_morning()
    await books.run()
    assert await books.told() == ("agreed", [("missing_here", "cured")])
    [case] = await books.cases()
    assert (case["kind"], case["credit_id"] is None) == ("unknown_order", False)
    assert await books.clearing_fen() == 777


async def test_missing_here_and_denied_is_a_case(books: Reconciling) -> None:
    books.put([books.stranger_entry()])
    books.next_morning()
    for _ in range(2):
        await books.run()
        assert await books.told() == ("differs", [("missing_here", "case")])
        [case] = await books.cases()
        assert (case["kind"], case["site_id"]) == ("unbooked_payment", books.world.site_id)
    assert await books.clearing_fen() == 0


@pytest.mark.parametrize("paid_fen", [4_999, 5_000])
async def test_a_payment_of_another_amount_than_the_bills_is_not_credited(
    books: Reconciling, paid_fen: int
) -> None:
    number = await books.world.order(5_000)
    books.world.platform.pay(number, books.world.now, paid_fen=paid_fen)
    [entry] = books.write_bill()
    books.put([replace(entry, amount_fen=5_001)])
    books.next_morning()
    await books.run()
    assert await books.told() == ("differs", [("missing_here", "case")])
    assert [one["kind"] for one in await books.cases()] == ["unbooked_payment"]
    assert await books.clearing_fen() == 0


async def test_what_went_back_before_it_was_credited_has_the_case_of_that(
    books: Reconciling, back: Refunding
) -> None:
    number = await books.world.order(5_000)
    books.world.paid_trade(number)
    [entry] = books.write_bill()
    refund = books.refund_entry(books.give_back_outside(number, 5_000), books.world.now)
    books.put([entry, refund])
    books.next_morning()
    await books.run()
    found = [("refund_there_only", "case"), ("missing_here", "cured")]
    assert await books.told() == ("differs", found)
    [held, outside] = await books.cases()
    assert (held["kind"], outside["kind"]) == ("refunded_before_credit", "refunded_outside")
    verdict = Verdict(CaseDecision.RECORD, "商户平台退款")
    await decide_case(outside["id"], back.people["olga"], verdict, books.world.now)
    await books.run()
    assert (await books.told())[0] == "agreed"
    assert await books.clearing_fen() == 0


async def test_missing_there_and_denied_is_a_case_and_nothing_is_taken_back(
    books: Reconciling,
) -> None:
    await books.world.pay(5_000)
    [number] = books.wechat.trades
    trade = books.wechat.trades.pop(number)
    books.next_morning()
    before_fen = await books.clearing_fen()
    for _ in range(2):
        await books.run()
        assert await books.told() == ("differs", [("missing_there", "case")])
        [case] = await books.cases()
        assert (case["kind"], case["closed_at"]) == ("credited_without_payment", None)
    assert await books.clearing_fen() == before_fen == 5_000

    books.wechat.trades[number] = trade  # the platform mends its bill
    books.write_bill(version="2")
    await books.run()
    assert await books.told() == ("agreed", [("missing_there", "cured")])
    [case] = await books.cases()
    assert (case["decision"], case["decided_by"]) == ("agreed", "mallwatt")
    assert (await books.seen()).changed_at is not None

    books.put([], version="3")  # and spoils it again: another case, for the first one ended
    books.wechat.trades.pop(number)
    await books.run()
    assert [(one["decision"], one["closed_at"] is None) for one in await books.cases()] == [
        ("agreed", False),
        (None, True),
    ]


async def test_a_second_around_midnight_is_no_difference(books: Reconciling) -> None:
    """Ours at 23:59:59; the platform books it a second later, on the next bill."""
    world = books.world
    world.now = world.now.replace(hour=15, minute=59, second=59)
    await world.pay(5_000)
    next_day = books.day + timedelta(days=1)
    [entry] = books.write_bill()
    books.put([])
    books.put([replace(entry, at=entry.at + timedelta(seconds=1))], next_day)
    books.next_morning()
    await books.run()
    assert await books.told() == ("differs", [("missing_there", "waiting")]), "the bill is not yet"
    assert await books.cases() == []
    books.next_morning(2)
    await books.run()
    assert await books.told() == ("agreed", [("missing_there", "cured")])
    await books.run(next_day)
    assert await books.told(next_day) == ("agreed", [])
    assert await books.cases() == []


async def test_what_no_bill_has_although_the_platform_bears_it_out_is_a_case(
    books: Reconciling,
) -> None:
    await books.world.pay(5_000)
    books.put([])
    books.next_morning(2)
    await books.run()
    assert await books.told() == ("differs", [("missing_there", "case")])
    assert [one["kind"] for one in await books.cases()] == ["payment_not_on_bill"]


async def test_another_amount_is_a_case_that_a_manager_ends(
    books: Reconciling, back: Refunding
) -> None:
    await books.world.pay(5_000)
    [entry] = books.write_bill()
    books.put([replace(entry, amount_fen=5_001)])
    books.next_morning()
    await books.run()
    assert await books.told() == ("differs", [("other_amount", "case")])
    [case] = await books.cases()
    assert case["kind"] == "payment_billed_otherwise"
    verdict = Verdict(CaseDecision.SEEN, "平台已更正")
    await decide_case(case["id"], back.people["olga"], verdict, books.world.now)
    await books.run()
    assert await books.told() == ("agreed", [("other_amount", "decided")])
    assert len(await books.cases()) == 1


async def test_a_refund_whose_answer_was_lost_is_settled_by_the_bill(
    books: Reconciling, back: Refunding
) -> None:
    await books.world.pay(5_000)
    await back.ask(2_000)
    await back.work()
    back.finish()  # the platform has given it back, and nobody here heard of it
    books.write_bill()
    books.next_morning()
    await books.run()
    assert await books.told() == ("agreed", [("refund_other_state", "cured")])
    assert await back.parts() == [("done", 2_000, "wechat")]
    seen = await books.seen()
    assert seen.bill is not None
    assert await books.clearing_fen() == seen.bill.net_fen == 3_000


async def test_a_refund_that_no_bill_has_is_a_case(books: Reconciling, back: Refunding) -> None:
    await books.world.pay(5_000)
    await back.ask(2_000)
    await back.work()
    back.finish()
    await back.work(11)
    [payment, refund] = books.write_bill()
    books.put([payment])
    books.next_morning(2)
    await books.run()
    assert await books.told() == ("differs", [("refund_here_only", "case")])
    assert [one["kind"] for one in await books.cases()] == ["refund_not_on_bill"]
    books.put([payment, refund], version="2")
    await books.run()
    assert await books.told() == ("agreed", [("refund_here_only", "cured")])
    assert (await books.cases())[0]["decision"] == "agreed"


async def test_a_refund_that_the_platform_forgot_is_asked_for_again(
    books: Reconciling, back: Refunding
) -> None:
    await books.world.pay(5_000)
    await back.ask(2_000)
    await back.work()
    [payment, _] = books.write_bill()
    books.wechat.refunds.clear()
    books.put([payment])
    books.next_morning()
    await books.run()
    assert await books.told() == ("agreed", [("refund_here_only", "cured")])
    assert (await back.parts())[0][0] == "due", "the worker asks with the same number"


async def test_a_refund_of_another_amount_is_a_case(books: Reconciling, back: Refunding) -> None:
    await books.world.pay(5_000)
    await back.ask(2_000)
    await back.work()
    back.finish()
    await back.work(11)
    [payment, refund] = books.write_bill()
    books.put([payment, replace(refund, amount_fen=1_999)])
    books.next_morning()
    await books.run()
    assert await books.told() == ("differs", [("refund_other_amount", "case")])
    assert [one["kind"] for one in await books.cases()] == ["refund_billed_otherwise"]


@pytest.mark.parametrize("by_query", [False, True])
async def test_a_refund_in_the_platforms_console_is_recorded_once(
    books: Reconciling, back: Refunding, *, by_query: bool
) -> None:
    """Whether a query of the payment told it before (which names no refund) or not."""
    await books.world.pay(5_000)
    [number] = books.wechat.trades
    refund = books.give_back_outside(number, 2_000)
    if by_query:
        trade = await books.wechat.query(number, books.world.now)
        site_id, platform = books.world.site_id, Platform.WECHAT
        await crediting.credit(site_id, platform, trade, books.world.now)
    books.write_bill()
    books.next_morning()
    await books.run()
    assert await books.told() == ("differs", [("refund_there_only", "case")])
    [case] = await books.cases()
    assert case["kind"] == "refunded_outside"

    verdict = Verdict(CaseDecision.RECORD, "商户平台退款", amount_fen=2_000)
    await decide_case(case["id"], back.people["olga"], verdict, books.world.now)
    for day in (books.day, books.day + timedelta(days=1)):
        await books.run()
        assert await books.told() == ("agreed", [("refund_there_only", "cured")])
        books.next_morning(2)
        await books.run(day + timedelta(days=1))
        assert await books.told(books.day + timedelta(days=1)) == ("agreed", [])
    assert len(await books.cases()) == 1
    parts = await rows(pool(), "SELECT out_refund_no, state FROM refund_part")
    assert [one["state"] for one in parts] == ["done"]
    assert (parts[0]["out_refund_no"] == refund.out_refund_no) is not by_query
    assert await books.clearing_fen() == 3_000


async def test_what_was_given_up_here_and_went_back_after_all_agrees_once_recorded(
    books: Reconciling, back: Refunding
) -> None:
    await books.world.pay(5_000)
    await back.ask(2_000)
    await back.work()
    [number] = books.wechat.refunds
    for event in (PartEvent.TURNED_ABNORMAL, PartEvent.GIVEN_BACK):
        await take_in(number, Said(event), books.world.now)
    back.finish()
    books.write_bill()
    books.next_morning()
    await books.run()
    assert await books.told() == ("differs", [("refund_other_state", "case")])
    [case] = [one for one in await books.cases() if one["kind"] == "refunded_outside"]
    verdict = Verdict(CaseDecision.RECORD, "平台已退款")
    await decide_case(case["id"], back.people["olga"], verdict, books.world.now)
    for _ in range(2):
        await books.run()
        assert await books.told() == ("agreed", [("refund_other_state", "cured")])
    assert [one["kind"] for one in await books.cases() if one["closed_at"] is None] == []
    assert await back.parts() == [("failed", 2_000, "wechat"), ("done", 2_000, "wechat")]
    assert await books.clearing_fen() == 3_000


async def test_a_refund_that_never_was_is_no_difference(books: Reconciling) -> None:
    await books.world.pay(5_000)
    [number] = books.wechat.trades
    closed = replace(books.give_back_outside(number, 2_000), status=RefundStatus.CLOSED)
    books.wechat.refunds[closed.out_refund_no] = closed
    books.write_bill()
    books.next_morning()
    await agreed_day(books)


class Gone(Exception):  # noqa: N818  a kill is no error
    """The process dies."""


async def test_whoever_dies_in_the_middle_is_carried_on(
    books: Reconciling, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("k1", "k2", "k3"):
        books.world.paid_trade(await books.world.order(1_000, key))
    books.write_bill()
    books.next_morning()
    real, calls = reconciliation_cures.cure, 0

    async def dies(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Gone
        return await real(*arguments)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(reconciliation, "cure", dies)
    with pytest.raises(Gone):
        await books.run()
    assert await books.clearing_fen() == 1_000
    assert (await books.told())[0] == "pending"
    await books.run()
    assert await books.told() == ("agreed", [("missing_here", "cured")] * 2)
    assert await books.clearing_fen() == 3_000


async def test_two_workers_at_once_cure_once(books: Reconciling) -> None:
    for key in ("k1", "k2", "k3"):
        books.world.paid_trade(await books.world.order(1_000, key))
    entries = books.write_bill()
    books.put([*entries, books.stranger_entry()])
    books.next_morning()
    await asyncio.gather(*(books.run() for _ in range(4)))
    assert await books.clearing_fen() == 3_000
    assert [one["kind"] for one in await books.cases()] == ["unbooked_payment"]
    state, differences = await books.told()
    assert (state, differences.count(("missing_here", "case"))) == ("differs", 1)


PROBLEMS = [
    (BillNotReadyError("not yet"), "not_ready"),
    (BillUnsoundError("the hash is another"), "unsound"),
    (PlatformUnavailableError("down"), "unavailable"),
    (PlatformRefusedError("no", code="NO_AUTH"), "refused NO_AUTH"),
]


@pytest.mark.parametrize(("error", "problem"), PROBLEMS)
async def test_a_bill_that_cannot_be_had_changes_nothing(
    books: Reconciling, monkeypatch: pytest.MonkeyPatch, error: PaymentError, problem: str
) -> None:
    await books.world.pay(5_000)
    books.write_bill()
    books.next_morning()

    async def refuses(self: FakePlatform, *_: object) -> Bill:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(FakePlatform, "fetch_bill", refuses)
        assert (await books.run()).problem == problem
        seen = await books.seen()
        assert (seen.state, seen.problem, seen.bill) == ("pending", problem, None)
    await agreed_day(books)
    assert (await books.seen()).problem is None


async def test_without_usable_keys_a_day_waits(books: Reconciling) -> None:
    books.next_morning()
    merchant = await books.merchant()
    del books.world.directory.platforms[Platform.WECHAT]
    world = books.world
    result = await reconciliation.reconcile_day(
        merchant, books.day, world.directory, lambda: world.now
    )
    assert result.problem == "no_merchant"


async def test_who_gives_no_answer_is_asked_again(
    books: Reconciling, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.world.paid_trade(await books.world.order(5_000))
    books.write_bill()
    books.next_morning()

    async def silent(self: FakePlatform, *_: object) -> None:
        raise PlatformUnavailableError("down")

    with monkeypatch.context() as patch:
        patch.setattr(FakePlatform, "query", silent)
        assert (await books.run()).problem == "unanswered"
        assert await books.told() == ("pending", [("missing_here", "waiting")])
    await books.run()
    assert await books.told() == ("agreed", [("missing_here", "cured")])


async def test_a_question_that_the_platform_refuses_ends_as_a_case(
    books: Reconciling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as of another till's number, which may be anything."""
    odd = "柜台\0" + "9" * 100
    books.put([replace(books.stranger_entry(), out_trade_no=odd)])
    await books.world.pay(5_000)
    books.next_morning()

    async def refuses(self: FakePlatform, *_: object) -> None:
        raise PlatformRefusedError("no such form", code="PARAM_ERROR")

    monkeypatch.setattr(FakePlatform, "query", refuses)
    assert (await books.run()).problem is None
    assert await books.told() == (
        "differs",
        [("missing_here", "case"), ("missing_there", "waiting")],
    )
    assert [one["kind"] for one in await books.cases()] == ["unbooked_payment"]
    books.next_morning(2)
    await books.run()
    kinds = [one["kind"] for one in await books.cases()]
    assert kinds == ["unbooked_payment", "payment_not_on_bill"]


async def test_no_more_is_cured_at_once_than_a_day_can_take(
    books: Reconciling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "CURES_AT_ONCE", 2)
    for key in ("k1", "k2", "k3"):
        books.world.paid_trade(await books.world.order(1_000, key))
    books.write_bill()
    books.next_morning()
    assert (await books.run()).problem == "unanswered"
    assert (await books.run()).problem is None
    assert await books.clearing_fen() == 3_000


async def test_several_malls_share_a_merchant(world: World, tmp_path: Path) -> None:
    """Lines are their orders' malls', what nobody knows is the first one's."""
    first_id = await empty_site("first")
    await world.open(tmp_path, balance_fen=0)
    books = Reconciling(world)
    await books.open()
    await books.open(site_id=first_id)
    merchant = await books.merchant()
    assert merchant.site_ids == (first_id, world.site_id)
    await world.pay(5_000)
    [entry] = books.write_bill()
    books.put([replace(entry, amount_fen=5_001), books.stranger_entry()])
    books.next_morning()
    await books.run()
    assert {(one["kind"], one["site_id"]) for one in await books.cases()} == {
        ("payment_billed_otherwise", world.site_id),
        ("unbooked_payment", first_id),
    }
    until = books.day + timedelta(days=1)
    for site_id, finding in ((first_id, "missing_here"), (world.site_id, "other_amount")):
        seen = (await days_of(merchant, books.day, until, site_id))[books.day]
        assert [one.finding.value for one in seen.differences] == [finding]
        assert (seen.bill, seen.ours) == (None, None), "the sums are other malls' too"
    with pytest.raises(NotFoundError):
        await days_of(merchant, books.day, until, world.site_id + 1_000)


async def test_a_bill_that_has_a_payment_twice_is_a_case(books: Reconciling) -> None:
    await books.world.pay(5_000)
    entries = books.write_bill()
    books.put([*entries, *entries])
    books.next_morning()
    await books.run()
    assert await books.told() == ("differs", [("missing_here", "case")])
    assert await books.clearing_fen() == 5_000
    assert entries[0].kind is BillEntryKind.PAYMENT


async def reported(books: Reconciling, site: str | None = None) -> reconciliation_report.Report:
    world = books.world
    return await reconciliation_report.report(
        books.day, site, world.directory, Wakeups(None), lambda: world.now
    )


async def test_the_command_names_every_difference_with_its_cure(books: Reconciling) -> None:
    books.world.paid_trade(await books.world.order(5_000))
    entries = books.write_bill()
    books.put([*entries, books.stranger_entry()])
    books.next_morning()
    report = await reported(books)
    [wechat, cured, case, alipay] = _told_by(report)
    assert wechat == (
        f"wechat merchant-wechat {books.day}: 1 open differences;"
        " bill 2 payments 57.77, 0 refunds 0.00; books 1 payments 50.00, 0 refunds 0.00"
    )
    assert "case 1 of demo" in cured
    assert "the platform: as_booked" in cured
    assert case.endswith("bill 50.00; the platform: as_billed; cured (credit)")
    assert alipay.startswith(f"alipay merchant-alipay {books.day}: agrees;")
    assert report.status == 1
    assert msgspec.json.decode(msgspec.json.encode(report.as_json()))["merchants"][0]["state"] == (
        "differs"
    )


def _told_by(report: reconciliation_report.Report) -> list[str]:
    return list(report.lines())


async def test_the_command_says_what_was_not_compared(books: Reconciling) -> None:
    with pytest.raises(InvalidInputError, match="is not over in China"):
        await reported(books)
    books.next_morning()
    assert (await reported(books)).status == 0
    books.wechat.down = True
    report = await reported(books)
    assert _told_by(report)[0].endswith("not compared: the platform does not answer: try again")
    assert report.status == 2
    with pytest.raises(NotFoundError, match="no site"):
        await reported(books, "elsewhere")
    await rows(pool(), "DELETE FROM merchant")
    with pytest.raises(NotFoundError, match="no merchant"):
        await reported(books)
