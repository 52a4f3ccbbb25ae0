"""Alipay's bills: every line of a sound one, and nothing of an unsound one."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.alipay import bills, client, gateway
from payments.alipay.bills import BILL_URL, read_bill
from payments.alipay.client import AlipayPlatform
from payments.contract import (
    Bill,
    BillEntry,
    BillEntryKind,
    BillNotReadyError,
    BillUnsoundError,
    Platform,
    PlatformRefusedError,
    PlatformUnavailableError,
    RefundStatus,
)
from tests.payments.alipay_bill import ACCOUNT, Line, bill_zip, details, summary, zipped
from tests.payments.alipay_peer import AlipayPeer, Content, failed, http, platform_at, standing

DAY = date(2026, 5, 23)
SELLER = "2088000000000001"
LATER = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)  # ten o'clock in China
LINES = [
    Line(8880, fee_fen=-53),
    Line(1, order="T2", trade="2026052322001400001234567891", subject="自助洗车"),
    Line(-1234, refund="R1", at="2026-05-23 18:00:00", fee_fen=7),
]
GOOD = bill_zip(LINES)
ENTRIES = (
    BillEntry(
        BillEntryKind.PAYMENT,
        "T1",
        "2026052322001400001234567890",
        8880,
        datetime(2026, 5, 23, 2, 0, 30, tzinfo=UTC),
        fee_fen=53,
    ),
    BillEntry(
        BillEntryKind.PAYMENT,
        "T2",
        "2026052322001400001234567891",
        1,
        datetime(2026, 5, 23, 2, 0, 30, tzinfo=UTC),
    ),
    BillEntry(
        BillEntryKind.REFUND,
        "T1",
        "2026052322001400001234567890",
        1234,
        datetime(2026, 5, 23, 10, 0, tzinfo=UTC),
        fee_fen=-7,
        out_refund_no="R1",
        status=RefundStatus.SUCCEEDED,
    ),
)
NOBODY_PAID = Bill(Platform.ALIPAY, SELLER, DAY, (), "")


def test_a_bill_is_read_line_by_line() -> None:
    bill = read_bill(GOOD, DAY, SELLER)

    assert (bill.platform, bill.merchant_id, bill.day) == (Platform.ALIPAY, SELLER, DAY)
    assert bill.entries == ENTRIES
    assert len(bill.digest) == 64


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(zipped(details(LINES), summary(LINES), method=0), id="stored, not packed"),
        pytest.param(zipped(summary(LINES), details(LINES)), id="the summary first"),
        pytest.param(zipped(details(LINES), summary(LINES), "说明"), id="a file more"),
        pytest.param(zipped(details(LINES), summary(LINES, net=False)), id="sums of payments"),
        pytest.param(
            zipped(details(LINES).replace("（元）", "(元)"), summary(LINES)), id="narrow brackets"
        ),
        pytest.param(
            zipped(details(LINES).replace("\r\n", "\n"), summary(LINES)), id="lines of Unix"
        ),
        pytest.param(
            zipped(details(LINES).replace("自助洗车", "洗,打蜡,交易"), summary(LINES)),
            id="commas in somebody's subject",
        ),
        pytest.param(
            zipped(details(LINES).replace("自助洗车", '"洗,打蜡"'), summary(LINES)),
            id="commas in quotes",
        ),
        pytest.param(
            zipped(details(LINES).replace("自助洗车", "#交易订单总笔数"), summary(LINES)),
            id="a subject like another file",
        ),
    ],
)
def test_what_is_the_same_bill(content: bytes) -> None:
    assert read_bill(content, DAY, SELLER).entries == ENTRIES


def test_a_day_without_business_may_have_a_bill() -> None:
    assert read_bill(bill_zip([]), DAY, SELLER).entries == ()


def changed(old: str, new: str) -> bytes:
    """The good bill with one thing else in its details."""
    text = details(LINES)
    assert old in text
    return zipped(text.replace(old, new), summary(LINES))


def summed(old: str, new: str) -> bytes:
    """The good bill with one thing else in its summary."""
    text = summary(LINES)
    assert old in text
    return zipped(details(LINES), text.replace(old, new))


def bomb() -> bytes:
    """One byte more than may be unpacked; made by whoever wants it, it takes a while."""
    return zipped(b"0" * (bills.UNPACKED_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("content", "names"),
    [
        pytest.param(b"", "zip", id="nothing"),
        pytest.param(b"<html>expired</html>", "zip", id="no zip"),
        pytest.param(GOOD[:-30], "zip", id="cut off"),
        pytest.param(bomb, "zip", id="a bomb"),
        pytest.param(zipped(*["x"] * (bills.FILES_MAX + 1)), "zip", id="many files"),
        pytest.param(zipped(details(LINES), summary(LINES), method=12), "zip", id="bzip2"),
        pytest.param(zipped(), "details", id="no files"),
        pytest.param(zipped(summary(LINES)), "details", id="no details"),
        pytest.param(zipped(details(LINES)), "summary", id="no summary"),
        pytest.param(
            zipped(details(LINES), summary(LINES), details(LINES)), "details", id="details twice"
        ),
        pytest.param(
            zipped(details(LINES).encode("gbk") + b"\xff", summary(LINES)), "details", id="not GBK"
        ),
        pytest.param(changed(ACCOUNT, "20889999999999990156"), "account", id="another account"),
        pytest.param(changed("#账号", "#"), "account", id="no account"),
        pytest.param(changed("2026年05月23日", "2026年05月22日"), "day", id="another day"),
        pytest.param(summed("2026年05月23日", "2026年05月22日"), "day", id="sums of another"),
        pytest.param(changed("退款\t", "转账\t"), "line 8", id="neither payment nor refund"),
        pytest.param(changed("88.80,88.80", "88.8O,88.80"), "line 6", id="no amount"),
        pytest.param(changed("88.80,88.80", "88.805,88.80"), "line 6", id="a tenth of a fen"),
        pytest.param(changed("88.80,88.80", "0.00,88.80"), "line 6", id="nothing"),
        pytest.param(changed("88.80,88.80", "88.80"), "line 6", id="a cell less"),
        pytest.param(changed("2026-05-23 18:00:00", "6 p.m."), "line 8", id="no time"),
        pytest.param(changed("2026052322001400001234567891", "-"), "line 7", id="no number"),
        pytest.param(changed("#导出", "#\n" * 200), "remarks", id="remarks without end"),
        pytest.param(changed("业务类型,", "业务类型,业务类型,"), "line 5", id="a column twice"),
        pytest.param(changed("订单金额", "金额"), "line 6", id="no column of amounts"),
        pytest.param(changed("#交易合计：2笔", "#交易合计：3笔"), "sums", id="another count"),
        pytest.param(changed("实收共88.81", "实收共88.82"), "sums", id="another sum"),
        pytest.param(changed("退款共-12.34", "退款共-12.43"), "sums", id="another sum back"),
        pytest.param(changed("#退款合计", "#"), "cut off", id="no sum back"),
        pytest.param(changed("88.80,88.80", "88.79,88.80"), "订单金额", id="another amount"),
        pytest.param(changed("-0.53", "-0.54"), "服务费", id="another fee"),
        pytest.param(summed("合计\t,\t,2,1", "合计\t,\t,1,1"), "笔数", id="one payment less"),
        pytest.param(summed("合计\t,\t,2,1", "合计\t,\t,2,2"), "笔数", id="one refund more"),
        pytest.param(summed("\t,\t,2,1,76.47", "\t,\t,2,1,76.46"), "订单金额", id="a fen less"),
        pytest.param(summed("合计\t,\t,2,", "合计\t,\t,two,"), "count", id="no count"),
        pytest.param(summed("商家实收", "商家"), "商家实收", id="no column of sums"),
        pytest.param(
            zipped(details(LINES), summary(LINES).split("\r\n\t")[0]), "nothing", id="no sums"
        ),
    ],
)
def test_an_unsound_bill_is_not_believed_and_says_what_is_wrong(
    content: bytes | Callable[[], bytes], names: str
) -> None:
    given = content() if callable(content) else content
    with pytest.raises(BillUnsoundError) as unsound:
        read_bill(given, DAY, SELLER)

    assert names in unsound.value.detail
    assert not unsound.value.transient


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_another_byte_anywhere_is_unsound_or_the_same_bill(at: int, flip: int) -> None:
    spoilt = GOOD[:at] + bytes([GOOD[at] ^ flip]) + GOOD[at + 1 :]

    try:
        bill = read_bill(spoilt, DAY, SELLER)
    except BillUnsoundError:
        return
    assert bill.entries == ENTRIES


@given(st.integers(0, len(GOOD)), st.integers(0, 60), st.binary(max_size=60))
def test_no_bytes_break_the_reader(at: int, length: int, junk: bytes) -> None:
    try:
        bill = read_bill(GOOD[:at] + junk + GOOD[at + length :], DAY, SELLER)
    except BillUnsoundError:
        return
    assert bill.entries == ENTRIES


DETAILS = details(LINES)


@given(
    st.integers(0, len(DETAILS)),
    st.integers(0, 40),
    st.text("0123456789.,-#\r\n\t交易退款合计笔元", max_size=40),
)
def test_no_change_of_the_text_changes_the_money(at: int, length: int, junk: str) -> None:
    """What is not told by a sum (an order's number) may differ; counts and amounts may not."""
    try:
        bill = read_bill(
            zipped(DETAILS[:at] + junk + DETAILS[at + length :], summary(LINES), method=0),
            DAY,
            SELLER,
        )
    except BillUnsoundError:
        return
    for kind in BillEntryKind:
        sums = [
            (len(amounts), sum(amounts))
            for entries in (bill.entries, ENTRIES)
            for amounts in [[one.amount_fen for one in entries if one.kind is kind]]
        ]
        assert sums[0] == sums[1]


@given(
    st.lists(
        st.builds(
            Line,
            fen=st.integers(-(10**10), 10**10).filter(bool),
            fee_fen=st.integers(-1000, 0),
            order=st.from_regex(r"[0-9A-Za-z_-]{1,64}", fullmatch=True),
        ),
        max_size=8,
    )
)
def test_a_bill_says_the_money_that_was_written(lines: list[Line]) -> None:
    bill = read_bill(bill_zip(lines), DAY, SELLER)

    signed = [
        one.amount_fen if one.kind is BillEntryKind.PAYMENT else -one.amount_fen
        for one in bill.entries
    ]
    assert signed == [line.fen for line in lines]
    assert [one.out_trade_no for one in bill.entries] == [line.order for line in lines]


@pytest.fixture
async def peer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AlipayPeer]:
    monkeypatch.setattr(gateway, "BACKOFF_S", 0.001)
    async with standing(AlipayPeer()) as it:
        it.says(BILL_URL, {"bill_download_url": f"{it.url}/bill.zip?token=1"})
        it.files["/bill.zip"] = http(GOOD)
        yield it


