"""A day closed by estimate at the managers' door: who may, and what is refused."""

from collections.abc import AsyncIterator, Callable
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
PATH = "/api/admin/v1/shops/A101/estimated-closes"
ELSEWHERE = PATH.replace("A101", "nowhere")
# As if nobody had read the meter for a day.
DAY_BEFORE = """
WITH meters AS (
    UPDATE meter_installation SET installed_at = installed_at - interval '2 days'
)
UPDATE tenancy SET opened_at = opened_at - interval '1 day', first_open_day = first_open_day - 1
WHERE shop_id = (SELECT id FROM shop WHERE code = 'A101')
RETURNING first_open_day::text AS day, (first_open_day + 1)::text AS today
"""


@pytest_asyncio.fixture
async def client(mall: Mall) -> AsyncIterator[httpx.AsyncClient]:
    """Nobody yet; every answer is held against the document."""
    app = create_web_app(mall.context, name="days")
    check: Callable[..., Any] = AgreesWithDocument(describe(app, "test"))
    async with http_client(base_url=mall.url, event_hooks={"response": [check]}) as opened:
        yield opened
    Sanic.unregister_app(app)


async def test_finance_closes_a_day_and_what_cannot_be_is_refused(
    mall: Mall, client: httpx.AsyncClient
) -> None:
    [days] = await rows(pool(), DAY_BEFORE)
    day, today = days["day"], days["today"]
    refused: list[tuple[str, str, dict[str, object], int, str]] = [
        ("engineer", PATH, {"day": day, "reason": "burnt"}, 403, "forbidden"),
        ("service", PATH, {"day": day, "reason": "burnt"}, 403, "forbidden"),
        ("read_only", PATH, {"day": day, "reason": "burnt"}, 403, "forbidden"),
        ("finance", ELSEWHERE, {"day": day, "reason": "burnt"}, 404, "not_found"),
        ("finance", PATH, {"day": today, "reason": "burnt"}, 409, "other_day_first"),
        ("finance", PATH, {"day": day, "reason": ""}, 400, "invalid_body"),
        ("finance", PATH, {"day": day, "reason": " "}, 422, "reason_needed"),
        ("finance", PATH, {"day": "20-05-2026", "reason": "burnt"}, 400, "invalid_body"),
        ("finance", PATH, {"day": "0001-01-01", "reason": "burnt"}, 409, "other_day_first"),
        ("finance", PATH, {"day": day}, 400, "invalid_body"),
        ("finance", PATH, {"day": day, "reason": "burnt", "extra": 1}, 400, "invalid_body"),
    ]
    for name, path, wish, status, code in refused:
        headers = {"Authorization": f"Bearer {await mall.session_of(name)}"}
        answer = await client.post(path, json=wish, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert await rows(pool(), "SELECT 1 FROM statement") == []
    wish = {"day": day, "reason": "burnt"}
    answer = await client.post(PATH, json=wish, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"day": day, "energy_wh": 0, "amount_fen": 0}
    again = await client.post(PATH, json={"day": today, "reason": "burnt"}, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "day_not_over")
