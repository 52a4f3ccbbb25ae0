"""A mall's people who give money back, and the workers that do it, for tests."""

from datetime import timedelta
from functools import partial

from payments.contract import Platform, RefundStatus
from server.models.database import Row, pool, rows
from server.services import refunds
from server.services.balances import Balances, balances
from server.services.manager_acts import Role
from server.services.managers import Manager
from server.services.refund_starts import RefundWish
from server.services.refunds import Asked
from server.services.wakeups import Wakeups
from server.workers.context import WorkContext
from server.workers.refunds import ask_for_refunds
from tests.fakes.payment_platform import FakePlatform
from tests.scenarios.world import World

MANAGER = """
INSERT INTO manager (name, password_hash, role, site_id, created_at)
VALUES ($1, '-', $2, $3, $4) RETURNING id
"""
PARTS = """
SELECT part.state, part.amount_fen, part.platform, part.out_refund_no, part.code, part.attempts
FROM refund_part part ORDER BY part.id
"""


class Refunding:
    """What is asked, and what the workers make of it."""

    def __init__(self, world: World, people: dict[str, Manager]) -> None:
        self.world = world
        self.people = people
        self.context = WorkContext(
            lambda: world.now, world.directory, {}, Wakeups(None), "http://mall.test"
        )

    async def ask(
        self,
        amount_fen: int,
        who: str = "fen",
        key: str | None = "k",
        wallet: str = "electricity",
        reason: str = "退租清算",
    ) -> Asked:
        wish = RefundWish(self.world.tenancy_id, amount_fen, reason, wallet)
        shop = (self.world.site_id, "A1")
        return await refunds.ask(shop, wish, self.people[who], self.world.now, key=key)

    async def work(self, after_s: int = 0) -> None:
        """The worker, as long as anything is due, that much later."""
        self.world.now += timedelta(seconds=after_s)
        step = partial(ask_for_refunds, self.context)
        while await step():
            pass

    def finish(self, status: RefundStatus = RefundStatus.SUCCEEDED) -> None:
        """The platforms end all that they process."""
        for platform in self.world.directory.platforms.values():
            for number, refund in list(platform.refunds.items()):
                if refund.status is RefundStatus.PROCESSING:
                    platform.finish(number, status, self.world.now)

    @property
    def wechat(self) -> FakePlatform:
        return self.world.directory.platforms[Platform.WECHAT]

    async def left(self) -> Balances:
        return (await balances(pool(), [self.world.tenancy_id]))[self.world.tenancy_id]

    @staticmethod
    async def parts() -> list[tuple[str, int, str | None]]:
        return [
            (one["state"], one["amount_fen"], one["platform"]) for one in await rows(pool(), PARTS)
        ]

    @staticmethod
    async def refunds() -> list[Row]:
        return await rows(pool(), "SELECT * FROM refund ORDER BY id")

    @staticmethod
    async def in_progress_fen(kind: str = "refunds_in_progress") -> int:
        """What the journal says of one of the site's accounts."""
        sql = """
        SELECT coalesce(sum(CASE WHEN credit_account_id = account.id THEN amount_fen
            ELSE -amount_fen END), 0)::bigint AS fen
        FROM account JOIN ledger_transfer
            ON account.id IN (credit_account_id, debit_account_id) WHERE account.kind = $1
        """
        return int((await rows(pool(), sql, kind))[0]["fen"])


async def refunding(world: World) -> Refunding:
    """Fen of finance, Olga who owns, and Ed the engineer."""
    people = {}
    for name, role in (("fen", Role.FINANCE), ("olga", Role.OWNER), ("ed", Role.ENGINEER)):
        made = await rows(pool(), MANAGER, name, role.value, None, world.now)
        people[name] = Manager(made[0]["id"], name, role, None)
    return Refunding(world, people)
