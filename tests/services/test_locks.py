"""Everything at once on one database: no deadlock, and the books agree (docs/locks.md)."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import asyncpg
import pytest_asyncio

from payments.contract import Method, Platform, RefundStatus
from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.core.refunds.cases import CaseDecision
from server.core.supply.control_state import ControlState
from server.models.database import pool, rows
from server.services import (
    money_by_hand,
    order_queries,
    refunds,
    supply,
    supply_holds,
    top_ups,
)
from server.services.adjustments import Adjustment
from server.services.approvals import Decision
from server.services.audit import audit
from server.services.case_decisions import Verdict, decide_case
from server.services.controls import authorise
from server.services.corrections import correct_due
from server.services.crediting import credit
from server.services.desk import take_desk_payment
from server.services.estimated_closes import close_estimated
from server.services.exchange_previews import preview_exchange
from server.services.exchanges import ExchangeWish, record_exchange
from server.services.fixed_charges import charge_due
from server.services.leases import claim_leases
from server.services.manager_acts import Role
from server.services.managers import Manager
from server.services.meter_controls import set_permit_only
from server.services.money_by_hand import ShopRef
from server.services.move_out_money import Payout, pay_out
from server.services.move_out_standing import Leaver
from server.services.moving_in import MoveIn, move_in
from server.services.moving_out import MoveOut, move_out
from server.services.payment_attempts import Payer, TopUpOverError, change_method
from server.services.readings import NewReading, forget_months, keep
from server.services.refund_parts import SAID, Said, take_in
from server.services.refund_starts import RefundWish
from server.services.settlement import close_days, settle_due
from server.services.site_import import import_site
from server.services.wakeups import Wakeups
from server.workers.context import WorkContext
from server.workers.refunds import ask_for_refunds
from tests.fakes.payment_platform import FakeDirectory
from tests.fakes.site_text import meter_text, shop_text
from tests.services.conftest import NOW, PROFILES
from tests.services.money import sum_of_all_accounts_fen

SHOPS = 6
OTHERS = (Method.WECHAT_H5, Method.ALIPAY_QR)  # in place of the code, or beside it
ROUNDS = 12
WAITING = """
SELECT 1 FROM pg_locks JOIN pg_stat_activity activity USING (pid)
WHERE NOT granted AND activity.datname = current_database()
"""
MOVE_BEHIND = "UPDATE meter_control SET permit_only = permit_only WHERE meter_id = $1"
STUCK = "SELECT id FROM payment_case WHERE kind = 'refund_abnormal' AND closed_at IS NULL"
CONTROLS = "SELECT 1 FROM meter_control WHERE meter_id = ANY($1::bigint[]) ORDER BY meter_id"
SHOP = meter_text("M-X{0}", "{0}", "X{0}")
SHOP += shop_text("X{0}", more='opening_balance_fen = 1000\nfixed_charges = ["lift"]\n')
LIFT = """
[[fixed_charge]]
code = "lift"
per = "day"
price = "0.50"
"""
MANAGERS = """
INSERT INTO manager (name, password_hash, role, created_at)
SELECT 'clerk ' || number, '-', 'finance', now() FROM generate_series(1, 3) AS number
RETURNING id, name
"""


@dataclass
class Crowd:
    """A mall, and one actor a kind of work; the clock goes on with the readings."""

    site_id: int
    site_path: Path
    meters: list[int]
    tenancies: list[int]
    random: Random
    epoch: int
    managers: list[Manager]
    hour: int = 0

    @property
    def now(self) -> datetime:
        """The time of the newest readings."""
        return NOW + timedelta(hours=self.hour)

    def reading(self, meter_id: int, hour: int) -> NewReading:
        """All meters go alike."""
        return NewReading(meter_id, NOW + timedelta(hours=hour), 1_000 + 700 * hour, self.epoch)

    async def read(self, number: int) -> None:
        """All meters in any order, each hour of two days."""
        self.hour = max(self.hour, number * 4)
        hours = range(max(0, self.hour - 4), self.hour + 1)
        batch = [self.reading(meter, hour) for meter in self.meters for hour in hours]
        self.random.shuffle(batch)
        await keep(batch, self.now)

    async def settle(self, _: int) -> None:
        await settle_due(self.now)

    async def close(self, _: int) -> None:
        await close_days(self.now)

    async def come_late(self, number: int) -> None:
        """Half past an hour that was read long ago."""
        await self.come_late_at(self.meters[number % SHOPS], self.hour // 2)

    async def come_late_at(self, meter_id: int, hour: int) -> None:
        """Between two hours."""
        at = NOW + timedelta(hours=hour, minutes=30)
        await keep([NewReading(meter_id, at, 1_350 + 700 * hour, self.epoch)], self.now)

    async def correct(self, _: int) -> None:
        await correct_due(self.now)

    async def close_by_estimate(self, number: int) -> None:
        """Mostly not that day's turn, or it closes by itself."""
        day = (NOW + timedelta(days=number % 2)).date()
        shop = f"X{number % SHOPS + 2}"
        with suppress(ConflictError, NotFoundError):
            await close_estimated(
                self.site_id, shop, day, actor="boss", reason="test", now=self.now
            )

    async def charge(self, _: int) -> None:
        await charge_due(self.now, limit=3)

    async def decide(self, _: int) -> None:
        for tenancy_id in self.tenancies:
            await rows(
                pool(), "UPDATE tenancy SET decide_again_at = $2 WHERE id = $1", tenancy_id, NOW
            )
        await supply.decide_due(self.now)

    async def look_before_a_cut(self, number: int) -> None:
        """What a collector asks at the head of the bus queue."""
        fresh = self.reading(self.meters[number % SHOPS], self.hour)
        wanted, found = ControlState.DISCONNECTED, ControlState.CONNECTED
        await authorise(fresh.meter_id, wanted, fresh, found, self.now)

    async def exchange(self, number: int) -> None:
        """A meter that counts on where the old one ended; what was trusted since may forbid it."""
        shown_wh = 1_000 + 700 * self.hour
        meter_id = self.meters[number % SHOPS]
        with suppress(InvalidInputError, ConflictError):
            wish = ExchangeWish(self.now, shown_wh, shown_wh, "test")
            await preview_exchange(meter_id, wish, self.now)
            await record_exchange(meter_id, wish, actor="boss", now=self.now)

    async def pay_at_the_desk(self, number: int) -> None:
        await take_desk_payment(
            self.random.choice(self.tenancies[:-1]),  # the last one moves
            300,
            method="cash",
            receipt_no=f"R-{number}",
            paid_at=self.now,
            now=self.now,
        )

    async def adjust_by_two(self, number: int) -> None:
        """Asked for twice at once, decided by two at once; one of each is the first."""
        tenancy_id = self.tenancies[number % SHOPS]
        shop = ShopRef(self.site_id, f"X{number % SHOPS + 2}")
        asker, *deciders = self.managers
        wish = Adjustment(tenancy_id, 20_000 + number, "test")
        ask = money_by_hand.adjust(shop, wish, asker, self.now, key=f"by hand {number}")
        again = money_by_hand.adjust(shop, wish, asker, self.now, key=f"by hand {number}")
        asked, _ = await asyncio.gather(ask, again)
        assert asked.approval_no is not None
        said = [
            money_by_hand.decide(asked.approval_no, one, Decision.APPROVE, reason="", now=self.now)
            for one in deciders
        ]
        answers = await asyncio.gather(*said, return_exceptions=True)
        assert sorted(type(one).__name__ for one in answers) == ["Approval", "ApprovalOverError"]

    async def move(self, number: int) -> None:
        """Out and in again at one instant, which the days may forbid; and what is left, out."""
        at, boss, shop = self.now, self.managers[0], f"X{SHOPS + 1}"
        with suppress(ConflictError):
            left = await move_out(MoveOut(self.site_id, shop, at, "test"), boss, at)
            again = move_in(MoveIn(self.site_id, shop, at, "test"), boss, at)
            await asyncio.gather(again, move_in(MoveIn(self.site_id, shop, at, "test"), boss, at))
            leaver = Leaver(self.site_id, shop, left.tenancy_id)
            payout = Payout("electricity", "cash", 1, f"P-{number}")
            await pay_out(leaver, payout, boss, self.now)

    async def hold(self, number: int) -> None:
        act = supply_holds.hold_shop if number % 2 else supply_holds.release_shop
        await act(self.site_id, f"X{number % SHOPS + 2}", actor="boss", reason="test", now=self.now)

    async def import_again(self, number: int) -> None:
        """Another price each time, from tomorrow on, so that no closed day forbids it."""
        content = self.site_path.read_text(encoding="utf-8").split("\n# later\n")[0]
        day = (NOW + timedelta(days=30)).date()
        content += (
            f'\n# later\n[[tariff]]\ncode = "flat"\nvalid_from = {day}\nkind = "flat"\n'
            f'price = "1.{number:02d}"\n'
        )
        self.site_path.write_text(content, encoding="utf-8")
        await import_site(self.site_path, PROFILES, self.now)


