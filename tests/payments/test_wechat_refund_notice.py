"""WeChat Pay's notices of refunds: what is believed, and everything that is not."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.contract import (
    NoticeRejectedError,
    Platform,
    Refund,
    RefundNotice,
    RefundStatus,
)
from tests.payments.wechat_notices import (
    JSON,
    PLATFORM,
    SIGNED_AT,
    STRANGERS_KEY,
    Delivered,
    delivered,
    encoded,
    sealed,
)

GIVEN_BACK: dict[str, Any] = {
    "mchid": "1900000109",
    "transaction_id": "4200001234202605240123456789",
    "out_trade_no": "T20260524000001",
    "refund_id": "50000000382019052709732678859",
    "out_refund_no": "R20260524000001",
    "refund_status": "SUCCESS",
    "success_time": "2019-04-02T20:59:30+08:00",
    "user_received_account": "招商银行信用卡0403",
    "amount": {"total": 8880, "refund": 3000, "payer_total": 8880, "payer_refund": 2500},
}
REFUND = Refund(
    out_refund_no="R20260524000001",
    out_trade_no="T20260524000001",
    status=RefundStatus.SUCCEEDED,
    merchant_id="1900000109",
    refund_fen=3000,  # as asked for: a coupon was 500 of it
    refund_id="50000000382019052709732678859",
    finished_at=datetime(2019, 4, 2, 12, 59, 30, tzinfo=UTC),
)


def about(content: object, event_type: str = "REFUND.SUCCESS") -> dict[str, Any]:
    return sealed(content, "refund") | {"event_type": event_type}


def read(notice: Delivered) -> RefundNotice:
    found = PLATFORM.parse_notice(notice.headers, notice.body, SIGNED_AT)
    assert isinstance(found, RefundNotice)
    return found


GENUINE = delivered(encoded(about(GIVEN_BACK)))


def test_a_genuine_notice_says_what_was_given_back() -> None:
    notice = read(GENUINE)
    assert (notice.platform, notice.merchant_id) == (Platform.WECHAT, "1900000109")
    assert notice.refund == REFUND
    assert json.loads(notice.raw) == GIVEN_BACK
    assert len(notice.digest) == 64


def test_the_digest_names_the_fact_not_its_delivery() -> None:
    again = delivered(encoded(about(dict(reversed(GIVEN_BACK.items()))) | {"id": "EV-2"}))
    later = delivered(encoded(about(GIVEN_BACK | {"refund_status": "CLOSED"}, "REFUND.CLOSED")))
    assert read(again).digest == read(GENUINE).digest != read(later).digest


@pytest.mark.parametrize(
    ("word", "status"),
    [("ABNORMAL", RefundStatus.ABNORMAL), ("CLOSED", RefundStatus.CLOSED)],
)
def test_a_refund_that_failed_says_so_and_no_time(word: str, status: RefundStatus) -> None:
    failed = delivered(encoded(about(GIVEN_BACK | {"refund_status": word}, f"REFUND.{word}")))
    assert read(failed).refund == replace(REFUND, status=status, finished_at=None)


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (about(GIVEN_BACK, "REFUND.ABNORMAL"), "contradicts"),
        (about(GIVEN_BACK, "TRANSACTION.SUCCESS"), "contradicts"),
        (about(GIVEN_BACK, ""), "contradicts"),
        (sealed(GIVEN_BACK), "another form"),  # not told to be a refund
        (sealed({}, "payscore"), "another form"),
        (about(GIVEN_BACK | {"refund_status": "MAYBE"}), "unknown status"),
        (about(GIVEN_BACK | {"success_time": "yesterday"}), "no time"),
        (about(GIVEN_BACK | {"success_time": "2019-04-02T20:59:30"}), "no offset"),
        (about(GIVEN_BACK | {"mchid": ""}), "another form"),
        (about(GIVEN_BACK | {"out_refund_no": "R" * 65}), "another form"),
        (about(GIVEN_BACK | {"refund_id": None}), "another form"),
        (about(GIVEN_BACK | {"amount": {"total": 8880, "refund": 0}}), "another form"),
        (about(GIVEN_BACK | {"amount": {"total": 8880, "refund": "3000"}}), "another form"),
        (about(GIVEN_BACK | {"amount": {"total": 8880, "refund": 8881}}), "impossible amount"),
        (about({"trade_state": "SUCCESS"}), "another form"),
    ],
)
def test_a_signed_body_of_another_form_is_refused(envelope: object, reason: str) -> None:
    signed = delivered(encoded(envelope))
    with pytest.raises(NoticeRejectedError, match=reason):
        PLATFORM.parse_notice(signed.headers, signed.body, SIGNED_AT)


def test_only_the_platforms_key_counts() -> None:
    forged = delivered(GENUINE.body, STRANGERS_KEY)
    with pytest.raises(NoticeRejectedError, match="signature is wrong"):
        PLATFORM.parse_notice(forged.headers, forged.body, SIGNED_AT)


@given(
    content=JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(GIVEN_BACK, JSON)),
    event_type=st.sampled_from(["REFUND.SUCCESS", "REFUND.CLOSED", "REFUND.", "SUCCESS"]),
)
def test_whatever_is_signed_is_read_or_rejected(content: object, event_type: str) -> None:
    """A signed content of any form: a notice with a sound refund, or NoticeRejectedError."""
    whole = content if not isinstance(content, dict) else GIVEN_BACK | content
    signed = delivered(encoded(about(whole, event_type)))
    try:
        refund = read(signed).refund
    except NoticeRejectedError:
        return
    assert refund.refund_fen is not None
    assert refund.refund_fen > 0
    assert refund.out_refund_no
    assert refund.refund_id
    assert refund.status is not RefundStatus.UNKNOWN


@given(index=st.integers(0, len(GENUINE.body) - 1), bit=st.integers(0, 7))
def test_no_single_bit_may_change(index: int, bit: int) -> None:
    body = bytearray(GENUINE.body)
    body[index] ^= 1 << bit
    with pytest.raises(NoticeRejectedError):
        PLATFORM.parse_notice(GENUINE.headers, bytes(body), SIGNED_AT)
