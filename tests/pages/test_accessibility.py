"""axe-core finds nothing on any page, in light and dark, and no page is wider than its screen."""

from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page

from tests.pages.conftest import OpenPage
from tests.pages.mall import PASSWORD, Mall
from tests.pages.reconciled import reconciled
from tests.pages.test_admin_meter_pages import CLOSE, EXCHANGE, exchange_typed, waiting_day
from tests.pages.test_admin_refund_pages import a_case, a_refund

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
RUN = """async () => {
    const { passes, violations } = await axe.run();
    return [passes.length, violations.map(
        (found) => found.id + ": " + found.nodes.map((node) => node.html).join(" | "))];
}"""
SCHEMES = [("light", "zh-CN"), ("dark", "en-US")]


async def _check(page: Page) -> None:
    # the page's own policy holds for it; axe enters by the debugger
    await page.evaluate(f"(() => {{ {AXE} }}).call(window)")
    passed, found = await page.evaluate(RUN)
    assert (found, passed > 10) == ([], True), page.url  # what is right was looked at, too
    beyond = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert beyond <= 0, f"{page.url} is {beyond} px too wide"


async def _show(page: Page, path: str, status: int = 200) -> None:
    """The page itself, not one that says that there is none."""
    answer = await page.goto(path)
    assert answer is not None
    shown = page.url.partition("?")[0].endswith(path.partition("?")[0])
    assert (answer.status, shown) == (status, True), (path, page.url)
    await _check(page)


@pytest.mark.parametrize(("scheme", "locale"), SCHEMES)
async def test_public_pages(mall: Mall, open_page: OpenPage, scheme: str, locale: str) -> None:
    token = await mall.token_of("A103")
    page = await open_page(f"/s/{token}", color_scheme=scheme, locale=locale, user_agent="X11")
    await _check(page)
    await page.click("button.both")
    await page.wait_for_selector("svg.qr >> nth=1")
    await _check(page)
    await mall.pay(page.url.rpartition("/")[2].partition("?")[0], ticks=2)
    await page.wait_for_selector(".tick.stuck")
    await _check(page)
    await _show(page, "/s/unknown", 404)


@pytest.mark.parametrize(("scheme", "locale"), SCHEMES)
async def test_managers_pages(mall: Mall, log_in: OpenPage, scheme: str, locale: str) -> None:
    day = await waiting_day(mall)
    await mall.kiosk_of("owner")
    case = f"/admin/cases/{await a_case(mall)}"
    refund = await a_refund(mall)
    compared = await reconciled(mall)
    page = await log_in(color_scheme=scheme, locale=locale)
    await _check(page)
    for path in (
        "/admin/shops/A101",
        "/admin/shops/B203",
        "/admin/shops/B201/supply?state=disconnected",
        "/admin/shops/A102/desk-payment",
        "/admin/shops/A102/reversal",
        "/admin/shops/A102/adjustment",
        "/admin/shops/A102/move-out",
        "/admin/shops/A102/move-in",
        "/admin/shops/A102/refund",
        "/admin/refunds",
        refund,
        "/admin/cases",
        case,
        "/admin/reconciliation",
        f"/admin/reconciliation/wechat/merchant-wechat/{compared}",
        "/admin/waiting-days",
        f"{CLOSE}?day={day}",
        EXCHANGE,
        f"{EXCHANGE}?{urlencode(exchange_typed(mall))}",
        "/admin/kiosks",
        "/admin/login",
        "/",
    ):
        await _show(page, path)
    await _show(page, f"{EXCHANGE}?{urlencode(exchange_typed(mall, at='?'))}", 422)
    await _show(page, "/admin/shops/none", 404)
    await page.goto("/admin/shops/A102/adjustment")
    await page.fill("#amount", "999999.99")
    await page.fill("#reason", "x" * 200)
    await page.click("main form button")
    await page.wait_for_selector("section.card")
    await _check(page)


@pytest.mark.parametrize(("scheme", "locale"), SCHEMES)
async def test_kiosk_pages(open_page: OpenPage, scheme: str, locale: str) -> None:
    wall = {"width": 1080, "height": 1920}
    page = await open_page("/kiosk", color_scheme=scheme, locale=locale, viewport=wall)
    await _check(page)
    await page.click("main a")
    await _check(page)
    await page.fill("#kiosk", "K1")
    await page.fill("#name", "owner")
    await page.fill("#password", PASSWORD)
    await page.click("main button")
    await page.click("[data-key='B']")
    await page.wait_for_selector(".door")
    await _check(page)
    await page.click(".door >> nth=0")
    await _check(page)
    await page.click("button.both")
    await page.wait_for_selector("svg.qr")
    await _check(page)
