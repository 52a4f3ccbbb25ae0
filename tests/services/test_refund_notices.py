"""A platform's word about a refund: kept, answered, and looked at once."""

from dataclasses import replace
from datetime import timedelta

import pytest

from payments.contract import Refund, RefundStatus
from server.core.refunds.parts import PartEvent, PartState
from server.models.database import pool, rows
from server.services import payment_inbox
from server.services.crediting import Credited, Outcome
from server.services.payment_inbox import Doubt, Kept
from server.services.refund_parts import Said, ask_platform, take_due, take_in
from server.workers.inbox import settle_notices
from tests.fakes.refunding import refunding
from tests.scenarios.world import World, local

UNSETTLED = "SELECT id FROM payment_notice WHERE settled_at IS NULL"
FOREIGN = Refund("of-somebody", "trade", RefundStatus.SUCCEEDED, "merchant-wechat", 300)


@pytest.fixture
def world(database: None) -> World:
    return World(local("2026-05-20 10:00"))


async def test_a_refund_that_nobody_here_asked_for_is_a_case_once(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await world.open(tmp_path_factory.mktemp("mall"), balance_fen=0)
    notice = world.platform.refund_notice_of(FOREIGN)
    for repeated in (False, True):
        kept, notice_id = await payment_inbox.keep(world.site_id, world.platform, notice, world.now)
        assert kept is Kept.ACCEPTED
        assert notice_id is not None
        told = await payment_inbox.settle(notice_id, world.now)
        assert told == (None if repeated else Credited(Outcome.REFUND_TOLD))
    case = await world.row("SELECT kind, credit_id FROM payment_case")
    assert case == {"kind": "refunded_outside", "credit_id": None}
    found = await world.row("SELECT out_trade_no, out_refund_no, outcome FROM payment_notice")
    assert found == {
        "out_trade_no": "trade",
        "out_refund_no": "of-somebody",
        "outcome": "refund_told",
    }


async def test_another_merchants_refund_contradicts(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await world.open(tmp_path_factory.mktemp("mall"), balance_fen=0)
    notice = replace(world.platform.refund_notice_of(FOREIGN), merchant_id="somebody-else")
    kept = await payment_inbox.keep(world.site_id, world.platform, notice, world.now)
    assert kept == (Kept.CONTRADICTED, None)
    assert await rows(pool(), "SELECT kind FROM payment_case") == [{"kind": "other_merchant"}]
    assert await rows(pool(), "SELECT 1 AS some FROM payment_notice") == []


@pytest.mark.parametrize("late", [RefundStatus.ABNORMAL, RefundStatus.CLOSED])
async def test_an_old_word_about_a_refund_that_is_done_is_asked_about_first(
    world: World, tmp_path_factory: pytest.TempPathFactory, late: RefundStatus
) -> None:
    """Else what the payer has would be called sent back, and be given to the wallet as well."""
    await world.open(tmp_path_factory.mktemp("mall"), balance_fen=0)
    office = await refunding(world)
    await world.pay(5_000)
    await office.ask(2_000)
    await office.work()
    (number,) = office.wechat.refunds
    old = office.wechat.refund_notice_of(office.wechat.finish(number, late, world.now))
    office.wechat.finish(number, RefundStatus.SUCCEEDED, world.now)
    await office.work(after_s=60)
    assert await office.parts() == [("done", 2_000, "wechat")]
    _, notice_id = await payment_inbox.keep(world.site_id, office.wechat, old, world.now)
    assert notice_id is not None
    assert isinstance(await payment_inbox.settle(notice_id, world.now), Doubt)
    office.wechat.down = True
    await settle_notices(office.context)
    assert await rows(pool(), UNSETTLED) == [{"id": notice_id}]
    office.wechat.down = False
    world.now += timedelta(seconds=5)
    await settle_notices(office.context)
    assert await rows(pool(), UNSETTLED) == []
    assert await rows(pool(), "SELECT kind FROM payment_case") == []
    assert await office.parts() == [("done", 2_000, "wechat")]


@pytest.mark.parametrize("known_before", [True, False])
async def test_an_old_success_does_not_end_what_came_back_since(
    world: World, tmp_path_factory: pytest.TempPathFactory, *, known_before: bool
) -> None:
    """The notice that it was done comes after the one that the bank sent it back, or with it."""
    await world.open(tmp_path_factory.mktemp("mall"), balance_fen=0)
    office = await refunding(world)
    await world.pay(5_000)
    await office.ask(2_000)
    await office.work()
    (number,) = office.wechat.refunds
    old = office.wechat.refund_notice_of(
        office.wechat.finish(number, RefundStatus.SUCCEEDED, world.now)
    )
    new = office.wechat.refund_notice_of(
        office.wechat.finish(number, RefundStatus.ABNORMAL, world.now)
    )
    for told in (new, old):
        await payment_inbox.keep(world.site_id, office.wechat, told, world.now)
    if known_before:
        await office.work(after_s=60)
        assert await office.parts() == [("abnormal", 2_000, "wechat")]
    await settle_notices(office.context)
    assert await rows(pool(), UNSETTLED) == []
    # done, if the old one was the first of the two; then the bank's part is a case
    found = [one["kind"] for one in await rows(pool(), "SELECT kind FROM payment_case")]
    ended = ([("abnormal", 2_000, "wechat")], ["refund_abnormal"])
    assert (await office.parts(), found) in (
        ended,
        *([([("done", 2_000, "wechat")], ["refund_returned"])] * (not known_before)),
    )


async def test_an_answer_that_a_notice_overtook_is_dropped_and_asked_for_again(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The bank sent it back while "it is done" was on its way to the worker who had asked."""
    await world.open(tmp_path_factory.mktemp("mall"), balance_fen=0)
    office = await refunding(world)
    await world.pay(5_000)
    await office.ask(2_000)
    await office.work()
    (number,) = office.wechat.refunds
    office.wechat.finish(number, RefundStatus.SUCCEEDED, world.now)
    world.now += timedelta(minutes=1)
    [due] = await take_due(world.now, 8)
    answer = await ask_platform(due, office.wechat, "", world.now)
    back = office.wechat.finish(number, RefundStatus.ABNORMAL, world.now)
    notice = office.wechat.refund_notice_of(back)
    _, notice_id = await payment_inbox.keep(world.site_id, office.wechat, notice, world.now)
    assert notice_id is not None
    await payment_inbox.settle(notice_id, world.now)
    await take_in(number, answer, world.now, asked_in=due.state)
    assert await office.parts() == [("abnormal", 2_000, "wechat")]
    office.wechat.finish(number, RefundStatus.SUCCEEDED, world.now)
    await office.work(after_s=24 * 3_600)
    assert await office.parts() == [("done", 2_000, "wechat")]


async def test_what_was_asked_in_a_doubt_counts_only_while_nothing_else_was_told(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await world.open(tmp_path_factory.mktemp("mall"), balance_fen=0)
    office = await refunding(world)
    await world.pay(5_000)
    await office.ask(2_000)
    await office.work()
    (number,) = office.wechat.refunds
    done = office.wechat.finish(number, RefundStatus.SUCCEEDED, world.now)
    notice = office.wechat.refund_notice_of(done)
    _, notice_id = await payment_inbox.keep(world.site_id, office.wechat, notice, world.now)
    assert notice_id is not None
    await take_in(number, Said(PartEvent.TURNED_ABNORMAL), world.now)
    doubt = await payment_inbox.settle(notice_id, world.now)
    assert isinstance(doubt, Doubt)
    await take_in(number, Said(PartEvent.SUCCEEDED), world.now)
    back = replace(done, status=RefundStatus.ABNORMAL)
    again = await payment_inbox.settle(notice_id, world.now, asked=(doubt, back))
    assert again == replace(doubt, state=PartState.DONE, refund=back)
    assert await office.parts() == [("done", 2_000, "wechat")]


async def test_an_old_success_does_not_end_what_a_manager_asks_for_again(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It came back, a manager wants it asked for again, and only then "it is done" is looked at."""
    await world.open(tmp_path_factory.mktemp("mall"), balance_fen=0)
    office = await refunding(world)
    await world.pay(5_000)
    await office.ask(2_000)
    await office.work()
    (number,) = office.wechat.refunds
    old = office.wechat.refund_notice_of(
        office.wechat.finish(number, RefundStatus.SUCCEEDED, world.now)
    )
    office.wechat.finish(number, RefundStatus.ABNORMAL, world.now)
    await take_in(number, Said(PartEvent.TURNED_ABNORMAL), world.now)
    await take_in(number, Said(PartEvent.ASKED_AGAIN), world.now)
    assert await office.parts() == [("due", 2_000, "wechat")]
    await payment_inbox.keep(world.site_id, office.wechat, old, world.now)
    await settle_notices(office.context)
    assert await rows(pool(), UNSETTLED) == []
    assert await office.parts() == [("abnormal", 2_000, "wechat")]
