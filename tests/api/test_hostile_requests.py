"""Whatever bytes come, from whomever: a typed refusal in our own form, never a 500."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from server.services.manager_acts import Role
from tests.http import http_client
from tests.pages.mall import Mall, mall_port, staged
from tests.pages.mall import lasting_mall as mall

__all__ = ["mall", "mall_port", "staged"]  # fixtures

# what stands in a path where a code, a number or a token is expected
PARTS = {
    "a NUL": "%00",
    "a NUL inside": "A%00101",
    "no UTF-8": "%ff%fe",
    "half a surrogate pair": "%ed%a0%80",
    "a way up": "..%2f..%2fetc%2fpasswd.txt",
    "a file's name": "passwd.txt",
    "a number beyond bigint": "9" * 30,
    "a very long one": "a" * 3000,
    "markup": "%3Cscript%3E",
    "a broken escape": "%zz",
}
REFUSED = {303, 400, 401, 403, 404, 405, 413, 422}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Visitor:
    """Somebody with every session that there is, so that each door is really walked through."""

    def __init__(self, mall: Mall, client: httpx.AsyncClient, shop_token: str) -> None:
        self.mall = mall
        self.client = client
        self.shop_token = shop_token

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request; whatever comes back has our own form."""
        answer = await self.client.request(method, path, **options)
        kind = answer.headers.get("content-type", "")
        assert "x-request-id" in answer.headers
        assert "Traceback" not in answer.text
        if answer.status_code >= 400 and not path.startswith("/payments"):
            assert kind.startswith(("application/problem+json", "text/html")), kind
        return answer


@pytest_asyncio.fixture
async def visitor(mall: Mall) -> AsyncIterator[Visitor]:
    """The owner, who is also a kiosk."""
    token = await mall.session_of("owner")
    cookies = {"mw_manager": token, "mw_kiosk": await mall.kiosk_of("owner")}
    bearer = {"Authorization": f"Bearer {token}"}
    async with http_client(base_url=mall.url, headers=bearer, cookies=cookies) as client:
        yield Visitor(mall, client, await mall.token_of("A101"))


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
async def test_no_part_of_a_path_breaks_a_route(visitor: Visitor, part: str) -> None:
    routes = [route for route in visitor.mall.app.router.routes if "<" in route.path]
    assert len(routes) > 20
    for route in routes:
        # a known shop, so that what comes after it is read too
        known = "/" + route.path.replace("<token:str>", visitor.shop_token, 1)
        known = known.replace("<code:str>", "A101", 1).replace("<site:str>", "demo", 1)
        for path in {"/" + route.path, known}:
            if "<" not in path:
                continue
            for method in route.methods:
                answer = await visitor.send(method, re.sub(r"<[^>]+>", part, path))
                assert answer.status_code in REFUSED, (method, path, answer.text[:300])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", b"Bearer \xff\xfe"),
        ("Authorization", b"Bearer " + b"a" * 5000),
        ("Cookie", b"mw_manager=\xff\xfe; mw_kiosk=\xff; mw_form=\xff; lang=\xff"),
        ("Cookie", b'mw_manager="\\000\\377"; mw_form="\\000"'),
        ("Origin", b"http://[::1"),
        ("Accept-Language", b"\xff\xff"),
        ("User-Agent", b"\xff\xff"),
        ("X-Forwarded-For", b"\xff, 10.0.0.1"),
        ("Idempotency-Key", b"\xff"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/admin/v1/shops"),
        ("GET", "/api/miniprogram/v1/shops"),
        ("GET", "/admin"),
        ("GET", "/admin/live"),
        ("GET", "/admin/login"),
        ("POST", "/admin/login"),
        ("POST", "/admin/logout"),
        ("GET", "/kiosk"),
        ("POST", "/kiosk/enrol"),
        ("POST", "/s/{token}/top-ups"),
    ],
)
async def test_no_header_breaks_a_door(
    mall: Mall, method: str, path: str, name: str, value: bytes
) -> None:
    async with http_client(base_url=mall.url) as client:
        where = path.format(token=await mall.token_of("A101"))
        answer = await client.request(method, where, headers=[(name.encode(), value)])
    assert answer.status_code < 500, answer.text[:300]


