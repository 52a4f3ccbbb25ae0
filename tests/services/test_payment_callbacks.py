"""The platforms' door over a real socket: nothing is answered before it is kept."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sanic import Sanic

from server.handlers import payment_callbacks
from server.handlers.settling import AT_ONCE, Settling
from server.http.answers import install_answers
from server.http.context import WebContext
from server.models.database import pool, rows
from server.services import payment_inbox
from server.services.wakeups import INBOX, Wakeups
from server.settings import load_settings
from tests.fakes.town import serving
from tests.http import http_client
from tests.scenarios.world import World, local
from tests.services.money import wallet_fen

_numbers = itertools.count(1)


@dataclass
class Door:
    """A mall, and a client that is its platform."""

    world: World
    client: httpx.AsyncClient

    async def tell(
        self, headers: dict[str, str], body: bytes, path: str = "/payments/wechat/demo/notify"
    ) -> httpx.Response:
        return await self.client.post(path, headers=headers, content=body)


@pytest_asyncio.fixture
async def door(database: None, tmp_path: Path) -> AsyncIterator[Door]:
    world = World(local("2026-05-20 10:00"))
    await world.open(tmp_path, balance_fen=0)
    app: Sanic[Any, Any] = Sanic(f"callbacks_{next(_numbers)}", configure_logging=False)
    app.config.update(TOUCHUP=False, MOTD=False, ACCESS_LOG=False, GRACEFUL_SHUTDOWN_TIMEOUT=0.2)
    install_answers(app)
    settings = load_settings({"MALLWATT_DATA_DIR": str(tmp_path)})
    context = WebContext(settings, lambda: world.now, world.directory, None, Wakeups(None))
    app.blueprint(payment_callbacks.blueprint(context))
    async with serving(app) as url, http_client(base_url=url) as client:
        yield Door(world, client)


async def kept_notices() -> int:
    return int((await rows(pool(), "SELECT count(*) AS n FROM payment_notice"))[0]["n"])


async def credited_fen(door: Door) -> int:
    """What the wallet holds once the notice is settled: that is done after the answer."""
    async with asyncio.timeout(5):
        while await rows(pool(), "SELECT 1 AS open FROM payment_notice WHERE settled_at IS NULL"):  # noqa: ASYNC110  only the table tells
            await asyncio.sleep(0.01)
    return await wallet_fen(door.world.tenancy_id)


async def test_a_true_notice_is_kept_answered_and_credited_once(door: Door) -> None:
    number = await door.world.order(5_000)
    door.world.paid_trade(number)
    headers, body = door.world.platform.notice_of(number)
    for _ in range(3):
        assert (await door.tell(headers, body)).status_code == 200
    assert await kept_notices() == 1
    assert await credited_fen(door) == 5_000


async def test_crediting_that_fails_leaves_the_answer_and_the_notice(door: Door) -> None:
    number = await door.world.order(5_000)
    door.world.paid_trade(number)
    await rows(pool(), "UPDATE shop SET supply_policy_code = 'gone'")
    headers, body = door.world.platform.notice_of(number)
    assert (await door.tell(headers, body)).status_code == 200
    found = await rows(pool(), "SELECT settled_at FROM payment_notice")
    assert found == [{"settled_at": None}]
    assert await wallet_fen(door.world.tenancy_id) == 0
    await rows(pool(), "UPDATE shop SET supply_policy_code = 'shop'")
    assert (await door.tell(headers, body)).status_code == 200
    assert await credited_fen(door) == 5_000


UNPROVED = [
    ("/payments/wechat/demo/notify", b"{}", 400),
    ("/payments/wechat/demo/notify", b"", 400),
    ("/payments/wechat/demo/notify", b"x" * 70_000, 400),
    ("/payments/wechat/nowhere/notify", b"{}", 404),
    ("/payments/wechat/de%00mo/notify", b"{}", 404),
    ("/payments/wechat/" + "x" * 200 + "/notify", b"{}", 404),
    ("/payments/paypal/demo/notify", b"{}", 404),
]


async def test_what_proves_nothing_changes_nothing(door: Door) -> None:
    forged = {"x-fake-signature": "forged"}
    for path, body, status in UNPROVED:
        answer = await door.tell(forged, body, path)
        assert (path, body[:2], answer.status_code) == (path, body[:2], status)
    assert await kept_notices() == 0


async def test_a_contradiction_is_answered_as_failure(door: Door) -> None:
    number = await door.world.order(5_000)
    door.world.platform.pay(number, door.world.now, paid_fen=4_999)
    headers, body = door.world.platform.notice_of(number)
    assert (await door.tell(headers, body)).status_code == 400
    assert await kept_notices() == 0
    assert await rows(pool(), "SELECT kind FROM payment_case") == [{"kind": "other_amount"}]


class SlowBell(Wakeups):
    """Wake-ups that are told one after the other, when a test lets them."""

    def __init__(self) -> None:
        super().__init__(None)
        self.told = 0
        self.free = asyncio.Event()

    async def tell(self, *topics: str) -> None:
        assert topics == (INBOX,)
        self.told += 1
        await self.free.wait()


async def test_what_is_too_much_at_once_is_left_to_workers_who_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of what comes while they are being told: they may have looked before it was there."""
    bell, ended, begun = SlowBell(), asyncio.Event(), []

    async def settle(notice_id: int, _now: object) -> None:
        begun.append(notice_id)
        await ended.wait()

    monkeypatch.setattr(payment_inbox, "settle", settle)
    world = World(local("2026-05-20 10:00"))
    settings = load_settings({"MALLWATT_DATA_DIR": str(tmp_path)})
    settling = Settling(WebContext(settings, lambda: world.now, world.directory, None, bell))
    for notice_id in range(AT_ONCE + 3):
        settling.begin(notice_id)
        await asyncio.sleep(0)
    assert (begun, bell.told) == (list(range(AT_ONCE)), 1)
    bell.free.set()
    ended.set()
    await settling.ended()
    assert bell.told == 2
    settling.begin(99)
    await settling.ended()
    assert (begun[-1], bell.told) == (99, 2)
