"""What moving refuses, and what becomes of the money that is left or owed: a line a case."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from server.core.errors import MallwattError
from server.models.database import pool, row, rows
from server.services import money_by_hand
from server.services.approvals import Approval, Decision, Outcome
from server.services.desk import DeskPayment, receipts_of
from server.services.fixed_charges import charge_due
from server.services.manager_acts import Role
from server.services.managers import Manager
from server.services.move_out_money import Payout, WriteOff, pay_out, write_off
from server.services.move_out_payments import pay_debt
from server.services.move_out_returns import paid_out, take_back
from server.services.move_out_standing import Leaver, standing_of
from server.services.moving_in import MoveIn, move_in
from server.services.moving_out import MoveOut, move_out
from server.services.readings import NewReading, keep
from server.services.settlement import close_days, settle_due
from tests.imported import imported
from tests.services.audited import blamed
from tests.services.conftest import NOW, PROFILES, SITE
from tests.services.money import sum_of_all_accounts_fen, wallet_fen

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LEFT = NOW + 2 * DAY  # Friday, 10:00
FIXED = "fixed_charges_wallet"
LIFT = """
[[fixed_charge]]
code = "lift"
valid_from = 2026-01-01
per = "day"
price = "0.50"
"""
MANAGER = """
INSERT INTO manager (name, password_hash, role, created_at) VALUES ($1, '-', 'owner', $2)
RETURNING id
"""
BOOKS = """
SELECT (SELECT count(*) FROM tenancy) AS tenancies, (SELECT count(*) FROM manager_act) AS acts,
       (SELECT count(*) FROM ledger_transaction) AS transactions,
       (SELECT count(*) FROM approval) AS approvals,
       (SELECT count(*) FROM tenancy WHERE closed_at IS NOT NULL) AS ended
"""


@dataclass
class House:
    """Shop A1 two days after its import: 4.80 used, 1.00 of fixed charges owed, two days closed."""

    site_id: int
    boss: Manager
    other: Manager
    now: datetime = LEFT + HOUR

    @property
    def leaver(self) -> Leaver:
        return Leaver(self.site_id, "A1", 1)

    async def leave(self, at: datetime = LEFT, shop: str = "A1", **more: int) -> int:
        wish = MoveOut(self.site_id, shop, at, "租约到期", **more)
        return (await move_out(wish, self.boss, self.now)).tenancy_id

    async def come(self, at: datetime = LEFT, shop: str = "A1") -> int:
        wish = MoveIn(self.site_id, shop, at, "新租约")
        return (await move_in(wish, self.boss, self.now)).tenancy_id

    async def pay(self, amount_fen: int, rounding_fen: int = 0, **more: str) -> Outcome:
        facts = {"wallet": "electricity", "method": "cash", "receipt_no": "P-1", **more}
        payout = Payout(amount_fen=amount_fen, rounding_fen=rounding_fen, **facts)
        return await pay_out(self.leaver, payout, self.boss, self.now)

    async def forgive(self, amount_fen: int, wallet: str = "fixed_charges") -> Outcome:
        wish = WriteOff(wallet, amount_fen, "无法收回")
        return await write_off(self.leaver, wish, self.boss, self.now, key="k")

    async def owe(self, amount_fen: int, receipt_no: str = "R-1", **more: str) -> Outcome:
        facts = {"wallet": "fixed_charges", "method": "cash", **more}
        payment = DeskPayment(1, amount_fen, receipt_no=receipt_no, **facts)
        return await pay_debt(self.leaver, payment, self.boss, self.now)

    async def take_back(self, receipt_no: str = "P-1", reason: str = "账号有误") -> Outcome:
        return await take_back(self.leaver, receipt_no, reason, self.boss, self.now)

    async def approve(self, asked: Outcome) -> Approval:
        assert asked.approval_no is not None
        return await money_by_hand.decide(
            asked.approval_no, self.other, Decision.APPROVE, reason="", now=self.now
        )


async def books() -> dict[str, int]:
    found = await row(pool(), BOOKS)
    assert found is not None
    return dict(found)


@pytest_asyncio.fixture
async def house(database: None, tmp_path: Path) -> AsyncIterator[House]:
    """What is done to its money in a test is somebody's act, and all of it was done."""
    path = tmp_path / "site.toml"
    text = SITE.replace('name = "茶饮"\n', 'name = "茶饮"\nfixed_charges = ["lift"]\n') + LIFT
    path.write_text(text, encoding="utf-8")
    site_id = (await imported(path, PROFILES, NOW)).site_id
    boss, other = [
        Manager((await rows(pool(), MANAGER, name, NOW))[0]["id"], name, Role.OWNER, None)
        for name in ("boss", "other")
    ]
    await keep([NewReading(1, NOW + n * HOUR, 5_000 + n * 100, 0) for n in range(50)], LEFT + HOUR)
    await settle_due(LEFT + HOUR)
    while await close_days(LEFT + HOUR):
        pass
    while await charge_due(LEFT + HOUR):
        pass
    yield House(site_id, boss, other)
    assert await blamed() == []


