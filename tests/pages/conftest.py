"""The served mall and a Chromium that looks at it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from server.services import live
from tests.pages.mall import PASSWORD, Mall, serve_mall

ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15"
    " (KHTML, like Gecko) Mobile/15E148"
)
TIMEOUT_MS = 10_000
OpenPage = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture
async def mall(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Mall]:
    """A mall of the test's own."""
    assert database is None
    monkeypatch.setattr(live, "LOOK_S", 0.3)  # without Redis the page looks at this pace
    monkeypatch.setattr(live, "PACE_S", 0.1)
    async with serve_mall(tmp_path) as served:
        yield served


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium(browser_path: Path) -> AsyncIterator[Browser]:
    """One browser for all tests of this worker."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=browser_path, args=ARGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture
async def open_page(chromium: Browser, mall: Mall) -> AsyncIterator[OpenPage]:
    """Opens pages in contexts of their own; a script's error or a refused load fails the test."""
    contexts, complaints = [], []

    async def opened(path: str, **options: Any) -> Page:
        shape = {"viewport": {"width": 390, "height": 844}, "user_agent": PHONE, "locale": "zh-CN"}
        context = await chromium.new_context(base_url=mall.url, **{**shape, **options})
        context.set_default_timeout(TIMEOUT_MS)
        contexts.append(context)
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if "Content Security" in said.text else None,
        )
        await page.goto(path)
        return page

    yield opened
    for context in contexts:
        await context.close()
    assert complaints == []


@pytest.fixture
def log_in(open_page: OpenPage) -> OpenPage:
    """Opens the overview as one of the managers (each is named after its role)."""

    async def logged_in(name: str = "owner", **options: Any) -> Page:
        page = await open_page("/admin/login", **options)
        await page.fill("#name", name)
        await page.fill("#password", PASSWORD)
        await page.click("main button")
        await page.wait_for_selector("#shops")
        return page

    return logged_in
