"""The served mall and a Chromium that looks at it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.pages.mall import Mall, lasting_mall, mall, mall_port, staged

__all__ = ["lasting_mall", "mall", "mall_port", "staged"]  # fixtures of this folder

ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    "--renderer-process-limit=1",  # a process a page takes longer to start than the page
]
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15"
    " (KHTML, like Gecko) Mobile/15E148"
)
TIMEOUT_MS = 10_000
OpenPage = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium(browser_path: Path) -> AsyncIterator[Browser]:
    """One browser for all tests of this worker."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=browser_path, args=ARGS)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def kept_contexts() -> dict[str, BrowserContext]:
    """Browser contexts by their options: a new one takes a new process, and its time."""
    return {}


@pytest_asyncio.fixture
async def open_page(
    chromium: Browser, mall: Mall, kept_contexts: dict[str, BrowserContext]
) -> AsyncIterator[OpenPage]:
    """Opens pages without cookies; a script's error or a refused load fails the test."""
    opened_in: list[BrowserContext] = []
    complaints: list[str] = []

    async def opened(path: str, **options: Any) -> Page:
        shape = {"viewport": {"width": 390, "height": 844}, "user_agent": PHONE, "locale": "zh-CN"}
        wanted = {**shape, **options}
        key = repr(sorted(wanted.items()))
        if key not in kept_contexts:
            kept_contexts[key] = await chromium.new_context(base_url=mall.url, **wanted)
            kept_contexts[key].set_default_timeout(TIMEOUT_MS)
        context = kept_contexts[key]
        opened_in.append(context)
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if "Content Security" in said.text else None,
        )
        await page.goto(path)
        return page

    yield opened
    for context in opened_in:
        for page in context.pages:
            await page.close()
        await context.clear_cookies()
        await context.unroute_all()
    assert complaints == []


@pytest.fixture
def log_in(open_page: OpenPage, mall: Mall) -> OpenPage:
    """Opens the overview as one of the managers (each is named after its role)."""

    async def logged_in(name: str = "owner", **options: Any) -> Page:
        page = await open_page("about:blank", **options)
        token = await mall.session_of(name)
        await page.context.add_cookies(
            [{"name": "mw_manager", "value": token, "url": f"{mall.url}/admin"}]
        )
        await page.goto("/admin")
        await page.wait_for_selector("#shops")
        return page

    return logged_in
