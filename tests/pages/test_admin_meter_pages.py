"""An exchanged meter and a day that waits, on the managers' pages: seen whole before it is done."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx

from server.models.database import Row, pool, rows
from server.services.readings import NewReading, keep
from server.services.settlement import settle_due
from tests.http import http_client
from tests.pages.conftest import OpenPage
from tests.pages.mall import Mall

EXCHANGE = "/admin/meters/M-A101/exchange"
CLOSE = "/admin/shops/A101/estimated-close"
# As if A101 had been let so many days earlier.
EARLIER = """
WITH meters AS (
    UPDATE meter_installation SET installed_at = installed_at - make_interval(days => $1)
), statuses AS (
    UPDATE meter_status SET read_at = NULL, register_wh = NULL, finding = NULL
)
UPDATE tenancy SET opened_at = opened_at - make_interval(days => $1),
    first_open_day = first_open_day - $1
WHERE shop_id = (SELECT id FROM shop WHERE code = 'A101')
RETURNING first_open_day AS day
"""


async def let_earlier(mall: Mall, days: int) -> date:
    """The first day of A101, so many days ago; it is a quarter to midnight in the mall."""
    [tenancy] = await rows(pool(), EARLIER, days)
    day: date = tenancy["day"]
    today = datetime(day.year, day.month, day.day, 23, 45, tzinfo=UTC) + timedelta(days=days)
    mall.clock.at = today - timedelta(hours=8)
    return day


async def read(mall: Mall, ago_minutes: int, register_wh: int) -> None:
    """What the meter of A101 showed so long ago."""
    [meter] = await rows(pool(), "SELECT id FROM meter WHERE code = 'M-A101'")
    now = mall.clock()
    at = (now - timedelta(minutes=ago_minutes)).replace(second=0, microsecond=0)
    await keep([NewReading(meter["id"], at, register_wh, 0)], now)
    await settle_due(now)


async def acts() -> list[Row]:
    return await rows(pool(), "SELECT actor, act, subject, reason FROM manager_act ORDER BY id")


async def waiting_day(mall: Mall) -> str:
    """A101 moved in two days ago and was read twice late on that day; the day."""
    day = await let_earlier(mall, 2)
    await read(mall, 2 * 24 * 60 + 10, 5_000)
    await read(mall, 2 * 24 * 60, 6_000)
    return day.isoformat()


def minute(mall: Mall, ago_minutes: int) -> str:
    """A time as the browser's field has it, on the mall's clock (UTC+8)."""
    at = mall.clock() - timedelta(minutes=ago_minutes) + timedelta(hours=8)
    return at.strftime("%Y-%m-%dT%H:%M")


async def test_an_exchange_is_seen_before_it_is_recorded(mall: Mall, log_in: OpenPage) -> None:
    await let_earlier(mall, 1)
    for ago, register_wh in ((40, 5_000), (30, 6_000), (10, 300)):
        await read(mall, ago, register_wh)
    page = await log_in("engineer")
    await page.goto("/admin/shops/A101")
    await page.click("#meters a")
    await page.fill("#at", minute(mall, 20))
    await page.fill("#final_kwh", "5.5")
    await page.fill("#first_kwh", "0.1")
    await page.fill("#transformer_ratio", "20")
    await page.click("main form button")
    assert "backward" in await page.inner_text("[role=alert]"), "the old one showed 6 kWh"
    assert await page.input_value("#first_kwh") == "0.1", "what was typed is kept"
    await page.fill("#final_kwh", "6.5")
    await page.click("main form button")
    effect = await page.inner_text("#effect")
    for fact in ("0.50 kWh", "4.00 kWh", "1.00 → 5.50 kWh", "¥0.69 → ¥3.79", "不涉及"):
        assert fact in effect, effect
    assert await acts() == [], "a look records nothing"
    await page.fill("#reason", "旧表烧毁")
    await page.click("main form button")
    assert "换表已记录" in await page.inner_text("[role=status]")
    assert "旧表烧毁" in await page.inner_text("[aria-labelledby=acts-title]")
    assert await acts() == [
        {
            "actor": "engineer",
            "act": "meter.exchange",
            "subject": "meter:M-A101",
            "reason": "旧表烧毁",
        }
    ]
    [made] = await rows(pool(), "SELECT final_wh, first_wh, made_by FROM meter_exchange")
    assert made == {"final_wh": 6_500, "first_wh": 100, "made_by": "engineer"}


async def test_a_day_that_waits_is_closed_with_what_is_shown(mall: Mall, log_in: OpenPage) -> None:
    day = await waiting_day(mall)
    page = await log_in("finance")
    assert "1" in await page.inner_text("#go-waiting-days")
    await page.click("#go-waiting-days")
    waiting = await page.inner_text("section.card")
    for fact in ("A101", day, "缺少当天结束后的读数", "共 2 天"):
        assert fact in waiting, waiting
    await page.click("section.card a.button")
    effect = await page.inner_text("#effect")
    for fact in ("缺少当天结束后的读数", "1.00 kWh", "¥0.69", "¥5,000.00 → ¥4,999.31"):
        assert fact in effect, effect
    assert await acts() == []
    await page.fill("#reason", "电表烧毁")
    await page.click("main form button")
    assert "该日已按已知数据结算" in await page.inner_text("[role=status]")
    [kept] = await rows(pool(), "SELECT day::text, energy_wh, amount_fen, estimated FROM statement")
    assert kept == {"day": day, "energy_wh": 1_000, "amount_fen": 69, "estimated": True}
    assert [one["act"] for one in await acts()] == ["day.close_estimated"]


@asynccontextmanager
async def _client(mall: Mall, name: str) -> AsyncIterator[httpx.AsyncClient]:
    cookies = {"mw_manager": await mall.session_of(name)}
    async with http_client(base_url=mall.url, cookies=cookies) as client:
        yield client


async def _form(client: httpx.AsyncClient, path: str, **query: str) -> dict[str, str]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', answer.text))


def exchange_typed(mall: Mall, **changes: str) -> dict[str, str]:
    wish = {"at": minute(mall, 1), "final_kwh": "900", "first_kwh": "0.12"}
    return wish | {"transformer_ratio": "1"} | changes


async def test_changed_facts_refuse_the_exchange(mall: Mall) -> None:
    async with _client(mall, "engineer") as client:
        query = exchange_typed(mall)
        form = {**await _form(client, EXCHANGE, **query), "reason": "换新表"}
        changed: list[tuple[dict[str, Any], dict[str, str], int, str]] = [
            (query | {"final_kwh": "901"}, form, 409, "情况已变化"),
            (query, form, 409, "情况已变化"),  # the token is spent
            (query, form | {"reason": " "}, 422, "请填写原因"),
            (query, form | {"act_token": ""}, 409, "情况已变化"),
        ]
        for asked, sent, status, words in changed:
            answer = await client.post(EXCHANGE, params=asked, data=sent)
            assert (answer.status_code, words in answer.text) == (status, True)
        form = {**await _form(client, EXCHANGE, **query), "reason": "换新表"}
        await rows(pool(), "UPDATE meter SET transformer_ratio = 7 WHERE code = 'M-A101'")
        answer = await client.post(EXCHANGE, params=query, data=form)
        assert answer.status_code == 409
        assert await rows(pool(), "SELECT 1 FROM meter_exchange") == []
        form = {**await _form(client, EXCHANGE, **query), "reason": "换新表"}
        for status in (303, 422):  # the second time it lies not after the first
            answer = await client.post(EXCHANGE, params=query, data=form)
            assert answer.status_code == status, answer.text
    assert len(await rows(pool(), "SELECT 1 FROM meter_exchange")) == 1


async def test_a_reading_that_came_meanwhile_refuses_the_close(mall: Mall) -> None:
    day = await waiting_day(mall)
    async with _client(mall, "finance") as client:
        form = {**await _form(client, CLOSE, day=day), "reason": "电表烧毁"}
        await read(mall, 2 * 24 * 60 - 10, 6_500)
        answer = await client.post(CLOSE, params={"day": day}, data=form)
        assert (answer.status_code, "情况已变化" in answer.text) == (409, True)
        assert await rows(pool(), "SELECT 1 FROM statement") == []
        form = {**await _form(client, CLOSE, day=day), "reason": "电表烧毁"}
        other = await client.post(CLOSE, params={"day": "2020-01-01"}, data=form)
        assert (other.status_code, "请按日期顺序结算" in other.text) == (409, True)
        empty = await client.post(CLOSE, params={"day": day}, data=form | {"reason": ""})
        assert (empty.status_code, "请填写原因" in empty.text) == (422, True)
        assert (await client.post(CLOSE, params={"day": day}, data=form)).status_code == 303


BAD_TYPED = [
    {"at": "2026-02-30T10:00"},
    {"at": "yesterday"},
    {"at": "2999-01-01T00:00"},
    {"final_kwh": "-1"},
    {"final_kwh": "1e3"},
    {"first_kwh": "0.1234"},
    {"first_kwh": ""},
    {"final_kwh": "9" * 12},
    {"transformer_ratio": "0"},
    {"transformer_ratio": "1.5"},
    {"transformer_ratio": "100001"},
    {"transformer_ratio": "٣"},
]


async def test_what_cannot_be_is_told_on_the_form_again(mall: Mall) -> None:
    async with _client(mall, "owner") as client:
        form = await _form(client, EXCHANGE)
        for changes in BAD_TYPED:
            query = exchange_typed(mall, **changes)
            for answer in (
                await client.get(EXCHANGE, params=query),
                await client.post(EXCHANGE, params=query, data=form | {"reason": "x"}),
            ):
                assert answer.status_code == 422, changes
                assert 'name="final_kwh"' in answer.text, changes
        for path in ("/admin/meters/none/exchange", f"{EXCHANGE}?site=none"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get(CLOSE)).status_code == 422
    assert await rows(pool(), "SELECT 1 FROM meter_exchange") == []


async def test_an_exchange_before_a_reading_of_the_old_meter_is_told_to_be_too_early(
    mall: Mall,
) -> None:
    await let_earlier(mall, 1)
    for ago, register_wh in ((40, 5_000), (30, 6_000)):
        await read(mall, ago, register_wh)
    async with _client(mall, "engineer") as client:
        query = exchange_typed(mall, at=minute(mall, 35), final_kwh="5.5", first_kwh="6.5")
        answer = await client.get(EXCHANGE, params=query)
        assert (answer.status_code, "此时间之后仍有旧表读数" in answer.text) == (409, True)
        later = query | {"at": minute(mall, 30) + ":30", "final_kwh": "6.1"}
        answer = await client.get(EXCHANGE, params=later)
        assert (answer.status_code, "确认换表记录" in answer.text) == (200, True)


async def test_other_roles_see_no_way_and_find_none(mall: Mall) -> None:
    day = await waiting_day(mall)
    for role, may_exchange, may_close in (
        ("engineer", True, False),
        ("finance", False, True),
        ("service", False, False),
        ("read_only", False, False),
    ):
        async with _client(mall, role) as client:
            shop = (await client.get("/admin/shops/A101")).text
            assert (EXCHANGE in shop, CLOSE in shop) == (may_exchange, may_close)
            listed = (await client.get("/admin/waiting-days")).text
            assert ("A101" in listed, CLOSE in listed) == (True, may_close)
            csrf = re.search(r'name="csrf" value="(\w+)"', shop)
            assert csrf is not None
            for path, may in ((EXCHANGE, may_exchange), (f"{CLOSE}?day={day}", may_close)):
                if not may:
                    assert (await client.get(path)).status_code == 403
                    sent = await client.post(path, data={"csrf": csrf[1], "reason": "x"})
                    assert sent.status_code == 403
    async with _client(mall, "owner") as client, _client(mall, "finance") as other:
        form = await _form(other, CLOSE, day=day)
        for path in (f"{CLOSE}?day={day}", EXCHANGE):
            sent = await client.post(path, data=form | {"reason": "x"})
            assert sent.status_code == 403, "another session's form"
    assert await rows(pool(), "SELECT 1 FROM statement") == []
