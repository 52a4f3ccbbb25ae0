"""What both sandbox platforms are told, keep and refuse."""

import asyncio
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from payments.contract import Platform
from payments.sandbox import books
from payments.sandbox.alipay_refunds import Refunds
from payments.sandbox.books import RefundState
from payments.sandbox.faults import Fault, Kind
from payments.sandbox.keys import SandboxKeys
from tests.payments.peer import Peer, http_answer
from tests.payments.shops import DOOR, QUICK, REFUNDS, Yard, open_yard

WECHAT, ALIPAY = Platform.WECHAT, Platform.ALIPAY


def fault(platform: Platform, kind: Kind) -> Fault:
    return Fault(platform, kind, "refund")


async def test_a_restart_keeps_refunds_settles_and_tells_them(
    tmp_path: Path, keys: SandboxKeys, peer: Peer, number: str
) -> None:
    peer.answers(http_answer(500))
    async with open_yard(tmp_path, keys) as before:
        await before.wechat.paid(number)
        before.sandbox.faults.add(fault(WECHAT, Kind.REFUND_STUCK))
        await before.wechat.refund(number, 1000, notify_url=peer.url)
        before.pass_time(minutes=1)
        await before.wechat.refund(number, 2000, out_refund_no=f"S{number}", notify_url=peer.url)
        await before.alipay.paid(number, door=peer.url)
        await before.alipay.refund(number, "30.00")
        await before.sandbox.quiet()
    refused = len(peer.received)
    peer.answers(http_answer(200, b"success"))
    async with open_yard(tmp_path, keys) as after:
        await after.sandbox.quiet()
        found = [await after.wechat.send("GET", f"{REFUNDS}/{name}{number}") for name in "RS"]
        given = await after.alipay.refund(number, "30.00")
    assert [one.json()["status"] for one in found] == ["PROCESSING", "SUCCESS"]
    assert (given["fund_change"], given["refund_fee"]) == ("N", "30.00")
    assert refused == 9  # three tries each of: paid at Alipay, refunded there, refunded at WeChat
    assert len(peer.received) == refused + 3
    async with open_yard(tmp_path, keys) as again:
        await again.sandbox.quiet()
    assert len(peer.received) == refused + 3


async def test_a_refund_that_a_kill_left_open_is_settled_by_the_next_start(
    tmp_path: Path, keys: SandboxKeys, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_yard(tmp_path, keys, replace(QUICK, refund_s=60)) as before:
        await before.wechat.paid(number)
        await before.alipay.paid(number)
        await before.wechat.refund(number, 3000)
        with monkeypatch.context() as killed:
            killed.setattr(Refunds, "settle", lambda _, refund, __: asyncio.sleep(0, refund))
            left = await before.alipay.refund(number, "30.00")
    async with open_yard(tmp_path, keys) as after:
        await after.sandbox.quiet()
        wechat = await after.wechat.send("GET", f"{REFUNDS}/R{number}")
        again = await after.alipay.refund(number, "30.00")
    assert wechat.json()["status"] == "SUCCESS"
    assert [(one["fund_change"], one["refund_fee"]) for one in (left, again)] == [
        ("N", "0.00"),
        ("N", "30.00"),
    ]


@pytest.mark.parametrize("platform", list(Platform))
async def test_a_balance_is_what_came_less_what_went_whatever_was_said_of_it(
    yard: Yard, number: str, platform: Platform
) -> None:
    """Every two words on what became of a refund: all but "closed" keep its money."""
    for first, second in product(RefundState, repeat=2):
        own = f"{number}{first[:2]}{second[:2]}"
        yard.control.balance(platform, 0)
        await yard.control.stranger(platform, own, 8880, DOOR)
        refund = await yard.control.refund_outside(platform, own, 3000)
        await yard.control.settle(platform, refund.out_refund_no, first)
        await yard.control.settle(platform, refund.out_refund_no, second)
        left = 8880 if second is RefundState.CLOSED else 5880
        assert yard.sandbox.balances.has(platform, left), (first, second)
        assert not yard.sandbox.balances.has(platform, left + 1), (first, second)
        await yard.sandbox.quiet()


async def test_a_full_book_takes_no_more_refunds(
    yard: Yard, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await yard.wechat.paid(number)
    await yard.alipay.paid(number)
    monkeypatch.setattr(books, "REFUNDS_MAX", 0)
    wechat = await yard.wechat.refund(number, 1)
    alipay = await yard.alipay.refund(number, "1.00")
    assert (wechat.status_code, wechat.json()["code"]) == (429, "RATELIMIT_EXCEEDED")
    assert alipay["code"] == "20000"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/control/faults", {"faults": [{"platform": "wechat", "kind": "no_such_kind"}]}),
        (
            "/control/faults",
            {"faults": [{"platform": "wechat", "kind": "refund_stuck", "times": 0}]},
        ),
        ("/control/faults", {"faults": [{"platform": "paypal", "kind": "refund_stuck"}]}),
        (
            "/control/faults",
            {"faults": [{"platform": "wechat", "kind": "refund_stuck", "seconds": 61}]},
        ),
        ("/control/faults", {"faults": [{"platform": "wechat", "kind": "refund_stuck"}] * 1001}),
        ("/control/faults", {}),
        ("/control/balance", {"platform": "wechat", "fen": -1}),
        ("/control/balance", {"platform": "wechat"}),
        ("/control/wechat/settle", {"out_refund_no": "R0", "state": "success"}),
        ("/control/alipay/settle", {"out_refund_no": "R0", "state": "lost"}),
    ],
)
async def test_what_the_control_cannot_do_it_refuses(
    yard: Yard, path: str, body: dict[str, object]
) -> None:
    refused = await yard.http.post(path, json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]
    assert yard.sandbox.faults.rows() == ()


async def test_faults_are_told_shown_counted_and_forgotten(yard: Yard, number: str) -> None:
    row = {"platform": "wechat", "call": "refund", "kind": "refund_closed"}
    told = await yard.http.post("/control/faults", json={"faults": [row | {"times": 2}]})
    await yard.wechat.paid(number)
    await yard.wechat.refund(number, 1)
    await yard.sandbox.quiet()
    shown = await yard.http.get("/control/faults")
    forgotten = await yard.http.delete("/control/faults")
    assert (told.status_code, forgotten.status_code) == (204, 204)
    assert shown.json() == {"faults": [row | {"times": 1, "seconds": 0.0}]}
    assert yard.sandbox.faults.rows() == ()
