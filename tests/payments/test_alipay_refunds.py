"""Alipay's refunds: given back, on their way, refused; and what decides nothing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from payments.alipay import gateway
from payments.alipay.client import AlipayPlatform
from payments.alipay.errors import REFUND_REFUSED
from payments.alipay.refunds import REFUND, REFUND_QUERY
from payments.contract import (
    PlatformRefusedError,
    PlatformUnavailableError,
    Refund,
    RefundRequest,
    RefundStatus,
)
from tests.payments.alipay_peer import AlipayPeer, Content, failed, http, platform_at, standing

NOW = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)
SELLER = "2088000000000001"
ASK = RefundRequest(
    out_trade_no="T1",
    out_refund_no="R1",
    refund_fen=1234,
    total_fen=8880,
    reason="退租\n多付",
    notify_url="https://mall.example/payments/alipay/demo/notify",
)
TAKEN: Content = {"out_trade_no": "T1", "trade_no": "2026052422", "refund_fee": "50.00"}
FOUND: Content = {
    "out_trade_no": "T1",
    "out_request_no": "R1",
    "refund_amount": "12.34",
    "refund_status": "REFUND_SUCCESS",
    "gmt_refund_pay": "2026-05-24 10:00:01",
}
NOTHING: Content = {}
GIVEN_BACK = Refund(
    "R1",
    "T1",
    RefundStatus.SUCCEEDED,
    SELLER,
    refund_fen=1234,
    finished_at=datetime(2026, 5, 24, 2, 0, 1, tzinfo=UTC),
)


@pytest.fixture
async def peer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AlipayPeer]:
    monkeypatch.setattr(gateway, "BACKOFF_S", 0.001)
    async with standing(AlipayPeer()) as it:
        yield it


@pytest.fixture
async def alipay(peer: AlipayPeer) -> AsyncIterator[AlipayPlatform]:
    async with platform_at(peer) as it:
        yield it


async def test_what_is_asked_for(peer: AlipayPeer, alipay: AlipayPlatform) -> None:
    peer.says(REFUND, TAKEN)
    peer.says(REFUND_QUERY, NOTHING)

    await alipay.refund(ASK, NOW)

    assert [one.content for one in peer.asked] == [
        {
            "out_trade_no": "T1",
            "out_request_no": "R1",
            "refund_amount": "12.34",
            "refund_reason": "退租 多付",
        },
        {"out_trade_no": "T1", "out_request_no": "R1", "query_options": ["gmt_refund_pay"]},
    ]


@pytest.mark.parametrize(
    ("taken", "found", "status", "fen", "calls"),
    [
        pytest.param({"fund_change": "Y"}, None, "succeeded", 1234, 1, id="at once"),
        pytest.param({"fund_change": "N"}, FOUND, "succeeded", 1234, 2, id="the same again"),
        pytest.param({"fund_change": "N"}, NOTHING, "processing", 1234, 2, id="on its way"),
        pytest.param({}, FOUND, "succeeded", 1234, 2, id="no word of the funds, but found"),
        pytest.param({}, NOTHING, "processing", 1234, 2, id="no word of the funds"),
        pytest.param(
            {"fund_change": "N"},
            failed("ACQ.TRADE_NOT_EXIST"),
            "processing",
            1234,
            2,
            id="taken, and the question knows nothing",
        ),
        pytest.param(
            {"fund_change": "N"},
            {**FOUND, "refund_amount": "12.00"},
            "succeeded",
            1200,
            2,
            id="given back before with another amount",
        ),
    ],
)
async def test_code_10000_is_accepted_and_only_a_word_of_it_is_given_back(
    peer: AlipayPeer,
    alipay: AlipayPlatform,
    taken: Content,
    found: Content | None,
    status: str,
    fen: int,
    calls: int,
) -> None:
    peer.says(REFUND, {**TAKEN, **taken})
    peer.says(REFUND_QUERY, found)

    refund = await alipay.refund(ASK, NOW)

    assert (refund.status, refund.refund_fen) == (RefundStatus(status), fen)
    assert (refund.out_refund_no, refund.merchant_id) == ("R1", SELLER)
    assert len(peer.asked) == calls


@pytest.mark.parametrize("code", sorted(REFUND_REFUSED))
async def test_a_refusal_is_final_once_alipay_knows_no_such_refund(
    peer: AlipayPeer, alipay: AlipayPlatform, code: str
) -> None:
    peer.says(REFUND, failed(code))
    peer.says(REFUND_QUERY, NOTHING)

    with pytest.raises(PlatformRefusedError) as refused:
        await alipay.refund(ASK, NOW)

    assert (refused.value.code, refused.value.transient) == (code, False)
    assert peer.methods() == [REFUND, REFUND_QUERY]


@pytest.mark.parametrize(
    "code", ["ACQ.TRADE_HAS_CLOSE", "ACQ.TRADE_HAS_FINISHED", "ACQ.DISCORDANT_REPEAT_REQUEST"]
)
async def test_a_refused_repetition_of_a_refund_that_went_through_is_that_refund(
    peer: AlipayPeer, alipay: AlipayPlatform, code: str
) -> None:
    peer.says(REFUND, failed(code))
    peer.says(REFUND_QUERY, FOUND)

    assert await alipay.refund(ASK, NOW) == GIVEN_BACK


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(failed("ACQ.SELLER_BALANCE_NOT_ENOUGH"), "ACQ.SELLER_BALANCE_NOT_ENOUGH"),
        pytest.param(failed("ACQ.REFUND_CHARGE_ERROR"), "ACQ.REFUND_CHARGE_ERROR"),
        pytest.param(failed("ACQ.SYSTEM_ERROR"), "ACQ.SYSTEM_ERROR"),
        pytest.param(failed("aop.ACQ.SYSTEM_ERROR", "20000"), "aop.ACQ.SYSTEM_ERROR"),
        pytest.param(failed("isv.app-call-limited", "40002"), "isv.app-call-limited"),
        pytest.param(failed("isv.invalid-signature", "40002"), "isv.invalid-signature"),
        pytest.param(failed("isv.insufficient-isv-permissions", "40006"), None),
        pytest.param(failed("ACQ.A_CODE_OF_TOMORROW"), "ACQ.A_CODE_OF_TOMORROW"),
        pytest.param(failed("ACQ.DISCORDANT_REPEAT_REQUEST"), "ACQ.DISCORDANT_REPEAT_REQUEST"),
        pytest.param({**TAKEN, "out_trade_no": "T2"}, "BAD_ANSWER", id="another trade"),
        pytest.param(
            {**TAKEN, "fund_change": "Y", "gmt_refund_pay": "soon"}, "BAD_ANSWER", id="no time"
        ),
        pytest.param(http(b"", "403 Forbidden"), "http_403", id="HTTP 403"),
        pytest.param(http(b"", "500 Oh"), "http_500", id="HTTP 500"),
        pytest.param(None, "", id="hangs up"),
    ],
)
async def test_what_decides_nothing_is_asked_again(
    peer: AlipayPeer, alipay: AlipayPlatform, answer: Content | bytes | None, code: str | None
) -> None:
    peer.says(REFUND, answer)
    peer.says(REFUND_QUERY, NOTHING)

    with pytest.raises(PlatformUnavailableError) as error:
        await alipay.refund(ASK, NOW)

    assert code is None or error.value.code == code
    assert peer.methods().count(REFUND) <= gateway.ATTEMPTS_MAX


@pytest.mark.parametrize(
    "answer", [None, failed("isv.invalid-signature", "40002"), {**FOUND, "out_request_no": "R2"}]
)
async def test_a_refusal_is_not_final_while_the_question_has_no_answer(
    peer: AlipayPeer, alipay: AlipayPlatform, answer: Content | None
) -> None:
    peer.says(REFUND, failed("ACQ.TRADE_HAS_FINISHED"))
    peer.says(REFUND_QUERY, answer)

    with pytest.raises(PlatformUnavailableError):
        await alipay.refund(ASK, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"refund_fen": 0},
        {"refund_fen": -1},
        {"refund_fen": 8881},
        {"out_refund_no": "R 1"},
        {"out_refund_no": "R" * 65},
        {"out_trade_no": ""},
    ],
)
async def test_what_alipay_would_refuse_is_not_sent(
    peer: AlipayPeer, alipay: AlipayPlatform, change: dict[str, object]
) -> None:
    with pytest.raises(PlatformRefusedError):
        await alipay.refund(replace(ASK, **change), NOW)  # type: ignore[arg-type]  # a line a case

    assert not peer.asked


async def test_a_question_for_a_refund(peer: AlipayPeer, alipay: AlipayPlatform) -> None:
    peer.says(REFUND_QUERY, FOUND, NOTHING, failed("TRADE_NOT_EXIST"))

    found = await alipay.query_refund("T1", "R1", NOW)
    missing = [await alipay.query_refund("T1", "R1", NOW) for _ in range(2)]

    assert found == GIVEN_BACK
    assert missing == [Refund("R1", "T1", RefundStatus.UNKNOWN, SELLER)] * 2


@pytest.mark.parametrize(
    "change",
    [
        {"refund_status": "REFUND_DREAMT"},
        {"refund_amount": "12.345"},
        {"refund_amount": ""},
        {"out_trade_no": "T2"},
        {"out_request_no": "R2"},
        {"gmt_refund_pay": "yesterday"},
    ],
)
async def test_an_answer_without_sense_is_no_answer(
    peer: AlipayPeer, alipay: AlipayPlatform, change: dict[str, str]
) -> None:
    peer.says(REFUND_QUERY, {**FOUND, **change})

    with pytest.raises(PlatformUnavailableError):
        await alipay.query_refund("T1", "R1", NOW)


async def test_nobody_waits_longer_than_the_total(
    peer: AlipayPeer, alipay: AlipayPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "BACKOFF_S", 30.0)
    monkeypatch.setattr(gateway, "TOTAL_S", 0.2)
    peer.says(REFUND, None)

    with pytest.raises(PlatformUnavailableError):
        await alipay.refund(ASK, NOW)
