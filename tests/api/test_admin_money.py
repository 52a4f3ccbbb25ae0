"""Desk payments, adjustments and second persons by the managers' API, held against the document."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest_asyncio

from miniprogram_api.openapi import describe
from server.models import database
from tests.fakes.town import AgreesWithDocument
from tests.http import http_client
from tests.pages.mall import Mall, lasting_mall, mall, mall_port, staged

__all__ = ["lasting_mall", "mall", "mall_port", "staged"]  # fixtures
PAID = {"amount_fen": 500, "method": "cash", "receipt_no": "收 1/2"}
SMALL = {"amount_fen": -300, "reason": "示数有误"}
LARGE = {"amount_fen": 20_000, "reason": "补偿", "wallet": "fixed_charges"}


class People:
    """One client whose every answer is held against the document, and everybody's session."""

    def __init__(self, mall: Mall, client: httpx.AsyncClient) -> None:
        self.mall = mall
        self.client = client

    async def send(
        self, who: str, method: str, path: str, body: object = None, **headers: str
    ) -> httpx.Response:
        """A call by one of the managers, who are named like their roles."""
        bearer = f"Bearer {await self.mall.session_of(who)}"
        return await self.client.request(
            method,
            f"/api/admin/v1{path}",
            json=body,
            headers={"Authorization": bearer, "Accept-Language": "en", **headers},
        )

    async def post(self, who: str, path: str, body: object = None, **headers: str) -> Any:
        """The status and the body of a POST."""
        answer = await self.send(who, "POST", path, body, **headers)
        return answer.status_code, answer.json()

    async def balances(self) -> tuple[int, int]:
        """What is left of A101 in both wallets."""
        [found] = await database.rows(
            database.pool(),
            "SELECT sum(balance_fen) FILTER (WHERE kind = 'electricity_wallet')::bigint AS energy,"
            " sum(balance_fen) FILTER (WHERE kind <> 'electricity_wallet')::bigint AS fixed"
            " FROM wallet JOIN account ON account.id = account_id"
            " JOIN tenancy ON tenancy.id = account.tenancy_id JOIN shop ON shop.id = shop_id"
            " WHERE shop.code = 'A101'",
        )
        return found["energy"], found["fixed"]


@pytest_asyncio.fixture
async def people(mall: Mall) -> AsyncIterator[People]:
    """A mall with a manager of each role."""
    check: Callable[..., Any] = AgreesWithDocument(describe(mall.app, "test"))
    hooks = {"response": [check]}
    async with http_client(base_url=mall.url, event_hooks=hooks) as client:
        yield People(mall, client)


async def test_a_payment_at_the_desk_and_back(people: People) -> None:
    status, paid = await people.post("finance", "/shops/A101/desk-payments", PAID)
    assert (status, set(paid)) == (201, {"transaction_id"})
    assert await people.post("owner", "/shops/A101/desk-payments", PAID) == (201, paid)
    assert await people.balances() == (500_500, 0)
    other = {**PAID, "amount_fen": 501}
    status, problem = await people.post("finance", "/shops/A101/desk-payments", other)
    assert (status, problem["code"]) == (409, "receipt_used")
    status, problem = await people.post("finance", "/shops/A102/desk-payments", PAID)
    assert (status, problem["code"]) == (409, "receipt_used")
    back = "/shops/A101/desk-payments/%E6%94%B6%201%2F2/reversal"
    assert (await people.post("finance", back.replace("A101", "A102"), {"reason": "x"}))[0] == 404
    assert (await people.post("finance", back, {"reason": "  "}))[1]["code"] == "reason_needed"
    status, asked = await people.post("finance", back, {"reason": "退票"})
    assert (status, set(asked)) == (202, {"approval_no"})
    status, done = await people.post("owner", f"/approvals/{asked['approval_no']}")
    assert (status, done["status"], done["decided_by"]) == (200, "approved", "owner")
    assert await people.balances() == (500_000, 0)
    status, problem = await people.post("finance", back, {"reason": "退票"})
    assert (status, problem["code"]) == (409, "already_reversed")


