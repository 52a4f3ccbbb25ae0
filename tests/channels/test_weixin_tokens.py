"""Where the access token is kept: one for all, with Redis or without."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from server.channels.weixin import tokens
from server.channels.weixin.tokens import (
    KEY_PREFIX,
    MemoryTokenStore,
    RedisTokenStore,
    TokenStore,
)
from server.local.redis import EmbeddedRedis


@pytest.fixture
def open_store(redis_url: str) -> Iterator[Callable[[str], TokenStore]]:
    """Opens a store as another thread or another process would."""
    memory = MemoryTokenStore()
    with contextlib.ExitStack() as stack:

        def open_one(kind: str) -> TokenStore:
            if kind == "memory":
                return memory
            store = RedisTokenStore(redis_url)
            stack.callback(store.close)
            return store

        yield open_one


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_a_token_is_shared_until_its_time_is_over(
    open_store: Callable[[str], TokenStore], kind: str
) -> None:
    mine, yours = open_store(kind), open_store(kind)

    assert yours.get(f"wx-{kind}") is None
    mine.set(f"wx-{kind}", "token", 1)
    assert yours.get(f"wx-{kind}") == "token"
    time.sleep(1.05)
    assert yours.get(f"wx-{kind}") is None


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_one_fetches_while_the_others_wait(
    open_store: Callable[[str], TokenStore], kind: str
) -> None:
    stores = [open_store(kind) for _ in range(4)]
    fetched: list[str] = []

    def token(store: TokenStore) -> str | None:
        with store.lock("wx-many"):
            if store.get("wx-many") is None:
                time.sleep(0.02)
                fetched.append("once")
                store.set("wx-many", "token", 60)
        return store.get("wx-many")

    with ThreadPoolExecutor(20) as threads:
        found = set(threads.map(token, stores * 5))

    assert found == {"token"}
    assert fetched == ["once"]


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_who_waits_too_long_goes_on(
    open_store: Callable[[str], TokenStore], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "LOCK_WAIT_S", 0.05)
    store, entered = open_store(kind), threading.Event()

    def enter() -> None:
        with store.lock("wx-slow"):
            entered.set()

    with store.lock("wx-slow"):
        other = threading.Thread(target=enter)
        other.start()
        assert entered.wait(2)
        other.join()
    enter()  # and the lock is whole afterwards


async def test_without_redis_a_process_goes_on_with_its_own(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as server:
        assert server.url is not None
        store = RedisTokenStore(server.url)
        store.set("wx1", "token", 60)
    started = time.monotonic()

    kept = store.get("wx1")
    with store.lock("wx1"):
        store.set("wx1", "newer", 60)

    assert (kept, store.get("wx1")) == ("token", "newer")
    assert time.monotonic() - started < 1  # one failed try, then Redis is left alone
    store.close()


def test_a_wiped_redis_costs_nothing(redis_url: str) -> None:
    store = RedisTokenStore(redis_url)
    store.set("wx-wiped", "token", 60)
    with redis.Redis.from_url(redis_url) as other:
        assert other.delete(f"{KEY_PREFIX}wx-wiped") == 1

    assert store.get("wx-wiped") == "token"
    store.close()


def test_a_redis_that_never_was_is_no_error() -> None:
    store = RedisTokenStore("redis://127.0.0.1:1/0")

    with store.lock("wx1"):
        store.set("wx1", "token", 60)

    assert store.get("wx1") == "token"
    store.close()
