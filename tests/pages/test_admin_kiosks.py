"""Kiosks as managers see them: which there are, and the end of one, in the API and on a page."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from server.models import database
from tests.http import http_client
from tests.pages.mall import Mall

KIOSKS = "/api/admin/v1/kiosks"


@pytest_asyncio.fixture
async def client(mall: Mall) -> AsyncIterator[httpx.AsyncClient]:
    """Without a session of its own."""
    async with http_client(base_url=mall.url) as opened:
        yield opened


async def bearer(mall: Mall, name: str) -> dict[str, str]:
    """The header of a manager of this role."""
    return {"Authorization": f"Bearer {await mall.session_of(name)}"}


async def is_known(client: httpx.AsyncClient, kiosk: str) -> bool:
    """Whether the screen with this cookie is a kiosk."""
    answer = await client.get("/kiosk", headers={"Cookie": f"mw_kiosk={kiosk}"})
    return answer.status_code == 200


async def test_a_kiosk_is_listed_and_ended_and_its_screen_is_strange_again(
    mall: Mall, client: httpx.AsyncClient
) -> None:
    cookie, headers = await mall.kiosk_of("owner"), await bearer(mall, "engineer")
    [listed] = (await client.get(KIOSKS, headers=headers)).json()["items"]
    assert (listed["site"], listed["name"], listed["enrolled_by"]) == ("demo", "K1", "owner")
    assert await is_known(client, cookie)
    ended = await client.delete(f"{KIOSKS}/{listed['id']}", headers=headers)
    assert (ended.status_code, ended.content) == (204, b"")
    assert not await is_known(client, cookie)
    assert (await client.get(KIOSKS, headers=headers)).json() == {"items": [], "next_cursor": None}
    again = await client.delete(f"{KIOSKS}/{listed['id']}", headers=headers)
    assert again.status_code == 404
    acts = await database.rows(
        database.pool(), "SELECT site_id, actor, act, subject FROM manager_act ORDER BY id"
    )
    assert acts == [
        {"site_id": mall.site_id, "actor": actor, "act": act, "subject": "kiosk:K1"}
        for actor, act in (("owner", "kiosk.enrol"), ("engineer", "kiosk.end"))
    ]


@pytest.mark.parametrize(
    ("role", "status"), [("finance", 403), ("service", 403), ("read_only", 403), ("owner", 204)]
)
async def test_who_may_end_one(
    mall: Mall, client: httpx.AsyncClient, role: str, status: int
) -> None:
    cookie, headers = await mall.kiosk_of("owner"), await bearer(mall, role)
    [listed] = (await client.get(KIOSKS, headers=headers)).json()["items"]
    ended = await client.delete(f"{KIOSKS}/{listed['id']}", headers=headers)
    assert ended.status_code == status
    assert await is_known(client, cookie) is (status == 403)


async def test_another_malls_kiosk_is_one_that_is_not_there(
    mall: Mall, client: httpx.AsyncClient
) -> None:
    cookie = await mall.kiosk_of("owner")
    [listed] = (await client.get(KIOSKS, headers=await bearer(mall, "owner"))).json()["items"]
    await mall.bind_manager("engineer", to="elsewhere")
    headers = await bearer(mall, "engineer")
    assert (await client.get(KIOSKS, headers=headers)).json()["items"] == []
    assert (await client.get(f"{KIOSKS}?site=demo", headers=headers)).status_code == 404
    for one in (listed["id"], "none", 10**30):
        assert (await client.delete(f"{KIOSKS}/{one}", headers=headers)).status_code == 404
    assert await is_known(client, cookie)


async def test_the_page_lists_them_and_ends_one_by_its_own_form(
    mall: Mall, client: httpx.AsyncClient
) -> None:
    cookie = await mall.kiosk_of("owner")
    client.cookies.set("mw_manager", await mall.session_of("owner"))
    shown = await client.get("/admin/kiosks")
    assert "K1" in shown.text
    form = re.search(r'action="(/admin/kiosks/\d+/end)"', shown.text)
    csrf = re.search(r'name="csrf" value="(\w+)"', shown.text)
    assert form is not None
    assert csrf is not None
    origin = {"Origin": mall.url}
    refused = await client.post(form[1], data={"csrf": "x"}, headers=origin)
    assert refused.status_code == 403
    assert await is_known(client, cookie)
    ended = await client.post(form[1], data={"csrf": csrf[1]}, headers=origin)
    assert (ended.status_code, ended.headers["location"]) == (303, "/admin/kiosks")
    assert not await is_known(client, cookie)
    assert "K1" not in (await client.get("/admin/kiosks")).text


async def test_who_may_not_end_one_sees_no_button(mall: Mall, client: httpx.AsyncClient) -> None:
    await mall.kiosk_of("owner")
    client.cookies.set("mw_manager", await mall.session_of("finance"))
    shown = await client.get("/admin/kiosks")
    assert "K1" in shown.text
    assert "/end" not in shown.text