@pytest_asyncio.fixture
async def crowd(database: None, site_path: Path) -> Crowd:
    shops = "".join(SHOP.format(number) for number in range(2, SHOPS + 2))
    content = site_path.read_text(encoding="utf-8") + LIFT + shops
    site_path.write_text(content, encoding="utf-8")
    report = await import_site(site_path, PROFILES, NOW)
    meters = [one["id"] for one in await rows(pool(), "SELECT id FROM meter ORDER BY id")]
    tenancies = [one["id"] for one in await rows(pool(), "SELECT id FROM tenancy ORDER BY id")]
    (epoch,) = (await claim_leases("collector", 1, held_s=600)).values()
    order = Random(7)  # noqa: S311  an order of readings, no secret
    managers = [
        Manager(one["id"], one["name"], Role.FINANCE, None) for one in await rows(pool(), MANAGERS)
    ]
    return Crowd(report.site_id, site_path, meters, tenancies, order, epoch, managers)


async def unless_over(changing: Awaitable[object]) -> None:
    """Another method, unless the top-up is paid already."""
    with suppress(TopUpOverError):
        await changing


async def pay_online(crowd: Crowd, number: int, directory: FakeDirectory) -> None:
    """Order, pay, be told twice, while the order is asked for and closed."""
    now = crowd.now
    wish = top_ups.TopUpOrder(
        tenancy_id=crowd.tenancies[number % SHOPS],
        amount_fen=500,
        method=Method.WECHAT_NATIVE,
        wallet="electricity",
        idempotency_key=f"key-{number}",
        user_id=None,
        payer_id=None,
        client_ip=None,
        public_url="http://mall.test",
    )
    view = await top_ups.order(wish, directory, now)
    assert view.payment is not None
    platform = directory.platforms[Platform.WECHAT]
    trade = platform.pay(view.payment["out_trade_no"], now)
    due = await order_queries.take_due(Platform.WECHAT, now + timedelta(seconds=5), 10)
    other = change_method(view.top_up_no, OTHERS[number % 2], Payer("http://x"), directory, now)
    await asyncio.gather(
        credit(crowd.site_id, Platform.WECHAT, trade, now),
        credit(crowd.site_id, Platform.WECHAT, trade, now),
        unless_over(other),
        *(order_queries.ask_platform(one, platform, now + timedelta(days=4)) for one in due),
    )