RETURN = "flow = 'move_out.returned'"
FORGERIES = [
    (
        f"UPDATE ledger_transaction SET idempotency_key = 'x' WHERE {RETURN}",  # noqa: S608 - ours
        "takes back what was not paid out on receipt P-1",
    ),
    (
        f"""UPDATE ledger_transfer SET amount_fen = amount_fen + 1 WHERE transaction_id =
        (SELECT id FROM ledger_transaction WHERE {RETURN})""",  # noqa: S608 - ours
        "takes back what was not paid out on receipt P-1",
    ),
    ("DELETE FROM manager_act WHERE facts ->> 'kind' = 'move_out_return'", "by 520 fen; that is"),
    ("DELETE FROM manager_act WHERE facts ->> 'kind' = 'move_out_payment'", "by 30 fen; that is"),
    ("DELETE FROM manager_act WHERE act = 'desk_payment'", "by 50 fen; that is what 0 acts say"),
]
Refusal = tuple[Callable[[House], Awaitable[object]], str]
LIVED_IN: list[Refusal] = [
    (lambda house: house.leave(house.now + timedelta(microseconds=1)), "in_future"),
    (lambda house: house.leave(LEFT - DAY), "days_charged"),
    (lambda house: house.leave(NOW), "before_move_in"),
    (lambda house: house.leave(NOW - DAY), "before_move_in"),
    (lambda house: house.leave(shop="A9"), "vacant"),
    (lambda house: house.leave(tenancy_id=2), "other_tenancy"),
    (lambda house: house.come(), "occupied"),
    (lambda house: house.come(house.now + timedelta(seconds=61)), "in_future"),
    (lambda house: house.come(NOW - 30 * DAY), "too_long_ago"),
    (lambda house: house.come(shop="A9"), "not_found"),
    (lambda house: house.pay(1), "not_moved_out"),
    (lambda house: house.forgive(1), "not_moved_out"),
    (lambda house: house.owe(1), "not_moved_out"),
    (lambda house: house.take_back(), "not_moved_out"),
]
VACANT: list[Refusal] = [
    (lambda house: house.leave(LEFT + timedelta(seconds=1)), "vacant"),
    (lambda house: house.leave(tenancy_id=2), "vacant"),
    (lambda house: house.come(LEFT - timedelta(seconds=1)), "occupied"),
    (lambda house: house.pay(521), "more_than_left"),
    (lambda house: house.pay(512, 9), "more_than_left"),
    (lambda house: house.pay(500, 9), "invalid_input"),  # not all of it: nothing to round
    (lambda house: house.pay(510, 10), "invalid_input"),
    (lambda house: house.pay(519, 1, method="bank_transfer"), "invalid_input"),
    (lambda house: house.pay(0), "invalid_input"),
    (lambda house: house.pay(1, method="barter"), "invalid_input"),
    (lambda house: house.pay(1, wallet="piggy"), "invalid_input"),
    (lambda house: house.pay(1, receipt_no=" P"), "invalid_input"),
    (lambda house: house.pay(1, receipt_no=""), "invalid_input"),
    (lambda house: house.pay(1, wallet="fixed_charges"), "more_than_left"),
    (lambda house: house.forgive(99), "more_than_left"),
    (lambda house: house.forgive(100, "electricity"), "more_than_left"),
    (lambda house: house.forgive(0), "invalid_input"),
    (lambda house: house.owe(101), "more_than_owed"),
    (lambda house: house.owe(1, wallet="electricity"), "more_than_owed"),  # it is owed
    (lambda house: house.owe(0), "invalid_input"),
    (lambda house: house.owe(1, method="barter"), "invalid_input"),
    (lambda house: house.owe(1, " R"), "invalid_input"),
    (lambda house: house.take_back(), "not_found"),  # nothing was paid out
    (lambda house: house.take_back(reason=" "), "reason_needed"),
    (lambda house: standing_of(replace(house.leaver, tenancy_id=9)), "not_found"),
    (lambda house: standing_of(replace(house.leaver, shop_code="A2")), "not_found"),
    (lambda house: standing_of(replace(house.leaver, site_id=9)), "not_found"),
]


