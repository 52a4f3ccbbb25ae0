"""Money goes back in a story: by the product's own refunds, at fakes of the platforms."""

import hashlib

from payments.contract import Platform, RefundStatus
from server.models.database import pool, rows, transaction
from server.services.balances import balances
from server.services.manager_acts import Role
from server.services.managers import Manager
from server.services.refund_parts import ask_platform, take_due, take_in, told_within
from server.services.refund_starts import RefundWish
from server.services.refunds import ask
from tests.fakes.payment_platform import FakeDirectory
from tests.services.money_site import NOW

MANAGER = """
INSERT INTO manager (name, password_hash, role, created_at)
VALUES ('wang', '-', 'finance', $1) ON CONFLICT (name) DO UPDATE SET role = manager.role
RETURNING id
"""
ALONE = """UPDATE site SET approval = '{"refund_fen": 1000000000}' WHERE id = $1"""
ASKED = "SELECT id, amount_fen FROM refund WHERE site_id = $1 AND idempotency_key = $2"
PARTS = """
SELECT part.out_refund_no, part.platform, part.amount_fen, part.state FROM refund_part part
JOIN refund ON refund.id = part.refund_id WHERE refund.site_id = $1 AND refund.idempotency_key = $2
"""


async def give_back(
    site: tuple[int, FakeDirectory], tenancy_id: int, wanted_fen: int, key: str
) -> int:
    """As much as is left of it, asked once and told twice; by how much the wallet has changed.

    An odd sum fails at the platforms. What is paid out by hand waits for a person.
    """
    site_id, directory = site
    owned = (await balances(pool(), [tenancy_id]))[tenancy_id]
    await rows(pool(), ALONE, site_id)
    wang = Manager((await rows(pool(), MANAGER, NOW))[0]["id"], "wang", Role.FINANCE, None)
    own = f"refund:{wang.id}:{hashlib.sha256(key.encode()).hexdigest()}"
    before = await rows(pool(), ASKED, site_id, own)  # by who was killed
    fen = before[0]["amount_fen"] if before else min(wanted_fen, owned.available_fen)
    if fen <= 0:
        return 0
    wish = RefundWish(tenancy_id, fen, "结算", "electricity")
    for _ in range(2):
        await ask((site_id, "A1"), wish, wang, NOW, key=key)
    for due in await take_due(NOW, 100):
        platform = directory.platforms[due.platform]
        said = await ask_platform(due, platform, "http://mall.test", NOW)
        await take_in(due.out_refund_no, said, NOW)
    status = RefundStatus.CLOSED if wanted_fen % 2 else RefundStatus.SUCCEEDED
    for part in await rows(pool(), PARTS, site_id, own):
        platform = directory.platforms[Platform(part["platform"] or Platform.ALIPAY)]
        if part["out_refund_no"] not in platform.refunds:
            continue
        refund = platform.finish(part["out_refund_no"], status, NOW)
        for _ in range(2):
            async with transaction() as connection:
                await told_within(connection, site_id, platform.platform, refund, NOW)
    parts = await rows(pool(), PARTS, site_id, own)
    return -sum(int(one["amount_fen"]) for one in parts if one["state"] != "failed")
