"""Reconciled days on the managers' pages: a month, a day, its cases, and the workbook."""

from datetime import timedelta

from tests.pages.conftest import OpenPage
from tests.pages.mall import Mall
from tests.pages.reconciled import reconciled


async def test_a_month_leads_to_a_day_and_its_cases(mall: Mall, log_in: OpenPage) -> None:
    day = await reconciled(mall)
    page = await log_in("finance")
    await page.click("#go-reconciliation")
    if await page.locator(f"a[href*='/wechat/merchant-wechat/{day}']").count() == 0:
        await page.click("#go-previous")  # it was last month's
    cell = page.locator(f"a[href*='/wechat/merchant-wechat/{day}']")
    assert "有差异 2 条未了" in await cell.inner_text()
    assert await page.get_by_text("支付宝").count() == 1
    await cell.click()
    assert await page.inner_text("#state") == "有差异"
    sums = await page.inner_text(".sums")
    assert "¥95.59" in sums
    assert "¥80.05" in sums
    cards = await page.locator("article").all_inner_texts()
    assert [one.split("\n")[:2] for one in cards] == [
        ["我方缺", "待人工处理"],
        ["我方缺", "待人工处理"],
        ["我方缺", "已自动处理"],
    ]
    assert "=HYPERLINK(A1)" in cards[0]
    assert "A101" in cards[2]
    await page.click("article >> nth=0 >> a.button")
    assert await page.inner_text("h1") == "账单有收款，我方未入账"


async def test_the_month_is_exported_from_its_page_by_who_may(mall: Mall, log_in: OpenPage) -> None:
    day = await reconciled(mall)
    page = await log_in("finance")
    await page.goto(f"/admin/reconciliation?month={day:%Y-%m}")
    async with page.expect_download() as downloading:
        await page.click("#export")
    download = await downloading.value
    first = day.replace(day=1)
    last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    assert download.suggested_filename == f"reconciliation-{first}-{last}.xlsx"
    page = await log_in("read_only", locale="en-US")
    await page.goto(f"/admin/reconciliation?month={day:%Y-%m}")
    assert await page.locator("#export").count() == 0
    assert "Differs" in await page.inner_text("main")


async def test_there_is_no_such_day_merchant_or_month(mall: Mall, log_in: OpenPage) -> None:
    day = await reconciled(mall)
    page = await log_in("finance")
    base = "/admin/reconciliation"
    for path, status in (
        (f"{base}?month=2026-13", 422),
        (f"{base}/wechat/merchant-wechat/{day - timedelta(days=300)}", 404),
        (f"{base}/wechat/merchant-wechat/{day:%Y%m%d}", 404),
        (f"{base}/wechat/merchant-wechat/never", 404),
        (f"{base}/wechat/nobody/{day}", 404),
        (f"{base}.xlsx?from={day}&to={day}", 422),
    ):
        assert (await page.request.get(path)).status == status, path
