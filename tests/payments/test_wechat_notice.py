"""WeChat Pay's notices: what is believed, and everything that is not."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from hypothesis import given
from hypothesis import strategies as st

from payments.contract import (
    Notice,
    NoticeAnswer,
    NoticeRejectedError,
    Platform,
    TradeStatus,
)
from payments.wechat.notice import BODY_BYTES_MAX
from tests.payments.wechat_notices import (
    JSON,
    MERCHANT_KEY,
    PLATFORM,
    SIGNED_AT,
    STRANGERS_KEY,
    Delivered,
    delivered,
    encoded,
    sealed,
)

PAID: dict[str, Any] = {
    "mchid": "1900000109",
    "appid": "wx0000000000000001",
    "out_trade_no": "T20260524000001",
    "transaction_id": "4200001234202605240123456789",
    "trade_type": "NATIVE",
    "trade_state": "SUCCESS",
    "trade_state_desc": "支付成功",
    "bank_type": "OTHERS",
    "attach": "",
    "success_time": "2019-04-02T20:59:30+08:00",
    "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
    "amount": {"total": 8880, "payer_total": 8380, "currency": "CNY", "payer_currency": "CNY"},
}

GENUINE = delivered(encoded(sealed(PAID)))


def read(notice: Delivered, at: datetime = SIGNED_AT) -> Notice:
    """A payment notice, read."""
    found = PLATFORM.parse_notice(notice.headers, notice.body, at)
    assert isinstance(found, Notice)
    return found


def test_a_genuine_notice_says_what_was_paid() -> None:
    notice = read(GENUINE)

    assert notice.platform is Platform.WECHAT
    assert (notice.merchant_id, notice.app_id) == ("1900000109", "wx0000000000000001")
    assert notice.trade.out_trade_no == "T20260524000001"
    assert notice.trade.status is TradeStatus.PAID
    assert notice.trade.paid_fen == 8880  # the order's amount: a coupon paid 500 of it
    assert notice.trade.currency == "CNY"
    assert notice.trade.transaction_id == "4200001234202605240123456789"
    assert notice.trade.paid_at == datetime(2019, 4, 2, 12, 59, 30, tzinfo=UTC)
    assert json.loads(notice.raw) == PAID


def test_a_notice_for_another_merchant_is_read_and_names_it() -> None:
    foreign = delivered(encoded(sealed(PAID | {"mchid": "1900000999", "appid": "wxother"})))
    notice = read(foreign)
    assert (notice.merchant_id, notice.app_id) == ("1900000999", "wxother")


def test_the_digest_names_the_fact_not_its_delivery() -> None:
    again = delivered(encoded(sealed(dict(reversed(PAID.items()))) | {"id": "EV-another"}))
    other = delivered(encoded(sealed(PAID | {"out_trade_no": "T20260524000002"})))
    digests = [read(d).digest for d in (GENUINE, again, other)]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]
    assert len(digests[0]) == 64


def test_a_missing_signature_type_means_the_usual_one() -> None:
    headers = dict(GENUINE.headers)
    del headers["wechatpay-signature-type"]
    assert read(Delivered(headers, GENUINE.body)).trade.paid_fen == 8880


@pytest.mark.parametrize(
    ("offset_s", "accepted"),
    [(0, True), (300, True), (-300, True), (301, False), (-301, False), (86_400, False)],
)
def test_a_notice_is_good_for_five_minutes(offset_s: int, accepted: bool) -> None:
    now = SIGNED_AT + timedelta(seconds=offset_s)
    if accepted:
        assert read(GENUINE, now).trade.paid_fen == 8880
    else:
        with pytest.raises(NoticeRejectedError, match="window"):
            PLATFORM.parse_notice(GENUINE.headers, GENUINE.body, now)


PROBE = f"WECHATPAY/SIGNTEST/{GENUINE.headers['wechatpay-signature'][19:]}"


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("wechatpay-serial", "PUB_KEY_ID_0119000009999999", "serial is unknown"),
        ("wechatpay-serial", "5157F09EFDC096DE15EBE81A47057A7232F1B8E1", "serial is unknown"),
        ("wechatpay-serial", "", "serial is unknown"),
        ("wechatpay-signature", PROBE, "signature is wrong"),
        ("wechatpay-signature", "AAAA", "signature is wrong"),
        ("wechatpay-signature", "===", "signature is wrong"),
        ("wechatpay-signature", "签名", "not ASCII"),
        ("wechatpay-signature", "A" * 1025, "too long"),
        ("wechatpay-signature", "", "missing"),
        ("wechatpay-nonce", "another", "signature is wrong"),
        ("wechatpay-nonce", "\ud800", "not ASCII"),
        ("wechatpay-nonce", "", "missing"),
        ("wechatpay-timestamp", "1554209981", "signature is wrong"),
        ("wechatpay-timestamp", "15542099e2", "no number"),
        ("wechatpay-timestamp", "-1554209980", "no number"),
        ("wechatpay-timestamp", "9" * 5000, "no number"),
        ("wechatpay-timestamp", "１５５４２０９９８０", "no number"),
        ("wechatpay-signature-type", "WECHATPAY2-SM2-WITH-SM3", "another type"),
    ],
)
def test_a_changed_header_is_refused(header: str, value: str, reason: str) -> None:
    with pytest.raises(NoticeRejectedError, match=reason):
        PLATFORM.parse_notice(GENUINE.headers | {header: value}, GENUINE.body, SIGNED_AT)


@pytest.mark.parametrize("missing", ["serial", "timestamp", "nonce", "signature"])
def test_a_missing_header_is_refused(missing: str) -> None:
    headers = {n: v for n, v in GENUINE.headers.items() if n != f"wechatpay-{missing}"}
    with pytest.raises(NoticeRejectedError):
        PLATFORM.parse_notice(headers, GENUINE.body, SIGNED_AT)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(GENUINE.body.replace(b"T", b"t", 1), "signature is wrong", id="altered"),
        pytest.param(GENUINE.body[:-1], "signature is wrong", id="truncated"),
        pytest.param(GENUINE.body + b"\n", "signature is wrong", id="lengthened"),
        pytest.param(b"", "signature is wrong", id="empty"),
        pytest.param(b"\xff\xfe", "not UTF-8", id="not text"),
        pytest.param(b" " * (BODY_BYTES_MAX + 1), "too large", id="oversized"),
    ],
)
def test_a_changed_body_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(NoticeRejectedError, match=reason):
        PLATFORM.parse_notice(GENUINE.headers, body, SIGNED_AT)


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(delivered(GENUINE.body, STRANGERS_KEY), id="a stranger's key"),
        pytest.param(delivered(GENUINE.body, MERCHANT_KEY), id="the merchant's own key"),
        pytest.param(delivered(GENUINE.body, algorithm=SHA1()), id="a weak digest"),  # noqa: S303 - proves that it is refused
    ],
)
def test_only_the_platforms_key_and_digest_count(forged: Delivered) -> None:
    with pytest.raises(NoticeRejectedError, match="signature is wrong"):
        PLATFORM.parse_notice(forged.headers, forged.body, SIGNED_AT)


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (sealed(PAID, nonce="000000000000"), "cannot be decrypted"),
        (sealed(PAID, associated_data="refund"), "cannot be decrypted"),
        (sealed(PAID, nonce=""), "another form"),
        (sealed(PAID, nonce="短"), "another form"),
        (sealed(PAID, ciphertext="!"), "cannot be decrypted"),
        (sealed(PAID, ciphertext="密文"), "another form"),
        (sealed(PAID, algorithm="AEAD_SM4_GCM"), "encrypted in another way"),
        (sealed(PAID) | {"resource_type": "plain"}, "another type"),
        (sealed(PAID) | {"resource": None}, "another form"),
        (sealed(PAID) | {"resource": {"nonce": 7}}, "another form"),
        ([], "another form"),
        ("text", "another form"),
        (sealed("{"), "another form"),
        (sealed("[" * 10_000), "another form"),
        (sealed(PAID | {"trade_state": "MAYBE"}), "unknown trade_state"),
        (sealed(PAID | {"transaction_id": None}), "lacks"),
        (sealed(PAID | {"transaction_id": ""}), "lacks"),
        (sealed(PAID | {"amount": None}), "lacks"),
        (sealed(PAID | {"amount": {"total": 0}}), "another form"),
        (sealed(PAID | {"amount": {"total": -1}}), "another form"),
        (sealed(PAID | {"amount": {"total": "8880"}}), "another form"),
        (sealed(PAID | {"amount": {"total": 88.8}}), "another form"),
        (sealed(PAID | {"amount": {"total": 10**30}}), "another form"),
        (sealed(PAID | {"success_time": None}), "no time"),
        (sealed(PAID | {"success_time": "yesterday"}), "no time"),
        (sealed(PAID | {"success_time": "2019-04-02T20:59:30"}), "no offset"),
        (sealed(PAID | {"out_trade_no": ""}), "another form"),
        (sealed(PAID | {"out_trade_no": "T" * 65}), "another form"),
        (sealed(PAID | {"mchid": 1900000109}), "another form"),
        (sealed({"out_refund_no": "R1", "refund_status": "SUCCESS"}), "another form"),
    ],
)
def test_a_signed_body_of_another_form_is_refused(envelope: object, reason: str) -> None:
    signed = delivered(encoded(envelope))
    with pytest.raises(NoticeRejectedError, match=reason):
        PLATFORM.parse_notice(signed.headers, signed.body, SIGNED_AT)


@pytest.mark.parametrize(
    ("trade_state", "status"),
    [
        ("SUCCESS", TradeStatus.PAID),
        ("REFUND", TradeStatus.REFUNDED),
        ("NOTPAY", TradeStatus.WAITING),
        ("USERPAYING", TradeStatus.WAITING),
        ("PAYERROR", TradeStatus.WAITING),
        ("CLOSED", TradeStatus.CLOSED),
        ("REVOKED", TradeStatus.CLOSED),
    ],
)
def test_every_state_of_the_platform_has_one_of_ours(trade_state: str, status: TradeStatus) -> None:
    signed = delivered(encoded(sealed(PAID | {"trade_state": trade_state})))
    trade = read(signed).trade
    assert trade.status is status
    assert (trade.paid_fen is None) == (status in {TradeStatus.WAITING, TradeStatus.CLOSED})


@pytest.mark.parametrize(
    ("accepted", "reason", "answer"),
    [
        (True, "", NoticeAnswer(204, b"", "application/json")),
        (True, "ignored", NoticeAnswer(204, b"", "application/json")),
        (
            False,
            "金额不符",
            NoticeAnswer(
                400, '{"code": "FAIL", "message": "金额不符"}'.encode(), "application/json"
            ),
        ),
        (
            False,
            "",
            NoticeAnswer(400, '{"code": "FAIL", "message": "失败"}'.encode(), "application/json"),
        ),
    ],
)
def test_the_answer_is_in_the_platforms_form(
    accepted: bool, reason: str, answer: NoticeAnswer
) -> None:
    assert PLATFORM.acknowledge(accepted=accepted, reason=reason) == answer


HEADER_NAMES = st.sampled_from(sorted(GENUINE.headers))


@given(body=st.binary(max_size=200), headers=st.dictionaries(HEADER_NAMES, st.text(max_size=40)))
def test_whatever_arrives_unsigned_is_only_ever_rejected(
    body: bytes, headers: dict[str, str]
) -> None:
    for given_headers in (headers, GENUINE.headers | headers, GENUINE.headers):
        if given_headers == GENUINE.headers and body == GENUINE.body:
            continue
        with pytest.raises(NoticeRejectedError):
            PLATFORM.parse_notice(given_headers, body, SIGNED_AT)


@given(content=JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(PAID, JSON)))
def test_whatever_is_signed_is_read_or_rejected(content: object) -> None:
    """A signed content of any form: a notice with a sound trade, or NoticeRejectedError."""
    text = content if not isinstance(content, dict) else PAID | content
    for body in (encoded(sealed(text)), encoded(content)):
        signed = delivered(body)
        try:
            trade = read(signed).trade
        except NoticeRejectedError:
            continue
        if trade.status in {TradeStatus.PAID, TradeStatus.REFUNDED}:
            assert trade.paid_fen is not None
            assert trade.paid_fen > 0
            assert trade.transaction_id
            assert trade.paid_at is not None


@given(index=st.integers(0, len(GENUINE.body) - 1), bit=st.integers(0, 7))
def test_no_single_bit_may_change(index: int, bit: int) -> None:
    body = bytearray(GENUINE.body)
    body[index] ^= 1 << bit
    with pytest.raises(NoticeRejectedError):
        PLATFORM.parse_notice(GENUINE.headers, bytes(body), SIGNED_AT)
