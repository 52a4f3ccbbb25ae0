"""Days compared by the real clients with the sandbox platforms' bills, whatever stands on them."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from payments.contract import Platform
from payments.sandbox.faults import Fault, Kind
from server.core.reconciliation.days import bill_day, made_by
from server.core.refunds.cases import CaseDecision
from server.models.database import pool, rows
from server.services.audit import audit
from server.services.case_decisions import Verdict, decide_case
from server.services.reconciliation import Result
from server.services.reconciliation_views import DayView
from tests.fakes.reconciling import Reconciling
from tests.fakes.refunding import Refunding
from tests.payments.test_refunds_at_sandbox import hear, paid
from tests.payments.test_sandbox_money_back import Side, side

__all__ = ["side"]  # a fixture
CLEARING = {Platform.WECHAT: "wechat_clearing", Platform.ALIPAY: "alipay_clearing"}


@dataclass
class Books:
    """A mall with one merchant, whose platform and clock are the sandbox's."""

    office: Refunding
    side: Side
    days: Reconciling

    async def compare(self) -> tuple[str, list[tuple[str, str]]]:
        """Compare the day by the bill of the next morning, or of now if that is later."""
        clock = self.side.yard.clock
        clock.at = max(clock.at, made_by(self.days.day) + timedelta(minutes=30))
        self.office.world.now = clock.at
        self.result: Result = await self.days.run()
        return await self.days.told()

    async def seen(self) -> DayView:
        return await self.days.seen()

    async def refunded(self) -> None:
        """30.00 of the 88.80 went back."""
        await self.office.ask(3_000)
        await self.office.work()
        await self.side.yard.sandbox.quiet()
        await hear(self.office, self.side)
        self.side.yard.clock.at += timedelta(minutes=3)
        self.office.world.now = self.side.now
        await self.office.work()  # Alipay tells by the trade: asked once more

    async def lost(self) -> None:
        """A payment of which nobody tells us; its order is like the first one's."""
        [order] = await rows(pool(), "SELECT * FROM payment_order")
        number = f"{order['out_trade_no'][:-4]}lost"
        await self.side.paid(number, 500)
        self.side.door.received.clear()

    async def proved(self) -> None:
        """Clearing moved by just what the bill says, and the books are sound."""
        seen = await self.seen()
        assert seen.bill is not None
        assert seen.bill == seen.ours
        assert await self.days.clearing_fen(CLEARING[self.side.name]) == seen.bill.net_fen
        assert (await audit(lambda _: None)).violations == []


@pytest_asyncio.fixture
async def books(database: None, tmp_path: Path, side: Side) -> Books:
    """88.80 was paid and credited."""
    office = await paid(tmp_path, side)
    days = Reconciling(office.world, side.name)
    days.day = bill_day(side.now)
    await days.open()
    return Books(office, side, days)


async def test_payments_and_refunds_agree_to_the_fen(books: Books) -> None:
    await books.refunded()
    assert await books.compare() == ("agreed", [])
    await books.proved()
    seen = await books.seen()
    assert seen.bill is not None
    assert (seen.bill.payments_fen, seen.bill.refunds_fen) == (8_880, 3_000)


async def test_a_lost_payment_is_found_on_the_bill(books: Books) -> None:
    """Missing here: nobody ordered it by us, so it waits in suspense for a person."""
    await books.lost()
    assert await books.compare() == ("agreed", [("missing_here", "cured")])
    await books.proved()
    assert [one["kind"] for one in await books.days.cases()] == ["unknown_order"]


DENIED = [Kind.BILL_MISSING, Kind.QUERY_UNPAID]
DIFFER = [
    ([Kind.BILL_EXTRA], ("missing_here", "case"), "unbooked_payment"),
    ([Kind.BILL_MISSING], ("missing_there", "case"), "payment_not_on_bill"),
    (DENIED, ("missing_there", "case"), "credited_without_payment"),
    ([Kind.BILL_AMOUNT], ("other_amount", "case"), "payment_billed_otherwise"),
    ([Kind.BILL_REFUND_MISSING], ("refund_here_only", "case"), "refund_not_on_bill"),
]


@pytest.mark.parametrize(("faults", "difference", "case"), DIFFER)
async def test_each_kind_of_difference_is_shown_once_and_ends_with_a_mended_bill(
    books: Books, faults: list[Kind], difference: tuple[str, str], case: str
) -> None:
    if Kind.BILL_REFUND_MISSING in faults:
        await books.refunded()
    books.side.yard.clock.at = made_by(books.days.day) + timedelta(days=1, hours=1)
    for _ in range(2):
        books.side.yard.sandbox.faults.clear()
        books.side.yard.sandbox.faults.add(*(Fault(books.side.name, one) for one in faults))
        assert await books.compare() == ("differs", [difference])
        [shown] = await books.days.cases()
        assert (shown["kind"], shown["decision"]) == (case, None)
    books.side.yard.sandbox.faults.clear()
    assert await books.compare() == ("agreed", [(difference[0], "cured")])
    assert (await books.days.cases())[0]["decision"] == "agreed"
    await books.proved()


async def test_what_went_back_in_the_console_is_recorded(books: Books) -> None:
    [order] = await rows(pool(), "SELECT out_trade_no FROM payment_order")
    await books.side.yard.control.refund_outside(books.side.name, order["out_trade_no"], 500)
    await books.side.yard.sandbox.quiet()
    assert await books.compare() == ("differs", [("refund_there_only", "case")])
    [case] = await books.days.cases()
    verdict = Verdict(CaseDecision.RECORD, "后台退款")
    now = books.office.world.now
    await decide_case(case["id"], books.office.people["fen"], verdict, now)
    assert await books.compare() == ("agreed", [("refund_there_only", "cured")])
    await books.proved()


async def test_nothing_of_an_unsound_bill_is_believed(books: Books) -> None:
    await books.lost()
    for fault in (Kind.BILL_HASH, Kind.BILL_SUMMARY):
        books.side.yard.sandbox.faults.clear()
        books.side.yard.sandbox.faults.add(Fault(books.side.name, fault, times=9))
        assert await books.compare() == ("pending", [])
        assert books.result.problem == "unsound"
    assert await books.days.clearing_fen(CLEARING[books.side.name]) == 8_880
    books.side.yard.sandbox.faults.clear()
    assert await books.compare() == ("agreed", [("missing_here", "cured")])
    await books.proved()