async def refused(house: House, table: list[Refusal]) -> None:
    """Each act is refused by its code, and nothing has changed."""
    before = await books()
    for act, code in table:
        with pytest.raises(MallwattError) as refusal:
            await act(house)
        assert refusal.value.code == code, (table.index((act, code)), refusal.value)
    assert await books() == before


async def test_what_is_refused_while_somebody_lives_there(house: House) -> None:
    await refused(house, LIVED_IN)


async def test_what_is_refused_when_nobody_lives_there(house: House) -> None:
    assert await house.leave() == 1
    while await close_days(house.now):
        pass
    await refused(house, VACANT)


async def test_what_is_refused_of_what_was_paid_and_taken_back(house: House) -> None:
    await house.leave()
    await house.owe(60)
    await house.pay(518, 2)
    await house.approve(await house.take_back())
    table: list[Refusal] = [
        (lambda house: house.owe(41, "R-2"), "more_than_owed"),
        (lambda house: house.owe(40), "receipt_used"),
        (lambda house: house.owe(60, method="bank_transfer"), "receipt_used"),
        (lambda house: house.take_back(), "already_reversed"),
        (lambda house: house.take_back("R-1"), "not_found"),  # a payment, not a payout
        (lambda house: house.pay(518, 2), "already_reversed"),  # the money is still to be paid
    ]
    await refused(house, table)
    assert (await wallet_fen(1), await wallet_fen(1, FIXED)) == (520, -40)


async def test_fixed_charges_that_are_taken_forbid_an_earlier_end(house: House) -> None:
    """Also where the day's energy is still open: nothing of them is ever given back."""
    await rows(pool(), "UPDATE tenancy SET first_open_day = '2026-05-20'")
    with pytest.raises(MallwattError, match="fixed charges of 2026-05-21"):
        await house.leave(LEFT - DAY)


async def test_each_wallet_is_settled_for_itself(house: House) -> None:
    await house.leave()
    first = await house.pay(520)
    assert first == await house.pay(520), "once a receipt"
    assert (await wallet_fen(1), await wallet_fen(1, FIXED)) == (0, -100)
    with pytest.raises(MallwattError, match="receipt 'P-1'"):
        await house.pay(519)
    forgiven = await house.forgive(100)
    assert forgiven == await house.forgive(100), "once a key"
    assert (await wallet_fen(1), await wallet_fen(1, FIXED)) == (0, 0)
    found = await rows(pool(), "SELECT actor, act FROM manager_act ORDER BY id")
    assert [one["act"] for one in found] == ["move_out", "move_out_payout", "adjustment"]
    assert await sum_of_all_accounts_fen() == 0


