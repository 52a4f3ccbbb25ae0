"""Where a paid trade's money goes, when platforms, sites and workers get in each other's way."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from payments.contract import Platform, Trade, TradeStatus
from server.models.database import pool, rows
from server.services import order_queries, payment_inbox
from server.services.audit import audit
from server.services.crediting import Credited, Outcome, credit
from server.services.site_import import import_site
from server.services.wakeups import Wakeups
from server.workers.context import WorkContext
from server.workers.inbox import query_orders, settle_notices
from tests.fakes.site_text import PROFILES
from tests.scenarios.world import SITE, World, local
from tests.services.money import sum_of_all_accounts_fen, wallet_fen

WECHAT = Platform.WECHAT


@pytest.fixture
async def world(database: None, tmp_path: Path) -> World:
    """A shop with an empty wallet."""
    made = World(local("2026-05-20 10:00"))
    await made.open(tmp_path, balance_fen=0)
    return made


def context_of(world: World) -> WorkContext:
    return WorkContext(lambda: world.now, world.directory, {}, Wakeups(None))


async def second_site(folder: Path, world: World) -> int:
    """Another mall of the same owner, and so of the same merchant."""
    content = SITE.format(policy="", tariff='kind = "flat"\nprice = "1"', balance_fen=0)
    path = folder / "other.toml"
    path.write_text(content.replace('"demo"', '"other"'), encoding="utf-8")
    return (await import_site(path, PROFILES, world.now)).site_id


async def test_a_notice_at_another_sites_door_pays_the_order_it_names(
    world: World, tmp_path: Path
) -> None:
    """It may not bury the payment in suspense: the right door's notice would only repeat it."""
    other = await second_site(tmp_path, world)
    trade = world.paid_trade(await world.order(5_000))
    credited = await credit(other, WECHAT, trade, world.now)
    assert (credited.outcome, credited.tenancy_id) == (Outcome.CREDITED, world.tenancy_id)
    assert (await credit(world.site_id, WECHAT, trade, world.now)).outcome is Outcome.REPEATED
    assert await wallet_fen(world.tenancy_id) == 5_000
    assert await sum_of_all_accounts_fen() == 0


@pytest.mark.parametrize("at_once", [1, 8])
async def test_a_payment_that_nobody_ordered_is_suspended_once(world: World, at_once: int) -> None:
    trade = Trade("nobody", TradeStatus.PAID, "merchant-wechat", 700, "CNY", "T-1", world.now)
    made = (credit(world.site_id, WECHAT, trade, world.now) for _ in range(at_once))
    outcomes = sorted(one.outcome.value for one in await asyncio.gather(*made))
    assert outcomes == ["repeated"] * (at_once - 1) + ["unknown_order"]
    assert await rows(pool(), "SELECT amount_fen FROM payment_credit") == [{"amount_fen": 700}]
    assert await rows(pool(), "SELECT kind FROM payment_case") == [{"kind": "unknown_order"}]
    assert (await audit(lambda _: None)).passed


async def test_another_merchants_trade_does_not_pay_our_order(world: World) -> None:
    trade = replace(world.paid_trade(await world.order(5_000)), merchant_id="somebody-else")
    credited = await credit(world.site_id, WECHAT, trade, world.now)
    assert credited.outcome is Outcome.UNKNOWN_ORDER
    assert await wallet_fen(world.tenancy_id) == 0
    assert (await world.top_up())["status"] == "pending"


async def test_an_order_given_back_before_it_was_credited_waits_in_suspense(world: World) -> None:
    number = await world.order(5_000)
    paid = world.paid_trade(number)
    world.platform.trades[number] = replace(paid, status=TradeStatus.REFUNDED)
    world.now += timedelta(seconds=3)
    context = context_of(world)
    assert await query_orders(context, WECHAT) == 1
    world.now += timedelta(days=1)
    assert await query_orders(context, WECHAT) == 0  # it is not asked for again
    assert (await world.top_up())["status"] == "closed"
    told = [replace(paid, status=TradeStatus.REFUNDED), paid]  # a notice may be late
    late = [await credit(world.site_id, WECHAT, one, world.now) for one in told]
    assert [one.outcome for one in late] == [Outcome.NOT_PAID, Outcome.REPEATED]
    kinds = await rows(
        pool(), "SELECT kind, credit_id IS NULL AS bare FROM payment_case ORDER BY kind"
    )
    assert kinds == [
        {"kind": "refunded_before_credit", "bare": False},
        {"kind": "refunded_outside", "bare": True},
    ]
    assert await wallet_fen(world.tenancy_id) == 0
    assert (await audit(lambda _: None)).violations == []


async def test_a_credited_order_refunded_outside_is_a_case_and_moves_no_money(
    world: World,
) -> None:
    trade = world.paid_trade(await world.order(5_000))
    await credit(world.site_id, WECHAT, trade, world.now)
    given_back = replace(trade, status=TradeStatus.REFUNDED)
    for _ in range(2):
        await credit(world.site_id, WECHAT, given_back, world.now)
    assert (await world.top_up())["status"] == "paid"
    assert await rows(pool(), "SELECT kind FROM payment_case") == [{"kind": "refunded_outside"}]
    assert await wallet_fen(world.tenancy_id) == 5_000


