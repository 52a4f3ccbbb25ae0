"""The managers' pages: who needs a look comes first, and nothing dangerous happens by accident."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from server.models import database
from server.services import manager_acts
from tests.http import http_client
from tests.pages.conftest import OpenPage
from tests.pages.mall import PASSWORD, Mall

CODES = ".shop-who .code"


async def test_a_wrong_password_is_told_in_words_and_keeps_the_name(open_page: OpenPage) -> None:
    page = await open_page("/admin/login")
    await page.fill("#name", "owner")
    await page.fill("#password", "wrong wrong")
    await page.click("main button")
    assert await page.inner_text("[role=alert]") == "用户名或密码不正确"
    assert await page.input_value("#name") == "owner"


async def test_the_right_password_opens_the_overview(open_page: OpenPage) -> None:
    page = await open_page("/admin/login")
    await page.fill("#name", "owner")
    await page.fill("#password", PASSWORD)
    await page.click("main button")
    await page.wait_for_selector("#shops")
    [cookie] = [one for one in await page.context.cookies() if one["name"] == "mw_manager"]
    kept = {name: cookie[name] for name in ("path", "httpOnly", "sameSite", "secure")}
    assert kept == {"path": "/admin", "httpOnly": True, "sameSite": "Lax", "secure": False}


async def test_without_a_session_every_page_leads_to_the_login(mall: Mall) -> None:
    async with http_client(base_url=mall.url) as client:
        for path in ("/admin", "/admin/shops/A101", "/admin/shops/A101/supply?state=connected"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/admin/login")
        assert (await client.get("/admin/live")).status_code == 401


async def test_off_and_switching_come_first_then_low(log_in: OpenPage) -> None:
    page = await log_in()
    codes = await page.locator(CODES).all_inner_texts()
    assert codes == ["A103", "B203", "B201", "A102", "B202", "A101"]
    assert await page.locator(".tile strong").all_inner_texts() == ["6", "2", "1", "3", "1", "0"]


async def test_search_narrows_and_wildcards_mean_themselves(log_in: OpenPage) -> None:
    page = await log_in()
    for query, found in (
        ("b20", ["B203", "B201", "B202"]),
        ("书店", ["A102"]),
        ("%", []),
        ("_", []),
    ):
        await page.fill("#q", query)
        await page.click(".search button")
        await page.wait_for_url("**q=**")
        assert await page.locator(CODES).all_inner_texts() == found, query


async def test_the_overview_is_live(mall: Mall, log_in: OpenPage) -> None:
    page = await log_in()
    await mall.control("A101", commanded_at=None, confirmed="disconnected", case_code="load_trip")
    await page.wait_for_selector("a.shop.off:has-text('A101')")
    assert (await page.locator(CODES).all_inner_texts())[0] == "A103"


async def test_one_shop_shows_its_day_its_meter_and_why(log_in: OpenPage) -> None:
    page = await log_in("read_only")
    await page.click("a.shop:has-text('A103')")
    await page.wait_for_selector("#meters")
    supply = await page.inner_text("#supply")
    assert "已断电" in supply
    assert "余额不足" in supply
    assert await page.locator("#go-disconnect").count() == 0, "a reader may not switch"
    assert await page.locator("text=482913").count() == 0, "nor bind"
    assert "M-A103" in await page.inner_text("#meters")


async def test_a_balance_of_an_old_reading_says_so(mall: Mall, log_in: OpenPage) -> None:
    page = await log_in()
    await page.goto("/admin/shops/A101")
    assert "读数已过期" not in await page.inner_text("#money")
    await database.rows(
        database.pool(), "UPDATE meter_status SET read_at = read_at - interval '1 hour'"
    )
    await page.wait_for_selector("#money .banner")
    assert "读数已过期" in await page.inner_text("#money")
    assert page.url.startswith(mall.url)


async def test_between_command_and_read_back_it_says_switching(log_in: OpenPage) -> None:
    page = await log_in("engineer")
    await page.click("a.shop:has-text('B201')")
    await page.wait_for_selector("#meters")
    for region in ("#supply", "#meters"):
        words = await page.inner_text(region)
        assert "切换中" in words
        assert "已断电" not in words
        assert "供电中" not in words


async def test_disconnecting_takes_a_page_of_its_own_and_a_reason(
    mall: Mall, log_in: OpenPage
) -> None:
    page = await log_in("engineer")
    await page.goto("/admin/shops/A101")
    await page.click("#go-disconnect")
    assert "A101" in await page.inner_text(".shop-name")
    await page.fill("#reason", "检修")
    await page.click("form button.danger")
    await page.wait_for_selector("#supply")
    assert "切换中" in await page.inner_text("#supply")
    found = await database.rows(
        database.pool(), "SELECT actor, act, subject, reason FROM manager_act"
    )
    assert [dict(one) for one in found] == [
        {"actor": "engineer", "act": "disconnect", "subject": "shop:A101", "reason": "检修"}
    ]
    await mall.control("A101", confirmed="disconnected")
    await page.wait_for_selector("#supply .chip.off")
    assert "检修" in await page.inner_text("#meters")


async def _form(client: httpx.AsyncClient, path: str) -> dict[str, str]:
    """The hidden fields of the page's last form."""
    html = (await client.get(path)).text
    form = html.rpartition("<form")[2]
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))


@asynccontextmanager
async def _client(mall: Mall, name: str) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(base_url=mall.url) as client:
        form = {**await _form(client, "/admin/login"), "name": name, "password": PASSWORD}
        assert (await client.post("/admin/login", data=form)).status_code == 303
        yield client


