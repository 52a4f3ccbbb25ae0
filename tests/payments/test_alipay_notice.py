"""Alipay's notices: what is believed, and everything that is not."""

import base64
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from payments.alipay.client import AlipayPlatform, build
from payments.alipay.config import AlipayMerchant
from payments.alipay.notice import BODY_BYTES_MAX, FIELDS_MAX
from payments.contract import NoticeAnswer, NoticeRejectedError, Platform, TradeStatus
from tests.fakes.keys import rsa_key

NOW = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)
APP = rsa_key("app")
ALIPAY = rsa_key("platform")
STRANGER = rsa_key("stranger")

PAID = {
    "app_id": "2021000000000001",
    "buyer_pay_amount": "88.80",
    "charset": "utf-8",
    "fund_bill_list": '[{"amount":"88.80","fundChannel":"ALIPAYACCOUNT"}]',
    "gmt_payment": "2026-05-24 09:59:58",
    "notify_id": "2026052401222095958000000000000001",
    "notify_time": "2026-05-24 09:59:59",
    "notify_type": "trade_status_sync",
    "out_trade_no": "T20260524000001",
    "passback_params": "",
    "seller_id": "2088000000000001",
    "subject": "电费充值 A101 + 一层",
    "total_amount": "88.80",
    "trade_no": "2026052422001400001234567890",
    "trade_status": "TRADE_SUCCESS",
    "version": "1.0",
}


def signed(
    fields: dict[str, str],
    key: RSAPrivateKey = ALIPAY,
    hash_: HashAlgorithm | None = None,
    charset: str = "utf-8",
    sign_type: str = "RSA2",
) -> bytes:
    """The form as Alipay posts it; written apart from the code under test."""
    content = "&".join(f"{k}={v}" for k, v in sorted(fields.items()) if v).encode(charset)
    signature = base64.b64encode(key.sign(content, padding.PKCS1v15(), hash_ or SHA256()))
    whole = fields | {"sign": signature.decode(), "sign_type": sign_type}
    return urlencode(whole, encoding=charset).encode()


@pytest.fixture(scope="module")
def platform() -> AlipayPlatform:
    merchant = AlipayMerchant(
        app_id="2021000000000001",
        seller_id="2088000000000001",
        private_key_pem=APP.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        ).decode(),
        alipay_public_key_pem=ALIPAY.public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )
    return build(merchant, "http://127.0.0.1:1/gateway.do")


def test_a_notice_tells_who_paid_what_when_to_whom(platform: AlipayPlatform) -> None:
    body = signed(PAID)

    notice = platform.parse_notice({}, body, NOW)

    assert (notice.platform, notice.app_id) == (Platform.ALIPAY, "2021000000000001")
    assert notice.merchant_id == notice.trade.merchant_id == "2088000000000001"
    assert notice.trade.out_trade_no == "T20260524000001"
    assert notice.trade.transaction_id == "2026052422001400001234567890"
    assert (notice.trade.paid_fen, notice.trade.currency) == (8880, "CNY")
    assert notice.trade.paid_at == datetime(2026, 5, 24, 1, 59, 58, tzinfo=UTC)
    assert notice.trade.status is TradeStatus.PAID
    assert notice.raw == body.decode()


@pytest.mark.parametrize(
    ("said", "status", "paid_fen"),
    [
        ({"trade_status": "WAIT_BUYER_PAY", "gmt_payment": ""}, TradeStatus.WAITING, None),
        ({"trade_status": "TRADE_SUCCESS"}, TradeStatus.PAID, 8880),
        ({"trade_status": "TRADE_FINISHED"}, TradeStatus.PAID, 8880),
        ({"trade_status": "TRADE_SUCCESS", "refund_fee": "0.00"}, TradeStatus.PAID, 8880),
        ({"trade_status": "TRADE_SUCCESS", "refund_fee": "8.80"}, TradeStatus.REFUNDED, 8880),
        (
            {"trade_status": "TRADE_SUCCESS", "gmt_refund": "2026-05-24 11:00:00.123"},
            TradeStatus.REFUNDED,
            8880,
        ),
        ({"trade_status": "TRADE_FINISHED", "refund_fee": "8.80"}, TradeStatus.REFUNDED, 8880),
        ({"trade_status": "TRADE_CLOSED", "gmt_payment": ""}, TradeStatus.CLOSED, None),
        ({"trade_status": "TRADE_CLOSED"}, TradeStatus.REFUNDED, 8880),
        (
            {"trade_status": "TRADE_CLOSED", "refund_fee": "88.80", "gmt_payment": ""},
            TradeStatus.REFUNDED,
            8880,
        ),
        ({"total_amount": "88.8"}, TradeStatus.PAID, 8880),
        ({"total_amount": "88"}, TradeStatus.PAID, 8800),
        ({"total_amount": "0.01"}, TradeStatus.PAID, 1),
        ({"total_amount": "100000000.00"}, TradeStatus.PAID, 10_000_000_000),
    ],
)
def test_statuses_and_amounts(
    platform: AlipayPlatform, said: dict[str, str], status: TradeStatus, paid_fen: int | None
) -> None:
    trade = platform.parse_notice({}, signed(PAID | said), NOW).trade

    assert (trade.status, trade.paid_fen) == (status, paid_fen)


