"""Where the access token is kept, so that all threads and processes share one.

Redis may be wiped or be away: then each process goes on with a token of its own. The stable-token
call answers all of them with the same one, so that costs a call and breaks nothing.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

KEY_PREFIX = "mallwatt:weixin:"
LOCK_WAIT_S = 12.0  # longer than one fetch; afterwards a second fetch does no harm
LOCK_LIFE_S = 15.0
REDIS_TIMEOUT_S = 0.5
REDIS_PAUSE_S = 5.0  # how long an absent Redis is left alone

T = TypeVar("T")


class TokenStore(Protocol):
    """A small cache with a lock; called from threads, never from the event loop."""

    def get(self, key: str) -> str | None:
        """The token, unless its time is over."""
        ...

    def set(self, key: str, token: str, life_s: int) -> None:
        """Keep a token for so long."""
        ...

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Held by whoever fetches, so that the others wait and read."""
        ...


class MemoryTokenStore:
    """One process's tokens."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, float]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def get(self, key: str) -> str | None:
        """The token, unless its time is over."""
        token, end = self._kept.get(key, ("", 0.0))
        return token if time.monotonic() < end else None

    def set(self, key: str, token: str, life_s: int) -> None:
        """Keep a token for so long; at most one a key."""
        self._kept[key] = (token, time.monotonic() + life_s)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Wait at most LOCK_WAIT_S; who waited in vain goes on without."""
        with self._guard:
            lock = self._locks[key]
        held = lock.acquire(timeout=LOCK_WAIT_S)
        try:
            yield
        finally:
            if held:
                lock.release()


class RedisTokenStore:
    """Every process's tokens; this process's own while Redis is away."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._memory = MemoryTokenStore()
        self._away_until = 0.0

    def get(self, key: str) -> str | None:
        """The shared token, else this process's own."""
        token = self._try(lambda: self._redis.get(KEY_PREFIX + key))
        return token if isinstance(token, str) else self._memory.get(key)

    def set(self, key: str, token: str, life_s: int) -> None:
        """Keep a token here and there."""
        self._memory.set(key, token, life_s)
        self._try(lambda: self._redis.set(KEY_PREFIX + key, token, ex=life_s))

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """First among this process's threads, then among the processes."""
        with self._memory.lock(key):
            shared = self._redis.lock(
                f"{KEY_PREFIX}lock:{key}",
                timeout=LOCK_LIFE_S,
                blocking_timeout=LOCK_WAIT_S,
                sleep=0.05,
            )
            held = self._try(shared.acquire)
            try:
                yield
            finally:
                if held:
                    self._try(shared.release)

    def close(self) -> None:
        """Close connections."""
        self._redis.close()

    def _try(self, ask: Callable[[], T]) -> T | None:
        """None where Redis does not answer; a lock that ran out is no matter either."""
        if time.monotonic() < self._away_until:
            return None
        try:
            return ask()
        except redis.exceptions.LockError:
            return None
        except redis.RedisError:
            self._away_until = time.monotonic() + REDIS_PAUSE_S
            return None
