"""Every refusal of the tenants' API, a line a case; and that another's looks like a missing one."""

from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from miniprogram_api.access import _ID, _NUMBER
from miniprogram_api.routes import PREFIX, ROUTES
from server.models.database import pool, rows
from tests.fakes.town import CODE, Phone, Town

JSON = {"Content-Type": "application/json"}
KEY = {"Idempotency-Key": "k-1"}
ORDER = {"amount_fen": 100, "method": "wechat_jsapi"}


@dataclass(frozen=True)
class Neighbours:
    """Ann has a shop, a closed day and a top-up; Eve has the shop beside it."""

    town: Town
    ann: Phone
    shop_id: int
    no: str
    eve: Phone


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def neighbours(lasting_town: Town) -> Neighbours:
    ann, shop_id = await lasting_town.tenant("ann", "A1")
    await lasting_town.use("A1", lasting_town.now, [500] * 15)
    no = (await ann.order(shop_id, "mine")).json()["top_up_no"]
    assert (await ann.get(f"/shops/{shop_id}/statements/2026-05-20")).status_code == 200
    assert (await ann.get(f"/top-ups/{no}")).status_code == 200
    eve, _ = await lasting_town.tenant("eve", "A2")
    return Neighbours(lasting_town, ann, shop_id, no, eve)


@dataclass(frozen=True)
class Refusal:
    """A call of somebody bound to the shop, and the problem that it is answered with."""

    what: str
    method: str
    path: str
    status: int
    code: str
    options: Any = None


REFUSALS = [
    Refusal("no JSON", "POST", "/bindings", 400, "invalid_body", {"content": b"{"}),
    Refusal("no UTF-8", "POST", "/bindings", 400, "invalid_body", {"content": b'{"a":"\xff"}'}),
    Refusal("an empty body", "POST", "/bindings", 400, "invalid_body"),
    Refusal("a list", "POST", "/bindings", 400, "invalid_body", {"json": []}),
    Refusal("no fields", "POST", "/bindings", 400, "invalid_body", {"json": {}}),
    Refusal(
        *("a NUL in a text", "POST", "/bindings", 400, "invalid_body"),
        {"json": {"shop_token": "a\0b", "binding_code": CODE}},
    ),
    Refusal(
        *("an unknown field", "POST", "/bindings", 400, "invalid_body"),
        {"json": {"shop_token": "a", "binding_code": CODE, "user_id": 1}},
    ),
    Refusal(
        *("a number for a code", "POST", "/bindings", 400, "invalid_body"),
        {"json": {"shop_token": "a", "binding_code": 482913}},
    ),
    Refusal(
        *("an unknown shop token", "POST", "/bindings", 404, "not_found"),
        {"json": {"shop_token": "nowhere", "binding_code": CODE}},
    ),
    Refusal("a scan of nothing", "GET", "/shop-tokens/nowhere", 404, "not_found"),
    Refusal("an encoded NUL", "GET", "/shop-tokens/%00", 404, "not_found"),
    Refusal("a foreign cursor", "GET", "/shops?cursor=abc", 422, "invalid_input"),
    Refusal("a cursor of all bits", "GET", f"/shops?cursor={'_' * 90}", 422, "invalid_input"),
    Refusal("two cursors", "GET", "/shops?cursor=a&cursor=b", 422, "invalid_input"),
    Refusal(
        *("nothing to confirm", "POST", "/shops/{id}/reconnect-confirmations"),
        *(409, "nothing_to_confirm"),
    ),
    Refusal(
        *("no emergency credit", "POST", "/shops/{id}/emergency-credit"),
        *(409, "no_emergency_credit"),
    ),
    Refusal("no month", "GET", "/shops/{id}/statements", 422, "invalid_input"),
    Refusal("the 13th month", "GET", "/shops/{id}/statements?month=2026-13", 422, "invalid_input"),
    Refusal("the year 0", "GET", "/shops/{id}/statements?month=0000-01", 422, "invalid_input"),
    Refusal("no day", "GET", "/shops/{id}/statements/2026-02-30", 404, "not_found"),
    Refusal("words for a day", "GET", "/shops/{id}/statements/today", 404, "not_found"),
    Refusal("no range", "GET", "/shops/{id}/usage?step=day", 422, "invalid_input"),
    Refusal("no step", "GET", "/shops/{id}/usage?from=2026-05-01", 422, "invalid_input"),
    Refusal(
        *("no such wallet", "GET", "/shops/{id}/transactions?wallet=gold", 422, "invalid_input"),
    ),
    Refusal(
        *("a cursor past all ids", "GET"),
        f"/shops/{{id}}/transactions?cursor={'OTk5' * 8}",
        *(422, "invalid_input"),
    ),
    Refusal(
        *("no idempotency key", "POST", "/shops/{id}/top-ups", 400, "idempotency_key_needed"),
        {"json": ORDER},
    ),
    Refusal(
        *("a key of 256", "POST", "/shops/{id}/top-ups", 400, "idempotency_key_needed"),
        {"json": ORDER, "headers": {"Idempotency-Key": "k" * 256}},
    ),
    Refusal(
        *("two keys", "POST", "/shops/{id}/top-ups", 400, "idempotency_key_needed"),
        {"json": ORDER, "headers": [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]},
    ),
    Refusal(
        *("a method of nobody's", "POST", "/shops/{id}/top-ups", 400, "invalid_body"),
        {"json": ORDER | {"method": "cash"}, "headers": KEY},
    ),
    Refusal(
        *("a wallet of nobody's", "POST", "/shops/{id}/top-ups", 400, "invalid_body"),
        {"json": ORDER | {"wallet": "gold"}, "headers": KEY},
    ),
    Refusal(
        *("another method of nobody's", "POST", "/top-ups/{no}/attempts", 400, "invalid_body"),
        {"json": {"method": "cash"}},
    ),
    Refusal("no other method", "POST", "/top-ups/{no}/attempts", 400, "invalid_body", {"json": {}}),
    Refusal("a method not offered", "PATCH", "/shops/{id}", 405, "method_not_allowed"),
    Refusal("a path not there", "GET", "/shops/{id}/nothing", 404, "not_found"),
]