def test_each_partial_refund_is_told_anew_and_none_as_a_payment(platform: AlipayPlatform) -> None:
    told = [
        platform.parse_notice({}, signed(PAID | change), NOW)
        for change in (
            {},
            {
                "refund_fee": "8.80",
                "gmt_refund": "2026-05-24 11:00:00.123",
                "out_biz_no": "R1",
                "notify_id": "2026052401222110000000000000000002",
            },
            {
                "refund_fee": "18.80",
                "gmt_refund": "2026-05-24 12:00:00.456",
                "out_biz_no": "R2",
                "notify_id": "2026052401222120000000000000000003",
            },
            {
                "refund_fee": "88.80",
                "gmt_refund": "2026-05-24 13:00:00.789",
                "out_biz_no": "R3",
                "notify_id": "2026052401222130000000000000000004",
                "trade_status": "TRADE_CLOSED",
            },
        )
    ]

    assert [one.trade.status for one in told] == [TradeStatus.PAID, *[TradeStatus.REFUNDED] * 3]
    assert {one.trade.transaction_id for one in told} == {PAID["trade_no"]}
    assert len({one.digest for one in told}) == len(told)


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "gbk", "GB2312"])
def test_a_notice_may_be_in_the_charset_it_names(platform: AlipayPlatform, charset: str) -> None:
    body = signed(PAID | {"charset": charset}, charset=charset)

    assert platform.parse_notice({}, body, NOW).trade.paid_fen == 8880


def test_a_notice_without_seller_is_the_merchants_whose_key_signed(
    platform: AlipayPlatform,
) -> None:
    fields = {name: value for name, value in PAID.items() if name != "seller_id"}

    assert platform.parse_notice({}, signed(fields), NOW).merchant_id == "2088000000000001"


def test_another_app_or_seller_is_told_not_judged(platform: AlipayPlatform) -> None:
    other = PAID | {"app_id": "2021000000000002", "seller_id": "2088000000000009"}

    notice = platform.parse_notice({}, signed(other), NOW)

    assert (notice.app_id, notice.merchant_id) == ("2021000000000002", "2088000000000009")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"notify_time": "2026-05-24 10:03:59"}, True),
        ({"notify_id": "2026052401222095958000000000000002"}, False),
        ({"total_amount": "88.81"}, False),
        ({"trade_status": "TRADE_FINISHED"}, False),
        ({"gmt_refund": "2026-05-24 11:00:00.123"}, False),
    ],
)
def test_a_redelivery_has_the_digest_of_the_first_delivery(
    platform: AlipayPlatform, change: dict[str, str], same: bool
) -> None:
    first = platform.parse_notice({}, signed(PAID), NOW).digest

    assert (platform.parse_notice({}, signed(PAID | change), NOW).digest == first) is same


GOOD = signed(PAID)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(signed(PAID, key=STRANGER), "sign", id="signed by somebody else"),
        pytest.param(signed(PAID, key=APP), "sign", id="signed by our own key"),
        pytest.param(signed(PAID, hash_=SHA1()), "sign", id="RSA-SHA1 that says RSA2"),  # noqa: S303 - proves that it is refused
        pytest.param(signed(PAID, hash_=MD5()), "sign", id="RSA-MD5 that says RSA2"),  # noqa: S303 - the same
        pytest.param(
            signed(PAID, hash_=SHA1(), sign_type="RSA"),  # noqa: S303 - the same
            "sign_type",
            id="the old RSA type",
        ),
        pytest.param(signed(PAID, sign_type="MD5"), "sign_type", id="MD5"),
        pytest.param(signed(PAID, sign_type=""), "sign_type", id="no type"),
        pytest.param(GOOD.replace(b"=88.80&trade", b"=8.80&trade"), "sign", id="amount altered"),
        pytest.param(GOOD.replace(b"T20260524000001", b"T20260524000002"), "sign", id="no altered"),
        pytest.param(GOOD + b"&refund_fee=1", "sign", id="a field more"),
        pytest.param(GOOD.replace(b"version=1.0&", b""), "sign", id="a field less"),
        pytest.param(GOOD.replace(b"&sign=", b"&sign=%20"), "sign", id="base64 with a blank"),
        pytest.param(GOOD.split(b"&sign=")[0] + b"&sign_type=RSA2", "sign", id="not signed"),
        pytest.param(GOOD + b"&version=1.0", "form", id="a field twice, equal"),
        pytest.param(b"out_trade_no=T1&" + GOOD, "form", id="a field twice, first ours"),
        pytest.param(GOOD + b"&x", "form", id="a field without value"),
        pytest.param(GOOD + b"&a%62=1", "form", id="a name in disguise"),
        pytest.param(GOOD + b"&\xe7=1", "form", id="raw bytes"),
        pytest.param(b"", "form", id="nothing"),
        pytest.param(b'{"out_trade_no":"T1"}', "form", id="JSON"),
        pytest.param(GOOD.replace(b"charset=utf-8", b"charset=utf-16"), "charset", id="charset"),
        pytest.param(GOOD.replace(b"%E7%94%B5", b"%E7%94"), "charset", id="broken UTF-8"),
        pytest.param(GOOD + b"&x=" + b"1" * BODY_BYTES_MAX, "size", id="too long"),
        pytest.param(
            GOOD + b"".join(b"&x%d=" % i for i in range(FIELDS_MAX)), "size", id="too many fields"
        ),
    ],
)
def test_what_does_not_prove_itself_is_rejected(
    platform: AlipayPlatform, body: bytes, code: str
) -> None:
    with pytest.raises(NoticeRejectedError) as rejected:
        platform.parse_notice({}, body, NOW)

    assert rejected.value.code == code


