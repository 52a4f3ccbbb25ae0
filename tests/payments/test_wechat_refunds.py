"""WeChat Pay's refunds against a peer that misbehaves: what is asked, answered, never believed."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from payments.contract import (
    PlatformRefusedError,
    PlatformUnavailableError,
    Refund,
    RefundRequest,
    RefundStatus,
)
from payments.sandbox.keys import SandboxKeys
from payments.wechat import calls
from payments.wechat.client import WeChatPlatform, build
from payments.wechat.config import WeChatMerchant
from payments.wechat.refunds import refund_from_answer
from tests.payments.peer import Peer, http_answer
from tests.payments.wechat_notices import JSON, encoded
from tests.payments.wechat_wire import NOW, refused, signed

NO, REFUND_NO = "T20260524000001", "R20260524000001"
REQUEST = RefundRequest(
    out_trade_no=NO,
    out_refund_no=REFUND_NO,
    refund_fen=3000,
    total_fen=8880,
    reason="退租",
    notify_url="https://mall.example/payments/wechat/demo/notify",
)
ACCEPTED = {
    "refund_id": "50000000382019052709732678859",
    "out_refund_no": REFUND_NO,
    "transaction_id": "4200001234202605240123456789",
    "out_trade_no": NO,
    "channel": "ORIGINAL",
    "user_received_account": "招商银行信用卡0403",
    "create_time": "2026-05-24T10:00:00+08:00",
    "status": "PROCESSING",
    "amount": {
        "total": 8880,
        "refund": 3000,
        "payer_total": 8880,
        "payer_refund": 2500,
        "settlement_refund": 3000,
        "settlement_total": 8880,
        "discount_refund": 500,
        "currency": "CNY",
    },
}
SUCCEEDED = ACCEPTED | {"status": "SUCCESS", "success_time": "2026-05-24T10:01:02+08:00"}
PROCESSING = Refund(
    out_refund_no=REFUND_NO,
    out_trade_no=NO,
    status=RefundStatus.PROCESSING,
    merchant_id="1900000109",
    refund_fen=3000,
    refund_id="50000000382019052709732678859",
)
UNKNOWN = Refund(REFUND_NO, NO, RefundStatus.UNKNOWN, "1900000109")
NOBODY_KNOWS = refused(404, "RESOURCE_NOT_EXISTS", "退款单不存在")


@pytest_asyncio.fixture
async def platform(
    peer: Peer, merchant: WeChatMerchant, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WeChatPlatform]:
    """A client of the peer, with pauses too short to notice."""
    monkeypatch.setattr(calls, "BACKOFF_S", 0.001)
    it = build(merchant, peer.url)
    yield it
    await it.aclose()


async def test_a_refund_is_asked_for_with_all_that_names_it(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.answers(signed(ACCEPTED, keys.wechat_platform))

    assert await platform.refund(REQUEST, NOW) == PROCESSING

    [request] = peer.received
    assert (request.method, request.target) == ("POST", "/v3/refund/domestic/refunds")
    assert json.loads(request.body) == {
        "out_trade_no": NO,
        "out_refund_no": REFUND_NO,
        "reason": "退租",
        "notify_url": "https://mall.example/payments/wechat/demo/notify",
        "amount": {"refund": 3000, "total": 8880, "currency": "CNY"},
    }


async def test_a_reason_is_cut_where_the_platform_would_refuse_it(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.answers(signed(ACCEPTED, keys.wechat_platform))
    await platform.refund(replace(REQUEST, reason="退" * 50), NOW)
    assert json.loads(peer.received[0].body)["reason"] == "退" * 26  # 78 bytes of 80


@pytest.mark.parametrize(
    "changes",
    [
        {"refund_fen": 0},
        {"refund_fen": -1},
        {"refund_fen": 8881},
        {"out_refund_no": ""},
        {"out_refund_no": "R" * 65},
        {"out_refund_no": "../certificates"},
        {"out_refund_no": "R1?x=1"},
        {"out_refund_no": "退款1"},
        {"out_trade_no": "short"},
    ],
)
async def test_what_cannot_be_asked_for_is_refused_before_anything_is_sent(
    peer: Peer, platform: WeChatPlatform, changes: dict[str, str]
) -> None:
    with pytest.raises(PlatformRefusedError) as refusal:
        await platform.refund(replace(REQUEST, **changes), NOW)  # type: ignore[arg-type]  # a table
    assert refusal.value.code == "PARAM_ERROR"
    assert peer.received == []


@pytest.mark.parametrize(
    ("answer", "status", "finished_at"),
    [
        (ACCEPTED, RefundStatus.PROCESSING, None),
        (SUCCEEDED, RefundStatus.SUCCEEDED, datetime(2026, 5, 24, 2, 1, 2, tzinfo=UTC)),
        (ACCEPTED | {"status": "SUCCESS"}, RefundStatus.SUCCEEDED, None),
        (ACCEPTED | {"status": "CLOSED"}, RefundStatus.CLOSED, None),
        (ACCEPTED | {"status": "ABNORMAL"}, RefundStatus.ABNORMAL, None),
    ],
)
async def test_every_state_of_the_platform_has_one_of_ours(
    peer: Peer,
    platform: WeChatPlatform,
    keys: SandboxKeys,
    answer: dict[str, object],
    status: RefundStatus,
    finished_at: datetime | None,
) -> None:
    peer.answers(signed(answer, keys.wechat_platform))
    found = await platform.query_refund(NO, REFUND_NO, NOW)
    assert found == replace(PROCESSING, status=status, finished_at=finished_at)
    assert peer.received[0].target == f"/v3/refund/domestic/refunds/{REFUND_NO}"


@pytest.mark.parametrize("code", ["RESOURCE_NOT_EXISTS", "REFUND_NOT_EXIST", "REFUNDNOTEXIST"])
async def test_an_unknown_refund_is_a_status_not_an_error(
    peer: Peer, platform: WeChatPlatform, code: str
) -> None:
    peer.answers(refused(404, code))
    assert await platform.query_refund(NO, REFUND_NO, NOW) == UNKNOWN


async def test_a_missing_page_is_not_an_unknown_refund(
    peer: Peer, platform: WeChatPlatform
) -> None:
    peer.answers(http_answer(404, b"<html>not found</html>"))
    with pytest.raises(PlatformRefusedError, match="HTTP 404"):
        await platform.query_refund(NO, REFUND_NO, NOW)


AMOUNT = ACCEPTED["amount"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"out_refund_no": "R2"}, "another refund"),
        ({"out_trade_no": "T20260524000002"}, "another refund"),
        ({"status": "MAYBE"}, "unknown status"),
        ({"refund_id": ""}, "another form"),
        ({"amount": None}, "another form"),
        ({"amount": {"total": 8880, "refund": 30.5}}, "another form"),
        ({"amount": {"total": 8880, "refund": 0}}, "another form"),
        ({"amount": {"total": 8880, "refund": 8881}}, "impossible amount"),
        ({"amount": {"total": 8880, "refund": 3000, "currency": "USD"}}, "impossible amount"),
        ({"status": "SUCCESS", "success_time": "today"}, "no time"),
        ({"status": "SUCCESS", "success_time": "2026-05-24T10:00:00"}, "no offset"),
        ({"amount": {"total": 8880, "refund": 2999}}, "another amount"),
    ],
)
async def test_a_signed_answer_to_another_question_is_no_answer(
    peer: Peer,
    platform: WeChatPlatform,
    keys: SandboxKeys,
    change: dict[str, object],
    reason: str,
) -> None:
    peer.answers(signed(ACCEPTED | change, keys.wechat_platform))
    with pytest.raises(PlatformUnavailableError, match=reason):
        await platform.refund(REQUEST, NOW)


@given(changes=st.fixed_dictionaries({}, optional=dict.fromkeys(SUCCEEDED, JSON)) | JSON)
def test_whatever_is_answered_is_this_refund_or_none(changes: object) -> None:
    content = encoded(SUCCEEDED | changes if isinstance(changes, dict) else changes)
    try:
        refund = refund_from_answer(content, "1900000109", NO, REFUND_NO)
    except PlatformUnavailableError:
        return
    assert (refund.out_trade_no, refund.out_refund_no) == (NO, REFUND_NO)
    assert refund.refund_fen is not None
    assert refund.refund_fen > 0


async def test_an_answer_that_does_not_prove_itself_is_no_answer(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys
) -> None:
    peer.answers(signed(SUCCEEDED, keys.wechat_merchant))
    for asked in (platform.refund(REQUEST, NOW), platform.query_refund(NO, REFUND_NO, NOW)):
        with pytest.raises(PlatformUnavailableError, match="unproved"):
            await asked


FINAL = [
    (400, "INVALID_REQUEST", "订单已全额退款"),
    (400, "PARAM_ERROR", ""),
    (403, "NO_AUTH", ""),
    (403, "USER_ACCOUNT_ABNORMAL", ""),
    (404, "RESOURCE_NOT_EXISTS", "订单不存在"),
    (404, "MCH_NOT_EXISTS", ""),
    (500, "INVALID_TRANSACTIONID", ""),
]


@pytest.mark.parametrize(("status", "code", "message"), FINAL)
async def test_a_refusal_is_final_where_the_platform_does_not_know_the_number(
    peer: Peer, platform: WeChatPlatform, status: int, code: str, message: str
) -> None:
    peer.answers(refused(status, code, message), NOBODY_KNOWS)
    with pytest.raises(PlatformRefusedError) as error:
        await platform.refund(REQUEST, NOW)
    assert (error.value.code, error.value.transient) == (code, False)
    assert [r.method for r in peer.received] == ["POST", "GET"]


@pytest.mark.parametrize(("status", "code", "message"), FINAL)
async def test_a_refusal_of_a_refund_that_was_accepted_earlier_is_none(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys, status: int, code: str, message: str
) -> None:
    """The answer of the first try was lost: to give the money back here would give it twice."""
    peer.answers(refused(status, code, message), signed(ACCEPTED, keys.wechat_platform))
    assert await platform.refund(REQUEST, NOW) == PROCESSING


@pytest.mark.parametrize(
    "refusal", [refused(401, "SIGN_ERROR"), refused(400, "SOMETHING_NEW"), http_answer(404, b"<p>")]
)
async def test_a_refusal_that_is_not_of_the_refund_decides_nothing(
    peer: Peer, platform: WeChatPlatform, refusal: bytes
) -> None:
    peer.answers(refusal, NOBODY_KNOWS)
    with pytest.raises(PlatformUnavailableError, match="decides nothing"):
        await platform.refund(REQUEST, NOW)


@pytest.mark.parametrize("question", [refused(401, "SIGN_ERROR"), http_answer(503)])
async def test_a_refusal_that_cannot_be_looked_into_decides_nothing(
    peer: Peer, platform: WeChatPlatform, question: bytes
) -> None:
    peer.answers(refused(401, "SIGN_ERROR"), question)
    with pytest.raises(PlatformUnavailableError):
        await platform.refund(REQUEST, NOW)


@pytest.mark.parametrize(
    "code", ["NOT_ENOUGH", "NOTENOUGH", "INVALID_REQ_TOO_MUCH", "ORDER_NOT_READY"]
)
async def test_what_takes_longer_is_for_later_and_asked_once(
    peer: Peer, platform: WeChatPlatform, code: str
) -> None:
    peer.answers(refused(403, code, "基本账户余额不足"))
    with pytest.raises(PlatformUnavailableError) as error:
        await platform.refund(REQUEST, NOW)
    assert (error.value.code, error.value.transient) == (code, True)
    assert len(peer.received) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        refused(429, "FREQUENCY_LIMITED"),
        refused(403, "FREQUENCY_LIMITED"),
        refused(500, "SYSTEM_ERROR"),
        refused(400, "BIZERR_NEED_RETRY"),
        http_answer(502),
        b"",
    ],
)
async def test_transient_trouble_is_tried_again_with_the_same_number(
    peer: Peer, platform: WeChatPlatform, keys: SandboxKeys, trouble: bytes
) -> None:
    peer.answers(trouble, trouble, signed(SUCCEEDED, keys.wechat_platform))
    assert (await platform.refund(REQUEST, NOW)).status is RefundStatus.SUCCEEDED
    assert len({r.body for r in peer.received}) == 1
    assert len(peer.received) == 3


@pytest.mark.parametrize(
    ("retry_after", "pauses"),
    [("1", True), ("0", False), ("soon", False), ("Wed, 21 Oct 2026 07:28:00 GMT", False)],
)
async def test_a_pause_that_was_asked_for_is_kept(
    peer: Peer,
    platform: WeChatPlatform,
    keys: SandboxKeys,
    monkeypatch: pytest.MonkeyPatch,
    retry_after: str,
    pauses: bool,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(calls, "sleep", _noting(slept))
    busy = refused(429, "FREQUENCY_LIMITED", headers={"Retry-After": retry_after})
    peer.answers(busy, signed(ACCEPTED, keys.wechat_platform))
    await platform.refund(REQUEST, NOW)
    assert [pause_s >= 1 for pause_s in slept] == [pauses]


async def test_a_pause_longer_than_a_caller_waits_ends_the_call(
    peer: Peer, platform: WeChatPlatform
) -> None:
    peer.answers(refused(503, "SYSTEM_ERROR", headers={"Retry-After": "60"}))
    async with asyncio.timeout(10):  # at once, not after all the time there is
        with pytest.raises(PlatformUnavailableError):
            await platform.refund(REQUEST, NOW)
    assert len(peer.received) == 1


async def test_no_caller_is_stuck(
    peer: Peer, platform: WeChatPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All attempts together, and the question after a refusal too."""
    monkeypatch.setattr(calls, "TOTAL_S", 0.1)
    peer.hold_s = 0.3
    peer.answers(refused(400, "INVALID_REQUEST"), b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n")
    async with asyncio.timeout(5):
        with pytest.raises(PlatformUnavailableError, match="no answer"):
            await platform.refund(REQUEST, NOW)


async def test_pauses_grow_and_are_never_in_step(
    peer: Peer, platform: WeChatPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(calls, "BACKOFF_S", 0.2)
    monkeypatch.setattr(calls, "sleep", _noting(slept))
    peer.answers(http_answer(503))
    for _ in range(3):
        with pytest.raises(PlatformUnavailableError):
            await platform.query_refund(NO, REFUND_NO, NOW)
    assert len(set(slept)) == 6
    assert all(0.2 <= first <= 0.4 <= second <= 0.8 for first, second in list(pairwise(slept))[::2])


def _noting(slept: list[float]) -> object:
    async def sleep(pause_s: float) -> None:
        slept.append(pause_s)

    return sleep