REFUSALS += [
    Refusal(what, "GET", f"/shops/{{id}}/usage?step={step}&from={first}&to={last}", 422, "invalid")
    for what, step, first, last in (
        ("32 days of hours", "hour", "2026-05-01", "2026-06-02"),
        ("516 days", "day", "2025-01-01", "2026-06-01"),
        ("sixteen years of months", "month", "2010-01-01", "2026-06-01"),
        ("an empty range", "day", "2026-05-02", "2026-05-02"),
        ("a range that runs backwards", "day", "2026-05-02", "2026-05-01"),
        ("a step that there is not", "week", "2026-05-01", "2026-05-02"),
        ("the end of the calendar", "hour", "9999-12-30", "9999-12-31"),
        ("its beginning", "hour", "0001-01-01", "0001-01-02"),
        ("the 30th of February", "day", "2026-02-30", "2026-03-01"),
        ("words for dates", "day", "yesterday", "today"),
    )
]
REFUSALS += [
    Refusal(
        *(f"an amount of {amount}", "POST", "/shops/{id}/top-ups", status, "invalid"),
        {
            "content": f'{{"amount_fen": {amount}, "method": "wechat_jsapi"}}',
            "headers": KEY,
        },
    )
    for amount, status in (
        *((amount, 400) for amount in ("true", "1.5", "1.0", '"100"', "null", "1e2", "1e3", "[]")),
        *((amount, 422) for amount in ("0", "-1", "100000001", "1" + "0" * 30)),
    )
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.what)
async def test_a_refusal_is_a_problem_with_a_stable_code(
    neighbours: Neighbours, refusal: Refusal
) -> None:
    town, ann, shop_id = neighbours.town, neighbours.ann, neighbours.shop_id
    options = dict(refusal.options or {})
    headers = httpx.Headers(options.pop("headers", None))
    headers["Authorization"] = f"Bearer {ann.token}"
    url = PREFIX + refusal.path.replace("{id}", str(shop_id)).replace("{no}", neighbours.no)
    answer = await town.client.request(refusal.method, url, headers=headers, **options)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"status", "code", "detail", "request_id"}
    assert (answer.status_code, problem["status"]) == (refusal.status, refusal.status)
    assert problem["code"].startswith(refusal.code)
    assert "Traceback" not in answer.text
    assert await rows(pool(), "SELECT no FROM top_up") == [{"no": neighbours.no}]


