"""The document of the whole web role: every API route is in it, and answers as it says."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sanic import Sanic

from miniprogram_api.openapi import describe
from server.app import create_web_app
from server.services import health
from tests.fakes.town import AgreesWithDocument
from tests.http import http_client
from tests.pages.mall import Mall, lasting_mall, mall, mall_port, staged

__all__ = ["lasting_mall", "mall", "mall_port", "staged"]  # fixtures
API = "/api/admin/v1"


@pytest_asyncio.fixture
async def app(mall: Mall) -> AsyncIterator[Sanic[Any, Any]]:
    """The whole web role, as server/app.py composes it."""
    made = create_web_app(mall.context, name="documented")
    yield made
    Sanic.unregister_app(made)


@pytest_asyncio.fixture
async def client(mall: Mall, app: Sanic[Any, Any]) -> AsyncIterator[httpx.AsyncClient]:
    """The owner, whose every answer is held against the document."""
    check: Callable[..., Any] = AgreesWithDocument(describe(app, "test"))
    bearer = {"Authorization": f"Bearer {await mall.session_of('owner')}"}
    async with http_client(
        base_url=mall.url, headers=bearer, event_hooks={"response": [check]}
    ) as opened:
        yield opened


async def test_every_api_route_of_the_web_role_is_described(app: Sanic[Any, Any]) -> None:
    app.router.finalize()
    served = {
        (method.lower(), "/" + route.path.replace(":str>", "}").replace("<", "{"))
        for route in app.router.routes
        for method in route.methods
        if route.path.startswith(("api/", "payments/", "health/", "metrics"))
    }
    paths = describe(app, "test")["paths"]
    assert {(method, path) for path, methods in paths.items() for method in methods} == served


async def test_the_managers_answers_are_as_described(client: httpx.AsyncClient) -> None:
    shops = await client.get(f"{API}/shops", params={"q": "A1"})
    assert len(shops.json()["items"]) == 3
    for shop in shops.json()["items"]:
        assert (await client.get(f"{API}/shops/{shop['code']}")).status_code == 200
    wish = {"state": "disconnected", "reason": "repair"}
    assert (await client.post(f"{API}/shops/A101/supply", json=wish)).status_code == 202
    held = (await client.get(f"{API}/shops/A101")).json()["meters"][0]
    assert held["hold"]["reason"] == "repair"
    assert (await client.get(f"{API}/shops/none")).status_code == 404
    assert (await client.post(f"{API}/shops/A101/supply", json={})).status_code == 400
    assert (await client.delete(f"{API}/sessions")).status_code == 204
    assert (await client.get(f"{API}/shops")).status_code == 401


async def test_what_machines_ask_is_as_described(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("/health/live", "/health/ready"):
        assert (await client.get(path)).status_code == 200
    assert (await client.post("/payments/wechat/nowhere/notify")).status_code == 404

    async def away() -> str:
        return "DatabaseAwayError"

    monkeypatch.setattr(health, "database_problem", away)
    assert (await client.get("/health/ready")).status_code == 503
