"""A mall with a merchant at each platform, whose bills are made of what was paid there."""

from dataclasses import replace
from datetime import date, datetime, timedelta

from payments.contract import (
    Bill,
    BillEntry,
    BillEntryKind,
    Method,
    Platform,
    Refund,
    RefundStatus,
    TradeStatus,
)
from server.core.reconciliation.days import bill_day, made_by
from server.models.database import Row, pool, rows
from server.services.reconciliation import Result, reconcile_day
from server.services.reconciliation_days import Merchant, merchants
from server.services.reconciliation_views import DayView, days_of
from server.services.top_ups import TopUpOrder, order
from tests.fakes.payment_platform import FakePlatform
from tests.scenarios.world import World

MERCHANT = """
INSERT INTO merchant (site_id, platform, merchant_id, app_id, settings)
VALUES ($1, $2, $3, $4, '{}'::jsonb)
"""
CLEARING = """
SELECT coalesce(sum(CASE WHEN debit_account_id = account.id THEN amount_fen ELSE -amount_fen END),
    0)::bigint AS fen
FROM account JOIN ledger_transfer
    ON account.id IN (credit_account_id, debit_account_id) WHERE account.kind = $1
"""
CASES = "SELECT * FROM payment_case ORDER BY id"


class Reconciling:
    """What the platforms put on their bills, and what comparing makes of it."""

    def __init__(self, world: World, platform: Platform = Platform.WECHAT) -> None:
        self.world = world
        self.platform = platform
        self.day = bill_day(world.now)

    async def open(self, *, site_id: int | None = None) -> None:
        for platform in self.world.directory.platforms.values():
            names = (platform.platform.value, platform.merchant_id, platform.app_id)
            await rows(pool(), MERCHANT, site_id or self.world.site_id, *names)

    @property
    def fetched(self) -> list[date]:
        """The days whose bills WeChat was asked for."""
        return self.wechat.fetched

    @property
    def wechat(self) -> FakePlatform:
        return self.world.directory.wechat

    async def order_at_alipay(self) -> None:
        """From now on its days are to be compared, too."""
        wish = TopUpOrder(
            tenancy_id=self.world.tenancy_id,
            amount_fen=1_000,
            method=Method.ALIPAY_QR,
            wallet="electricity",
            idempotency_key="alipay",
            user_id=None,
            payer_id=None,
            client_ip=None,
            public_url="http://mall.test",
        )
        await order(wish, self.world.directory, self.world.now)

    def write_bill(self, day: date | None = None, version: str = "1") -> list[BillEntry]:
        """Put a bill of all that happened at WeChat on that day."""
        day = day or self.day
        entries = [
            BillEntry(
                BillEntryKind.PAYMENT,
                one.out_trade_no,
                one.transaction_id,
                one.paid_fen,
                one.paid_at,
                fee_fen=1,
            )
            for one in self.wechat.trades.values()
            if one.paid_at and one.transaction_id and one.paid_fen and bill_day(one.paid_at) == day
        ]
        entries += [
            self.refund_entry(one, self.world.now)
            for one in self.wechat.refunds.values()
            if bill_day(self.world.now) == day
        ]
        self.put(entries, day, version)
        return entries

    def put(self, entries: list[BillEntry], day: date | None = None, version: str = "1") -> None:
        day = day or self.day
        merchant_id = self.wechat.merchant_id
        self.wechat.bills[day] = Bill(Platform.WECHAT, merchant_id, day, entries, version)

    def refund_entry(self, refund: Refund, at: datetime) -> BillEntry:
        assert refund.refund_fen is not None
        return BillEntry(
            BillEntryKind.REFUND,
            refund.out_trade_no,
            f"wechat-{refund.out_trade_no}",
            refund.refund_fen,
            at,
            out_refund_no=refund.out_refund_no,
            refund_id=refund.refund_id,
            status=refund.status,
        )

    def stranger_entry(self, number: str = "STRANGER1", fen: int = 777) -> BillEntry:
        """A payment on the bill that nobody here knows."""
        at = self.world.now
        return BillEntry(BillEntryKind.PAYMENT, number, f"wechat-{number}", fen, at)

    def give_back_outside(self, out_trade_no: str, fen: int, number: str = "OUT1") -> Refund:
        """Somebody gives back in the platform's console."""
        done = Refund(
            *(number, out_trade_no, RefundStatus.SUCCEEDED, self.wechat.merchant_id, fen),
            refund_id=f"x{number}",
        )
        self.wechat.refunds[number] = done
        paid = self.wechat.trades[out_trade_no]
        self.wechat.trades[out_trade_no] = replace(paid, status=TradeStatus.REFUNDED)
        return done

    def next_morning(self, days: int = 1) -> None:
        """Half past ten, some days after the day."""
        self.world.now = made_by(self.day) + timedelta(days=days - 1, minutes=30)

    async def merchant(self) -> Merchant:
        return next(one for one in await merchants() if one.platform is self.platform)

    async def run(self, day: date | None = None) -> Result:
        """Compare one day."""
        world = self.world
        merchant = await self.merchant()
        return await reconcile_day(merchant, day or self.day, world.directory, lambda: world.now)

    async def seen(self, day: date | None = None) -> DayView:
        """What finance sees of it."""
        day = day or self.day
        found = await days_of(await self.merchant(), day, day + timedelta(days=1))
        return found[day]

    async def told(self, day: date | None = None) -> tuple[str, list[tuple[str, str]]]:
        """Its state, and what became of each difference."""
        seen = await self.seen(day)
        return seen.state, [(one.finding.value, one.outcome) for one in seen.differences]

    @staticmethod
    async def cases() -> list[Row]:
        return await rows(pool(), CASES)

    @staticmethod
    async def clearing_fen(kind: str = "wechat_clearing") -> int:
        """What came in by a platform less what went back by it."""
        return int((await rows(pool(), CLEARING, kind))[0]["fen"])