async def give_back(crowd: Crowd, number: int, directory: FakeDirectory) -> None:
    """Ask, let two workers ask the platform, be told twice at once, and decide what is stuck."""
    shop = (crowd.site_id, f"X{number % SHOPS + 2}")
    wish = RefundWish(crowd.tenancies[number % SHOPS], 200, "test")
    with suppress(ConflictError):  # nothing is left, or it is moving out
        await refunds.ask(shop, wish, crowd.managers[0], crowd.now, key=f"refund {number}")
    context = WorkContext(lambda: crowd.now, directory, {}, Wakeups(None))
    await asyncio.gather(ask_for_refunds(context), ask_for_refunds(context))
    ends = (RefundStatus.SUCCEEDED, RefundStatus.ABNORMAL, RefundStatus.CLOSED)
    for refund in list(directory.wechat.refunds.values()):
        if refund.status is RefundStatus.PROCESSING:
            told = directory.wechat.finish(refund.out_refund_no, ends[number % 3], crowd.now)
            said = Said(SAID[told.status], told)
            words = (take_in(told.out_refund_no, said, crowd.now) for _ in range(2))
            await asyncio.gather(*words)
    for case in await rows(pool(), STUCK):
        verdict = Verdict(CaseDecision.BY_HAND if number % 2 else CaseDecision.GIVE_BACK, "test")
        decisions = (decide_case(case["id"], one, verdict, crowd.now) for one in crowd.managers)
        await asyncio.gather(*decisions, return_exceptions=True)


