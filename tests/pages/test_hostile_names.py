"""Names come from files and people: markup in them is shown, never obeyed, on every page."""

import pytest

from server.models import database
from tests.pages.conftest import OpenPage
from tests.pages.mall import Mall

NAMES = (
    "<script>hit=1</script><img src=x onerror='window.hit=1'>",
    '"><svg onload=window.hit=1></title></template><b id=hit>x',
    "{{ 7 * 7 }}${7*7} ' onfocus=hit=1 autofocus",
)


async def _named(mall: Mall, name: str) -> None:
    """Everything that people may name is called this."""
    for table in ("site", "shop", "kiosk"):
        await database.rows(database.pool(), f"UPDATE {table} SET name = $1", name)  # noqa: S608 - ours
    await database.rows(database.pool(), "UPDATE manager SET name = $1 WHERE name = 'owner'", name)
    await database.rows(database.pool(), "UPDATE meter_status SET finding = $1", name)
    await mall.control("A101", hold_reason=name, hold_by=name, held_at=mall.clock())
    await database.rows(
        database.pool(),
        "INSERT INTO manager_act (site_id, actor, act, subject, reason, facts, at)"
        " VALUES ($1, $2, $2, 'shop:A101', $2, '{}', $3)",
        *(mall.site_id, name[:48], mall.clock()),
    )


@pytest.mark.parametrize("name", NAMES)
async def test_no_page_obeys_a_name(mall: Mall, log_in: OpenPage, name: str) -> None:
    page = await log_in()
    kiosk = await mall.kiosk_of("owner")
    await page.context.add_cookies(
        [{"name": "mw_kiosk", "value": kiosk, "url": f"{mall.url}/kiosk"}]
    )
    await _named(mall, name)
    shop = f"/s/{await mall.token_of('A101')}"
    for path, shows in (
        ("/admin", True),
        ("/admin/shops/A101", True),
        ("/admin/shops/A101/supply?state=connected", True),
        ("/kiosk?q=A1", True),
        ("/kiosk/shops/A101", True),
        (shop, True),
        (f"/admin?q={name[:20]}", False),
        (f"/admin/shops/{name.replace('/', '%2f')}", False),
    ):
        await page.goto(path)
        assert await page.evaluate("[window.hit, document.querySelector('#hit')]") == [None, None]
        text = await page.inner_text("body")
        assert not shows or name in text, path
    await page.goto("/admin/shops/A101")
    await mall.control("A101", hold_reason=name + "x!")  # comes by the live stream
    await page.wait_for_selector("#meters .banner.idle:has-text('x!')")
    assert await page.evaluate("[window.hit, document.querySelector('#hit')]") == [None, None]
