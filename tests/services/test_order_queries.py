"""Asking platforms about undecided orders: to their end, fairly, whatever a platform does."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from payments.contract import (
    Method,
    PaymentError,
    Platform,
    PlatformRefusedError,
    PlatformUnavailableError,
    Trade,
    TradeStatus,
)
from server.models.database import pool, rows
from server.services import order_queries
from server.services.order_queries import take_due
from server.services.wakeups import Wakeups
from server.workers.context import WorkContext
from server.workers.inbox import query_alipay, query_wechat
from tests.fakes.payment_platform import FakePlatform
from tests.scenarios.world import World, local
from tests.services.money import wallet_fen

WECHAT = Platform.WECHAT
Close = Callable[[str, datetime], Awaitable[None]]


@pytest.fixture
async def world(database: None, tmp_path: Path) -> World:
    """A shop with an empty wallet."""
    made = World(local("2026-05-20 10:00"))
    await made.open(tmp_path, balance_fen=0)
    return made


def context_of(world: World) -> WorkContext:
    return WorkContext(lambda: world.now, world.directory, {}, Wakeups(None))


def races(platform: FakePlatform, *, refusal: PaymentError | None) -> Close:
    """A close before which somebody pays; it is refused, or passes over it in silence."""

    async def close(out_trade_no: str, now: datetime) -> None:
        platform.pay(out_trade_no, now)
        if refusal is not None:
            raise refusal

    return close


@pytest.mark.parametrize(
    "refusal",
    [None, PlatformRefusedError("paid", code="ORDERPAID"), PlatformRefusedError("?", code="NEW")],
    ids=lambda refusal: refusal.code if refusal else "passed over",
)
async def test_paid_between_query_and_close_is_credited(
    world: World, monkeypatch: pytest.MonkeyPatch, refusal: PaymentError | None
) -> None:
    await world.order(5_000)
    monkeypatch.setattr(world.platform, "close", races(world.platform, refusal=refusal))
    world.now += timedelta(minutes=30)
    assert await query_wechat(context_of(world)) == 1
    assert (await world.top_up())["status"] == "paid"
    assert await wallet_fen(world.tenancy_id) == 5_000


async def test_a_close_without_an_answer_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await world.order(5_000)
    answers: list[PaymentError] = [PlatformUnavailableError("gone", code="TIMEOUT")]
    close = world.platform.close

    async def lost(out_trade_no: str, now: datetime) -> None:
        if answers:
            raise answers.pop()
        await close(out_trade_no, now)

    monkeypatch.setattr(world.platform, "close", lost)
    world.now += timedelta(minutes=30)
    assert await query_wechat(context_of(world)) == 1
    assert (await world.top_up())["status"] == "pending"  # it may be paid yet
    world.now += timedelta(seconds=70)
    assert await query_wechat(context_of(world)) == 1
    assert (await world.top_up())["status"] == "closed"
    assert world.platform.trades[number].status is TradeStatus.CLOSED
    world.now += timedelta(days=1)
    assert await query_wechat(context_of(world)) == 0


async def test_a_claim_lost_to_a_crash_comes_again_within_a_minute(world: World) -> None:
    await world.order(5_000)
    world.now += timedelta(seconds=2)
    assert len(await take_due(WECHAT, world.now, 8)) == 1  # and dies
    assert await take_due(WECHAT, world.now + timedelta(seconds=59), 8) == []
    assert len(await take_due(WECHAT, world.now + timedelta(seconds=60), 8)) == 1


MANY = """
WITH made AS (
    INSERT INTO top_up (no, site_id, tenancy_id, wallet, amount_fen, status, idempotency_key,
                        input_hash, created_at, expires_at, refunded_fen)
    SELECT 'N' || n, $1, $2, 'electricity_wallet', 1, 'pending', 'k' || n, '', $3, $4, 0
    FROM generate_series(1, 60) AS n RETURNING id, no
)
INSERT INTO payment_order (top_up_id, site_id, platform, merchant_id, out_trade_no, method, state,
                           created_at, query_at, queries)
SELECT id, $1, platform, 'merchant-' || platform, platform || no, platform, 'waiting', $3,
       $3::timestamptz + id * interval '1 ms', 0
FROM made CROSS JOIN unnest(ARRAY['wechat', 'alipay']) AS platform
"""


async def test_a_mute_platform_starves_nobody_and_the_longest_due_come_first(
    world: World,
) -> None:
    world.platform.down = True
    expires_at = world.now + timedelta(minutes=30)
    await rows(pool(), MANY, world.site_id, world.tenancy_id, world.now, expires_at)
    world.now += timedelta(seconds=2)
    context = context_of(world)
    assert await query_alipay(context) == 60
    first = [one.order_id for one in await take_due(WECHAT, world.now, 8)]
    rest = [one.order_id for one in await take_due(WECHAT, world.now, 60)]
    assert max(first) < min(rest)
    assert (len(first), len(rest)) == (8, 52)
    again = await rows(
        pool(), "SELECT DISTINCT query_at FROM payment_order WHERE platform = 'alipay'"
    )
    assert len(again) > 10, "orders of one moment are asked for in different ones"


async def test_a_slow_answer_holds_up_no_other_and_never_are_too_many_asked_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    expires_at = world.now + timedelta(minutes=30)
    await rows(pool(), MANY, world.site_id, world.tenancy_id, world.now, expires_at)
    world.now += timedelta(seconds=2)
    alipay = world.directory.alipay
    query, in_flight, most, answered = alipay.query, 0, 0, 0
    all_others = asyncio.Event()

    async def slow(out_trade_no: str, now: datetime) -> Trade:
        nonlocal in_flight, most, answered
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.002)
        if out_trade_no == "alipayN1":
            await all_others.wait()
        in_flight -= 1
        answered += 1
        if answered == 59:
            all_others.set()
        return await query(out_trade_no, now)

    monkeypatch.setattr(alipay, "query", slow)
    async with asyncio.timeout(30):
        assert await query_alipay(context_of(world)) == 60
    assert most == 8


async def test_an_answer_that_never_comes_is_left_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_queries, "ANSWER_S", 0.0)
    await world.order(5_000)
    world.now += timedelta(seconds=2)
    [due] = await take_due(WECHAT, world.now, 8)
    assert await order_queries.ask_platform(due, world.platform, world.now) is None
    found = await world.row("SELECT query_at FROM payment_order")
    assert found["query_at"] < world.now + timedelta(seconds=3)


async def test_another_merchant_of_the_site_is_not_asked_about_the_ones_before(
    world: World,
) -> None:
    """It would answer that it knows no such order, and a payment would pass for none."""
    number = await world.order(5_000)
    world.paid_trade(number)
    former = world.platform
    other = FakePlatform(WECHAT, frozenset({Method.WECHAT_NATIVE}))
    other.merchant_id = "another"
    world.directory.platforms[WECHAT] = other
    world.now += timedelta(minutes=30)
    assert await query_wechat(context_of(world)) == 1
    assert (await world.top_up())["status"] == "pending"
    world.directory.platforms[WECHAT] = former
    world.now += timedelta(minutes=2)
    assert await query_wechat(context_of(world)) == 1
    assert (await world.top_up())["status"] == "paid"