@pytest.fixture
async def alipay(peer: AlipayPeer) -> AsyncIterator[AlipayPlatform]:
    async with platform_at(peer) as it:
        yield it


async def test_a_bill_is_asked_for_and_fetched_by_a_stranger(
    peer: AlipayPeer, alipay: AlipayPlatform
) -> None:
    bill = await alipay.fetch_bill(DAY, LATER)

    assert bill == read_bill(GOOD, DAY, SELLER)
    assert peer.asked[0].content == {
        "bill_type": "trade",
        "bill_date": "2026-05-23",
        "secure": "true",
    }
    head = peer.fetched[0].lower()
    assert head.startswith(b"get /bill.zip?token=1 ")
    assert not any(word in head for word in (b"sign=", b"app_id", b"cookie", b"authorization"))


@pytest.mark.parametrize("code", ["isp.bill_not_exist", "BILL_NOT_EXIST"])
async def test_no_such_bill_means_not_yet_before_ten_and_nobody_paid_after(
    peer: AlipayPeer, alipay: AlipayPlatform, code: str
) -> None:
    peer.says(BILL_URL, failed(code))

    with pytest.raises(BillNotReadyError):
        await alipay.fetch_bill(DAY, datetime(2026, 5, 24, 1, 59, 59, tzinfo=UTC))
    assert await alipay.fetch_bill(DAY, LATER) == NOBODY_PAID


