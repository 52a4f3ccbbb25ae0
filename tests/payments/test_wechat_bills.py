"""WeChat Pay's bills: how they are fetched, what is read of them, and what makes one unsound."""

import gzip
import hashlib
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

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
from payments.sandbox.keys import SandboxKeys
from payments.wechat import bills, calls
from payments.wechat.bills import Offer, read_bill
from payments.wechat.client import WeChatPlatform, build
from payments.wechat.config import WeChatMerchant
from payments.wechat.sdk import path_below
from tests.payments.peer import Peer, http_answer
from tests.payments.wechat_bill import GIVEN_BACK, HEADER, PAID, REVOKED, TOTALS, Written
from tests.payments.wechat_wire import NOW, refused, signed

DAY = date(2026, 5, 23)
MCHID = "1900000109"
OFFICIAL = Path(__file__).parents[1] / "vectors" / "wechatpay" / "bill.ALL.csv"
WHOLE = Written([PAID, GIVEN_BACK, REVOKED])

PAYMENT = BillEntry(
    kind=BillEntryKind.PAYMENT,
    out_trade_no="T20260523000001",
    transaction_id="4200001234202605230000000001",
    amount_fen=8880,
    at=datetime(2026, 5, 23, 2, 0, tzinfo=UTC),
    fee_fen=53,
)
REFUND = BillEntry(
    kind=BillEntryKind.REFUND,
    out_trade_no="T20260523000001",
    transaction_id="4200001234202605230000000001",
    amount_fen=3000,  # as asked for, not the 28.00 that remain without the merchant's coupon
    at=datetime(2026, 5, 23, 15, 59, 59, tzinfo=UTC),
    fee_fen=-17,
    out_refund_no="R20260523000001",
    refund_id="50000000382026052300000000001",
    status=RefundStatus.SUCCEEDED,
)
REVERSAL = BillEntry(
    kind=BillEntryKind.REFUND,
    out_trade_no="T20260523000001",
    transaction_id="4200001234202605230000000001",
    amount_fen=3000,
    at=datetime(2026, 5, 23, 15, 59, 59, tzinfo=UTC),
    fee_fen=-17,
    status=RefundStatus.SUCCEEDED,
)


def offer(written: Written, url: str = "") -> Offer:
    return Offer("SHA1", written.sha1, url)


def read(written: Written) -> Bill:
    return read_bill(written.packed, offer(written), MCHID, DAY)


def test_a_bill_says_what_came_and_what_went_back() -> None:
    bill = read(WHOLE)
    assert (bill.platform, bill.merchant_id, bill.day) == (Platform.WECHAT, MCHID, DAY)
    assert list(bill.entries) == [PAYMENT, REFUND, REVERSAL]
    assert bill.digest == hashlib.sha256(WHOLE.unpacked).hexdigest()


@pytest.mark.parametrize(
    "written",
    [
        Written([PAID], end="\n"),
        Written([PAID], bom=False),
        Written([PAID], summary={0: "1.0", 1: "88.8", 3: "0.0", 4: "0.53"}),
        Written([PAID | {"手续费": "0.52600"}], summary={4: "0.53"}),
        Written([PAID | {"商品名称": "a,b,,c"}]),
    ],
)
def test_harmless_differences_of_form_are_none(written: Written) -> None:
    assert list(read(written).entries) == [PAYMENT]


def test_a_bill_that_is_not_packed_is_read_too() -> None:
    assert list(read_bill(WHOLE.unpacked, offer(WHOLE), MCHID, DAY).entries) == [
        *(PAYMENT, REFUND, REVERSAL)
    ]


def test_the_official_example_is_read() -> None:
    """Origin: tests/vectors/wechatpay/README.md."""
    content = OFFICIAL.read_bytes()
    sha1 = hashlib.sha1(content).hexdigest()  # noqa: S324  the platform's own choice
    bill = read_bill(
        gzip.compress(content), Offer("SHA1", sha1, ""), "1921000401", date(2019, 2, 19)
    )
    assert [(one.kind.value, one.amount_fen, one.fee_fen) for one in bill.entries] == [
        *(("refund", 1, 0), ("payment", 3, 1), ("payment", 1, 0), ("payment", 3, 1))
    ]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("SUCCESS", RefundStatus.SUCCEEDED),
        ("PROCESSING", RefundStatus.PROCESSING),
        ("FAIL", RefundStatus.ABNORMAL),
        ("CHANGE", RefundStatus.ABNORMAL),
        ("REFUNDCLOSE", RefundStatus.CLOSED),
    ],
)
def test_a_refund_stands_there_in_its_state_of_that_night(word: str, status: RefundStatus) -> None:
    [entry] = read(Written([GIVEN_BACK | {"退款状态": word}])).entries
    assert entry.status is status


