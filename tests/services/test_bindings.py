"""Bindings below the door: masks, counters, and what ends with a binding."""

import asyncio
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from server.core.errors import ConflictError, LimitedError, NotFoundError
from server.models.database import pool, row, rows
from server.services import bindings, guesses, sessions
from server.services.bindings import WrongBindingCodeError
from server.services.locks import TenancyEndedError
from tests.fakes.login import FakeLogin
from tests.fakes.town import CODE, NOW, build_mall, tenancy_id_of, token_of

WAITING = """
SELECT 1 FROM pg_locks JOIN pg_stat_activity activity USING (pid)
WHERE NOT granted AND activity.datname = current_database()
"""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("茶饮", "茶*"),
        ("茶", "茶*"),
        ("小城故事川菜馆", "小******"),
        ("KFC", "K**"),
        ("", "*"),
    ],
)
def test_a_masked_name_keeps_its_first_character(name: str, shown: str) -> None:
    assert bindings.masked(name) == shown


async def log_in(name: str) -> int:
    opened = await sessions.log_in(FakeLogin(), f"{name}-1", NOW, address="127.0.0.1")
    return (await sessions.user_of(opened.token, NOW)).id


async def test_who_binds_while_the_tenancy_ends_has_no_access(
    database: None, tmp_path: Path, database_url: str
) -> None:
    site_id = await build_mall(tmp_path)
    token, old = await token_of("A1", site_id), await tenancy_id_of("A1", site_id)
    ann = await log_in("ann")
    leaving = await asyncpg.connect(database_url)
    try:
        await leaving.execute("BEGIN")
        await leaving.execute("UPDATE tenancy SET closed_at = $2 WHERE id = $1", old, NOW)
        binding = asyncio.create_task(bindings.bind(ann, token, CODE, NOW))
        async with asyncio.timeout(10):
            while not await leaving.fetch(WAITING):  # noqa: ASYNC110  no event tells of a lock
                await asyncio.sleep(0.01)
        await leaving.execute("COMMIT")
    finally:
        await leaving.close()
    with pytest.raises(TenancyEndedError):
        await binding
    assert await rows(pool(), "SELECT 1 FROM binding") == []


async def test_a_new_operators_code_opens_the_new_tenancy_only(
    database: None, tmp_path: Path
) -> None:
    site_id = await build_mall(tmp_path)
    token, old = await token_of("A1", site_id), await tenancy_id_of("A1", site_id)
    ann, bob = await log_in("ann"), await log_in("bob")
    assert await bindings.bind(ann, token, CODE, NOW) == old
    await rows(pool(), "UPDATE tenancy SET closed_at = $2 WHERE id = $1", old, NOW)
    made = await row(
        pool(),
        "INSERT INTO tenancy (site_id, shop_id, opened_at, binding_code, opening_balance_fen,"
        " first_open_day, supply_state, supply_reasons, emergency_credit_fen, notice_memory)"
        " SELECT site_id, shop_id, $2, 'new-code', 0, first_open_day, 'connected', '[]', 0, '{}'"
        " FROM tenancy WHERE id = $1 RETURNING id",
        *(old, NOW),
    )
    assert made is not None
    with pytest.raises(WrongBindingCodeError):
        await bindings.bind(bob, token, CODE, NOW)
    assert await bindings.bind(bob, token, "new-code", NOW) == made["id"]


async def test_a_right_code_clears_the_person_but_not_the_shop(
    database: None, tmp_path: Path
) -> None:
    site_id = await build_mall(tmp_path)
    token, ann = await token_of("A1", site_id), await log_in("ann")
    for _ in range(3):  # ten wrong codes at the shop, none of them the fifth in a row
        for _ in range(3):
            with pytest.raises(WrongBindingCodeError):
                await bindings.bind(ann, token, "0", NOW)
        await bindings.bind(ann, token, CODE, NOW)
    with pytest.raises(WrongBindingCodeError):
        await bindings.bind(ann, token, "0", NOW)
    with pytest.raises(LimitedError):
        await bindings.bind(ann, token, CODE, NOW)
    shop = await row(pool(), "SELECT id FROM shop WHERE code = 'A1'")
    assert shop is not None
    await guesses.forget(bindings.SHOP_SCOPE, str(shop["id"]))  # a manager ends it
    await bindings.bind(ann, token, CODE, NOW)


async def test_one_person_has_so_many_shops_and_no_more(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_id = await build_mall(tmp_path)
    ann = await log_in("ann")
    monkeypatch.setattr(bindings, "BOUND_MAX", 1)
    await bindings.bind(ann, await token_of("A1", site_id), CODE, NOW)
    with pytest.raises(ConflictError):
        await bindings.bind(ann, await token_of("A2", site_id), CODE, NOW)
    await bindings.bind(ann, await token_of("A1", site_id), CODE, NOW)


async def test_a_binding_ends_once_and_stays_in_the_records(database: None, tmp_path: Path) -> None:
    site_id = await build_mall(tmp_path)
    ann, shop = await log_in("ann"), await token_of("A1", site_id)
    tenancy_id = await bindings.bind(ann, shop, CODE, NOW)
    assert await bindings.bound_timezone(ann, tenancy_id) == "Asia/Shanghai"
    await bindings.unbind(ann, tenancy_id, NOW + timedelta(hours=1))
    assert await bindings.bound_timezone(ann, tenancy_id) is None
    with pytest.raises(NotFoundError):
        await bindings.unbind(ann, tenancy_id, NOW)
    await bindings.bind(ann, shop, CODE, NOW + timedelta(hours=2))
    kept = await rows(pool(), "SELECT ended_at IS NULL AS active FROM binding ORDER BY id")
    assert kept == [{"active": False}, {"active": True}]
