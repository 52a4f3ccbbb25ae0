"""Alipay's whole story at the sandbox: paid, given back, billed; by keys and by certificates."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from itertools import count

import pytest

from payments.alipay import client, config
from payments.alipay.client import AlipayPlatform
from payments.contract import (
    BillEntry,
    BillEntryKind,
    BillNotReadyError,
    BillUnsoundError,
    Method,
    PaymentRequest,
    Platform,
    PlatformRefusedError,
    PlatformUnavailableError,
    RefundRequest,
    RefundStatus,
    TradeStatus,
)
from payments.sandbox.books import RefundState
from payments.sandbox.certificates import ensure_certificates
from payments.sandbox.faults import Fault, Kind
from tests.payments.peer import Peer, http_answer
from tests.payments.shops import Yard

KEY = {"alipay_public_key_file": "alipay_platform.pem"}
CERTIFICATES = {
    "app_cert_file": "alipay_app_cert.pem",
    "alipay_cert_file": "alipay_cert1.pem",
    "alipay_root_cert_file": "alipay_root_cert.pem",
}

_DAYS = count(1000)


@pytest.fixture(params=[KEY, CERTIFICATES], ids=["keys", "certificates"])
async def alipay(yard: Yard, request: pytest.FixtureRequest) -> AsyncIterator[AlipayPlatform]:
    keys = yard.sandbox.keys
    ensure_certificates(keys)
    if request.param is CERTIFICATES:
        yard.control.sign_with(Platform.ALIPAY, "cert1")
    merchant = config.load(
        app_id=keys.alipay_app_id,
        seller_id=keys.alipay_seller_id,
        private_key_file=keys.folder / "alipay_app.pem",
        **{setting: keys.folder / file for setting, file in request.param.items()},
    )
    built = client.build(merchant, f"{yard.sandbox.public_url}/gateway.do")
    yield built
    await built.aclose()


async def paid(yard: Yard, alipay: AlipayPlatform, number: str, door: Peer) -> None:
    door.answers(http_answer(200, b"success"))
    request = PaymentRequest(
        out_trade_no=number,
        amount_fen=8880,
        description="电费充值",
        method=Method.ALIPAY_QR,
        notify_url=f"{door.url}/notify",
        expires_at=yard.clock.at + timedelta(minutes=15),
    )
    await alipay.create(request, yard.clock.at)
    await yard.control.pay(Platform.ALIPAY, number)


def giving_back(number: str, fen: int = 3000) -> RefundRequest:
    return RefundRequest(number, f"R{number}", fen, 8880, "多付", "https://mall.example/notify")


@pytest.fixture
def day(yard: Yard) -> date:
    """A day of the test's own, at noon: what others did stands on other days."""
    yard.clock.at += timedelta(days=next(_DAYS))
    return yard.clock.at.date()


async def test_paid_given_back_told_and_billed(
    yard: Yard, alipay: AlipayPlatform, peer: Peer, number: str, day: date
) -> None:
    await paid(yard, alipay, number, peer)
    yard.pass_time(minutes=1)
    now = yard.clock.at

    given = await alipay.refund(giving_back(number), now)
    again = await alipay.refund(giving_back(number), now)
    found = await alipay.query_refund(number, f"R{number}", now)
    unknown = await alipay.query_refund(number, "Rnever", now)
    await yard.sandbox.quiet()
    told = [alipay.parse_notice(one.headers, one.body, now) for one in peer.received]
    with pytest.raises(BillNotReadyError):
        await alipay.fetch_bill(day, now)
    yard.pass_time(days=1)
    bill = await alipay.fetch_bill(day, yard.clock.at)

    assert (given.status, given.refund_fen) == (RefundStatus.SUCCEEDED, 3000)
    assert again == found == replace(given, finished_at=now)
    assert unknown.status is RefundStatus.UNKNOWN
    assert [one.trade.status for one in told] == [TradeStatus.PAID, TradeStatus.REFUNDED]
    transaction_id = told[0].trade.transaction_id or ""
    assert [replace(one, fee_fen=0) for one in bill.entries] == [
        BillEntry(BillEntryKind.PAYMENT, number, transaction_id, 8880, now - timedelta(minutes=1)),
        BillEntry(
            BillEntryKind.REFUND,
            number,
            transaction_id,
            3000,
            now,
            out_refund_no=f"R{number}",
            status=RefundStatus.SUCCEEDED,
        ),
    ]
    assert bill.entries[0].fee_fen >= -bill.entries[1].fee_fen >= 0