def test_a_reversal_that_moved_nothing_is_left_out() -> None:
    assert read(Written([REVOKED | {"申请退款金额": "0.00"}])).entries == []


def test_a_bill_without_rows_is_sound() -> None:
    assert read(Written([])).entries == []


@pytest.mark.parametrize(
    ("written", "named"),
    [
        (Written([PAID], header=HEADER.replace("应结订单金额", "总金额")), "columns: "),
        (Written([PAID], header=HEADER + ",另一列"), "columns: "),
        (Written([PAID], totals=TOTALS.replace("总交易单数", "总数")), "summary: is missing"),
        (Written([PAID | {"另一列": ""}]), "line 2: has 28 columns, not 27"),
        (Written([PAID | {"商品名称": "a,`b"}]), "line 2: has 28 columns"),
        (Written([PAID | {"商品名称": "a\nb"}]), "line 2: has 21 columns"),
        (Written([PAID], summary={0: "2"}), "summary: counts '2', and there are 1 rows"),
        (Written([PAID], summary={0: "1.5"}), "summary: counts"),
        (Written([PAID], summary={1: "88.79"}), "summary: 应结订单总金额"),
        (Written([PAID], summary={2: "0.01"}), "summary: 退款总金额"),
        (Written([PAID], summary={3: "0.01"}), "summary: 充值券退款总金额"),
        (Written([PAID], summary={4: "0.54"}), "summary: 手续费总金额"),
        (Written([PAID], summary={5: "88.81"}), "summary: 订单总金额"),
        (Written([PAID], summary={6: "-0.01"}), "summary: 申请退款总金额"),
        (Written([PAID], summary={6: "none"}), "amount: 'none' is none"),
        (Written([PAID | {"商户号": "1900000999"}]), "merchant: is another"),
        (Written([PAID | {"货币种类": "HKD"}]), "currency: is another"),
        (Written([PAID | {"交易状态": "MAYBE"}]), "state: is unknown"),
        (Written([GIVEN_BACK | {"退款状态": "MAYBE"}]), "refund status: is unknown"),
        (Written([PAID | {"交易时间": "2026-05-24 00:00:00"}]), "time: is of another day"),
        (Written([PAID | {"交易时间": "2026-05-22 23:59:59"}]), "time: is of another day"),
        (Written([PAID | {"交易时间": "2026-05-23"}]), "time: '2026-05-23' is none"),
        (Written([PAID | {"交易时间": "2026-02-30 10:00:00"}]), "time: .* is none"),
        (Written([PAID | {"订单金额": "0.00"}]), "whole fen above zero"),
        (Written([PAID | {"订单金额": "-1.00"}]), "whole fen above zero"),
        (Written([PAID | {"订单金额": "88.805"}]), "whole fen above zero"),
        (Written([PAID | {"订单金额": "8.88E1"}], summary={5: "1"}), "'8.88E1' is none"),
        (Written([PAID | {"微信订单号": "0"}]), "number: '0' is none"),
        (Written([PAID | {"商户订单号": ""}]), "number: '' is none"),
        (Written([PAID | {"商户订单号": "订单"}]), "number: "),
        (Written([GIVEN_BACK | {"商户退款单号": "0"}]), "number: '0' is none"),
        (Written([GIVEN_BACK | {"微信退款单号": "9" * 65}]), "number: "),
    ],
)  # fmt: skip
def test_a_bill_that_contradicts_itself_is_not_believed(written: Written, named: str) -> None:
    with pytest.raises(BillUnsoundError, match=named) as error:
        read(written)
    assert not error.value.transient


@pytest.mark.parametrize(
    ("packed", "named"),
    [
        (WHOLE.packed[:-9], "file: is cut"),
        (WHOLE.packed + b"x", "file: is cut"),
        (WHOLE.packed + WHOLE.packed, "file: is cut"),
        (WHOLE.packed[:200] + b"\x00" + WHOLE.packed[201:], "file: cannot be unpacked"),
        (gzip.compress(b"x" * 5000, mtime=0), "file: is cut, larger"),
        (gzip.compress(WHOLE.unpacked.replace(b"88.80", b"88.81"), mtime=0), "hash: is not that"),
        (b"", "hash: is not that"),
    ],
)
def test_a_file_that_is_another_one_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, packed: bytes, named: str
) -> None:
    monkeypatch.setattr(bills, "UNPACKED_BYTES_MAX", 4000)
    with pytest.raises(BillUnsoundError, match=named):
        read_bill(packed, offer(WHOLE), MCHID, DAY)