CUT = "/admin/shops/A101/supply?site=demo&state=disconnected"


async def _holds() -> int:
    found = await database.row(
        database.pool(), "SELECT count(*) AS n FROM meter_control WHERE hold_by = 'owner'"
    )
    return int(found["n"]) if found else -1


@pytest.mark.parametrize("change", ["paid", "switched", "held", "too_late", "used", "others"])
async def test_a_dangerous_act_is_refused_on_other_facts(mall: Mall, change: str) -> None:
    async with _client(mall, "owner") as client:
        form = {**await _form(client, CUT), "reason": "检修"}
        if change == "paid":
            await database.rows(database.pool(), "UPDATE wallet SET balance_fen = balance_fen + 1")
        elif change == "switched":
            await mall.control("A101", confirmed="disconnected")
        elif change == "held":
            await mall.control("A101", hold_reason="x", hold_by="y", held_at=mall.clock())
        elif change == "too_late":
            mall.clock.at = mall.clock() + manager_acts.TOKEN_LIFE
        elif change == "used":
            assert (await client.post(CUT, data=form)).status_code == 303
            await mall.control("A101", hold_reason=None, hold_by=None, held_at=None)
        else:
            async with _client(mall, "engineer") as other:
                form["act_token"] = (await _form(other, CUT))["act_token"]
        answer = await client.post(CUT, data=form)
        assert answer.status_code == 409
        assert "请核对最新情况" in answer.text
        assert "检修" in answer.text, "what was typed is kept"
        assert await _holds() == 0


async def test_a_token_serves_one_of_two_posts_at_once(mall: Mall) -> None:
    async with _client(mall, "owner") as client:
        form = {**await _form(client, CUT), "reason": "检修"}
        answers = await asyncio.gather(*(client.post(CUT, data=form) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [303, 409]


async def test_no_reason_no_act(mall: Mall) -> None:
    async with _client(mall, "owner") as client:
        form = {**await _form(client, CUT), "reason": "  "}
        assert (await client.post(CUT, data=form)).status_code == 422
    assert await _holds() == 0


async def test_other_roles_may_neither_look_nor_act(mall: Mall) -> None:
    for role in ("finance", "service", "read_only"):
        async with _client(mall, role) as client:
            assert (await client.get(CUT)).status_code == 403, role
            csrf = re.search(r'name="csrf" value="(\w+)"', (await client.get("/admin")).text)
            assert csrf is not None
            form = {"csrf": csrf[1], "state": "disconnected", "reason": "x", "act_token": "x"}
            assert (await client.post(CUT, data=form)).status_code == 403, role


async def test_the_binding_code_is_shown_to_whoever_asks_and_may(mall: Mall) -> None:
    shown = {}
    for role in ("owner", "finance"):
        cookies = {"mw_manager": await mall.session_of(role)}
        async with http_client(base_url=mall.url, cookies=cookies) as client:
            page = await client.get("/admin/shops/A101")
            asked = await client.get("/admin/shops/A101?show=binding_code")
        assert "482913" not in page.text
        shown[role] = ("show=binding_code" in page.text, asked.status_code, "482913" in asked.text)
    assert shown == {"owner": (True, 200, True), "finance": (False, 403, False)}
    acts = await database.rows(database.pool(), "SELECT actor, act, subject FROM manager_act")
    assert acts == [{"actor": "owner", "act": "binding_code.view", "subject": "shop:A101"}]


async def test_a_form_of_another_session_is_refused(mall: Mall) -> None:
    async with _client(mall, "owner") as client, _client(mall, "engineer") as other:
        form = {**await _form(client, CUT), "reason": "x"}
        form["csrf"] = (await _form(other, CUT))["csrf"]
        assert (await client.post(CUT, data=form)).status_code == 403
        assert (await client.post("/admin/logout")).status_code == 403
        cross = {"Origin": "https://evil.example"}
        form = {**await _form(client, CUT), "reason": "x"}
        assert (await client.post(CUT, data=form, headers=cross)).status_code == 403
    assert await _holds() == 0


async def test_the_session_cookie_is_out_of_reach(mall: Mall) -> None:
    async with http_client(base_url=mall.url) as client:
        form = {**await _form(client, "/admin/login"), "name": "owner", "password": PASSWORD}
        answer = await client.post("/admin/login", data=form)
    [cookie] = [
        line for line in answer.headers.get_list("set-cookie") if line.startswith("mw_manager")
    ]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/admin" in cookie


async def test_logging_out_ends_the_session_and_its_live_page(mall: Mall, log_in: OpenPage) -> None:
    page = await log_in()
    await page.click("header button")
    await page.wait_for_url("**/admin/login")
    await page.goto("/admin")
    assert page.url.endswith("/admin/login")
    found = await database.row(database.pool(), "SELECT count(*) AS n FROM manager_session")
    assert found == {"n": 0}
    assert mall.url in page.url


async def test_the_overview_stays_within_90_kb(mall: Mall) -> None:
    async with _client(mall, "owner") as client:
        html = (await client.get("/admin")).text
        parts = re.findall(r'(?:href|src)="(/static/[^"]+)"', html)
        assert parts
        size = len(html.encode()) + sum([len((await client.get(part)).content) for part in parts])
    assert size <= 90_000


async def test_one_language_for_one_browser(log_in: OpenPage) -> None:
    page = await log_in(locale="en-US")
    assert await page.get_attribute("html", "lang") == "en"
    await page.click("a.lang")
    assert await page.get_attribute("html", "lang") == "zh-CN"
    await page.goto("/admin/shops/A101")
    assert "余额" in await page.inner_text("main"), "the choice is remembered"
