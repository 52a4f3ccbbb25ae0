"""A payer who changes their mind, two platforms that come and go: every fen ends in one place."""

from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from payments.contract import Method, Platform, TradeStatus
from server.core.errors import ConflictError, UnavailableError
from server.models.database import pool, rows
from server.services import top_up_closing, top_ups
from server.services.audit import audit
from server.services.payment_attempts import Payer, change_method
from server.services.wakeups import Wakeups
from server.workers.context import WorkContext
from server.workers.inbox import query_alipay, query_wechat
from tests.scenarios.world import World, local
from tests.services.money import wallet_fen

FEN = 5_000
STEPS = 45
PAYER = Payer("http://mall.test", client_ip="10.0.0.1")
METHODS = (Method.WECHAT_NATIVE, Method.WECHAT_H5, Method.ALIPAY_WAP, Method.ALIPAY_QR)
ENDS = """
SELECT top_up.no, top_up.status, count(payment_credit.id) AS payments
FROM top_up JOIN payment_order ON payment_order.top_up_id = top_up.id
LEFT JOIN payment_credit ON payment_credit.order_id = payment_order.id GROUP BY top_up.id
"""


class Payment:
    """One walk: what a payer and the platforms do at random, and the workers in between."""

    def __init__(self, world: World, random: Random) -> None:
        self.world = world
        self.random = random
        self.platforms = world.directory.platforms
        self.numbers: list[str] = []

    async def step(self) -> None:
        """Anything, in any order."""
        acts = (self.order, self.change, self.change, self.pay, self.pay, self.work, self.work)
        await self.random.choice((*acts, self.give_up, self.come_and_go))()
        self.world.now += timedelta(seconds=self.random.choice((0, 1, 3, 40, 300)))

    async def order(self) -> None:
        codes = (Method.WECHAT_NATIVE, Method.ALIPAY_QR)
        method = self.random.choice(METHODS)
        wish = top_ups.TopUpOrder(
            tenancy_id=self.world.tenancy_id,
            amount_fen=FEN,
            method=codes[0] if method in codes else method,
            wallet="electricity",
            idempotency_key=f"key-{len(self.numbers)}-{method}",
            user_id=None,
            payer_id=None,
            client_ip=PAYER.client_ip,
            public_url=PAYER.public_url,
            beside=codes[1:] if method in codes else (),
        )
        try:
            view = await top_ups.order(wish, self.world.directory, self.world.now)
        except UnavailableError:
            return  # the same key again, should this method come next
        self.numbers.append(view.top_up_no)

    async def change(self) -> None:
        if not self.numbers:
            return
        wanted = (self.random.choice(self.numbers[-2:]), self.random.choice(METHODS), PAYER)
        try:
            await change_method(*wanted, self.world.directory, self.world.now)
        except (ConflictError, UnavailableError):
            return  # it is over, or the platform is away

    async def pay(self) -> None:
        """On any page that is still open somewhere."""
        platform = self.platforms[self.random.choice(list(Platform))]
        unpaid = [no for no, one in platform.trades.items() if one.status is TradeStatus.WAITING]
        if unpaid:
            platform.pay(self.random.choice(unpaid), self.world.now)

    async def give_up(self) -> None:
        if self.numbers:
            await top_up_closing.give_up(self.numbers[-1], self.world.now)

    async def come_and_go(self) -> None:
        platform = self.platforms[self.random.choice(list(Platform))]
        platform.down = not platform.down

    async def work(self) -> None:
        context = WorkContext(lambda: self.world.now, self.world.directory, {}, Wakeups(None))
        while await query_wechat(context) + await query_alipay(context):
            pass

    async def settle_down(self) -> None:
        """Both platforms answer, the workers work, time passes until nothing is undecided."""
        for platform in self.platforms.values():
            platform.down = False
        for _ in range(4):
            self.world.now += timedelta(minutes=31)
            await self.work()


@pytest.mark.parametrize("seed", range(4))
async def test_every_payment_arrives_once_and_the_second_goes_back(
    database: None, tmp_path: Path, seed: int
) -> None:
    world = World(local("2026-05-20 10:00"))
    await world.open(tmp_path, balance_fen=0)
    walk = Payment(world, Random(seed))  # noqa: S311 - the same walk each time
    for _ in range(STEPS):
        await walk.step()
    await walk.settle_down()
    trades = [one for platform in walk.platforms.values() for one in platform.trades.values()]
    paid = [one for one in trades if one.status is TradeStatus.PAID]
    assert {one.status for one in trades} <= {TradeStatus.PAID, TradeStatus.CLOSED}
    assert await rows(pool(), "SELECT 1 FROM payment_order WHERE query_at IS NOT NULL") == []
    ends = await rows(pool(), ENDS)
    assert sum(one["payments"] for one in ends) == len(paid)
    assert all((one["status"] == "paid") == (one["payments"] > 0) for one in ends)
    assert {one["status"] for one in ends} <= {"paid", "closed"}
    credited = sum(1 for one in ends if one["payments"])
    assert await wallet_fen(world.tenancy_id) == credited * FEN
    cases = await rows(pool(), "SELECT kind, decision FROM payment_case")
    assert cases == [{"kind": "second_payment", "decision": "refund"}] * (len(paid) - credited)
    assert (await audit(lambda _: None)).passed