@pytest.mark.parametrize(
    ("hash_type", "value"), [("MD5", WHOLE.sha1), ("SHA1", ""), ("SHA1", WHOLE.sha1[1:])]
)
def test_a_hash_of_another_kind_proves_nothing(hash_type: str, value: str) -> None:
    with pytest.raises(BillUnsoundError, match="hash: is not a SHA-1"):
        read_bill(WHOLE.packed, Offer(hash_type, value, ""), MCHID, DAY)


@given(index=st.integers(0, len(WHOLE.packed) - 1), bit=st.integers(0, 7))
def test_no_bit_of_the_file_may_change(index: int, bit: int) -> None:
    packed = bytearray(WHOLE.packed)
    packed[index] ^= 1 << bit
    try:
        bill = read_bill(bytes(packed), offer(WHOLE), MCHID, DAY)
    except BillUnsoundError:
        return
    assert list(bill.entries) == [PAYMENT, REFUND, REVERSAL]  # a bit of gzip's own header


@given(index=st.integers(0, len(WHOLE.unpacked) - 1), new=st.binary(max_size=3))
def test_whatever_is_in_it_a_bill_is_read_or_unsound(index: int, new: bytes) -> None:
    """Even with a hash that fits: never another error, and no amount that was not summed."""
    content = WHOLE.unpacked[:index] + new + WHOLE.unpacked[index + 1 :]
    sha1 = hashlib.sha1(content).hexdigest()  # noqa: S324  the platform's own choice
    try:
        bill = read_bill(content, Offer("SHA1", sha1, ""), MCHID, DAY)
    except BillUnsoundError:
        return
    assert sum(entry.amount_fen for entry in bill.entries) == 8880 + 3000 + 3000


@pytest_asyncio.fixture
async def platform(
    peer: Peer, merchant: WeChatMerchant, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WeChatPlatform]:
    """A client of the peer, with pauses too short to notice."""
    monkeypatch.setattr(calls, "BACKOFF_S", 0.001)
    it = build(merchant, peer.url)
    yield it
    await it.aclose()


def offered(peer: Peer, keys: SandboxKeys, **changes: object) -> bytes:
    """The first answer: where the bill is, and what it must be."""
    content = {
        "hash_type": "SHA1",
        "hash_value": WHOLE.sha1,
        "download_url": f"{peer.url}/v3/billdownload/file?token=6XIv5T%2Fx&tartype=gzip",
    }
    return signed(content | changes, keys.wechat_platform)


async def test_a_bill_is_asked_for_and_fetched(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.answers(offered(peer, keys), http_answer(200, WHOLE.packed))

    assert await platform.fetch_bill(DAY, NOW) == read(WHOLE)

    asked, fetched = peer.received
    assert asked.target == "/v3/bill/tradebill?bill_date=2026-05-23&bill_type=ALL&tar_type=GZIP"
    target = "/v3/billdownload/file?token=6XIv5T%2Fx&tartype=gzip"
    assert (fetched.method, fetched.target) == ("GET", target)
    pairs = fetched.headers["authorization"].partition(" ")[2].split(",")
    given_ = {name: value.strip('"') for name, value in (pair.split("=", 1) for pair in pairs)}
    message = f"GET\n{target}\n{given_['timestamp']}\n{given_['nonce_str']}\n\n"
    keys.wechat_merchant.public_key().verify(
        b64decode(given_["signature"]), message.encode(), PKCS1v15(), SHA256()
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v3/billdownload/file",
        "http://127.0.0.1:1/v3/billdownload/file",
        "{base}@evil.example/v3/billdownload/file",
        "{base}.evil.example/v3/billdownload/file",
        "{base}0/v3/billdownload/file",
        "http://user:secret@{place}/v3/billdownload/file",
        "https://{place}/v3/billdownload/file",
        "//{place}/v3/billdownload/file",
        "/v3/billdownload/file",
        "file:///etc/passwd",
        "http://[",
        "",
    ],
)
async def test_the_signature_goes_nowhere_else(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys, url: str
) -> None:
    url = url.format(base=peer.url, place=peer.url.removeprefix("http://"))
    peer.answers(offered(peer, keys, download_url=url), http_answer(200, WHOLE.packed))
    with pytest.raises(BillUnsoundError, match="download_url"):
        await platform.fetch_bill(DAY, NOW)
    assert len(peer.received) == 1


