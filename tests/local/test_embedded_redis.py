"""The embedded Redis: there, or said in one line to be absent."""

import asyncio
import contextlib
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import redis.asyncio
from redis.exceptions import AuthenticationError, RedisError

from server.local import redis as embedded
from server.local.redis import EmbeddedRedis


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A Redis of the test's own."""
    async with EmbeddedRedis(tmp_path) as started:
        yield started


async def setting(url: str | None, name: str) -> str:
    """A setting of the server."""
    assert url is not None
    client = redis.asyncio.Redis.from_url(url, decode_responses=True)
    try:
        return str((await client.config_get(name))[name])
    finally:
        await client.aclose()


def command_line(pid: int | None) -> str:
    """What everybody can see of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("save", ""),
        ("appendonly", "no"),
        ("maxmemory", str(64 * 1024 * 1024)),
        ("maxmemory-policy", "allkeys-lru"),
    ],
)
async def test_keeps_nothing_and_little(server: EmbeddedRedis, name: str, value: str) -> None:
    assert await setting(server.url, name) == value


async def test_a_stranger_needs_the_password(server: EmbeddedRedis, tmp_path: Path) -> None:
    assert server.url is not None
    client = redis.asyncio.Redis.from_url("redis://" + server.url.partition("@")[2])
    with pytest.raises(AuthenticationError):
        await client.set("key", "value")
    await client.aclose()
    assert stat.S_IMODE((tmp_path / "redis" / "redis.conf").stat().st_mode) == 0o600
    assert server.url.split(":")[2].split("@")[0] not in command_line(server.pid)


async def test_a_killed_server_is_started_again_in_its_place(tmp_path: Path) -> None:
    said: list[str] = []
    async with EmbeddedRedis(tmp_path, say=said.append) as server:
        url, pid = server.url, server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for _ in range(200):
            await asyncio.sleep(0.05)
            with contextlib.suppress(RedisError):
                if server.pid not in {None, pid} and await setting(url, "save") == "":
                    break
        else:
            pytest.fail("it did not come back")
        assert server.url == url
    assert said == ["Redis died (killed by SIGKILL): starting it again"]


async def test_one_that_does_not_start_gives_way_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'no such library'\nexit 1\n", encoding="ascii")
    broken.chmod(0o755)
    working = embedded.find_programs()[-1]
    monkeypatch.setattr(embedded, "find_programs", lambda: [broken, working])
    said: list[str] = []
    async with EmbeddedRedis(tmp_path, say=said.append) as server:
        assert await setting(server.url, "save") == ""
    assert set(said) == {f"{broken} does not start: no such library"}


async def test_without_one_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_programs", list)
    said: list[str] = []
    async with EmbeddedRedis(tmp_path, say=said.append) as server:
        assert server.url is None
        assert server.pid is None
    assert said == ["no redis-server and no wheel of one for this machine: going on without"]


def test_the_one_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "redis-server"
    shutil.copy("/bin/sh", mine)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.find_programs()[0] == mine


def test_none_on_the_path_and_no_wheel_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert embedded.find_programs() == []
