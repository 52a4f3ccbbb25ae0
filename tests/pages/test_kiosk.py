"""The kiosk: enrolled once, used by everybody, back at its start when nobody is there."""

import re

from playwright.async_api import Page

from server.models import database
from tests.fakes.empty_site import empty_site
from tests.http import http_client
from tests.pages.conftest import OpenPage
from tests.pages.mall import PASSWORD, Mall

WALL = {"viewport": {"width": 1080, "height": 1920}, "user_agent": "Mozilla/5.0 (X11; Linux)"}


async def _enrolled(open_page: OpenPage) -> Page:
    page = await open_page("/kiosk/enrol", **WALL)
    await page.fill("#kiosk", "一楼东门")
    await page.fill("#name", "engineer")
    await page.fill("#password", PASSWORD)
    await page.click("main button")
    return page


async def test_a_strange_screen_shows_nothing_but_the_way_to_enrol(mall: Mall) -> None:
    async with http_client(base_url=mall.url, follow_redirects=True) as client:
        answer = await client.get("/kiosk?q=A1")
        assert answer.status_code == 401
        assert "A101" not in answer.text
        for path in ("/kiosk/shops/A101", "/kiosk/top-ups/1", "/kiosk/live/1"):
            assert (await client.get(path)).status_code == 401


async def test_enrolling_leaves_a_row_in_the_log_and_no_session(open_page: OpenPage) -> None:
    page = await _enrolled(open_page)
    await page.wait_for_selector("[data-keypad]:not([hidden])")
    sessions = await database.row(database.pool(), "SELECT count(*) AS n FROM manager_session")
    acts = await database.rows(database.pool(), "SELECT actor, act, subject FROM manager_act")
    assert sessions == {"n": 0}
    assert acts == [
        {"actor": "engineer", "act": "session.open", "subject": "manager:engineer"},
        {"actor": "engineer", "act": "kiosk.enrol", "subject": "kiosk:一楼东门"},
    ]


async def test_who_may_not_enrol_is_told_so(mall: Mall) -> None:
    words = {"finance": 403, "service": 403, "read_only": 403, "nobody": 401}
    async with http_client(base_url=mall.url) as client:
        csrf = re.search(r'name="csrf" value="(\w+)"', (await client.get("/kiosk/enrol")).text)
        assert csrf is not None
        for name, status in words.items():
            form = {"csrf": csrf[1], "kiosk": "K", "name": name, "password": PASSWORD}
            answer = await client.post("/kiosk/enrol", data=form)
            assert (answer.status_code, 'role="alert"' in answer.text) == (status, True), name
    found = await database.row(database.pool(), "SELECT count(*) AS n FROM kiosk")
    assert found == {"n": 0}


async def test_find_pay_and_see_the_receipt(mall: Mall, open_page: OpenPage) -> None:
    page = await _enrolled(open_page)
    for key in "B2":
        await page.click(f"[data-key='{key}']")
    await page.click(".door:has-text('B202')")
    shown = await page.inner_text("main")
    assert "小城故事川菜馆" in shown
    assert "26,400" not in shown, "no balance in public"
    await page.check("input[value='20000']", force=True)
    await page.click("button.both")
    await page.wait_for_selector("svg.qr >> nth=1")
    for platform in mall.platforms.platforms.values():
        assert [one.amount_fen for one in platform.requests] == [20_000]
    assert await page.locator(".needs-paid").is_hidden()
    await mall.pay(page.url.rpartition("/")[2], ticks=4)
    await page.wait_for_selector(".banner.good")
    await page.click(".needs-paid")
    receipt = await page.inner_text(".receipt")
    assert "¥200.00" in receipt
    assert "B202" in receipt


async def test_without_script_the_search_is_a_form(open_page: OpenPage) -> None:
    page = await open_page("/kiosk/enrol", **WALL, java_script_enabled=False)
    await page.fill("#kiosk", "西门")
    await page.fill("#name", "owner")
    await page.fill("#password", PASSWORD)
    await page.click("main button")
    await page.fill("#q", "书店")
    await page.click(".kiosk-find button")
    assert await page.locator(".door .code").all_inner_texts() == ["A102"]


async def test_it_locks_itself(open_page: OpenPage) -> None:
    page = await _enrolled(open_page)
    await page.wait_for_selector("[data-keypad]:not([hidden])")
    await page.clock.install()
    await page.goto("/kiosk/shops/A101")
    await page.clock.run_for(80_000)
    await page.locator("h1").click()  # a touch: the time counts anew
    await page.clock.run_for(80_000)
    assert page.url.endswith("/kiosk/shops/A101")
    await page.clock.run_for(11_000)
    await page.wait_for_url("**/kiosk")


async def test_it_locks_itself_before_an_unpaid_code_too(open_page: OpenPage) -> None:
    page = await _enrolled(open_page)
    await page.wait_for_selector("[data-keypad]:not([hidden])")
    await page.clock.install()
    await page.goto("/kiosk/shops/A101")
    await page.click("button.both")
    await page.wait_for_selector("svg.qr >> nth=1")
    await page.clock.run_for(250_000)  # the time left to pay counts down, which is no touch
    assert re.fullmatch("2[56]:[0-9]{2}", await page.inner_text(".left"))
    assert "/kiosk/top-ups/" in page.url
    await page.clock.run_for(55_000)
    await page.wait_for_url("**/kiosk")


async def test_a_kiosk_sees_its_own_mall_alone(mall: Mall, open_page: OpenPage) -> None:
    page = await _enrolled(open_page)
    await page.wait_for_selector("#q")
    other_id = await empty_site("other")
    await database.rows(database.pool(), "UPDATE kiosk SET site_id = $1", other_id)
    await page.goto("/kiosk?q=A1")
    assert await page.locator(".door").count() == 0
    answer = await page.goto("/kiosk/shops/A101")
    assert answer is not None
    assert answer.status == 404
    assert answer.url.startswith(mall.url)