async def test_a_huge_body_is_not_even_read(neighbours: Neighbours) -> None:
    answer = await neighbours.ann.post("/bindings", content=b"x" * 70_000)
    assert answer.json()["code"] == "body_too_large"
    assert 400 <= answer.status_code < 500


async def test_the_detail_speaks_the_callers_language(lasting_town: Town) -> None:
    for language, words in (("zh-CN", "请先登录"), ("en-GB,en;q=0.9", "Please log in")):
        headers = {"Accept-Language": language}
        answer = await lasting_town.client.get(f"{PREFIX}/shops", headers=headers)
        assert answer.json()["detail"] == words


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation.path)
async def test_without_a_session_nothing_but_the_login_answers(
    lasting_town: Town, route: Any
) -> None:
    if not route.operation.bearer:
        assert route.operation.path == f"{PREFIX}/sessions"
        return
    path = route.operation.path.replace("{", "").replace("}", "")
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
        answer = await lasting_town.client.request(route.operation.method, path, headers=header)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"


CALLS = [
    ("GET", "/shops/{id}", {}),
    ("GET", "/shops/{id}/usage?from=2026-05-01&to=2026-05-02&step=day", {}),
    ("GET", "/shops/{id}/usage", {}),
    ("GET", "/shops/{id}/statements?month=2026-05", {}),
    ("GET", "/shops/{id}/statements/2026-05-20", {}),
    ("GET", "/shops/{id}/transactions", {}),
    ("POST", "/shops/{id}/top-ups", {"json": ORDER, "headers": KEY}),
    ("POST", "/shops/{id}/top-ups", {"content": b"{"}),
    ("POST", "/shops/{id}/reconnect-confirmations", {}),
    ("POST", "/shops/{id}/emergency-credit", {}),
    ("DELETE", "/shops/{id}/binding", {}),
    ("GET", "/top-ups/{no}", {}),
    ("POST", "/top-ups/{no}/attempts", {"json": {"method": "alipay_qr"}}),
    ("POST", "/top-ups/{no}/close", {}),
]
NOT_THERE = [
    "987654321",
    "0",
    "-1",
    "01",
    "1e3",
    "abc",
    "9" * 25,
    "1%20",
    "%31",
    "１",
    "1;",
    "null",
]


async def _answer(phone: Phone, method: str, path: str, options: dict[str, Any]) -> Any:
    answer = await phone.send(method, path, **options)
    body = answer.json()
    assert body.pop("request_id") == answer.headers["x-request-id"]
    headers = {k: v for k, v in answer.headers.items() if k not in {"x-request-id", "date"}}
    return answer.status_code, body, headers


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]} {call[1]}")
async def test_anothers_object_answers_as_one_that_does_not_exist(
    neighbours: Neighbours, call: Any
) -> None:
    method, path, options = call
    eve, shop_id = neighbours.eve, neighbours.shop_id
    anothers = path.replace("{id}", str(shop_id)).replace("{no}", neighbours.no)
    seen = await _answer(eve, method, anothers, options)
    assert seen[0] == 404
    for missing in NOT_THERE:
        absent = path.replace("{id}", missing).replace("{no}", missing)
        assert await _answer(eve, method, absent, options) == seen, missing
    still = await neighbours.ann.get(f"/shops/{shop_id}")
    assert still.status_code == 200  # nothing happened to it


@given(st.text(max_size=40))
def test_only_plain_numbers_are_ever_looked_up(text: str) -> None:
    if _ID.fullmatch(text):
        assert str(int(text)) == text
        assert 0 < int(text) < 2**63
    if _NUMBER.fullmatch(text):
        assert text.isascii()
        assert text.isalnum()