@pytest.mark.parametrize(
    ("base", "url", "path"),
    [
        (
            "https://api.mch.weixin.qq.com",
            "https://api.mch.weixin.qq.com:443/v3/f?t=1",
            "/v3/f?t=1",
        ),
        ("https://api.mch.weixin.qq.com", " https://API.mch.weixin.qq.com/v3/f", "/v3/f"),
        ("http://proxy/wechat", "http://proxy/wechat/v3/f", "/v3/f"),
    ],
)
def test_one_place_can_be_written_in_several_ways(base: str, url: str, path: str) -> None:
    assert path_below(base, url) == path


def test_another_folder_of_the_same_machine_is_elsewhere() -> None:
    with pytest.raises(BillUnsoundError, match="elsewhere"):
        path_below("http://proxy/wechat", "http://proxy/wechatter/v3/f")


async def test_a_download_is_not_sent_on_elsewhere(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    moved = http_answer(302, b"", {"Location": f"{peer.url}/elsewhere"})
    peer.answers(*[offered(peer, keys), moved] * 3)
    with pytest.raises(PlatformUnavailableError, match="HTTP 302"):
        await platform.fetch_bill(DAY, NOW)
    assert "/elsewhere" not in [request.target for request in peer.received]


async def test_each_try_gets_an_address_of_its_own(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    """It lives thirty seconds."""
    fetched = http_answer(200, WHOLE.packed)
    peer.answers(offered(peer, keys), http_answer(503), offered(peer, keys), fetched)
    assert len((await platform.fetch_bill(DAY, NOW)).entries) == 3
    assert len(peer.received) == 4


async def test_a_day_without_payments_has_an_empty_bill(
    peer: Peer, platform: WeChatPlatform
) -> None:
    peer.answers(refused(400, "NO_STATEMENT_EXIST", "账单文件不存在"))
    assert await platform.fetch_bill(DAY, NOW) == Bill(Platform.WECHAT, MCHID, DAY, (), "")


async def test_a_bill_in_the_making_is_for_later_and_asked_once(
    peer: Peer, platform: WeChatPlatform
) -> None:
    peer.answers(refused(400, "STATEMENT_CREATING", "账单生成中"))
    with pytest.raises(BillNotReadyError) as error:
        await platform.fetch_bill(DAY, NOW)
    assert error.value.transient
    assert len(peer.received) == 1


async def test_a_refusal_is_final(peer: Peer, platform: WeChatPlatform) -> None:
    peer.answers(refused(400, "INVALID_REQUEST", "bill_date"))
    with pytest.raises(PlatformRefusedError, match="bill_date"):
        await platform.fetch_bill(DAY, NOW)


async def test_an_offer_must_be_signed_and_whole(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    for answer, reason in (
        (http_answer(200, json.dumps({"hash_type": "SHA1"}).encode()), "unproved"),
        (offered(peer, keys, hash_value=None), "another form"),
    ):
        peer.answers(answer)
        with pytest.raises(PlatformUnavailableError, match=reason):
            await platform.fetch_bill(DAY, NOW)


async def test_a_large_bill_is_fetched_and_an_endless_one_cut_off(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = Written([PAID] * 10, summary={0: "10"})
    padding = http_answer(200, large.packed + b"\0" * 2_000_000)
    peer.answers(offered(peer, keys), padding)
    with pytest.raises(BillUnsoundError, match="more behind it"):  # fetched whole, then looked at
        await platform.fetch_bill(DAY, NOW)
    monkeypatch.setattr("payments.wechat.sdk.PACKED_BYTES_MAX", 1_000_000)
    peer.answers(*[offered(peer, keys), padding] * 3)
    with pytest.raises(PlatformUnavailableError, match="too large"):
        await platform.fetch_bill(DAY, NOW)


async def test_an_answer_that_unpacks_by_itself_is_refused(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    """Its size could not be limited."""
    packed = http_answer(200, WHOLE.packed, {"Content-Encoding": "gzip"})
    peer.answers(packed)
    with pytest.raises(PlatformUnavailableError, match="packed unasked"):
        await platform.fetch_bill(DAY, NOW)
    peer.answers(offered(peer, keys), packed)  # a file is unpacked by us, to a limit
    assert len((await platform.fetch_bill(DAY, NOW)).entries) == 3