@pytest.mark.parametrize(
    "body",
    [
        b"csrf=%ff&name=%00",
        b"csrf=%e4%b8%ad&name=x&password=y",  # compared as text it would raise
        b"csrf=a&csrf=b",
        b"&" * 50_000,
        b"name=" + b"a" * 5_000,
        b"\x00\xff",
    ],
)
@pytest.mark.parametrize(
    "path", ["/admin/login", "/admin/logout", "/kiosk/enrol", "/s/{token}/top-ups"]
)
async def test_no_form_breaks_a_page(visitor: Visitor, path: str, body: bytes) -> None:
    where = path.format(token=visitor.shop_token)
    answer = await visitor.send("POST", where, content=body, headers=FORM)
    assert answer.status_code in {403, 422}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"name":"\\ud800","password":"x"}', 400, "invalid_body"),
        (b'{"name":"\\u0000","password":"x"}', 400, "invalid_body"),
        (b'{"name":' + b"[" * 50_000, 400, "invalid_body"),
        (b'{"name":"a","password":"b","role":"owner"}', 400, "invalid_body"),
        (b"\xff", 400, "invalid_body"),
        (b"", 400, "invalid_body"),
        (b'{"name":"x","password":"' + b"a" * 70_000 + b'"}', 413, "body_too_large"),
        (b"x" * 300_000, 413, "body_too_large"),
    ],
)
async def test_no_body_breaks_a_call(visitor: Visitor, body: bytes, status: int, code: str) -> None:
    answer = await visitor.send("POST", "/api/admin/v1/sessions", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["status"] == status


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GARBAGE", 400),
        (b"GET / HTTP/9.9", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1", 413),
        (b"GET /s/\xff HTTP/1.1", 400),
        (b"GET //evil.example/ HTTP/1.1", 404),
        (b"POST /api/admin/v1/sessions HTTP/1.1\r\nContent-Length: -5", 400),
        (b"POST /api/admin/v1/sessions HTTP/1.1\r\nContent-Length: 999999999", 413),
        (b"POST /api/admin/v1/sessions HTTP/1.1\r\nContent-Length: 2\r\nExpect: wonders", 417),
        (b"BREW /health/live HTTP/1.1", 405),
        (b"OPTIONS /health/live HTTP/1.1", 405),
    ],
)
async def test_what_is_no_request_of_ours_is_a_problem_too(
    mall: Mall, request_line: bytes, status: int
) -> None:
    head, body = await _exchange(
        mall, request_line + b"\r\nHost: mall\r\nConnection: close\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/problem+json" in head.lower()
    assert b'"status":%d' % status in body
    assert b"sanic" not in (head + body).lower()


async def test_a_head_has_no_body_and_a_wrong_method_says_which_are_right(mall: Mall) -> None:
    for line, status in ((b"HEAD / HTTP/1.1", 200), (b"HEAD /admin/logout HTTP/1.1", 405)):
        head, body = await _exchange(mall, line + b"\r\nHost: mall\r\nConnection: close\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert body == b""
    assert b"allow: post" in head.lower()


@pytest.mark.parametrize("role", Role)
async def test_another_malls_shop_is_exactly_like_one_that_is_not_there(
    mall: Mall, role: Role
) -> None:
    """Byte for byte, but for the request's id; also for a manager of another mall by its name."""
    await mall.bind_manager(role.value, to=f"elsewhere-{role.value}")
    bearer = {"Authorization": f"Bearer {await mall.session_of(role.value)}"}
    cookies = {"mw_manager": await mall.session_of(role.value)}
    async with http_client(base_url=mall.url, headers=bearer, cookies=cookies) as client:
        for path in ("/api/admin/v1/shops/{}", "/admin/shops/{}", "/admin/shops/{}/live"):
            for site in ("", "?site=demo"):
                theirs = await client.get(path.format("A101") + site)
                nobodys = await client.get(path.format("Z999") + site)
                assert (theirs.status_code, nobodys.status_code) == (404, 404)
                assert _but_for_the_id(theirs, "A101") == _but_for_the_id(nobodys, "Z999")
        assert (await client.get("/api/admin/v1/shops")).json()["items"] == []
        assert "A101" not in (await client.get("/admin")).text


async def test_a_role_is_refused_before_its_body_is_read(mall: Mall) -> None:
    bearer = {"Authorization": f"Bearer {await mall.session_of('read_only')}"}
    async with http_client(base_url=mall.url, headers=bearer) as client:
        answer = await client.post("/api/admin/v1/shops/A101/supply", content=b"no JSON")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_form_without_its_cookie_is_refused_whatever_it_shows(mall: Mall) -> None:
    """A form sent by another site comes without the cookie: its token must not be guessable."""
    async with http_client(base_url=mall.url) as client:
        shown = re.search(r'name="csrf" value="(\w+)"', (await client.get("/admin/login")).text)
        assert shown is not None
        client.cookies.clear()
        for csrf in ("", shown[1]):
            form = {"csrf": csrf, "name": "owner", "password": "correct horse battery"}
            answer = await client.post("/admin/login", data=form)
            assert (answer.status_code, answer.cookies.get("mw_manager")) == (403, None)


async def test_a_callback_for_no_site_is_like_one_for_a_site_without_a_merchant(
    mall: Mall,
) -> None:
    del mall.platforms.platforms[next(iter(mall.platforms.platforms))]
    async with http_client(base_url=mall.url) as client:
        without = await client.post("/payments/wechat/demo/notify", content=b"{}")
        nowhere = await client.post("/payments/wechat/nowhere/notify", content=b"{}")
    assert (without.status_code, nowhere.status_code) == (404, 404)
    assert _but_for_the_id(without, "demo") == _but_for_the_id(nowhere, "nowhere")


def _but_for_the_id(answer: httpx.Response, code: str) -> str:
    """What the caller sees, without what it asked for and the request's own number."""
    shown = answer.headers["x-request-id"]
    text = answer.text.replace(shown, "ID").replace(shown[:12], "ID").replace(code, "CODE")
    kept = {k: v for k, v in answer.headers.items() if k not in {"x-request-id", "content-length"}}
    return f"{answer.status_code} {sorted(kept.items())} {text}"


async def _exchange(mall: Mall, request: bytes) -> tuple[bytes, bytes]:
    """One request, byte for byte; head and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(mall.url).port)
    writer.write(request)
    async with asyncio.timeout(5):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body
