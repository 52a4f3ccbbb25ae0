"""Refunds from a wallet: reserved or out of it at once, in parts, and each fen ends once."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tortoise.exceptions import BaseORMException

from payments.contract import Platform, RefundStatus
from server.core.errors import ConflictError, InvalidInputError
from server.core.refunds.parts import PartEvent
from server.models.database import pool, rows, transaction
from server.services import money_by_hand, refund_parts
from server.services.approvals import DEFAULT_LIMITS_FEN, Decision
from server.services.audit import audit
from server.services.move_out_standing import NotSettledError
from server.services.moving_out import MoveOut, move_out
from server.services.payment_inbox import Kept, keep, settle
from server.services.refund_starts import RefundWish
from server.services.refunds import AboveAvailableError, OtherRefundError
from server.services.tenancies import overview
from server.services.top_up_views import find_top_up
from tests.fakes.refunding import Refunding, refunding
from tests.scenarios.world import World, local
from tests.services.money import sum_of_all_accounts_fen, wallet_fen

LIMIT = DEFAULT_LIMITS_FEN["refund"]
WECHAT = "wechat"


@pytest.fixture
async def office(database: None, tmp_path: Path) -> Refunding:
    """A shop that had 1,000 fen before MallWatt."""
    world = World(local("2026-05-20 10:00"))
    await world.open(tmp_path, balance_fen=1_000)
    return await refunding(world)


async def proved(office: Refunding) -> None:
    assert await sum_of_all_accounts_fen() == 0
    report = await audit(lambda _: None)
    assert report.violations == []
    assert office.world.tenancy_id


async def statuses() -> list[tuple[str, int]]:
    found = await rows(pool(), "SELECT status, refunded_fen FROM top_up ORDER BY id")
    return [(one["status"], one["refunded_fen"]) for one in found]


async def test_a_refund_goes_back_to_the_newest_payments_and_the_rest_by_hand(
    office: Refunding,
) -> None:
    for number, amount_fen in enumerate((400, 300)):
        office.world.now += timedelta(hours=1)
        await office.world.pay(amount_fen, f"key-{number}")
    asked = await office.ask(1_500)
    assert asked.approval_no is None
    assert await wallet_fen(office.world.tenancy_id) == 200
    assert await office.in_progress_fen() == 1_500
    expected = [("due", 300, WECHAT), ("due", 400, WECHAT), ("to_pay", 800, None)]
    assert await office.parts() == expected
    assert await statuses() == [("refunding", 0), ("refunding", 0)]
    await office.work()
    assert [part[0] for part in await office.parts()] == ["processing", "processing", "to_pay"]
    office.finish()
    await office.work(after_s=60)
    assert [part[0] for part in await office.parts()] == ["done", "done", "to_pay"]
    assert await statuses() == [("refunded", 400), ("refunded", 300)]
    assert await office.in_progress_fen() == 800
    assert [one["status"] for one in await office.refunds()] == ["in_progress"]
    request = office.wechat.refund_requests[0]
    assert request.notify_url == "http://mall.test/payments/wechat/demo/notify"
    assert (request.refund_fen, request.total_fen) == (300, 300)
    await proved(office)


async def test_partly_refunded_stays_paid_and_is_asked_again_for_the_rest(
    office: Refunding,
) -> None:
    await office.world.pay(5_000)
    await office.ask(2_000, key="first")
    await office.work()
    office.finish()
    await office.work(after_s=10)
    assert await statuses() == [("paid", 2_000)]
    no = (await office.world.top_up())["no"]
    assert (await find_top_up(no)).refunded_fen == 2_000
    await office.ask(3_000, key="second")
    assert await statuses() == [("refunding", 2_000)]
    await office.work()  # a minute after the first one
    assert len(office.wechat.refund_requests) == 1
    await office.work(after_s=60)
    office.finish()
    await office.work(after_s=60)
    assert await statuses() == [("refunded", 5_000)]
    assert [one["status"] for one in await office.refunds()] == ["done", "done"]
    await proved(office)


async def test_no_more_than_available_can_be_asked_for_also_at_once(office: Refunding) -> None:
    await office.world.use(energy_wh=300, over=timedelta(hours=1))  # thirty fen, not billed yet
    assert (await office.left()).available_fen == 970
    with pytest.raises(AboveAvailableError):
        await office.ask(971)
    asked = await asyncio.gather(
        *(office.ask(500, key=f"key-{number}") for number in range(4)), return_exceptions=True
    )
    refused = [one for one in asked if isinstance(one, AboveAvailableError)]
    assert len(refused) == 3
    assert (await office.left()).available_fen == 470
    await proved(office)


async def test_one_key_is_one_refund(office: Refunding) -> None:
    first = await office.ask(100)
    assert await office.ask(100) == first
    with pytest.raises(OtherRefundError):
        await office.ask(101)
    clicked = await office.ask(50, key=None)
    assert await office.ask(50, key=None) == clicked
    office.world.now += timedelta(seconds=61)
    assert await office.ask(50, key=None) != clicked
    assert await wallet_fen(office.world.tenancy_id) == 800
    assert len(await rows(pool(), "SELECT 1 FROM manager_act WHERE act = 'refund'")) == 3


@pytest.mark.parametrize(
    "wish", [(0, "r", "electricity"), (100, " ", "electricity"), (100, "r", "gold")]
)
async def test_what_cannot_be_wished_is_refused(wish: tuple[int, str, str]) -> None:
    with pytest.raises(InvalidInputError):
        RefundWish(1, *wish)


async def test_above_the_limit_it_is_reserved_until_a_second_person_agrees(
    office: Refunding,
) -> None:
    world = office.world
    await world.pay(LIMIT + 5_000)
    asked = await office.ask(LIMIT + 1)
    assert asked.approval_no is not None
    assert await office.ask(LIMIT + 1) == asked
    seen = await overview(world.tenancy_id, world.now)
    assert (seen.reserved_fen, seen.wallet_fen) == (LIMIT + 1, LIMIT + 6_000)
    assert seen.balance_fen == 5_999
    with pytest.raises(AboveAvailableError):
        await office.ask(6_000, key="other")
    for _ in range(2):  # the same decision again changes nothing
        await money_by_hand.decide(
            *(asked.approval_no, office.people["olga"], Decision.APPROVE), reason="", now=world.now
        )
    assert (await office.left()).reserved_fen == 0
    assert await wallet_fen(world.tenancy_id) == 5_999
    assert await office.parts() == [("due", LIMIT + 1, WECHAT)]
    await proved(office)


async def test_what_is_rejected_or_forgotten_is_not_reserved_any_more(office: Refunding) -> None:
    world = office.world
    await world.pay(3 * LIMIT)
    rejected = await office.ask(LIMIT + 1, key="rejected")
    await office.ask(LIMIT + 2, key="forgotten")
    assert (await office.left()).reserved_fen == 2 * LIMIT + 3
    assert rejected.approval_no is not None
    await money_by_hand.decide(
        *(rejected.approval_no, office.people["olga"], Decision.REJECT), reason="", now=world.now
    )
    assert (await office.left()).reserved_fen == LIMIT + 2
    world.now += timedelta(days=7)
    await office.work()
    assert (await office.left()).reserved_fen == 0
    assert [one["status"] for one in await office.refunds()] == ["rejected", "expired"]
    assert await office.in_progress_fen() == 0
    await proved(office)


async def test_an_approval_that_would_take_what_is_not_there_is_refused(office: Refunding) -> None:
    await office.world.pay(LIMIT)
    asked = await office.ask(LIMIT + 1_000)
    await office.world.use(energy_wh=300, over=timedelta(hours=1))
    assert asked.approval_no is not None
    with pytest.raises(AboveAvailableError):
        await money_by_hand.decide(
            *(asked.approval_no, office.people["olga"], Decision.APPROVE),
            reason="",
            now=office.world.now,
        )
    assert [one["status"] for one in await office.refunds()] == ["waiting"]
    assert (await office.left()).reserved_fen == LIMIT + 1_000


async def test_a_refund_cuts_as_any_other_debit_does(office: Refunding) -> None:
    await office.world.pay(5_000)
    await office.world.use(energy_wh=300, over=timedelta(hours=1))
    await office.ask(5_970)
    await office.world.use(energy_wh=20, over=timedelta(minutes=10))
    assert office.world.meter.is_disconnected()


FAILED = [
    ("refused", 0),
    ("closed", 10),
]


@pytest.mark.parametrize(("how", "after_s"), FAILED)
async def test_a_failed_refund_is_the_wallets_again_and_a_case(
    office: Refunding, how: str, after_s: int
) -> None:
    await office.world.pay(5_000)
    await office.ask(5_000)
    office.wechat.refuses = "NOT_ENOUGH" if how == "refused" else ""
    await office.work()
    office.finish(RefundStatus.CLOSED)
    await office.work(after_s=after_s)
    assert await office.parts() == [("failed", 5_000, WECHAT)]
    assert [one["status"] for one in await office.refunds()] == ["failed"]
    assert await wallet_fen(office.world.tenancy_id) == 6_000
    assert await statuses() == [("paid", 0)]
    case = await office.world.row("SELECT kind, closed_at FROM payment_case")
    assert case == {"kind": "refund_failed", "closed_at": None}
    # that payment is passed over from now on
    await office.ask(700, key="again")
    assert (await office.parts())[1] == ("to_pay", 700, None)
    await proved(office)


async def test_an_abnormal_one_waits_for_a_person_and_may_still_succeed(office: Refunding) -> None:
    await office.world.pay(5_000)
    await office.ask(5_000)
    await office.work()
    office.finish(RefundStatus.ABNORMAL)
    await office.work(after_s=10)
    assert await office.parts() == [("abnormal", 5_000, WECHAT)]
    case = await office.world.row("SELECT kind, closed_at FROM payment_case")
    assert case == {"kind": "refund_abnormal", "closed_at": None}
    assert await office.in_progress_fen() == 5_000
    for number in office.wechat.refunds:
        office.wechat.finish(number, RefundStatus.SUCCEEDED, office.world.now)
    await office.work(after_s=6 * 3_600)
    assert await office.parts() == [("done", 5_000, WECHAT)]
    case = await office.world.row("SELECT decision, decided_by, closed_at FROM payment_case")
    assert case == {"decision": "seen", "decided_by": "mallwatt", "closed_at": office.world.now}
    await proved(office)


async def test_what_is_unanswered_is_asked_about_and_then_asked_again_with_one_number(
    office: Refunding,
) -> None:
    await office.world.pay(5_000)
    await office.ask(5_000)
    office.wechat.down = True
    for pause_s in (0, 10, 30):
        await office.work(after_s=pause_s)
    assert await office.parts() == [("due", 5_000, WECHAT)]
    office.wechat.down = False
    office.wechat.loses_answers = True
    await office.work(after_s=60)  # not known there: asked for again, and that answer is lost
    assert len(office.wechat.refund_requests) == 1
    office.finish()
    await office.work(after_s=3_600)
    assert await office.parts() == [("done", 5_000, WECHAT)]
    assert len(office.wechat.refund_requests) == 1
    await proved(office)


async def test_a_merchant_that_is_gone_leaves_it_to_a_person(office: Refunding) -> None:
    await office.world.pay(5_000)
    await office.ask(5_000)
    wechat = office.world.directory.platforms.pop(Platform.WECHAT)
    for _ in range(5):
        await office.work(after_s=3_600)
    assert await office.parts() == [("abnormal", 5_000, WECHAT)]
    office.world.directory.platforms[Platform.WECHAT] = wechat
    await office.work(after_s=6 * 3_600)  # it is back, and is asked about it first
    assert (await office.parts(), office.wechat.refund_requests) == ([("due", 5_000, WECHAT)], [])
    await office.work(after_s=60)
    assert await office.parts() == [("processing", 5_000, WECHAT)]


async def test_a_notice_does_what_an_answer_does_once(office: Refunding) -> None:
    await office.world.pay(5_000)
    await office.ask(5_000)
    await office.work()
    (number,) = office.wechat.refunds
    notice = office.wechat.refund_notice_of(
        office.wechat.finish(number, RefundStatus.SUCCEEDED, office.world.now)
    )
    for _ in range(2):
        kept, notice_id = await keep(office.world.site_id, office.wechat, notice, office.world.now)
        assert kept is Kept.ACCEPTED
        assert notice_id is not None
        await settle(notice_id, office.world.now)
    await office.work(after_s=3_600)
    assert await office.parts() == [("done", 5_000, WECHAT)]
    assert await rows(pool(), "SELECT 1 AS some FROM payment_case") == []
    await proved(office)


CONTRADICTIONS: list[tuple[str, dict[str, object]]] = [
    ("another amount", {"refund_fen": 4_999}),
    ("another payment", {"out_trade_no": "of-somebody"}),
    ("another merchant", {"merchant_id": "somebody-else"}),
]


async def test_a_word_about_something_else_moves_no_money(office: Refunding) -> None:
    await office.world.pay(5_000)
    await office.ask(5_000)
    await office.work()
    (number,) = office.wechat.refunds
    done = office.wechat.finish(number, RefundStatus.SUCCEEDED, office.world.now)
    for what, change in CONTRADICTIONS:
        other = replace(done, **change)  # type: ignore[arg-type]  # one field a case
        said = refund_parts.Said(refund_parts.SAID[done.status], other)
        await refund_parts.take_in(number, said, office.world.now)
        assert await office.parts() == [("processing", 5_000, WECHAT)], what
    case = await office.world.row("SELECT kind FROM payment_case")
    assert case == {"kind": "refund_contradicted"}


async def test_a_closed_one_that_succeeds_after_all_is_a_case(office: Refunding) -> None:
    await office.world.pay(5_000)
    await office.ask(5_000)
    await office.work()
    (number,) = office.wechat.refunds
    for status in (RefundStatus.CLOSED, RefundStatus.SUCCEEDED):
        refund = office.wechat.finish(number, status, office.world.now)
        said = refund_parts.Said(refund_parts.SAID[status], refund)
        await refund_parts.take_in(number, said, office.world.now)
    assert await wallet_fen(office.world.tenancy_id) == 6_000
    kinds = await rows(pool(), "SELECT kind FROM payment_case ORDER BY id")
    assert [one["kind"] for one in kinds] == ["refund_failed", "refunded_outside"]


async def test_whoever_dies_between_two_steps_leaves_what_the_next_one_goes_on_with(
    office: Refunding,
) -> None:
    """Killed after the claim, after the call, and in the middle of taking its answer in."""
    world = office.world
    await world.pay(5_000)
    await office.ask(5_000)
    assert len(await refund_parts.take_due(world.now, 8)) == 1  # and dies before the call
    world.now += timedelta(seconds=10)
    (due,) = await refund_parts.take_due(world.now, 8)
    assert due.sent_before
    said = await refund_parts.ask_platform(due, office.wechat, "", world.now)
    assert said.event is PartEvent.NOT_KNOWN
    await refund_parts.take_in(due.out_refund_no, said, world.now)
    assert await refund_parts.take_due(world.now, 8) == []  # one a minute, whoever asked
    world.now += timedelta(seconds=50)
    (due,) = await refund_parts.take_due(world.now, 8)
    assert not due.sent_before
    await refund_parts.ask_platform(due, office.wechat, "", world.now)  # and dies
    office.finish()
    world.now += timedelta(hours=1)
    (due,) = await refund_parts.take_due(world.now, 8)
    said = await refund_parts.ask_platform(due, office.wechat, "", world.now)
    with suppress(ZeroDivisionError):
        async with transaction() as connection:
            await refund_parts.take_in_within(connection, due.out_refund_no, said, world.now)
            raise ZeroDivisionError("killed before the commit")
    assert await office.parts() == [("due", 5_000, WECHAT)]
    assert await office.in_progress_fen() == 5_000
    await office.work(after_s=3_600)
    assert await office.parts() == [("done", 5_000, WECHAT)]
    assert len(office.wechat.refund_requests) == 1
    await proved(office)


async def test_a_tenancy_that_ended_is_given_back_what_is_left(office: Refunding) -> None:
    world = office.world
    await world.pay(5_000)
    await world.wait(timedelta(hours=1))
    leave = MoveOut(world.site_id, "A1", world.now, "租约到期")
    await move_out(leave, office.people["olga"], world.now)
    with pytest.raises(NotSettledError):
        await office.ask(6_000)
    await world.wait(timedelta(minutes=10))
    await world.close()
    for _ in range(2):
        await office.ask(6_000)
    assert await office.parts() == [("due", 5_000, WECHAT), ("to_pay", 1_000, None)]
    await proved(office)


async def test_the_other_wallet_has_its_own_payments_and_bounds(office: Refunding) -> None:
    await office.world.pay(5_000)
    with pytest.raises(AboveAvailableError):
        await office.ask(1, wallet="fixed_charges")


FORGED = [
    "UPDATE refund SET amount_fen = 1",
    "UPDATE refund SET wallet = 'fixed_charges_wallet'",
    "DELETE FROM refund_part",
    "TRUNCATE refund_part",
    "UPDATE refund_part SET amount_fen = 1",
    "UPDATE refund_part SET out_refund_no = 'another'",
    "UPDATE refund_part SET state = 'due', finished_at = NULL",
    "UPDATE refund_part SET attempts = 7",
    "DELETE FROM payment_case",
]


async def test_a_parts_facts_and_its_end_cannot_be_changed_by_hand(office: Refunding) -> None:
    await office.world.pay(5_000)
    await office.ask(5_000)
    office.wechat.refuses = "NO"
    await office.work()
    for sql in FORGED:
        with pytest.raises(BaseORMException):
            await rows(pool(), sql)


async def test_what_a_manager_may_not_say_now_is_refused(office: Refunding) -> None:
    await office.ask(1_000)
    (part,) = await rows(pool(), "SELECT out_refund_no FROM refund_part")
    said = refund_parts.Said(PartEvent.ASKED_AGAIN)
    with pytest.raises(ConflictError):
        await refund_parts.take_in(part["out_refund_no"], said, office.world.now)
