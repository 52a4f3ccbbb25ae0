"""The managers' API as the contract has it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from server.core.errors import ConflictError, InvalidInputError
from server.models import database
from server.services import admin_views, managers, tenancies
from server.services.manager_acts import Role
from server.services.managers import GUESSES_PER_NAME, SESSION_LIFE
from tests.http import http_client
from tests.pages.mall import (
    PASSWORD,
    SHOPS,
    Mall,
    import_mall,
    lasting_mall,
    mall,
    mall_port,
    staged,
)

__all__ = ["lasting_mall", "mall", "mall_port", "staged"]  # fixtures
API = "/api/admin/v1"


@pytest_asyncio.fixture
async def client(mall: Mall) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a session."""
    async with http_client(base_url=f"{mall.url}{API}") as opened:
        yield opened


async def _bearer(mall: Mall, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {await mall.session_of(name)}"}


async def test_a_session_from_login_to_logout(client: httpx.AsyncClient) -> None:
    answer = await client.post("/sessions", json={"name": "owner", "password": PASSWORD})
    assert answer.status_code == 201
    assert set(answer.json()) == {"token", "expires_at"}
    bearer = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert (await client.get("/shops", headers=bearer)).status_code == 200
    assert (await client.delete("/sessions", headers=bearer)).status_code == 204
    refused = await client.get("/shops", headers=bearer)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert refused.headers["content-type"] == "application/problem+json"


async def test_who_came_in_and_from_where_is_in_the_log(client: httpx.AsyncClient) -> None:
    for password in ("wrong wrong", PASSWORD):
        await client.post("/sessions", json={"name": "finance", "password": password})
    [act] = await database.rows(database.pool(), "SELECT * FROM manager_act")
    shown = (act["actor"], act["act"], act["subject"], database.from_json(act["facts"]))
    assert shown == ("finance", "session.open", "manager:finance", {"address": "127.0.0.1"})


async def test_a_new_manager_is_in_the_log(mall: Mall) -> None:
    await managers.add("new", PASSWORD, Role.FINANCE, mall.site_id, mall.clock())
    with pytest.raises(ConflictError):
        await managers.add("new", PASSWORD, Role.OWNER, None, mall.clock())
    [act] = await database.rows(database.pool(), "SELECT * FROM manager_act")
    assert (act["act"], act["subject"], act["site_id"]) == (
        *("manager.add", "manager:new"),
        mall.site_id,
    )


async def test_the_table_holds_no_token(mall: Mall) -> None:
    token = await mall.log_in("owner")
    found = await database.row(database.pool(), "SELECT token_hash FROM manager_session")
    assert found == {"token_hash": managers.token_digest(token)}
    assert token not in str(found)


async def test_a_session_ends_by_itself(mall: Mall, client: httpx.AsyncClient) -> None:
    bearer = await _bearer(mall, "owner")
    mall.clock.at = mall.clock() + SESSION_LIFE
    assert (await client.get("/shops", headers=bearer)).status_code == 401


async def test_a_manager_keeps_so_many_sessions_and_the_oldest_end(
    mall: Mall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managers, "SESSIONS_MAX", 3)
    start = mall.clock()
    for minute in range(5):
        mall.clock.at = start + timedelta(minutes=minute)
        await mall.log_in("owner")
    found = await database.row(
        database.pool(), "SELECT count(*) AS n, min(expires_at) AS first FROM manager_session"
    )
    assert found == {"n": 3, "first": start + SESSION_LIFE + timedelta(minutes=2)}


async def test_unknown_names_and_wrong_passwords_look_alike(client: httpx.AsyncClient) -> None:
    answers = [
        await client.post("/sessions", json={"name": name, "password": "wrong wrong"})
        for name in ("owner", "nobody", "")
    ]
    problems = [{**answer.json(), "request_id": ""} for answer in answers]
    assert problems[0] == problems[1] == problems[2]
    assert (problems[0]["status"], problems[0]["code"]) == (401, "wrong_login")


async def test_a_kept_password_costs_its_thief_what_argon2_recommends(
    mall: Mall,
    client: httpx.AsyncClient,
    product_hasher: PasswordHasher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(managers, "_hasher", product_hasher)
    await managers.add("slow", PASSWORD, Role.FINANCE, mall.site_id, mall.clock())
    [kept] = await database.rows(
        database.pool(), "SELECT password_hash FROM manager WHERE name = 'slow'"
    )
    assert kept["password_hash"].startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    for password, status in ((PASSWORD, 201), ("wrong wrong", 401)):
        answer = await client.post("/sessions", json={"name": "slow", "password": password})
        assert answer.status_code == status


async def test_guessing_is_limited_for_right_passwords_too(client: httpx.AsyncClient) -> None:
    for _ in range(GUESSES_PER_NAME):
        wrong = await client.post("/sessions", json={"name": "owner", "password": "x"})
        assert wrong.status_code == 401
    right = await client.post("/sessions", json={"name": "owner", "password": PASSWORD})
    assert right.status_code == 429
    assert 0 < int(right.headers["retry-after"]) <= 900
    other = await client.post("/sessions", json={"name": "finance", "password": PASSWORD})
    assert other.status_code == 201


BAD_BODIES = (
    b"",
    b"{",
    b"[]",
    b'{"name": "owner"}',
    b'{"name": 1, "password": "x"}',
    b'{"name": "owner", "password": "x", "more": 1}',
    b'{"name": "\\u0000", "password": "x"}',
    b'{"name": "' + b"x" * 65 + b'", "password": "x"}',
)


async def test_a_bad_body_is_named(client: httpx.AsyncClient) -> None:
    for body in BAD_BODIES:
        answer = await client.post("/sessions", content=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body"), body
    huge = await client.post("/sessions", content=b'"' + b"x" * 70_000)
    assert huge.json()["code"] == "body_too_large"


async def test_the_list_goes_on_by_cursor(mall: Mall, client: httpx.AsyncClient) -> None:
    bearer = await _bearer(mall, "read_only")
    first = (await client.get("/shops", headers=bearer)).json()
    assert [item["code"] for item in first["items"]] == sorted(code for code, *_ in SHOPS)
    assert first["next_cursor"] is None
    found = await client.get("/shops", params={"q": "书店"}, headers=bearer)
    [shop] = found.json()["items"]
    assert (shop["code"], shop["balance_fen"], shop["control_state"]) == ("A102", 1250, "connected")
    for bad in (
        {"cursor": "%"},
        {"cursor": "_w=="},
        {"q": "\0"},
        {"q": "x" * 65},
        {"q": "x" * 999},
    ):
        refused = await client.get("/shops", params=bad, headers=bearer)
        assert refused.status_code == 422, bad
    assert (await client.get("/shops/%00", headers=bearer)).status_code == 404


async def test_pages_of_the_list_meet_without_gap_or_overlap(mall: Mall) -> None:
    seen, cursor = [], None
    while True:
        lines, cursor = await admin_views.shops(None, "", cursor, limit=4)
        seen += [line.code for line in lines]
        if cursor is None:
            break
    assert seen == sorted(code for code, *_ in SHOPS)
    assert mall.site_id == lines[0].site_id


async def test_one_shop_with_its_meters(mall: Mall, client: httpx.AsyncClient) -> None:
    shop = (await client.get("/shops/B203", headers=await _bearer(mall, "engineer"))).json()
    assert shop["shop_token"] == await mall.token_of("B203")
    assert (shop["balance_fen"], shop["control_state"]) == (6100, "disconnected")
    [meter] = shop["meters"]
    assert meter["code"] == "M-B203"
    assert meter["hold"]["reason"] == "电气检修"
    assert meter["desired"] == "disconnected"


async def test_the_balance_is_the_tenants(mall: Mall, client: httpx.AsyncClient) -> None:
    await database.rows(
        database.pool(),
        "INSERT INTO open_day (site_id, tenancy_id, day, energy_wh, amount_fen, estimated,"
        " complete, has_later_reading, rules_version, block_start_wh, cells_wh, meter_ids,"
        " read_ats, registers_wh, computed_at)"
        " SELECT site_id, id, current_date, 1000, 77, false, false, false, 1, 0, '{}', '{}', '{}',"
        " '{}', now()"
        " FROM tenancy",
    )
    bearer = await _bearer(mall, "finance")
    for item in (await client.get("/shops", headers=bearer)).json()["items"]:
        told = await tenancies.overview(item["tenancy_id"], mall.clock())
        assert item["balance_fen"] == told.balance_fen
        assert item["control_state"] == told.control_state


async def test_the_binding_code_is_for_owner_and_service(
    mall: Mall, client: httpx.AsyncClient
) -> None:
    told = {}
    for role in Role:
        bearer = await _bearer(mall, role.value)
        assert "binding_code" not in (await client.get("/shops/A101", headers=bearer)).json()
        shown = await client.get("/shops/A101?show=binding_code", headers=bearer)
        told[role] = (shown.status_code, shown.json().get("binding_code"))
    allowed = {role for role, told_code in told.items() if told_code == (200, "482913")}
    assert allowed == {Role.OWNER, Role.SERVICE}
    assert {told[role] for role in set(Role) - allowed} == {(403, None)}
    acts = await database.rows(
        database.pool(), "SELECT actor, act, subject, site_id FROM manager_act ORDER BY id"
    )
    assert acts == [
        {
            "actor": role.value,
            "act": "binding_code.view",
            "subject": "shop:A101",
            "site_id": mall.site_id,
        }
        for role in (Role.OWNER, Role.SERVICE)
    ]
    other = await client.get("/shops/A101?show=all", headers=await _bearer(mall, "owner"))
    assert other.status_code == 422


async def test_holding_and_releasing(mall: Mall, client: httpx.AsyncClient) -> None:
    bearer = await _bearer(mall, "engineer")
    wish = {"state": "disconnected", "reason": "检修"}
    answer = await client.post("/shops/A101/supply", json=wish, headers=bearer)
    assert answer.status_code == 202
    assert answer.json()["meters"] == [
        {"code": "M-A101", "desired": "disconnected", "confirmed": "connected"}
    ]
    shop = (await client.get("/shops/A101", headers=bearer)).json()
    assert shop["switching"] is True
    assert shop["meters"][0]["hold"]["by"] == "engineer"
    wish = {"state": "connected", "reason": "修好了"}
    assert (await client.post("/shops/A101/supply", json=wish, headers=bearer)).status_code == 202
    shop = (await client.get("/shops/A101", headers=bearer)).json()
    assert shop["meters"][0]["hold"] is None
    acts = await database.rows(
        database.pool(), "SELECT actor, act, reason FROM manager_act ORDER BY id"
    )
    assert [(one["actor"], one["act"], one["reason"]) for one in acts] == [
        ("engineer", "disconnect", "检修"),
        ("engineer", "reconnect", "修好了"),
    ]


REFUSED_WISHES: tuple[tuple[str, dict[str, str], int], ...] = (
    ("finance", {"state": "disconnected", "reason": "x"}, 403),
    ("service", {"state": "connected", "reason": "x"}, 403),
    ("read_only", {"state": "connected", "reason": "x"}, 403),
    ("owner", {"state": "off", "reason": "x"}, 400),
    ("owner", {"state": "disconnected", "reason": ""}, 400),
    ("owner", {"state": "disconnected", "reason": "  "}, 422),
    ("owner", {"state": "disconnected"}, 400),
    ("owner", {"state": "disconnected", "reason": "x" * 201}, 400),
)


async def test_a_refused_wish_changes_nothing(mall: Mall, client: httpx.AsyncClient) -> None:
    for name, wish, status in REFUSED_WISHES:
        bearer = await _bearer(mall, name)
        answer = await client.post("/shops/A101/supply", json=wish, headers=bearer)
        assert answer.status_code == status, (name, wish)
    found = await database.row(database.pool(), "SELECT count(*) AS n FROM manager_act")
    assert found == {"n": 0}


async def test_two_malls_with_the_same_codes(
    mall: Mall, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    other_id = await import_mall(tmp_path, "other", "第二商场", mall.clock())
    await managers.add("bound", PASSWORD, Role.OWNER, other_id, mall.clock())
    owner, bound = await _bearer(mall, "owner"), await _bearer(mall, "bound")
    unclear = await client.get("/shops/A101", headers=owner)
    assert (unclear.status_code, unclear.json()["code"]) == (409, "site_needed")
    clear = await client.get("/shops/A101?site=other", headers=owner)
    own = await client.get("/shops/A101", headers=bound)
    assert clear.json()["shop_token"] == own.json()["shop_token"]
    others = (await client.get("/shops", headers=owner)).json()["items"]
    assert len(others) == 2 * len(SHOPS)
    assert len((await client.get("/shops", headers=bound)).json()["items"]) == len(SHOPS)
    for path in ("/shops/A101?site=demo", "/shops/A101?site=none", "/shops/none"):
        answer = await client.get(path, headers=bound)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    wish = {"state": "disconnected", "reason": "x"}
    hidden = await client.post("/shops/A101/supply?site=demo", json=wish, headers=bound)
    assert hidden.status_code == 404


async def test_without_a_session_nothing_is_told(client: httpx.AsyncClient) -> None:
    for header in ("", "Bearer", "Basic abc", "Bearer " + "x" * 200, "Bearer abc"):
        for path in ("/shops", "/shops/A101"):
            answer = await client.get(path, headers={"Authorization": header})
            assert answer.status_code == 401, (header, path)


IMPOSSIBLE_MANAGERS = (
    ("owner", PASSWORD, ConflictError),
    ("", PASSWORD, InvalidInputError),
    (" spaced ", PASSWORD, InvalidInputError),
    ("line\nbreak", PASSWORD, InvalidInputError),
    ("x" * 65, PASSWORD, InvalidInputError),
    ("fresh", "short", InvalidInputError),
    ("fresh", "x" * 257, InvalidInputError),
)


async def test_an_impossible_manager_is_not_added(mall: Mall) -> None:
    for name, password, error in IMPOSSIBLE_MANAGERS:
        with pytest.raises(error):
            await managers.add(name, password, Role.OWNER, None, mall.clock())
    found = await database.row(database.pool(), "SELECT count(*) AS n FROM manager")
    assert found == {"n": len(Role)}
