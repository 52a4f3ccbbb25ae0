"""Both platforms tell the same story of money going back, and of the day's bill.

The product's own clients speak with the sandbox, by a clock that the test moves.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import count

import pytest
import pytest_asyncio

from payments.alipay import client as alipay_client
from payments.alipay import config as alipay_config
from payments.alipay import gateway
from payments.contract import (
    BillEntryKind,
    BillNotReadyError,
    BillUnsoundError,
    Method,
    Notice,
    NoticeRejectedError,
    PaymentPlatform,
    PaymentRequest,
    Platform,
    PlatformRefusedError,
    PlatformUnavailableError,
    RefundNotice,
    RefundRequest,
    RefundStatus,
    TradeStatus,
)
from payments.sandbox.faults import Fault, Kind
from payments.sandbox.keys import SandboxKeys
from payments.wechat import calls
from payments.wechat.certificates import TASK
from payments.wechat.client import WeChatPlatform, build
from payments.wechat.config import WeChatMerchant
from tests.payments.peer import Peer, Received, http_answer
from tests.payments.shops import NOON, Yard

ACCEPTED = {Platform.WECHAT: http_answer(204), Platform.ALIPAY: http_answer(200, b"success")}
_DAYS = count(100)


@dataclass
class Side:
    """One platform as the product sees it, and its inside."""

    platform: PaymentPlatform
    method: Method
    yard: Yard
    door: Peer

    @property
    def name(self) -> Platform:
        return self.platform.platform

    @property
    def now(self) -> datetime:
        return self.yard.clock.at

    async def paid(self, number: str, fen: int = 8880) -> str:
        """An order that somebody paid."""
        request = PaymentRequest(
            out_trade_no=number,
            amount_fen=fen,
            description="示范商场, A101 `电费`",
            method=self.method,
            notify_url=f"{self.door.url}/notify",
            expires_at=self.now + timedelta(minutes=15),
        )
        payment = await self.platform.create(request, self.now)
        await self.yard.http.get(payment["code_url"], follow_redirects=True)
        await self.yard.control.pay(self.name, number)
        await self.yard.sandbox.quiet()
        return number

    def wanted(self, number: str, fen: int = 3000, suffix: str = "1") -> RefundRequest:
        return RefundRequest(
            out_trade_no=number,
            out_refund_no=f"R{suffix}{number}",
            refund_fen=fen,
            total_fen=8880,
            reason="退租",
            notify_url=f"{self.door.url}/notify",
        )

    async def status(self, request: RefundRequest) -> RefundStatus:
        """What a query says, once the platform has done all it had to."""
        await self.yard.sandbox.quiet()
        numbers = (request.out_trade_no, request.out_refund_no)
        return (await self.platform.query_refund(*numbers, self.now)).status


@pytest_asyncio.fixture(params=[Method.WECHAT_NATIVE, Method.ALIPAY_QR])
async def side(
    request: pytest.FixtureRequest,
    yard: Yard,
    peer: Peer,
    keys: SandboxKeys,
    merchant: WeChatMerchant,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Side]:
    """Each platform, on a day of the test's own."""
    monkeypatch.setattr(calls, "BACKOFF_S", 0.001)
    monkeypatch.setattr(gateway, "BACKOFF_S", 0.001)
    yard.clock.at = NOON + timedelta(days=next(_DAYS))
    method: Method = request.param
    base = yard.sandbox.public_url
    platform: PaymentPlatform
    if method.platform is Platform.WECHAT:
        platform = build(merchant, base)
    else:
        config = alipay_config.load(
            app_id=keys.alipay_app_id,
            seller_id=keys.alipay_seller_id,
            private_key_file=keys.folder / "alipay_app.pem",
            alipay_public_key_file=keys.folder / "alipay_platform.pem",
        )
        platform = alipay_client.build(config, f"{base}/gateway.do")
    peer.answers(ACCEPTED[method.platform])
    async with aclosing(platform):
        yield Side(platform, method, yard, peer)