@pytest.mark.parametrize("code", ["NO_BILL_DATA", "BILL_DATE_BEFORE_REGISTRATION"])
async def test_no_business_is_no_bill_at_any_hour(
    peer: AlipayPeer, alipay: AlipayPlatform, code: str
) -> None:
    peer.says(BILL_URL, failed(code))

    bill = await alipay.fetch_bill(DAY, datetime(2026, 5, 23, 17, 0, tzinfo=UTC))

    assert bill == NOBODY_PAID


async def test_a_day_that_goes_on_has_no_bill_and_nobody_is_asked(
    peer: AlipayPeer, alipay: AlipayPlatform
) -> None:
    with pytest.raises(BillNotReadyError) as error:
        await alipay.fetch_bill(DAY, datetime(2026, 5, 23, 15, 59, 59, tzinfo=UTC))

    assert error.value.transient
    assert not peer.asked


@pytest.mark.parametrize(
    "answer",
    [
        failed("SYSTEM_RATE_LIMIT"),
        failed("USER_RATE_LIMIT"),
        failed("UNKNOWN_ERROR"),
        {},
        {"bill_download_url": "file:///etc/passwd"},
        {"bill_download_url": "http://[::1"},
        {"bill_download_url": "http://user:word@127.0.0.1/bill.zip"},
        {"bill_download_url": "http://bill.example/bill.zip"},
        {"bill_download_url": "https://10.0.0.1/bill.zip"},
        {"bill_download_url": "https://169.254.169.254/latest"},
    ],
)
async def test_what_leads_nowhere_is_asked_for_again(
    peer: AlipayPeer, alipay: AlipayPlatform, answer: Content
) -> None:
    peer.says(BILL_URL, answer)

    with pytest.raises(PlatformUnavailableError):
        await alipay.fetch_bill(DAY, LATER)

    assert (len(peer.asked), peer.fetched) == (gateway.ATTEMPTS_MAX, [])