async def test_an_adjustment_and_a_second_person(people: People) -> None:
    key = {"Idempotency-Key": "click"}
    first = await people.post("finance", "/shops/A101/adjustments", SMALL, **key)
    assert first[0] == 201
    assert await people.post("finance", "/shops/A101/adjustments", SMALL, **key) == first
    status, asked = await people.post("finance", "/shops/A101/adjustments", LARGE)
    assert status == 202
    path = f"/approvals/{asked['approval_no']}"
    shown = (await people.send("read_only", "GET", path)).json()
    assert shown["act"] == {
        **LARGE,
        "shop": "A101",
        "subject": "shop:A101",
        "tenancy_id": shown["act"]["tenancy_id"],
    }
    assert (await people.send("service", "GET", "/approvals")).json()["items"] == [shown]
    for who, code in (("finance", "own_approval"), ("engineer", "forbidden")):
        status, problem = await people.post(who, path, {"decision": "approve"})
        assert (status, problem["code"]) == (403, code)
    wish = {"decision": "reject", "reason": "not agreed"}
    status, done = await people.post("owner", path, wish)
    assert (status, done["status"], done["reason"]) == (200, "rejected", "not agreed")
    status, problem = await people.post("owner", path, {"decision": "approve"})
    assert (status, problem["code"]) == (409, "approval_over")
    assert await people.balances() == (499_700, 0)


BAD: list[tuple[str, str, object, int, str]] = [
    ("engineer", "/shops/A101/adjustments", "no JSON of ours", 403, "forbidden"),
    ("read_only", "/shops/A101/desk-payments", PAID, 403, "forbidden"),
    ("service", "/shops/A101/desk-payments/R/reversal", {"reason": "x"}, 403, "forbidden"),
    ("owner", "/shops/none/adjustments", SMALL, 404, "not_found"),
    ("owner", "/shops/A101/desk-payments/R/reversal", {"reason": "x"}, 404, "not_found"),
    ("owner", "/approvals/none", {"decision": "approve"}, 404, "not_found"),
    ("owner", "/shops/A101/adjustments", {"amount_fen": 5}, 400, "invalid_body"),
    ("owner", "/shops/A101/adjustments", {**SMALL, "amount_fen": 0}, 422, "invalid_input"),
    ("owner", "/shops/A101/adjustments", {**SMALL, "amount_fen": 1.5}, 400, "invalid_body"),
    ("owner", "/shops/A101/adjustments", {**SMALL, "amount_fen": 10**30}, 422, "invalid_input"),
    ("owner", "/shops/A101/adjustments", {**SMALL, "reason": ""}, 400, "invalid_body"),
    ("owner", "/shops/A101/adjustments", {**SMALL, "reason": " "}, 422, "reason_needed"),
    ("owner", "/shops/A101/adjustments", {**SMALL, "by": "me"}, 400, "invalid_body"),
    ("owner", "/shops/A101/desk-payments", {**PAID, "amount_fen": -1}, 422, "invalid_input"),
    ("owner", "/shops/A101/desk-payments", {**PAID, "method": "wechat"}, 400, "invalid_body"),
    ("owner", "/shops/A101/desk-payments", {**PAID, "receipt_no": " x"}, 422, "invalid_input"),
    ("owner", "/shops/A101/desk-payments", {**PAID, "receipt_no": "x\0"}, 400, "invalid_body"),
]


async def test_what_is_refused_changes_nothing(people: People) -> None:
    for who, path, body, status, code in BAD:
        answered, problem = await people.post(who, path, body)
        assert (answered, problem["code"]) == (status, code), (path, body)
    key = {"Idempotency-Key": "two words"}
    answered, problem = await people.post("owner", "/shops/A101/adjustments", SMALL, **key)
    assert (answered, problem["code"]) == (400, "idempotency_key_needed")
    await database.rows(
        database.pool(),
        "UPDATE tenancy SET closed_at = now() WHERE shop_id = (SELECT id FROM shop"
        " WHERE code = 'A102')",
    )
    answered, problem = await people.post("owner", "/shops/A102/desk-payments", PAID)
    assert (answered, problem["code"]) == (409, "vacant")
    found = await database.row(
        database.pool(),
        "SELECT (SELECT count(*) FROM manager_act) AS acts,"
        " (SELECT count(*) FROM approval) AS asked",
    )
    assert found == {"acts": 0, "asked": 0}
    assert await people.balances() == (500_000, 0)


async def test_another_malls_approvals_are_not_there(people: People) -> None:
    _, asked = await people.post("finance", "/shops/A101/adjustments", LARGE)
    await people.mall.bind_manager("owner", to="elsewhere")
    path = f"/approvals/{asked['approval_no']}"
    assert (await people.send("owner", "GET", path)).status_code == 404
    assert (await people.post("owner", path, {"decision": "approve"}))[0] == 404
    assert (await people.send("owner", "GET", "/approvals")).json()["items"] == []
    assert (await people.send("owner", "GET", "/approvals?site=demo")).status_code == 404
    assert len((await people.send("finance", "GET", "/approvals?site=demo")).json()["items"]) == 1
