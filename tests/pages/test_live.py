"""Live pages: a bounded number, a bounded pace, every region on each connect."""

import asyncio
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from server.core.errors import UnavailableError
from server.handlers.live import event
from server.services import live, managers
from server.services.live import StreamSlots, looks
from server.services.wakeups import Wakeups
from tests.http import http_client
from tests.pages.mall import Mall, serve_mall


def test_an_event_carries_every_line_of_its_region() -> None:
    assert event(7, "region", "<p>\n</p>") == "id: 7\nevent: region\ndata: <p>\ndata: </p>\n\n"
    assert event(8, "done", "") == "id: 8\nevent: done\ndata: \n\n"


def test_slots_are_bounded_and_given_back() -> None:
    slots = StreamSlots(most=1)
    with slots.take("manager:1"):
        with pytest.raises(UnavailableError), slots.take("manager:2"):
            pass
        assert slots.taken == 1
    assert slots.taken == 0


def test_nobody_takes_the_slots_of_all_others() -> None:
    slots = StreamSlots(most=9, most_per_holder=2)
    with slots.take("address:192.0.2.1"), slots.take("address:192.0.2.1"):
        with pytest.raises(UnavailableError), slots.take("address:192.0.2.1"):
            pass
        with slots.take("manager:1"):
            assert slots.taken == 3
    with slots.take("address:192.0.2.1"):
        assert slots.taken == 1


def test_nobody_comes_in_once_it_is_closed() -> None:
    slots = StreamSlots()
    slots.closed = True
    with pytest.raises(UnavailableError), slots.take("manager:1"):
        pass


async def test_a_stream_ends_when_the_process_stops(mall: Mall, tmp_path: Path) -> None:
    token = await mall.session_of("owner")
    async with (
        serve_mall(tmp_path) as stopped,
        http_client(base_url=stopped.url, cookies={"mw_manager": token}) as client,
        asyncio.timeout(10),
        client.stream("GET", "/admin/live") as stream,
    ):
        await stopped.server.before_stop()
        assert await _first_events(stream, 99) == ["region", "region"]


async def test_it_looks_at_once_then_at_its_pace_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "LOOK_S", 0.05)
    monkeypatch.setattr(live, "PACE_S", 0.02)
    monkeypatch.setattr(live, "LIFE_S", 0.3)
    started = asyncio.get_running_loop().time()
    numbers = [number async for number in looks(Wakeups(None), ["tenancy:1"])]
    assert numbers == list(range(1, len(numbers) + 1))
    assert 2 <= len(numbers) <= 7
    assert asyncio.get_running_loop().time() - started >= 0.3


async def test_a_wake_up_is_heard_before_the_next_look(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_S", 30.0)
    monkeypatch.setattr(live, "PACE_S", 0.01)
    async with asyncio.timeout(10), Redis.from_url(redis_url) as redis:
        wakeups = Wakeups(redis)
        teller = asyncio.create_task(_tell_until_cancelled(wakeups))
        async for number in looks(wakeups, ["tenancy:*"]):
            if number == 3:
                break
        teller.cancel()


async def _tell_until_cancelled(wakeups: Wakeups) -> None:
    while True:
        await wakeups.tell("tenancy:77")
        await asyncio.sleep(0.05)


async def test_a_stream_begins_with_all_regions(mall: Mall) -> None:
    token = await mall.session_of("owner")
    async with http_client(base_url=mall.url, cookies={"mw_manager": token}) as client:
        expected = {"/admin/live": 2, "/admin/shops/A101/live": 4}
        for path, regions in expected.items():
            async with asyncio.timeout(10), client.stream("GET", path) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                assert await _first_events(stream, regions) == ["region"] * regions


async def _first_events(stream: httpx.Response, count: int) -> list[str]:
    names: list[str] = []
    async for line in stream.aiter_lines():
        if line.startswith("event: "):
            names.append(line.removeprefix("event: "))
            if len(names) == count:
                return names
    return names


async def test_a_stream_ends_with_the_session(mall: Mall) -> None:
    token = await mall.session_of("owner")
    async with http_client(base_url=mall.url, cookies={"mw_manager": token}) as client:
        async with asyncio.timeout(10), client.stream("GET", "/admin/live") as stream:
            await managers.log_out(token)
            assert "region" in await _first_events(stream, 99)
        assert (await client.get("/admin/live")).status_code == 401
