"""What was paid for in the mini-program is delivered: WeChat is told until it knows."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from payments.contract import Method, Platform
from server.channels.contract import ChannelError, Shipment
from server.core.refunds.cases import CaseDecision
from server.models.database import pool, row, rows
from server.services import crediting, shipping, top_ups
from server.services.case_decisions import Verdict, decide_case
from server.services.site_import import import_site
from server.services.wakeups import Wakeups
from server.workers.context import WorkContext
from server.workers.shipping import tell_shipments
from tests.fakes.refunding import refunding
from tests.fakes.site_text import PROFILES
from tests.scenarios.world import SITE, World, local

LATER = ChannelError("not known yet", code="10060001", transient=True)
NEVER = ChannelError("not to be shipped", code="10060004")


@dataclass
class Desk:
    """WeChat's desk: says what it was told to, then takes everything."""

    says: list[ChannelError] = field(default_factory=list)
    told: list[Shipment] = field(default_factory=list)

    async def tell_shipped(self, shipment: Shipment, now: datetime) -> None:
        assert now.tzinfo is not None
        self.told.append(shipment)
        if self.says:
            raise self.says.pop(0)


@pytest.fixture
async def world(database: None, tmp_path: Path) -> World:
    made = World(local("2026-05-20 10:00"))
    await made.open(tmp_path, balance_fen=0)
    return made


async def says(folder: Path, world: World, setting: str) -> None:
    """The site file says whether WeChat wants to be told."""
    content = SITE.format(policy="", tariff='kind = "flat"\nprice = "1"', balance_fen=0)
    path = folder / "said.toml"
    path.write_text(
        content.replace("[weixin.templates]", f"[weixin]\n{setting}\n[weixin.templates]"),
        encoding="utf-8",
    )
    await import_site(path, PROFILES, world.now)


async def paid(
    world: World, method: Method = Method.WECHAT_JSAPI, paid_fen: int = 5_000
) -> crediting.Outcome:
    """Somebody orders 50 yuan and pays; what becomes of it."""
    user = await row(
        pool(),
        "INSERT INTO app_user (app_id, openid, created_at) VALUES ('wx1', 'o-alice', $1)"
        " RETURNING id",
        world.now,
    )
    assert user is not None
    wish = top_ups.TopUpOrder(
        tenancy_id=world.tenancy_id,
        amount_fen=5_000,
        method=method,
        wallet="electricity",
        idempotency_key="key-1",
        user_id=user["id"],
        payer_id="o-alice",
        client_ip=None,
        public_url="http://mall.test",
    )
    view = await top_ups.order(wish, world.directory, world.now)
    assert view.payment is not None
    trade = replace(world.paid_trade(view.payment["out_trade_no"]), paid_fen=paid_fen)
    return (await crediting.credit(world.site_id, Platform.WECHAT, trade, world.now)).outcome


def working(world: World, desk: Desk | None) -> WorkContext:
    return WorkContext(lambda: world.now, world.directory, {}, Wakeups(None), "", desk)


async def order(world: World) -> dict[str, object]:
    return dict(await world.row("SELECT ship_at, ships, shipped_at FROM payment_order"))


async def test_a_credited_payment_is_told_once(world: World, tmp_path: Path) -> None:
    await says(tmp_path, world, "shipping_information = true")
    await paid(world)
    desk = Desk()

    told = await asyncio.gather(*(tell_shipments(working(world, desk)) for _ in range(3)))
    world.now += timedelta(days=3)
    again = await tell_shipments(working(world, desk))

    assert (sum(told), again) == (1, 0)
    (shipment,) = desk.told
    assert (shipment.address, shipment.description) == ("o-alice", "示范商场 电费充值")
    credit = await world.row("SELECT transaction_id FROM payment_credit")
    assert shipment.transaction_id == credit["transaction_id"]
    assert (await order(world))["shipped_at"] is not None


async def test_money_in_suspense_is_told_once_a_manager_credits_it(
    world: World, tmp_path: Path
) -> None:
    office = await refunding(world)
    await says(tmp_path, world, "shipping_information = true")
    outcome = await paid(world, paid_fen=4_999)
    before = await tell_shipments(working(world, Desk()))
    case = await world.row("SELECT id FROM payment_case")
    verdict = Verdict(CaseDecision.CREDIT, "核对无误", world.tenancy_id)
    await decide_case(case["id"], office.people["fen"], verdict, world.now)
    desk = Desk()

    after = await tell_shipments(working(world, desk))

    assert (outcome, before, after) == (crediting.Outcome.OTHER_AMOUNT, 0, 1)
    credit = await world.row("SELECT transaction_id FROM payment_credit")
    assert [one.transaction_id for one in desk.told] == [credit["transaction_id"]]


@pytest.mark.parametrize(
    ("setting", "method"),
    [
        ("", Method.WECHAT_JSAPI),
        ("shipping_information = false", Method.WECHAT_JSAPI),
        ("shipping_information = true", Method.WECHAT_NATIVE),
    ],
)
async def test_only_what_the_site_says_and_the_mini_program_sold_is_told(
    world: World, tmp_path: Path, setting: str, method: Method
) -> None:
    await says(tmp_path, world, setting)
    await paid(world, method)

    assert await tell_shipments(working(world, Desk())) == 0
    assert (await order(world))["ship_at"] is None


async def test_what_wechat_does_not_know_yet_is_told_again_ever_more_rarely(
    world: World, tmp_path: Path
) -> None:
    await says(tmp_path, world, "shipping_information = true")
    await paid(world)
    desk = Desk([LATER, LATER, LATER])
    pauses = []
    for _ in range(4):
        begun = world.now
        while not await tell_shipments(working(world, desk)):
            world.now += timedelta(minutes=1)
        pauses.append((world.now - begun) // timedelta(minutes=1))

    assert pauses == [0, 1, 2, 4]
    assert (await order(world))["shipped_at"] is not None


@pytest.mark.parametrize(
    ("answers", "tells"), [([NEVER], 1), ([LATER] * 99, shipping.ATTEMPTS_MAX)]
)
async def test_what_is_refused_or_in_vain_ends(
    world: World, tmp_path: Path, answers: list[ChannelError], tells: int
) -> None:
    await says(tmp_path, world, "shipping_information = true")
    await paid(world)
    desk = Desk(list(answers))

    for _ in range(tells + 3):
        await tell_shipments(working(world, desk))
        world.now += shipping.PAUSE_MAX

    assert len(desk.told) == tells
    assert await order(world) == {"ship_at": None, "ships": tells, "shipped_at": None}


async def test_without_a_mini_program_they_wait(world: World, tmp_path: Path) -> None:
    await says(tmp_path, world, "shipping_information = true")
    await paid(world)

    assert await tell_shipments(working(world, None)) == 0
    assert await tell_shipments(working(world, Desk())) == 1
    assert await rows(pool(), "SELECT 1 AS one FROM payment_order WHERE ship_at IS NOT NULL") == []
