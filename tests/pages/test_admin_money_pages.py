"""Money by hand on the managers' pages: two forms, and a second person who sees it all first."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from server.models import database
from server.services.money_by_hand import KINDS
from tests.http import http_client
from tests.pages.conftest import OpenPage
from tests.pages.mall import Mall

DESK = "/admin/shops/A101/desk-payment"
ADJUST = "/admin/shops/A101/adjustment"
MARKUP = "<b>退票</b>"


async def _books() -> tuple[int, int, int]:
    """Transactions, askings, and what is in the electricity wallet of A101."""
    found = await database.row(
        database.pool(),
        "SELECT (SELECT count(*) FROM ledger_transaction) AS posted,"
        " (SELECT count(*) FROM approval) AS asked, balance_fen AS fen"
        " FROM wallet JOIN account ON account.id = account_id"
        " JOIN tenancy ON tenancy.id = account.tenancy_id JOIN shop ON shop.id = shop_id"
        " WHERE shop.code = 'A101' AND account.kind = 'electricity_wallet'",
    )
    assert found is not None
    return found["posted"], found["asked"], found["fen"]


async def test_money_at_the_desk_is_in_the_balance_at_once(log_in: OpenPage) -> None:
    page = await log_in("finance")
    await page.goto("/admin/shops/A101")
    await page.click("#go-desk")
    await page.fill("#amount", "128.50")
    await page.fill("#receipt_no", "2026-0001")
    await page.click("main form button")
    assert await page.inner_text("[role=status]") == "已入账"
    assert "¥5,128.50" in await page.inner_text("#money")
    assert "2026-0001" in await page.inner_text("[aria-labelledby=receipts-title]")
    await page.goto(DESK)
    await page.fill("#amount", "1")
    await page.fill("#receipt_no", "2026-0001")
    await page.click("main form button")
    assert await page.inner_text("[role=alert]") == "收据号已用于另一笔收款"
    assert await page.input_value("#amount") == "1", "what was typed is kept"
    assert (await _books())[2] == 512_850


async def test_emergency_credit_in_use_is_shown_beside_the_balance(log_in: OpenPage) -> None:
    page = await log_in("finance")
    await page.goto("/admin/shops/A101")
    assert "应急额度" not in await page.inner_text("#money")
    await database.rows(database.pool(), "UPDATE tenancy SET emergency_credit_fen = 3000")
    await page.wait_for_selector("#money :text('应急额度')")
    money = await page.inner_text("#money")
    assert "¥30.00" in money
    assert "¥5,000.00" in money


async def test_a_second_person_sees_all_and_the_first_cannot_decide(log_in: OpenPage) -> None:
    page = await log_in("finance")
    await page.goto(ADJUST)
    await page.check("input[value=down]")
    await page.fill("#amount", "256")
    await page.fill("#reason", MARKUP)
    await page.click("main form button")
    assert "等待另一人复核" in await page.inner_text("[role=status]")
    shown = await page.inner_text("section.card")
    for fact in ("−¥256.00", "A101", "电费", MARKUP, "finance"):
        assert fact in shown
    assert await page.locator("button[name=decision]").count() == 0
    assert (await _books())[2] == 500_000
    page = await log_in("owner")
    assert "1" in await page.inner_text("#go-approvals")
    await page.click("#go-approvals")
    await page.click("button[value=approve]")
    assert "已通过" in await page.inner_text("[role=status]")
    assert (await _books())[2] == 474_400


ASKED = """
INSERT INTO approval (no, site_id, kind, act, asked_by_id, asked_at, expires_at)
SELECT $1, (SELECT id FROM site LIMIT 1), $2, $3::jsonb, id, now(), now() + interval '1 day'
FROM manager WHERE name = 'finance'
"""


async def test_every_kind_of_asking_is_shown_with_what_it_has(mall: Mall) -> None:
    """Not each is about a wallet, a method or a receipt."""
    plain = {"shop": "A101", "amount_fen": 100, "subject": "shop:A101", "reason": "为何"}
    payout = plain | {"method": "cash", "reference": "V-77", "refund_no": "R-5"}
    for kind in KINDS:
        act = payout if kind == "refund_payout" else plain
        await database.rows(database.pool(), ASKED, kind, kind, database.to_json(act))
    async with _client(mall, "owner") as client:
        shown = await client.get("/admin/approvals")
    assert (shown.status_code, shown.text.count("为何")) == (200, len(KINDS))
    for fact in ("V-77", "R-5", "退款线下支付", "现金"):
        assert fact in shown.text


async def test_what_was_taken_at_the_desk_is_taken_back_by_two(log_in: OpenPage) -> None:
    page = await log_in("finance")
    await page.goto(DESK)
    await page.fill("#amount", "10")
    await page.fill("#receipt_no", "收 & 1/2")
    await page.click("main form button")
    await page.click("[aria-labelledby=receipts-title] a")
    assert await page.input_value("#receipt_no") == "收 & 1/2"
    await page.fill("#reason", "退票")
    await page.click("main form button")
    page = await log_in("owner")
    await page.goto("/admin/approvals")
    await page.click("button[value=approve]")
    assert (await _books())[2] == 500_000
    await page.goto("/admin/shops/A101")
    assert "已冲正" in await page.inner_text("[aria-labelledby=receipts-title]")


@asynccontextmanager
async def _client(mall: Mall, name: str) -> AsyncIterator[httpx.AsyncClient]:
    cookies = {"mw_manager": await mall.session_of(name)}
    async with http_client(base_url=mall.url, cookies=cookies) as client:
        yield client


async def _form(client: httpx.AsyncClient, path: str) -> dict[str, str]:
    html = (await client.get(path)).text.rpartition("<form")[2]
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', html))


async def test_a_form_sent_twice_posts_once(mall: Mall) -> None:
    async with _client(mall, "owner") as client:
        typed = {"amount": "5", "direction": "up", "wallet": "electricity", "reason": "补偿\r\n二"}
        form = {**await _form(client, ADJUST), **typed}
        for _ in range(2):
            answer = await client.post(ADJUST, data=form)
            assert answer.headers["location"].endswith("told=posted")
        other = await client.post(ADJUST, data={**form, "amount": "6"})
        assert (other.status_code, (await _books())[2]) == (409, 500_500)
        assert "重新打开" in other.text


BAD = [
    (ADJUST, {"amount": "0", "reason": "x"}),
    (ADJUST, {"amount": "1e3", "reason": "x"}),
    (ADJUST, {"amount": "-5", "reason": "x"}),
    (ADJUST, {"amount": "5", "reason": " "}),
    (ADJUST, {"amount": "5", "reason": "x" * 201}),
    (ADJUST, {"amount": "5", "reason": "x", "direction": "sideways"}),
    (ADJUST, {"amount": "5", "reason": "x", "wallet": "piggy"}),
    (DESK, {"amount": "5", "receipt_no": ""}),
    (DESK, {"amount": "5", "receipt_no": "R", "method": "barter"}),
]


async def test_what_cannot_be_is_told_on_the_form_and_changes_nothing(mall: Mall) -> None:
    before = await _books()
    async with _client(mall, "owner") as client:
        good = {"direction": "up", "wallet": "electricity", "method": "cash"}
        for path, typed in BAD:
            form = {**await _form(client, path), **good, **typed}
            answer = await client.post(path, data=form)
            assert answer.status_code == 422, typed
            assert 'role="alert"' in answer.text
        nowhere = "/admin/approvals/none"
        form = {**await _form(client, ADJUST), "decision": "approve"}
        assert (await client.post(nowhere, data=form)).status_code == 404
        form["decision"] = "perhaps"
        assert (await client.post(nowhere, data=form)).status_code == 422
    assert await _books() == before


async def test_other_roles_see_no_way_and_find_none(mall: Mall) -> None:
    before = await _books()
    for role in ("engineer", "service", "read_only"):
        async with _client(mall, role) as client:
            shop = (await client.get("/admin/shops/A101")).text
            assert "go-adjust" not in shop
            csrf = re.search(r'name="csrf" value="(\w+)"', shop)
            assert csrf is not None
            form = {"csrf": csrf[1], "amount": "5", "reason": "x", "decision": "approve"}
            for path in (DESK, ADJUST, "/admin/shops/A101/reversal"):
                assert (await client.get(path)).status_code == 403
                assert (await client.post(path, data=form)).status_code == 403
            assert (await client.post("/admin/approvals/x", data=form)).status_code == 403
            assert (await client.get("/admin/approvals")).status_code == 200
    async with _client(mall, "owner") as client, _client(mall, "finance") as other:
        form = {**await _form(other, ADJUST), "amount": "5", "reason": "x", "direction": "up"}
        assert (await client.post(ADJUST, data=form)).status_code == 403, "another session's form"
    assert await _books() == before