async def test_money_is_given_back_told_and_found(side: Side, number: str) -> None:
    request = side.wanted(await side.paid(number))
    told_before = len(side.door.received)

    asked = await side.platform.refund(request, side.now)
    assert asked.status in {RefundStatus.PROCESSING, RefundStatus.SUCCEEDED}
    assert await side.status(request) is RefundStatus.SUCCEEDED
    found = await side.platform.query_refund(number, request.out_refund_no, side.now)

    assert (found.refund_fen, found.merchant_id) == (3000, side.platform.merchant_id)
    trade = await side.platform.query(number, side.now)  # Alipay's says nothing of a part
    assert trade.status in {TradeStatus.PAID, TradeStatus.REFUNDED}
    [received] = side.door.received[told_before:]
    notice = side.platform.parse_notice(received.headers, received.body, side.now)
    if isinstance(notice, RefundNotice):
        assert notice.refund == replace(found, finished_at=notice.refund.finished_at)
    else:  # Alipay tells by the trade's notice
        assert isinstance(notice, Notice)
        assert notice.trade.status is TradeStatus.REFUNDED


async def test_the_same_number_gives_back_once(side: Side, number: str) -> None:
    request = side.wanted(await side.paid(number))
    for _ in range(3):
        await side.platform.refund(request, side.now)
        assert await side.status(request) is RefundStatus.SUCCEEDED
    side.yard.pass_time(minutes=2)
    rest = side.wanted(number, 5880, "2")  # so that no fen too much went back before
    await side.platform.refund(rest, side.now)
    assert await side.status(rest) is RefundStatus.SUCCEEDED


async def test_a_refund_that_nobody_asked_for_is_unknown(side: Side, number: str) -> None:
    request = side.wanted(await side.paid(number))
    assert await side.status(request) is RefundStatus.UNKNOWN


@pytest.mark.parametrize(
    "kind",
    [
        *(Kind.DROPPED, Kind.DROPPED_AFTER, Kind.SERVER_ERROR, Kind.SERVER_ERROR_AFTER),
        *(Kind.RATE_LIMITED, Kind.WRONG_SIGNATURE),
    ],
)
async def test_trouble_under_way_costs_no_second_refund(
    side: Side, number: str, kind: Kind
) -> None:
    request = side.wanted(await side.paid(number))
    side.yard.sandbox.faults.add(Fault(side.name, kind, "refund"))
    await side.platform.refund(request, side.now)
    assert await side.status(request) is RefundStatus.SUCCEEDED
    all_refunds = side.yard.sandbox.orders.refunds(side.name)
    assert [one.amount_fen for one in all_refunds if one.out_trade_no == number] == [3000]


async def test_more_than_was_paid_is_refused_for_good(side: Side, number: str) -> None:
    await side.paid(number)
    request = replace(side.wanted(number, 9000), total_fen=9000)
    with pytest.raises(PlatformRefusedError) as error:
        await side.platform.refund(request, side.now)
    assert not error.value.transient
    assert await side.status(request) is RefundStatus.UNKNOWN


async def test_an_empty_account_is_for_later_with_the_same_number(side: Side, number: str) -> None:
    request = side.wanted(await side.paid(number))
    side.yard.control.balance(side.name, 0)
    with pytest.raises(PlatformUnavailableError):
        await side.platform.refund(request, side.now)
    side.yard.control.balance(side.name, None)
    side.yard.pass_time(minutes=2)
    await side.platform.refund(request, side.now)
    assert await side.status(request) is RefundStatus.SUCCEEDED


async def two_paid_one_returned(side: Side, number: str) -> date:
    """88.80 and 1.00 paid, 30.00 of the first given back; then it is ten on the next day."""
    day = side.now.date()
    await side.paid(f"{number}a")
    await side.paid(f"{number}b", 100)
    request = side.wanted(f"{number}a")
    await side.platform.refund(request, side.now)
    assert await side.status(request) is RefundStatus.SUCCEEDED
    side.yard.pass_time(hours=22, minutes=1)
    return day