@pytest.mark.parametrize(
    "change",
    [
        {"trade_status": "TRADE_MAYBE"},
        {"trade_status": ""},
        {"out_trade_no": ""},
        {"out_trade_no": "a" * 65},
        {"out_trade_no": "../etc"},
        {"trade_no": ""},
        {"total_amount": ""},
        {"total_amount": "88.801"},
        {"total_amount": "-88.80"},
        {"total_amount": "8.88e1"},
        {"total_amount": "８８.80"},
        {"total_amount": "NaN"},
        {"refund_fee": "all"},
        {"gmt_payment": "yesterday"},
        {"gmt_payment": "2026-02-30 00:00:00"},
    ],
)
def test_a_signed_notice_that_makes_no_sense_is_rejected(
    platform: AlipayPlatform, change: dict[str, str]
) -> None:
    with pytest.raises(NoticeRejectedError) as rejected:
        platform.parse_notice({}, signed(PAID | change), NOW)

    assert rejected.value.code == "facts"


@pytest.mark.parametrize(
    ("content_type", "taken"),
    [
        ("application/x-www-form-urlencoded", True),
        ("application/x-www-form-urlencoded; charset=utf-8", True),
        ("application/x-www-form-urlencoded;charset=UTF-8", True),
        ("application/json", False),
        ("multipart/form-data; boundary=x", False),
    ],
)
def test_only_forms_are_notices(platform: AlipayPlatform, content_type: str, taken: bool) -> None:
    def parse() -> object:
        return platform.parse_notice({"content-type": content_type}, GOOD, NOW)

    if taken:
        assert parse()
    else:
        with pytest.raises(NoticeRejectedError):
            parse()


@given(
    st.sampled_from(["TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_CLOSED"]),
    st.integers(1, 8880).map(lambda fen: f"{fen // 100}.{fen % 100:02d}"),
    st.booleans(),
)
def test_money_that_went_back_is_never_read_as_paid(
    platform: AlipayPlatform, status: str, refund_fee: str, with_time: bool
) -> None:
    back = {"trade_status": status, "refund_fee": refund_fee}
    if with_time:
        back["gmt_refund"] = "2026-05-24 11:00:00.123"

    trade = platform.parse_notice({}, signed(PAID | back), NOW).trade

    assert (trade.status, trade.paid_fen) == (TradeStatus.REFUNDED, 8880)


def test_alipay_reads_exactly_one_word(platform: AlipayPlatform) -> None:
    assert platform.acknowledge(accepted=True) == NoticeAnswer(200, b"success", "text/plain")
    assert platform.acknowledge(accepted=False, reason="merchant") == NoticeAnswer(
        200, b"failure", "text/plain"
    )


def spoilt(body: bytes) -> st.SearchStrategy[bytes]:
    """A good notice with one stretch replaced by anything."""
    places = st.integers(0, len(body))
    return st.builds(
        lambda at, length, junk: body[:at] + junk + body[at + length :],
        places,
        st.integers(0, 40),
        st.binary(max_size=40),
    )


def signed_junk() -> st.SearchStrategy[bytes]:
    """Truly signed, with any text in some fields."""
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    names = [*sorted(PAID), "refund_fee", "gmt_refund", "gmt_close", "alipay_cert_sn"]
    changes = st.dictionaries(st.sampled_from(names), texts, max_size=6)
    return changes.map(lambda changed: signed(PAID | changed))


@given(st.one_of(st.binary(max_size=400), signed_junk()))
def test_whatever_comes_is_a_notice_or_rejected(platform: AlipayPlatform, body: bytes) -> None:
    try:
        notice = platform.parse_notice({}, body, NOW)
    except NoticeRejectedError:
        return
    assert notice.trade.paid_fen is None or notice.trade.paid_fen >= 0


@given(spoilt(GOOD))
def test_no_change_of_a_byte_changes_what_is_believed(
    platform: AlipayPlatform, body: bytes
) -> None:
    try:
        notice = platform.parse_notice({}, body, NOW)
    except NoticeRejectedError:
        return
    assert notice.digest == platform.parse_notice({}, GOOD, NOW).digest