async def test_above_the_limit_a_second_person_is_needed(house: House) -> None:
    limits = """UPDATE site SET approval = '{"move_out_payout_fen": 500, "adjustment_fen": 99}'"""
    await rows(pool(), limits)
    await house.leave()
    asked, owed = await house.pay(520), await house.forgive(100)
    assert (await house.pay(520), await house.forgive(100)) == (asked, owed)
    assert (await wallet_fen(1), await wallet_fen(1, FIXED)) == (520, -100)
    for one in (asked, owed):
        assert (await house.approve(one)).decided_by == "other"
    assert (await wallet_fen(1), await wallet_fen(1, FIXED)) == (0, 0)
    assert (await house.pay(520)).transaction_id is not None, "the same receipt, done by now"
    assert await house.forgive(100) == owed


async def test_a_debt_is_paid_and_a_payout_taken_back(house: House) -> None:
    """By two where the limit says so, which counts with all that one took at the desk."""
    await rows(pool(), """UPDATE site SET approval = '{"desk_payment_fen": 50}'""")
    await house.leave()
    paid = await house.owe(50)
    assert paid == await house.owe(50), "once a receipt"
    asked = await house.owe(30, "R-2")
    assert (asked.transaction_id, await house.owe(30, "R-2")) == (None, asked)
    too_much = await house.owe(30, "R-3", method="bank_transfer")
    await house.approve(asked)
    with pytest.raises(MallwattError) as refusal:
        await house.approve(too_much)  # was owed when it was asked for
    assert refusal.value.code == "more_than_owed"
    assert await wallet_fen(1, FIXED) == -20

    await house.pay(518, 2)
    wrong = await house.take_back()
    assert (await house.take_back(), await wallet_fen(1)) == (wrong, 0)
    assert (await house.approve(wrong)).decided_by == "other"
    assert await wallet_fen(1) == 520, "rounding included"
    await house.pay(520, receipt_no="P-2", method="bank_transfer")
    assert (await wallet_fen(1), await sum_of_all_accounts_fen()) == (0, 0)
    listed = [(one.payout.receipt_no, one.is_returned) for one in await paid_out(house.leaver)]
    assert listed == [("P-2", False), ("P-1", True)]
    receipts = [(one.receipt_no, one.taken_by) for one in await receipts_of(1)]
    assert receipts == [("R-2", "boss"), ("R-1", "boss")]
    acts = await rows(pool(), "SELECT act FROM manager_act WHERE act NOT LIKE 'approval%'")
    kinds = ["desk_payment", "move_out", "move_out_payout", "move_out_payout"]
    assert sorted(one["act"] for one in acts) == kinds
    for forgery, detail in FORGERIES:
        assert detail in str(await blamed(forgery)), forgery


async def test_what_was_agreed_is_refused_once_it_is_not_so_any_more(house: House) -> None:
    await rows(pool(), """UPDATE site SET approval = '{"move_out_payout_fen": 500}'""")
    await house.leave()
    asked = await house.pay(520)
    await house.pay(20, receipt_no="P-2")
    before = await books()
    with pytest.raises(MallwattError) as refusal:
        await house.approve(asked)
    assert refusal.value.code == "more_than_left"
    assert (await wallet_fen(1), await books()) == (500, before)


async def test_many_clicks_at_once_end_one_tenancy_and_open_one(house: House) -> None:
    assert set(await asyncio.gather(*(house.leave() for _ in range(5)))) == {1}
    [second] = set(await asyncio.gather(*(house.come() for _ in range(5))))
    assert await house.leave() == 1, "told again, it is still the same"
    assert (await books())["tenancies"] == 2
    codes = await rows(pool(), "SELECT id, binding_code FROM tenancy ORDER BY id")
    assert [one["id"] for one in codes] == [1, second]
    assert len({"482913", *(one["binding_code"] for one in codes)}) == 3
    assert await wallet_fen(second) == await wallet_fen(second, FIXED) == 0
    house.now += DAY
    while await charge_due(house.now):
        pass
    paid = await rows(pool(), "SELECT tenancy_id FROM fixed_charge_statement ORDER BY day")
    assert [one["tenancy_id"] for one in paid] == [1, 1, second], "no day twice"
