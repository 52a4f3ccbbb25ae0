"""A meter's exchange at the managers' door: who may record it, and what is refused."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest_asyncio
from sanic import Sanic

from miniprogram_api.openapi import describe
from server.app import create_web_app
from server.models.database import pool, rows
from tests.fakes.town import AgreesWithDocument
from tests.http import http_client
from tests.pages.mall import Mall, lasting_mall, mall, mall_port, staged

__all__ = ["lasting_mall", "mall", "mall_port", "staged"]  # fixtures
API = "/api/admin/v1"
PATH = f"{API}/meters/M-A101/exchanges"


@pytest_asyncio.fixture
async def client(mall: Mall) -> AsyncIterator[httpx.AsyncClient]:
    """Nobody yet; every answer is held against the document."""
    app = create_web_app(mall.context, name="exchanges")
    check: Callable[..., Any] = AgreesWithDocument(describe(app, "test"))
    async with http_client(base_url=mall.url, event_hooks={"response": [check]}) as opened:
        yield opened
    Sanic.unregister_app(app)


def body(mall: Mall, **changes: object) -> dict[str, object]:
    at = (mall.clock() - timedelta(minutes=1)).isoformat()
    wish = {"at": at, "final_wh": 900_000_000, "first_wh": 120, "reason": "换新表"}
    return {name: value for name, value in (wish | changes).items() if value is not None}


async def bearer(mall: Mall, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {await mall.session_of(name)}"}


async def test_an_engineer_records_an_exchange(mall: Mall, client: httpx.AsyncClient) -> None:
    wish = body(mall, transformer_ratio=20)
    answer = await client.post(PATH, json=wish, headers=await bearer(mall, "engineer"))
    assert answer.status_code == 201, answer.text
    [made] = await rows(pool(), "SELECT id FROM meter_exchange")
    assert answer.json() == {
        "id": made["id"],
        "code": "M-A101",
        "at": answer.json()["at"],
        "final_wh": 900_000_000,
        "first_wh": 120,
        "transformer_ratio": 20,
        "readings_trusted": 0,
    }
    assert await rows(pool(), "SELECT made_by, transformer_ratio FROM meter_exchange") == [
        {"made_by": "engineer", "transformer_ratio": 1}
    ]
    again = await client.post(PATH, json=wish, headers=await bearer(mall, "owner"))
    assert (again.status_code, again.json()["code"]) == (422, "invalid_input")
    assert len(await rows(pool(), "SELECT 1 FROM meter_exchange")) == 1


REFUSED: list[tuple[str, str, dict[str, object], int]] = [
    ("finance", PATH, {}, 403),
    ("service", PATH, {}, 403),
    ("read_only", PATH, {}, 403),
    ("engineer", f"{API}/meters/nobody/exchanges", {}, 404),
    ("engineer", PATH, {"at": None}, 400),
    ("engineer", PATH, {"at": "2026-05-20T10:00:00"}, 400),  # no offset: whose ten o'clock?
    ("engineer", PATH, {"at": "0001-01-01T00:00:00+00:00"}, 422),
    ("engineer", PATH, {"at": "2999-01-01T00:00:00+08:00"}, 422),
    ("engineer", PATH, {"final_wh": -1}, 400),
    ("engineer", PATH, {"final_wh": 2**63}, 400),
    ("engineer", PATH, {"final_wh": 2**63 - 1}, 422),
    ("engineer", PATH, {"first_wh": "120"}, 400),
    ("engineer", PATH, {"reason": ""}, 400),
    ("engineer", PATH, {"reason": " \t"}, 422),
    ("engineer", PATH, {"reason": "x\0"}, 400),
    ("engineer", PATH, {"transformer_ratio": 0}, 400),
    ("engineer", PATH, {"surprise": 1}, 400),
]


async def test_what_cannot_be_is_refused(mall: Mall, client: httpx.AsyncClient) -> None:
    for name, path, changes, status in REFUSED:
        headers = await bearer(mall, name)
        answer = await client.post(path, json=body(mall, **changes), headers=headers)
        assert answer.status_code == status, answer.text
    assert await rows(pool(), "SELECT 1 FROM meter_exchange") == []
