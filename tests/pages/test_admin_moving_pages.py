"""Moving out and in on the managers' pages: what is lost is shown first, and done once."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from server.models.database import pool, rows
from tests.api.test_admin_moving import owe_fixed_charges, read_meter
from tests.http import http_client
from tests.pages.conftest import OpenPage
from tests.pages.mall import Mall

SHOP = "/admin/shops/A102"
TENANCIES = """
SELECT tenancy.id, tenancy.closed_at, tenancy.binding_code
FROM tenancy JOIN shop ON shop.id = shop_id
WHERE shop.code = 'A102' ORDER BY tenancy.id
"""


@pytest.fixture
def now(mall: Mall) -> datetime:
    """The clock stands, behind all that was done before."""
    mall.clock.at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    return mall.clock.at


def hidden(html: str) -> dict[str, str]:
    """What a page's forms send besides what is typed."""
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', html))


async def test_out_paid_and_the_next_one_in(mall: Mall, now: datetime, log_in: OpenPage) -> None:
    await owe_fixed_charges(now)
    page = await log_in("finance")
    await page.goto(SHOP)
    await page.click("#go-out")
    shown = await page.inner_text("main")
    assert "¥12.50" in shown
    assert "−¥1.50" in shown
    await page.fill("#reason", "租约到期")
    await page.click("main form button")
    assert "等待退租时间之后的抄表读数" in await page.inner_text("main")
    assert await page.locator("input[name=amount]").count() == 0
    await read_meter(now)
    await page.click("main button.wide")  # what is ready is closed before any worker comes

    energy, fixed = "[aria-labelledby=w-electricity]", "[aria-labelledby=w-fixed_charges]"
    await page.fill("#receipt-electricity", "P-1")
    await page.click(f"{energy} button")
    assert await page.inner_text("[role=status]") == "已入账"
    assert "已结清" in await page.inner_text(energy)
    await page.fill("#amount-fixed_charges", "1.51")
    await page.check(f"{fixed} [value=bank_transfer]")
    await page.fill("#receipt-fixed_charges", "R-1")
    await page.click(f"{fixed} button")
    assert await page.inner_text("[role=alert]") == "金额超过欠费"
    await page.fill("#amount-fixed_charges", "1.00")  # the rest is as it was typed
    await page.click(f"{fixed} button")
    assert "−¥0.50" in await page.inner_text(fixed)
    assert "银行转账 · 物业费" in await page.inner_text("[aria-labelledby=taken-title]")
    await page.click(f"{fixed} summary")
    await page.fill("#reason-fixed_charges", "无法收回")
    await page.click(f"{fixed} details button")
    assert "¥0.00" in await page.inner_text(fixed)
    await page.click("[aria-labelledby=paid-title] summary")
    await page.fill("#back-1", "付错方式")
    await page.click("[aria-labelledby=paid-title] button")
    assert "付错方式" in await page.inner_text("main")

    await page.goto(SHOP)
    assert "租约到期" in await page.inner_text("[aria-labelledby=acts-title]")
    await page.click("#go-in")
    await page.fill("#reason", "新租约")
    await page.click("main form button")
    left, arrived = await rows(pool(), TENANCIES)
    assert await page.inner_text("#binding-code") == arrived["binding_code"]
    assert (left["closed_at"], arrived["closed_at"]) == (now, None)


async def test_what_cannot_be_is_told_on_the_form_and_changes_nothing(
    mall: Mall, now: datetime
) -> None:
    cookies = {"mw_manager": await mall.session_of("owner")}
    out, into = f"{SHOP}/move-out", f"{SHOP}/move-in"
    zone_at = (now + timedelta(hours=8)).strftime("%Y-%m-%dT%H:%M:%S")
    table = [
        (out, {"reason": ""}, 422, "请填写原因"),
        (out, {"at": "yesterday"}, 422, "请检查填写内容"),
        (out, {"at": "2999-01-01T00:00"}, 422, "时间不能晚于现在"),
        (out, {"at": "2020-01-01T00:00"}, 409, "时间早于入驻时间"),
        (out, {"act_token": "of another page"}, 409, "情况已变化"),
        (out, {"csrf": "of another session"}, 403, ""),
        (into, {}, 409, "该时间商铺已有租户"),
        (into, {"at": "2020-01-01T00:00"}, 422, "时间过早"),
    ]
    async with http_client(base_url=mall.url, cookies=cookies) as client:
        for path, typed, status, words in table:
            html = (await client.get(path)).text.rpartition("<form")[2]
            form = {**hidden(html), "at": zone_at, "reason": "x", **typed}
            answer = await client.post(path, data=form)
            assert answer.status_code == status, (path, typed, answer.text)
            assert words in answer.text, typed
        assert (await client.get(f"{SHOP}/move-outs/1")).status_code == 404
        assert (await client.get(f"{SHOP}/move-outs/none")).status_code == 404
    assert [one["closed_at"] for one in await rows(pool(), TENANCIES)] == [None]


async def test_what_cannot_be_settled_is_told_with_all_that_was_typed(
    mall: Mall, now: datetime
) -> None:
    cookies = {"mw_manager": await mall.session_of("owner")}
    typed = {"wallet": "electricity", "method": "bank_transfer", "receipt_no": "R-9"}
    table = [
        ({"act": "payment", "amount": "0.01"}, 409, "金额超过欠费", "0.01"),  # nothing is owed
        ({"act": "payment", "amount": "lots"}, 422, "请检查填写内容", "lots"),
        ({"act": "payout", "amount": "12.51"}, 409, "金额与钱包余额不符", "12.51"),
        ({"act": "payout", "amount": "9", "act_token": "old"}, 409, "情况已变化", "9"),
        ({"act": "payout", "amount": "9", "wallet": "piggy"}, 422, "请检查填写内容", ""),
        ({"act": "write_off", "reason": "x"}, 422, "请检查填写内容", ""),
        ({"act": "burn"}, 422, "请检查填写内容", ""),
        ({"act": "return", "reason": "x"}, 404, "", ""),
        ({"act": "charge", "csrf": "of another session"}, 403, "", ""),
    ]
    async with http_client(base_url=mall.url, cookies=cookies) as client:
        asked = (await client.get(f"{SHOP}/move-out")).text
        at = (now + timedelta(hours=8)).strftime("%Y-%m-%dT%H:%M:%S")
        left = await client.post(
            f"{SHOP}/move-out", data={**hidden(asked), "at": at, "reason": "x"}
        )
        here = left.headers["location"]
        await read_meter(now)
        ready = await client.post(here, data=hidden((await client.get(here)).text))
        assert ready.status_code == 303
        before = (await client.get(here)).text
        for wish, status, words, kept in table:
            form = {**hidden((await client.get(here)).text), **typed, **wish}
            answer = await client.post(here, data=form)
            assert (answer.status_code, words in answer.text) == (status, True), wish
            if kept:
                assert f'value="{kept}"' in answer.text, wish
                assert 'value="R-9"' in answer.text, wish
                assert 'value="bank_transfer" checked' in answer.text, wish
        after = (await client.get(here)).text
        assert re.findall("¥[0-9.,]+", after) == re.findall("¥[0-9.,]+", before)


async def test_only_money_roles_see_it(mall: Mall) -> None:
    for name in ("engineer", "service", "read_only"):
        cookies = {"mw_manager": await mall.session_of(name)}
        async with http_client(base_url=mall.url, cookies=cookies) as client:
            assert "move-out" not in (await client.get(SHOP)).text
            for path in ("move-out", "move-in", "move-outs/1"):
                assert (await client.get(f"{SHOP}/{path}")).status_code == 403