async def test_a_days_bill_has_what_came_and_what_went_back(side: Side, number: str) -> None:
    day = await two_paid_one_returned(side, number)
    bill = await side.platform.fetch_bill(day, side.now)

    assert (bill.platform, bill.day) == (side.name, day)
    assert bill.merchant_id == side.platform.merchant_id
    found = sorted((one.kind, one.out_trade_no, one.amount_fen) for one in bill.entries)
    assert found == [
        (BillEntryKind.PAYMENT, f"{number}a", 8880),
        (BillEntryKind.PAYMENT, f"{number}b", 100),
        (BillEntryKind.REFUND, f"{number}a", 3000),
    ]
    [refund] = [one for one in bill.entries if one.kind is BillEntryKind.REFUND]
    assert refund.out_refund_no == f"R1{number}a"
    paid = await side.platform.query(f"{number}a", side.now)
    numbers = {one.transaction_id for one in bill.entries if one.out_trade_no == f"{number}a"}
    assert numbers == {paid.transaction_id}


async def test_a_day_on_which_nobody_paid_has_an_empty_bill(side: Side) -> None:
    day = side.now.date()
    side.yard.pass_time(days=1)
    assert list((await side.platform.fetch_bill(day, side.now)).entries) == []


async def test_a_bill_comes_at_ten_on_the_next_day(side: Side, number: str) -> None:
    day = await two_paid_one_returned(side, number)
    side.yard.clock.at -= timedelta(hours=2)
    with pytest.raises(BillNotReadyError):
        await side.platform.fetch_bill(day, side.now)


@pytest.mark.parametrize("kind", [Kind.BILL_HASH, Kind.BILL_SUMMARY])
async def test_an_unsound_bill_is_not_believed(side: Side, number: str, kind: Kind) -> None:
    day = await two_paid_one_returned(side, number)
    side.yard.sandbox.faults.add(Fault(side.name, kind, "bill"))
    with pytest.raises(BillUnsoundError):
        await side.platform.fetch_bill(day, side.now)


@pytest.mark.parametrize("signers", [("cert1",), ("public_key", "cert1", "cert2"), ("cert2",)])
@pytest.mark.parametrize("has_key", [True, False])
async def test_certificates_change_under_way_and_nothing_is_lost(
    yard: Yard,
    peer: Peer,
    merchant: WeChatMerchant,
    number: str,
    monkeypatch: pytest.MonkeyPatch,
    has_key: bool,
    signers: tuple[str, ...],
) -> None:
    monkeypatch.setattr(calls, "BACKOFF_S", 0.05)
    key = {} if has_key else {"platform_public_key_pem": None, "platform_public_key_id": None}
    by = replace(merchant, platform_certificates=True, **key)  # type: ignore[arg-type]  # a table
    yard.control.sign_with(Platform.WECHAT, "cert1")
    peer.answers(ACCEPTED[Platform.WECHAT])
    yard.clock.at = NOON + timedelta(days=next(_DAYS))
    async with aclosing(build(by, yard.sandbox.public_url)) as platform:
        side = Side(platform, Method.WECHAT_NATIVE, yard, peer)
        await side.paid(f"{number}a")
        yard.pass_time(minutes=1)
        yard.control.sign_with(Platform.WECHAT, *(signers if has_key else signers[-1:]))
        for name in "bcd":
            await side.paid(f"{number}{name}")
            assert (await platform.query(f"{number}{name}", side.now)).status is TradeStatus.PAID
        for received in peer.received:
            assert isinstance(await read_at_last(platform, received, side.now), Notice)


async def read_at_last(
    platform: WeChatPlatform, received: Received, now: datetime
) -> Notice | RefundNotice:
    """A notice as it is read when it is delivered again, where its certificate was new."""
    with suppress(NoticeRejectedError):
        return platform.parse_notice(received.headers, received.body, now)
    under_way = [task for task in asyncio.all_tasks() if task.get_name() == TASK]
    await asyncio.gather(*under_way)
    return platform.parse_notice(received.headers, received.body, now)
