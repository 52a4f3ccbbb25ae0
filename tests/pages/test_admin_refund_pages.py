"""Giving money back and deciding cases on the managers' pages."""

from payments.contract import Platform, Trade, TradeStatus
from server.models import database
from server.services import managers, refunds
from server.services.crediting import credit
from server.services.refund_starts import RefundWish
from tests.pages.conftest import OpenPage
from tests.pages.mall import Mall

MARKUP = "<b>多充了</b>"


async def a_case(mall: Mall, paid_fen: int = 700) -> int:
    """Somebody paid an order that is not ours."""
    now = mall.clock()
    trade = Trade("nobody", TradeStatus.PAID, "m", paid_fen, "CNY", f"T-{paid_fen}", now)
    await credit(mall.site_id, Platform.WECHAT, trade, now)
    found = await database.row(database.pool(), "SELECT max(id) AS id FROM payment_case")
    assert found is not None
    return int(found["id"])


async def a_refund(mall: Mall) -> str:
    """The page of one, to be paid out by hand."""
    manager = await managers.manager_of(await mall.session_of("owner"), mall.clock())
    found = await database.row(
        database.pool(),
        "SELECT tenancy.id FROM tenancy JOIN shop ON shop.id = shop_id WHERE shop.code = 'A101'",
    )
    assert found is not None
    wish = RefundWish(found["id"], 2_050, MARKUP)
    asked = await refunds.ask((mall.site_id, "A101"), wish, manager, mall.clock(), key=None)
    return f"/admin/refunds/{asked.refund_no}"


async def test_a_refund_leaves_the_wallet_and_is_paid_out_by_hand(log_in: OpenPage) -> None:
    page = await log_in("finance")
    await page.goto("/admin/shops/A101")
    await page.click("#go-refund")
    await page.fill("#amount", "5000.01")
    await page.fill("#reason", MARKUP)
    await page.click("main form button")
    assert await page.inner_text("[role=alert]") == "超过可退金额，请核对可用余额"
    await page.fill("#amount", "20.50")
    await page.click("main form button")
    assert await page.inner_text("[role=status]") == "退款已发起"
    refund = page.url
    assert MARKUP in await page.inner_text("section.card")
    await page.goto("/admin/shops/A101")
    assert "¥4,979.50" in await page.inner_text("#money")
    await page.goto("/admin")
    assert "1" in await page.inner_text("#go-refunds")
    await page.goto(refund)
    await page.check("input[value=bank_transfer]")
    await page.fill("input[name=reference]", "流水 17")
    await page.click("main form button")
    assert await page.inner_text("[role=status]") == "已登记线下支付"
    assert "已退款" in await page.inner_text("main")
    await page.go_back()
    page = await log_in("service")
    await page.goto("/admin/refunds")
    assert "¥20.50" in await page.inner_text("main")
    assert await page.locator("main form").count() == 0


async def test_a_case_has_its_buttons_and_is_decided_once(mall: Mall, log_in: OpenPage) -> None:
    number = await a_case(mall)
    page = await log_in("finance")
    await page.goto("/admin")
    await page.click("#go-cases")
    await page.click(f"#c-{number} a")
    assert "¥7.00" in await page.inner_text("main")
    await page.fill("#reason", "已核对")
    await page.fill("#shop", "none")
    await page.click("button[value=credit]")
    assert "商铺编号" in await page.inner_text("[role=alert]")
    assert await page.input_value("#reason") == "已核对", "what was typed is kept"
    await page.fill("#shop", "A101")
    stale = await page.context.new_page()
    await stale.goto(page.url)
    await stale.fill("#reason", "也核对了")
    await page.click("button[value=credit]")
    assert await page.inner_text("[role=status]") == "已处理"
    await stale.click("button[value=refund]")
    assert "情况已变化" in await stale.inner_text("[role=alert]")
    await page.goto("/admin/shops/A101")
    assert "¥5,007.00" in await page.inner_text("#money")
    page = await log_in("service")
    await page.goto(f"/admin/cases/{await a_case(mall, 800)}")
    assert await page.locator("main button").count() == 0
