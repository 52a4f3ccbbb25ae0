"""Logging in, scanning, binding, unbinding: as a phone sees it."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

from miniprogram_api.routes import PREFIX
from server.models.database import pool, rows
from tests.fakes.town import Town, served_town, token_of


async def test_a_code_from_wx_login_opens_a_session_that_only_its_hash_knows(town: Town) -> None:
    answer = await town.client.post(f"{PREFIX}/sessions", json={"code": "ann-1"})
    assert answer.status_code == 201
    assert set(answer.json()) == {"token", "expires_at"}
    kept = await rows(pool(), "SELECT token_hash FROM user_session")
    assert len(kept) == 1
    assert answer.json()["token"] not in kept[0]["token_hash"]


async def test_a_session_ends_after_thirty_days_or_when_it_is_ended(town: Town) -> None:
    ann, again = await town.person("ann"), await town.person("ann")
    assert (await again.delete("/sessions")).status_code == 204
    assert (await again.get("/shops")).status_code == 401
    town.now += timedelta(days=30, seconds=-1)
    assert (await ann.get("/shops")).status_code == 200
    town.now += timedelta(seconds=1)
    ended = await ann.get("/shops")
    assert (ended.status_code, ended.json()["code"]) == (401, "unauthenticated")


async def test_a_wrong_code_and_a_silent_wechat_are_told_apart(town: Town) -> None:
    wrong = await town.client.post(f"{PREFIX}/sessions", json={"code": "bad"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_code")
    town.login.down = True
    silent = await town.client.post(f"{PREFIX}/sessions", json={"code": "ann-1"})
    assert (silent.status_code, silent.json()["code"]) == (503, "unavailable")


async def test_a_scan_shows_a_masked_name_and_binds_nothing(town: Town) -> None:
    ann = await town.person("ann")
    token = await token_of("A1", town.site_id)
    seen = await ann.get(f"/shop-tokens/{token}")
    assert seen.json() == {
        "site_name": "示范商场",
        "shop_code": "A1",
        "shop_name": "茶*",
        "shop_id": None,
    }
    assert (await ann.get("/shops")).json() == {"items": [], "next_cursor": None}


async def test_binding_twice_is_binding_once(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    again = await ann.post("/bindings", json=await town.binding("A1"))
    assert (again.status_code, again.json()["id"]) == (201, shop_id)
    assert [one["id"] for one in (await ann.get("/shops")).json()["items"]] == [shop_id]
    assert await rows(pool(), "SELECT count(*) AS n FROM binding") == [{"n": 1}]
    seen = await ann.get(f"/shop-tokens/{await token_of('A1', town.site_id)}")
    assert seen.json()["shop_id"] == shop_id


async def test_several_people_share_a_shop_and_one_has_several(town: Town) -> None:
    ann, first = await town.tenant("ann", "A1")
    assert (await ann.post("/bindings", json=await town.binding("A2"))).status_code == 201
    _, same = await town.tenant("bob", "A1")
    assert same == first
    assert len((await ann.get("/shops")).json()["items"]) == 2


async def test_unbinding_takes_everything_away_and_binding_gives_it_back(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    assert (await ann.delete(f"/shops/{shop_id}/binding")).status_code == 204
    assert (await ann.get(f"/shops/{shop_id}")).status_code == 404
    assert (await ann.delete(f"/shops/{shop_id}/binding")).status_code == 404
    await town.tenant("ann", "A1")
    assert (await ann.get(f"/shops/{shop_id}")).status_code == 200


async def test_the_fifth_wrong_code_of_a_person_blocks_right_ones_for_a_while(town: Town) -> None:
    ann = await town.person("ann")
    wrong, right = await town.binding("A1", "000000"), await town.binding("A1")
    for _ in range(5):
        answer = await ann.post("/bindings", json=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "wrong_binding_code")
    blocked = await ann.post("/bindings", json=right)
    assert (blocked.status_code, blocked.headers["retry-after"]) == (429, "900")
    elsewhere = await ann.post("/bindings", json=await town.binding("A2"))
    assert elsewhere.status_code == 429
    town.now += timedelta(seconds=900)
    assert (await ann.post("/bindings", json=right)).status_code == 201


async def test_the_tenth_wrong_code_at_a_shop_blocks_everybody_there(town: Town) -> None:
    wrong = await town.binding("A1", "000000")
    for name in ("ann", "bob"):
        guesser = await town.person(name)
        for _ in range(5):
            assert (await guesser.post("/bindings", json=wrong)).status_code == 422
    carol = await town.person("carol")
    assert (await carol.post("/bindings", json=await town.binding("A1"))).status_code == 429
    assert (await carol.post("/bindings", json=await town.binding("A2"))).status_code == 201


async def test_a_burst_of_guesses_gets_no_more_tries_than_a_row_of_them(town: Town) -> None:
    ann = await town.person("ann")
    wrong = await town.binding("A1", "000000")
    answers = await asyncio.gather(*(ann.post("/bindings", json=wrong) for _ in range(12)))
    assert Counter(answer.status_code for answer in answers) == {422: 5, 429: 7}


async def test_nobody_binds_where_nobody_lives(town: Town) -> None:
    ann = await town.person("ann")
    await town.change("UPDATE tenancy SET closed_at = $1", town.now)
    answer = await ann.post("/bindings", json=await town.binding("A1"))
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_without_a_mini_program_nobody_logs_in(database: None, tmp_path: Path) -> None:
    async with served_town(tmp_path, login=None) as town:
        answer = await town.client.post(f"{PREFIX}/sessions", json={"code": "ann-1"})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_who_was_unbound_is_a_stranger(town: Town) -> None:
    ann, shop_id = await town.tenant("ann", "A1")
    no = (await ann.order(shop_id, "mine")).json()["top_up_no"]
    assert (await ann.get(f"/top-ups/{no}")).status_code == 200
    await ann.delete(f"/shops/{shop_id}/binding")
    assert (await ann.get(f"/top-ups/{no}")).status_code == 404
    assert (await ann.order(shop_id, "mine")).status_code == 404
