"""The page behind the printed QR code: anyone can top a shop up, nobody learns its balance."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from payments.contract import TradeStatus
from server.models import database
from server.services import public_page
from tests.http import http_client
from tests.pages.conftest import OpenPage
from tests.pages.mall import Mall

WECHAT = "Mozilla/5.0 (iPhone) Mobile MicroMessenger/8.0.50"
ALIPAY = "Mozilla/5.0 (iPhone) Mobile AlipayClient/10.5"
DESKTOP = "Mozilla/5.0 (X11)"


async def test_a_phone_without_script_orders_and_is_sent_to_the_platform(
    mall: Mall, open_page: OpenPage
) -> None:
    page = await open_page(f"/s/{await mall.token_of('A101')}", java_script_enabled=False)
    assert await page.inner_text("h1") == "A101 茶*"
    await page.fill("#other", "88.5")
    await page.click("button.alipay")
    assert "/top-ups/" in page.url
    pay_url = await page.get_attribute("#go", "href")
    [ordered] = mall.platforms.alipay.requests
    assert (ordered.amount_fen, ordered.client_ip) == (8850, "127.0.0.1")
    assert pay_url == f"https://pay.example/{ordered.out_trade_no}"


async def test_with_script_it_goes_on_by_itself_once_and_coming_back_shows_the_ticks(
    mall: Mall, open_page: OpenPage
) -> None:
    page = await open_page(f"/s/{await mall.token_of('A101')}")
    await page.route("https://pay.example/**", lambda route: route.fulfill(body="paying"))
    await page.click("button.wechat")
    await page.wait_for_url("https://pay.example/**")
    await page.go_back()
    await page.wait_for_selector("#ticks")
    assert "pay=1" not in page.url
    assert await page.locator(".tick.waiting").count() == 4


async def test_the_platform_sends_the_payer_back_to_the_order(
    mall: Mall, open_page: OpenPage
) -> None:
    page = await open_page(f"/s/{await mall.token_of('A101')}", java_script_enabled=False)
    await page.click("button.wechat")
    [ordered] = mall.platforms.wechat.requests
    assert ordered.return_url is not None
    status_url = page.url.partition("?")[0]
    await page.goto(ordered.return_url)
    assert page.url == f"{status_url}?paid=1"


async def test_a_desktop_gets_both_codes_and_the_ticks_come_live(
    mall: Mall, open_page: OpenPage
) -> None:
    page = await open_page(f"/s/{await mall.token_of('A103')}", user_agent=DESKTOP)
    await page.click("button.both")
    await page.wait_for_selector("svg.qr >> nth=1")
    assert await page.locator(".scan-with").count() == 2
    no = page.url.rpartition("/")[2].partition("?")[0]
    await mall.control("A103", policy_state="connected")  # credited: wished on, not read back yet
    await mall.pay(no, ticks=3)
    await page.wait_for_selector(".tick.done >> nth=2")
    assert await page.locator("svg.qr").count() == 0
    shown = await page.inner_text("#ticks")
    assert "切换中" in shown, "between command and read-back nobody says connected"
    assert "完成" not in shown
    await mall.control("A103", confirmed="connected")
    await mall.pay(no, ticks=4)
    await page.wait_for_selector(".tick.done >> nth=3")
    assert "充值完成" in await page.inner_text("#ticks")


async def test_paid_but_dark_says_why(mall: Mall, open_page: OpenPage) -> None:
    page = await open_page(f"/s/{await mall.token_of('B203')}", user_agent=DESKTOP, locale="en-US")
    await page.click("button.both")
    await page.wait_for_selector("svg.qr")
    await mall.pay(page.url.rpartition("/")[2].partition("?")[0], ticks=2)
    await page.wait_for_selector(".tick.stuck")
    assert "ask at the service desk" in await page.inner_text("#ticks")


async def test_inside_wechat_the_page_shows_the_way_to_the_mini_program(
    mall: Mall, open_page: OpenPage
) -> None:
    page = await open_page(f"/s/{await mall.token_of('A101')}", user_agent=WECHAT)
    assert "小程序" in await page.inner_text("main")
    assert await page.locator("button.alipay").count() == 0
    assert await page.locator("button[value=wechat_h5]").count() == 0


async def test_inside_alipay_one_pays_with_alipay_alone(mall: Mall, open_page: OpenPage) -> None:
    page = await open_page(f"/s/{await mall.token_of('A101')}", user_agent=ALIPAY)
    shown = await page.locator(".methods button").evaluate_all("all => all.map((b) => b.value)")
    assert shown == ["alipay_wap"]


async def test_without_script_one_pays_another_way_and_the_page_looks_by_itself(
    mall: Mall, open_page: OpenPage
) -> None:
    page = await open_page(f"/s/{await mall.token_of('A101')}", java_script_enabled=False)
    await page.click("button.wechat")
    order = page.url.partition("?")[0]
    assert await page.locator("meta[http-equiv=refresh]").get_attribute("content") == "10"
    await page.click(".other-ways button.alipay")
    assert page.url.partition("?")[0] == order
    [by_wechat], [by_alipay] = (one.requests for one in mall.platforms.platforms.values())
    assert mall.platforms.wechat.trades[by_wechat.out_trade_no].status is TradeStatus.CLOSED
    assert by_alipay.return_url == f"{order}?paid=1"
    pay_url = await page.get_attribute("#go", "href")
    assert pay_url == f"https://pay.example/{by_alipay.out_trade_no}"
    await mall.pay(order.rpartition("/")[2], ticks=2)
    await page.click("main a.button.quiet")
    assert "充值完成" in await page.inner_text("#ticks")
    assert await page.locator(".other-ways").count() == 0


async def test_a_link_that_became_old_is_not_shown_and_a_fresh_one_is_made(
    mall: Mall, open_page: OpenPage
) -> None:
    mall.clock.at = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)
    page = await open_page(f"/s/{await mall.token_of('A101')}", java_script_enabled=False)
    await page.click("button.wechat")
    mall.clock.at += timedelta(minutes=5)
    await page.click("main a.button.quiet")
    assert await page.locator("#go").count() == 0
    await page.click(".other-ways button.wechat")
    assert await page.locator("#go").count() == 1
    first, again = mall.platforms.wechat.requests
    assert first.out_trade_no == again.out_trade_no


async def test_who_says_paid_is_asked_for_at_once(mall: Mall) -> None:
    form = {"nonce": "h" * 32, "amount_fen": "5000", "method": "alipay_wap"}
    async with http_client(base_url=mall.url) as client:
        answer = await client.post(f"/s/{await mall.token_of('A101')}/top-ups", data=form)
        place = answer.headers["location"].partition("?")[0]
        later = mall.clock() + timedelta(minutes=1)
        await database.rows(database.pool(), "UPDATE payment_order SET query_at = $1", later)
        for argument, soon in (("pay=1", False), ("paid=1", True)):
            assert (await client.get(f"{place}?{argument}")).status_code == 200
            asked = await database.row(database.pool(), "SELECT query_at FROM payment_order")
            assert asked is not None
            assert (asked["query_at"] < mall.clock() + timedelta(seconds=3)) is soon


async def test_the_time_to_pay_runs_out_on_the_screen(mall: Mall, open_page: OpenPage) -> None:
    start = mall.clock.at = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)
    page = await open_page(f"/s/{await mall.token_of('A101')}", user_agent=DESKTOP)
    await page.click("button.both")
    await page.wait_for_selector("svg.qr")
    assert re.fullmatch("(30:00|29:5[0-9])", await page.inner_text(".left"))
    mall.clock.at = start + timedelta(minutes=30, seconds=-1)
    await page.reload()
    mall.clock.at = start + timedelta(minutes=30)
    await page.wait_for_selector(".banner.idle")
    assert await page.locator("svg.qr").count() == 0


async def test_another_shops_order_is_not_changed_here(mall: Mall) -> None:
    form = {"nonce": "f" * 32, "amount_fen": "5000", "method": "wechat_h5"}
    token, other = await mall.token_of("A101"), await mall.token_of("A102")
    async with http_client(base_url=mall.url) as client:
        place = (await client.post(f"/s/{token}/top-ups", data=form)).headers["location"]
        path = place.partition("?")[0].replace(token, other) + "/attempts"
        wrong = [path, f"/s/{other}/top-ups/1/attempts", f"/s/{other}/top-ups/%00/attempts"]
        for there in wrong:
            answer = await client.post(there, data={"method": "alipay_wap"})
            assert answer.status_code == 404, there
        elsewhere = await client.post(
            place.partition("?")[0] + "/attempts",
            data={"method": "alipay_wap"},
            headers={"Origin": "https://evil.example"},
        )
    assert elsewhere.status_code == 403
    assert mall.platforms.alipay.requests == []


async def test_it_never_shows_a_balance_or_a_name(mall: Mall) -> None:
    async with http_client(base_url=mall.url) as client:
        shown = (await client.get(f"/s/{await mall.token_of('A102')}")).text
    assert "春风书店" not in shown
    assert "12.50" not in shown
    assert "482913" not in shown


async def test_a_page_stays_within_50_kb_and_asks_nobody_else(
    mall: Mall, open_page: OpenPage
) -> None:
    asked: list[str] = []
    page = await open_page("about:blank")
    page.on("request", lambda request: asked.extend([request.url]))
    await page.goto(f"/s/{await mall.token_of('A101')}", wait_until="networkidle")
    assert len(asked) >= 2
    assert all(url.startswith(mall.url) for url in asked)
    async with http_client() as client:
        sizes = [len((await client.get(url)).content) for url in asked]
    assert sum(sizes) <= 50_000


async def test_a_page_with_two_codes_stays_within_50_kb(mall: Mall) -> None:
    form = {"nonce": "g" * 32, "amount_fen": "5000", "method": "codes"}
    async with http_client(base_url=mall.url, follow_redirects=True) as client:
        page = await client.post(f"/s/{await mall.token_of('A101')}/top-ups", data=form)
        loaded = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
        files = [await client.get(path) for path in loaded]
    assert page.text.count('class="qr"') == 2
    assert [file.status_code for file in files] == [200] * 3
    assert len(page.content) + sum(len(file.content) for file in files) <= 50_000


BAD_FORMS: tuple[dict[str, str], ...] = (
    {"amount_fen": "5000"},  # no method
    {"amount_fen": "5000", "method": "wechat_jsapi"},  # not offered here
    {"amount_fen": "-1", "method": "wechat_h5"},
    {"amount_fen": "0", "method": "wechat_h5"},
    {"method": "wechat_h5"},
    {"other": "0.001", "method": "wechat_h5"},
    {"other": "1e3", "method": "wechat_h5"},
    {"other": "999999", "method": "wechat_h5"},
    {"amount_fen": "5000", "method": "wechat_h5", "nonce": "short"},
    {"amount_fen": "5000", "method": "wechat_h5", "nonce": "'; DROP TABLE x;--"},
)


async def test_a_bad_form_orders_nothing(mall: Mall) -> None:
    path = f"/s/{await mall.token_of('A101')}/top-ups"
    async with http_client(base_url=mall.url) as client:
        for form in BAD_FORMS:
            answer = await client.post(path, data={"nonce": "a" * 32, **form})
            assert answer.status_code == 422, form
    assert mall.platforms.wechat.requests == []


async def test_the_same_form_twice_is_one_order(mall: Mall) -> None:
    form = {"nonce": "b" * 32, "amount_fen": "5000", "method": "wechat_h5"}
    path = f"/s/{await mall.token_of('A101')}/top-ups"
    async with http_client(base_url=mall.url) as client:
        places = {(await client.post(path, data=form)).headers["location"] for _ in range(2)}
    assert len(places) == 1
    assert len(mall.platforms.wechat.requests) == 1


async def test_another_site_cannot_make_a_visitor_order(mall: Mall) -> None:
    form = {"nonce": "c" * 32, "amount_fen": "5000", "method": "wechat_h5"}
    path = f"/s/{await mall.token_of('A101')}/top-ups"
    async with http_client(base_url=mall.url) as client:
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert (await client.post(path, data=form, headers=headers)).status_code == 403


async def test_anonymous_orders_are_limited(mall: Mall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_page, "ORDERS_PER_ADDRESS", 3)
    path = f"/s/{await mall.token_of('A101')}/top-ups"
    async with http_client(base_url=mall.url) as client:
        answers = [
            await client.post(
                path, data={"nonce": f"{n}" * 32, "amount_fen": "100", "method": "wechat_h5"}
            )
            for n in range(4)
        ]
    assert [answer.status_code for answer in answers] == [303, 303, 303, 429]
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_a_persons_top_up_is_not_shown_here(mall: Mall) -> None:
    form = {"nonce": "d" * 32, "amount_fen": "5000", "method": "wechat_h5"}
    token = await mall.token_of("A101")
    async with http_client(base_url=mall.url) as client:
        answer = await client.post(f"/s/{token}/top-ups", data=form)
        place = answer.headers["location"]
        elsewhere = place.replace(token, await mall.token_of("A102"))
        assert (await client.get(elsewhere)).status_code == 404
        async with database.transaction() as connection:  # as if somebody had ordered it
            await database.rows(connection, "SET LOCAL session_replication_role = replica")
            await database.rows(
                connection,
                "WITH someone AS (INSERT INTO app_user (app_id, openid, created_at)"
                " VALUES ('wx', 'o', now()) RETURNING id) UPDATE top_up SET user_id = someone.id"
                " FROM someone",
            )
        assert (await client.get(place)).status_code == 404
        no = re.search(r"top-ups/(\d+)", place)
        assert no is not None
        assert (await client.get(f"/s/{token}/live/{no[1]}")).status_code == 404


async def test_a_shop_where_nobody_lives_takes_no_money(mall: Mall) -> None:
    await database.rows(database.pool(), "UPDATE tenancy SET closed_at = now()")
    form = {"nonce": "e" * 32, "amount_fen": "5000", "method": "wechat_h5"}
    token = await mall.token_of("A101")
    async with http_client(base_url=mall.url) as client:
        assert "没有租户" in (await client.get(f"/s/{token}")).text
        assert (await client.post(f"/s/{token}/top-ups", data=form)).status_code == 409


NO_CHECKS = (
    *("%2e%2e%2foutside.txt", ".hidden.txt", "absent.txt", "huge.txt", "x" * 400 + ".txt"),
    *("link.txt", "folder.txt", "pipe.txt"),  # it would lead out, is no file, never answers
)


async def test_domain_checks_are_small_files_of_one_folder(mall: Mall, tmp_path: Path) -> None:
    folder = mall.context.settings.data_dir / "domain-checks"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("abc123")
    (folder / ".hidden.txt").write_text("abc123")
    (folder / "huge.txt").write_text("abc123" * 1_000)
    (folder / "WW_verify_abc123.txt").write_text("abc123")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "folder.txt").mkdir()
    os.mkfifo(folder / "pipe.txt")
    async with http_client(base_url=mall.url) as client:
        served = await client.get("/s/WW_verify_abc123.txt")
        assert (served.status_code, served.text) == (200, "abc123")
        for name in NO_CHECKS:
            assert (await client.get(f"/s/{name}")).status_code == 404, name


async def test_every_page_has_a_strict_policy_and_is_kept_nowhere(mall: Mall) -> None:
    paths = [f"/s/{await mall.token_of('A101')}", "/s/unknown", "/admin/login", "/kiosk"]
    async with http_client(base_url=mall.url) as client:
        for path in paths:
            answer = await client.get(path, follow_redirects=True)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'self'")
            assert "unsafe" not in policy
            assert answer.headers["cache-control"] == "no-store"
            assert " style=" not in answer.text
            assert not re.search(r"<script(?! src=)|\son\w+=", answer.text)