async def test_an_order_that_expires_as_it_is_paid_meets_no_deadlock(world: World) -> None:
    """Closing and crediting take their locks in one order."""
    for number in range(12):
        out_trade_no = await world.order(100, f"key-{number}")
        order = await world.row("SELECT id FROM payment_order WHERE state = 'waiting'")
        trade = world.paid_trade(out_trade_no)
        before = world.now - timedelta(days=3)
        due = order_queries.DueQuery(
            *(order["id"], world.site_id, WECHAT, world.platform.merchant_id, "forgotten", 0),
            *(before, before),
        )
        await asyncio.gather(
            *(order_queries.ask_platform(due, world.platform, world.now) for _ in range(3)),
            *(credit(world.site_id, WECHAT, trade, world.now) for _ in range(3)),
        )
    assert await wallet_fen(world.tenancy_id) == 1_200
    assert (await audit(lambda _: None)).passed


async def test_a_notice_settled_from_two_sides_keeps_the_outcome_that_credited(
    world: World,
) -> None:
    number = await world.order(5_000)
    world.paid_trade(number)
    headers, body = world.platform.notice_of(number)
    notice = world.platform.parse_notice(headers, body, world.now)
    kept, notice_id = await payment_inbox.keep(world.site_id, world.platform, notice, world.now)
    assert (kept, notice_id is not None) == (payment_inbox.Kept.ACCEPTED, True)
    assert notice_id is not None
    again = await payment_inbox.keep(world.site_id, world.platform, notice, world.now)
    assert again == (payment_inbox.Kept.ACCEPTED, notice_id)
    settled = await asyncio.gather(
        *(payment_inbox.settle(notice_id, world.now) for _ in range(5)),
        settle_notices(context_of(world)),
    )
    credited = [one for one in settled[:5] if isinstance(one, Credited)]
    assert [one.outcome for one in credited] in ([], [Outcome.CREDITED])
    found = await world.row("SELECT outcome, settled_at FROM payment_notice")
    assert found == {"outcome": "credited", "settled_at": world.now}
    assert await wallet_fen(world.tenancy_id) == 5_000


@pytest.mark.parametrize("outcome", [Outcome.OTHER_AMOUNT, Outcome.AFTER_MOVE_OUT])
async def test_an_order_whose_money_is_in_suspense_is_over(world: World, outcome: Outcome) -> None:
    """Closed: nothing is credited by itself any more, and `paid` would say that it was.

    The time of the payment tells it from an order that nobody paid; a case is for the managers.
    """
    trade = world.paid_trade(await world.order(5_000))
    if outcome is Outcome.OTHER_AMOUNT:
        trade = replace(trade, paid_fen=4_999)
    else:
        await rows(pool(), "UPDATE tenancy SET closed_at = $1", world.now)
    assert (await credit(world.site_id, WECHAT, trade, world.now)).outcome is outcome
    top_up = await world.top_up()
    assert (top_up["status"], top_up["paid_at"], top_up["credited_at"]) == (
        *("closed", trade.paid_at),
        None,
    )
    world.now += timedelta(days=1)
    assert await query_orders(context_of(world), WECHAT) == 0  # it is not asked for again
    assert (await credit(world.site_id, WECHAT, trade, world.now)).outcome is Outcome.REPEATED
    assert (await world.top_up()) == top_up
    case = await world.row("SELECT kind, closed_at FROM payment_case")
    assert case == {"kind": outcome.value, "closed_at": None}
    assert (await audit(lambda _: None)).passed


async def test_a_second_payment_leaves_a_credited_order_as_it_is(world: World) -> None:
    trade = world.paid_trade(await world.order(5_000))
    await credit(world.site_id, WECHAT, trade, world.now)
    before = await world.top_up()
    again = replace(trade, transaction_id="T-other", paid_at=world.now + timedelta(hours=1))
    second = await credit(world.site_id, WECHAT, again, world.now)
    assert second.outcome is Outcome.SECOND_PAYMENT
    assert await world.top_up() == before


CONTRADICTIONS: list[tuple[dict[str, object], str]] = [
    ({"merchant_id": "somebody-else"}, "other_merchant"),
    ({"app_id": "another-app"}, "other_app"),
    ({"currency": "USD"}, "other_currency"),
    ({"paid_fen": 4_999}, "other_amount"),
]


async def test_a_true_notice_that_contradicts_is_a_case_and_answered_as_failure(
    world: World,
) -> None:
    number = await world.order(5_000)
    world.paid_trade(number)
    headers, body = world.platform.notice_of(number)
    true = world.platform.parse_notice(headers, body, world.now)
    for change, kind in CONTRADICTIONS:
        of_notice = {name: change[name] for name in change if name in {"merchant_id", "app_id"}}
        of_trade = {name: change[name] for name in change if name not in of_notice}
        trade = replace(true.trade, **of_trade)  # type: ignore[arg-type]  # one field a case
        notice = replace(true, trade=trade, **of_notice)  # type: ignore[arg-type]  # likewise
        for _ in range(2):
            kept = await payment_inbox.keep(world.site_id, world.platform, notice, world.now)
            assert kept == (payment_inbox.Kept.CONTRADICTED, None)
        assert len(await rows(pool(), "SELECT 1 FROM payment_case WHERE kind = $1", kind)) == 1
    assert await wallet_fen(world.tenancy_id) == 0