async def test_money_that_is_not_there_yet_goes_back_later_under_the_same_number(
    yard: Yard, alipay: AlipayPlatform, peer: Peer, number: str
) -> None:
    await paid(yard, alipay, number, peer)
    yard.control.balance(Platform.ALIPAY, 2999)
    with pytest.raises(PlatformUnavailableError) as later:
        await alipay.refund(giving_back(number), yard.clock.at)
    yard.control.balance(Platform.ALIPAY, None)

    refund = await alipay.refund(giving_back(number), yard.clock.at)

    assert later.value.code == "ACQ.SELLER_BALANCE_NOT_ENOUGH"
    assert refund.status is RefundStatus.SUCCEEDED


async def test_what_was_given_back_before_with_another_amount_is_told_as_it_is(
    yard: Yard, alipay: AlipayPlatform, peer: Peer, number: str
) -> None:
    await paid(yard, alipay, number, peer)
    await alipay.refund(giving_back(number, 100), yard.clock.at)

    refund = await alipay.refund(giving_back(number, 200), yard.clock.at)

    assert (refund.status, refund.refund_fen) == (RefundStatus.SUCCEEDED, 100)


async def test_more_than_was_paid_is_refused(
    yard: Yard, alipay: AlipayPlatform, peer: Peer, number: str
) -> None:
    await paid(yard, alipay, number, peer)
    await alipay.refund(giving_back(number, 8000), yard.clock.at)
    other = replace(giving_back(number, 881), out_refund_no=f"S{number}")

    with pytest.raises(PlatformRefusedError):
        await alipay.refund(other, yard.clock.at)


async def test_a_refund_that_hangs_is_under_way_and_then_given_back(
    yard: Yard, alipay: AlipayPlatform, peer: Peer, number: str
) -> None:
    await paid(yard, alipay, number, peer)
    yard.sandbox.faults.add(Fault(Platform.ALIPAY, Kind.REFUND_STUCK))
    hanging = await alipay.refund(giving_back(number), yard.clock.at)
    await yard.control.settle(Platform.ALIPAY, f"R{number}", RefundState.SUCCESS)

    refund = await alipay.refund(giving_back(number), yard.clock.at)

    assert hanging.status is RefundStatus.PROCESSING
    assert refund.status is RefundStatus.SUCCEEDED


@pytest.mark.parametrize("kind", [Kind.BILL_HASH, Kind.BILL_SUMMARY])
async def test_an_unsound_bill_is_not_believed(
    yard: Yard, alipay: AlipayPlatform, peer: Peer, number: str, day: date, kind: Kind
) -> None:
    await paid(yard, alipay, number, peer)
    yard.sandbox.faults.add(Fault(Platform.ALIPAY, kind))
    yard.pass_time(days=1)

    with pytest.raises(BillUnsoundError):
        await alipay.fetch_bill(day, yard.clock.at)


async def test_a_day_without_business_has_no_bill(
    yard: Yard, alipay: AlipayPlatform, day: date
) -> None:
    yard.pass_time(days=1)
    bill = await alipay.fetch_bill(day, yard.clock.at)

    assert (bill.entries, bill.digest) == ((), "")


@pytest.mark.parametrize("alipay", [CERTIFICATES], indirect=True)
async def test_alipay_changes_its_certificate_under_way(
    yard: Yard, alipay: AlipayPlatform, peer: Peer, number: str
) -> None:
    await paid(yard, alipay, number, peer)
    yard.control.sign_with(Platform.ALIPAY, "cert1", "cert2")  # in turn

    trades = [await alipay.query(number, yard.clock.at) for _ in range(4)]

    assert {trade.status for trade in trades} == {TradeStatus.PAID}