async def test_all_kinds_of_work_at_once(crowd: Crowd) -> None:
    directory = FakeDirectory()

    async def repeat(act: Callable[[int], Awaitable[None]]) -> None:
        for number in range(ROUNDS):
            await act(number)

    async def pay(number: int) -> None:
        await pay_online(crowd, number, directory)

    async def refund(number: int) -> None:
        await give_back(crowd, number, directory)

    async with asyncio.timeout(60):
        await asyncio.gather(
            repeat(refund),
            repeat(crowd.read),
            repeat(crowd.read),
            repeat(crowd.settle),
            repeat(crowd.settle),
            repeat(crowd.close),
            repeat(crowd.close),
            repeat(crowd.come_late),
            repeat(crowd.correct),
            repeat(crowd.correct),
            repeat(crowd.close_by_estimate),
            repeat(crowd.charge),
            repeat(crowd.charge),
            repeat(crowd.decide),
            repeat(crowd.look_before_a_cut),
            repeat(crowd.exchange),
            repeat(crowd.pay_at_the_desk),
            repeat(crowd.adjust_by_two),
            repeat(crowd.move),
            repeat(crowd.hold),
            repeat(crowd.import_again),
            repeat(pay),
        )
    await repeat(crowd.charge)  # the last reading may have come after the last charge
    assert await sum_of_all_accounts_fen() == 0
    assert (await audit(lambda _: None)).violations == []
    while await settle_due(crowd.now) or await close_days(crowd.now):
        pass
    await crowd.come_late_at(crowd.meters[0], 5)  # of a day that is closed
    while await settle_due(crowd.now) or await correct_due(crowd.now):
        pass
    report = await audit(lambda _: None)
    assert (report.violations, report.awaiting_correction) == ([], 0)
    assert await rows(pool(), "SELECT 1 FROM statement WHERE version > 1 LIMIT 1") != []
    credited = await rows(pool(), "SELECT sum(amount_fen)::bigint AS fen FROM payment_credit")
    assert credited == [{"fen": 500 * ROUNDS}]
    assert await rows(pool(), "SELECT 1 FROM meter_exchange LIMIT 1") != []
    assert await rows(pool(), "SELECT 1 FROM refund_part WHERE state = 'done'") != []
    assert await rows(pool(), STUCK) == []
    assert await rows(pool(), "SELECT 1 FROM tenancy WHERE closed_at IS NOT NULL LIMIT 1") != []
    charged = await rows(pool(), "SELECT count(*) AS days FROM fixed_charge_statement")
    assert charged == [{"days": SHOPS * 2}]


async def test_what_profiles_say_is_noted_in_the_order_of_meters(
    crowd: Crowd, database_url: str
) -> None:
    """Whoever waits for the first meter's control holds no later one's."""
    first, *others = sorted(crowd.meters)
    backwards = dict.fromkeys([*reversed(others), first], True)
    await rows(pool(), MOVE_BEHIND, first)
    holder = await asyncpg.connect(database_url)
    try:
        await holder.execute("BEGIN")
        await holder.fetch(f"{CONTROLS} FOR NO KEY UPDATE", [first])
        noting = asyncio.create_task(set_permit_only(pool(), backwards))
        async with asyncio.timeout(10):
            while not await holder.fetch(WAITING):  # noqa: ASYNC110  no event tells of a lock
                await asyncio.sleep(0.01)
        await holder.fetch(f"{CONTROLS} FOR NO KEY UPDATE NOWAIT", others)
        await holder.execute("COMMIT")
    finally:
        await holder.close()
    await noting
    told = await rows(pool(), "SELECT DISTINCT permit_only FROM meter_control")
    assert told == [{"permit_only": True}]


async def test_new_months_meet_no_writer_in_a_deadlock(crowd: Crowd) -> None:
    """Each batch needs a month that is not there yet, while others write around it."""

    async def read_far_back(number: int) -> None:
        forget_months()
        at = NOW - timedelta(days=31 * (number + 1))
        await keep([NewReading(crowd.meters[0], at, 100, crowd.epoch)], NOW)

    async def go_on(number: int) -> None:
        await crowd.read(number)
        await crowd.settle(number)
        await crowd.close(number)

    async with asyncio.timeout(60):
        for number in range(6):
            await asyncio.gather(*(read_far_back(number) for _ in range(3)), go_on(number))
    assert (await audit(lambda _: None)).violations == []
