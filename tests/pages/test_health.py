"""What operators ask: alive, ready, and numbers that only this machine or the token may read."""

import httpx
import pytest
from sanic import Sanic

from server.handlers import health
from server.models import database
from tests.http import http_client
from tests.pages.mall import Mall


async def test_alive_and_ready(mall: Mall) -> None:
    async with http_client(base_url=mall.url) as client:
        assert (await client.get("/health/live")).text == "ok\n"
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (200, {"database": "ok"})


async def test_not_ready_without_its_tables(mall: Mall) -> None:
    await database.rows(database.pool(), "ALTER TABLE site RENAME TO elsewhere")
    try:
        async with http_client(base_url=mall.url) as client:
            ready = await client.get("/health/ready")
            assert ready.status_code == 503
            assert "elsewhere" not in ready.text
            assert (await client.get("/health/live")).status_code == 200
    finally:
        await database.rows(database.pool(), "ALTER TABLE elsewhere RENAME TO site")


async def test_metrics_tell_the_malls_state(mall: Mall) -> None:
    async with http_client(base_url=mall.url) as client:
        text = (await client.get("/metrics")).text
    assert "mallwatt_meters 6.0" in text
    assert "mallwatt_relays_disconnected 2.0" in text
    assert "mallwatt_meters_with_finding 1.0" in text
    assert "mallwatt_live_streams" in text


@pytest.mark.parametrize(
    ("ip", "headers", "token", "allowed"),
    [
        ("127.0.0.1", {}, None, True),
        ("::1", {}, None, True),
        ("10.0.0.5", {}, None, False),
        ("127.0.0.1", {"X-Forwarded-For": "10.0.0.5"}, None, False),  # passed on by a proxy
        ("10.0.0.5", {"Authorization": "Bearer secret"}, "secret", True),
        ("10.0.0.5", {"Authorization": "Bearer wrong"}, "secret", False),
        ("10.0.0.5", {"Authorization": "Bearer "}, None, False),
        ("", {}, None, False),
    ],
)
def test_who_may_read_metrics(
    ip: str, headers: dict[str, str], token: str | None, *, allowed: bool
) -> None:
    class FakeRequest:
        def __init__(self) -> None:
            self.ip = ip
            self.headers = httpx.Headers(headers)

    request: Sanic = FakeRequest()  # type: ignore[type-arg, assignment]  # two attributes are read
    assert health.may_read_metrics(request, token) is allowed  # type: ignore[arg-type]  # the same