async def test_a_refused_question_is_final(peer: AlipayPeer, alipay: AlipayPlatform) -> None:
    peer.says(BILL_URL, failed("INVAILID_ARGUMENTS"))

    with pytest.raises(PlatformRefusedError):
        await alipay.fetch_bill(DAY, LATER)

    assert len(peer.asked) == 1


async def test_a_url_that_expired_is_replaced(peer: AlipayPeer, alipay: AlipayPlatform) -> None:
    peer.says(
        BILL_URL,
        {"bill_download_url": f"{peer.url}/old.zip"},
        {"bill_download_url": f"{peer.url}/bill.zip"},
    )
    peer.files["/old.zip"] = http(b"expired", "403 Forbidden")

    assert (await alipay.fetch_bill(DAY, LATER)).entries == ENTRIES


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(None, id="hangs up"),
        pytest.param(http(GOOD)[:-40], id="cut off"),
        pytest.param(http(b"", "404 Not Found"), id="HTTP 404"),
        pytest.param(http(b"x" * 5000), id="too long"),
        pytest.param(http(b"", "302 Found", "location: http://bill.example/x"), id="sent to http"),
        pytest.param(http(b"", "302 Found", "location: /bill.zip"), id="sent round"),
        pytest.param(http(b"", "302 Found"), id="sent nowhere"),
    ],
)
async def test_a_file_that_does_not_come_is_fetched_again_by_another_url(
    peer: AlipayPeer,
    alipay: AlipayPlatform,
    reply: bytes | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "ZIP_BYTES_MAX", 4096)
    peer.files["/bill.zip"] = reply  # type: ignore[assignment]  # None hangs up

    with pytest.raises(PlatformUnavailableError):
        await alipay.fetch_bill(DAY, LATER)

    assert len(peer.asked) == gateway.ATTEMPTS_MAX


async def test_a_redirect_that_stays_here_is_followed(
    peer: AlipayPeer, alipay: AlipayPlatform
) -> None:
    peer.says(BILL_URL, {"bill_download_url": f"{peer.url}/moved"})
    peer.files["/moved"] = http(b"", "302 Found", f"location: {peer.url}/bill.zip")

    assert (await alipay.fetch_bill(DAY, LATER)).entries == ENTRIES


async def test_an_unsound_bill_is_fetched_once(peer: AlipayPeer, alipay: AlipayPlatform) -> None:
    peer.files["/bill.zip"] = http(b"<html>")

    with pytest.raises(BillUnsoundError):
        await alipay.fetch_bill(DAY, LATER)

    assert len(peer.fetched) == 1
