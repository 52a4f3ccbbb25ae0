"""Refunds and cases by the managers' API, held against the document."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest_asyncio

from miniprogram_api.openapi import describe
from payments.contract import Platform, Trade, TradeStatus
from server.models import database
from server.services.crediting import credit
from tests.api.test_admin_money import People
from tests.fakes.town import AgreesWithDocument
from tests.http import http_client
from tests.pages.mall import Mall, lasting_mall, mall, mall_port, staged

__all__ = ["lasting_mall", "mall", "mall_port", "staged"]  # fixtures
WISH = {"amount_fen": 2_000, "reason": "多充了"}
PAYOUT = {"method": "bank_transfer", "reference": "流水 17"}


@pytest_asyncio.fixture
async def people(mall: Mall) -> AsyncIterator[People]:
    """A mall with a manager of each role."""
    check: Callable[..., Any] = AgreesWithDocument(describe(mall.app, "test"))
    hooks = {"response": [check]}
    async with http_client(base_url=mall.url, event_hooks=hooks) as client:
        yield People(mall, client)


async def site_id() -> int:
    found = await database.rows(database.pool(), "SELECT id FROM site ORDER BY id LIMIT 1")
    return int(found[0]["id"])


async def test_a_refund_is_asked_for_and_paid_out_by_hand(people: People) -> None:
    key = {"Idempotency-Key": "click"}
    status, asked = await people.post("finance", "/shops/A101/refunds", WISH, **key)
    assert (status, set(asked)) == (201, {"refund_no"})
    assert await people.post("finance", "/shops/A101/refunds", WISH, **key) == (201, asked)
    assert await people.balances() == (498_000, 0)
    other = {**WISH, "amount_fen": 2_001}
    status, problem = await people.post("finance", "/shops/A101/refunds", other, **key)
    assert (status, problem["code"]) == (409, "idempotency_mismatch")
    path = f"/refunds/{asked['refund_no']}"
    shown = (await people.send("read_only", "GET", path)).json()
    assert (shown["status"], shown["shop"], shown["asked_by"]) == ("in_progress", "A101", "finance")
    (part,) = shown["parts"]
    assert (part["state"], part["platform"], part["amount_fen"]) == ("to_pay", None, 2_000)
    listed = (await people.send("service", "GET", "/refunds?state=open")).json()
    assert listed["items"] == [shown]
    body = {**PAYOUT, "out_refund_no": part["out_refund_no"]}
    assert (await people.post("engineer", f"{path}/payouts", body))[0] == 403
    status, done = await people.post("finance", f"{path}/payouts", body)
    assert (status, done["status"], done["parts"][0]["paid_by"]) == (201, "done", "finance")
    assert await people.post("owner", f"{path}/payouts", body) == (201, done)
    status, problem = await people.post("owner", f"{path}/payouts", {**body, "method": "cash"})
    assert (status, problem["code"]) == (409, "not_to_pay")
    wrong = {**body, "out_refund_no": "nobody's"}
    assert (await people.post("owner", f"{path}/payouts", wrong))[0] == 404
    assert (await people.send("finance", "GET", "/refunds?state=open")).json()["items"] == []


async def test_a_large_refund_waits_and_is_reserved(people: People) -> None:
    large = {"amount_fen": 100_001, "reason": "退租"}
    status, asked = await people.post("finance", "/shops/A101/refunds", large)
    assert (status, set(asked)) == (202, {"approval_no"})
    shop = (await people.send("finance", "GET", "/shops/A101")).json()
    assert shop["balance_fen"] == 399_999
    listed = (await people.send("finance", "GET", "/shops?q=A101")).json()
    assert listed["items"][0]["balance_fen"] == 399_999
    status, done = await people.post("owner", f"/approvals/{asked['approval_no']}")
    assert (status, done["kind"], done["status"]) == (200, "refund", "approved")
    assert await people.balances() == (399_999, 0)


async def test_a_refund_that_cannot_be_is_refused(people: People) -> None:
    for who, code, body, status, problem in (
        ("finance", "A101", {**WISH, "amount_fen": 500_001}, 409, "above_available"),
        ("finance", "A101", {**WISH, "amount_fen": 0}, 422, "invalid_input"),
        ("finance", "A101", {**WISH, "reason": "  "}, 422, "reason_needed"),
        ("finance", "A101", {**WISH, "wallet": "gold"}, 400, "invalid_body"),
        ("engineer", "A101", WISH, 403, "forbidden"),
        ("finance", "A101", {**WISH, "tenancy_id": 10**9}, 404, "not_found"),
        ("finance", "NO", WISH, 404, "not_found"),
    ):
        answer = await people.post(who, f"/shops/{code}/refunds", body)
        assert (answer[0], answer[1]["code"]) == (status, problem), body
    assert await people.balances() == (500_000, 0)


async def test_a_case_is_decided_once_by_whoever_may(people: People) -> None:
    site, now = await site_id(), people.mall.clock()
    trade = Trade("nobody", TradeStatus.PAID, "m", 700, "CNY", "T-1", now)
    await credit(site, Platform.WECHAT, trade, now)
    await credit(site, Platform.WECHAT, replace(trade, transaction_id="T-2"), now)
    second, first = (await people.send("service", "GET", "/cases")).json()["items"]
    assert (first["kind"], first["suspended_fen"]) == ("unknown_order", 700)
    assert first["choices"] == ["credit", "refund"]
    path, wish = f"/cases/{first['id']}", {"decision": "credit", "reason": "核对", "shop": "A101"}
    for who, body, status, problem in (
        ("engineer", wish, 403, "forbidden"),
        ("finance", {**wish, "shop": "NO"}, 422, "shop_needed"),
        ("finance", {"decision": "credit", "reason": "核对"}, 422, "shop_needed"),
        ("finance", {"decision": "seen", "reason": "核对"}, 409, "not_for_this_case"),
        ("finance", {**wish, "decision": "steal"}, 400, "invalid_body"),
    ):
        answer = await people.post(who, path, body)
        assert (answer[0], answer[1]["code"]) == (status, problem), body
    status, done = await people.post("finance", path, wish)
    assert (status, done["decision"], done["choices"]) == (200, "credit", [])
    assert await people.balances() == (500_700, 0)
    status, problem = await people.post("owner", path, wish)
    assert (status, problem["code"]) == (409, "case_decided")
    refund = {"decision": "refund", "reason": "退回"}
    status, done = await people.post("owner", f"/cases/{second['id']}", refund)
    assert (status, done["decision"], done["closed_at"]) == (200, "refund", None)
    assert (await people.send("owner", "GET", path)).json()["closed_at"] is not None
    (closed,) = (await people.send("owner", "GET", "/cases?state=closed")).json()["items"]
    assert closed["id"] == first["id"]
    assert len((await people.send("owner", "GET", "/cases?state=all")).json()["items"]) == 2
    for wrong in ("/cases/0", "/cases/x", "/cases/" + "9" * 30):
        assert (await people.send("owner", "GET", wrong)).status_code == 404
