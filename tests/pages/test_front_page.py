"""What the bare address shows, and that looking without getting (HEAD) tells the same."""

import asyncio

import httpx
import pytest

from tests.pages.mall import Mall

PATHS = {
    "/": 200,
    "/?lang=en": 200,
    "/admin/login": 200,
    "/kiosk": 401,  # not enrolled
    "/s/{token}": 200,
    "/s/nobody": 404,
    "/health/live": 200,
    "/health/ready": 200,
    "/api/admin/v1/shops": 200,
    "/api/admin/v1/shops/none": 404,
    "/api/miniprogram/v1/shops": 401,  # a manager is no tenant
    "/docs/openapi.json": 200,
    "/nowhere": 404,
}
VARIES = {"date", "x-request-id", "set-cookie", "content-length"}


def told(answer: httpx.Response) -> dict[str, str]:
    """The headers that do not change from one answer to the next."""
    return {name: value for name, value in answer.headers.items() if name not in VARIES}


async def test_head_tells_what_get_would_and_has_no_body(mall: Mall) -> None:
    token = await mall.token_of("A101")
    bearer = {"Authorization": f"Bearer {await mall.session_of('owner')}"}
    async with httpx.AsyncClient(base_url=mall.url, headers=bearer) as client:
        for path, status in PATHS.items():
            got = await client.get(path.format(token=token))
            head = await client.head(path.format(token=token))
            assert (path, got.status_code, head.status_code) == (path, status, status)
            assert told(head) == told(got)
            assert abs(int(head.headers["content-length"]) - len(got.content)) < 64


async def test_a_live_page_that_is_only_looked_at_opens_no_stream(mall: Mall) -> None:
    cookies = {"mw_manager": await mall.session_of("owner")}
    async with (
        httpx.AsyncClient(base_url=mall.url, cookies=cookies, timeout=5) as client,
        asyncio.timeout(5),
    ):
        head = await client.head("/admin/live")
    assert head.status_code == 200
    assert head.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("HEAD", "/admin/logout", {"POST"}),
        ("PUT", "/health/live", {"GET", "HEAD"}),
        ("DELETE", "/api/admin/v1/shops", {"GET", "HEAD"}),
    ],
)
async def test_what_is_not_answered_is_refused_with_what_would_be(
    mall: Mall, method: str, path: str, allowed: set[str]
) -> None:
    async with httpx.AsyncClient(base_url=mall.url) as client:
        answer = await client.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(("language", "words"), [("zh", "请扫描电表上的二维码"), ("en", "Tenants")])
async def test_the_bare_address_shows_each_their_way(mall: Mall, language: str, words: str) -> None:
    async with httpx.AsyncClient(base_url=mall.url) as client:
        front = await client.get("/", params={"lang": language})
    assert words in front.text
    assert 'href="/admin"' in front.text
    assert 'href="/kiosk"' in front.text
