"""Trying again: what is transient, a bounded number of times, in a bounded time, never in step."""

import asyncio
import secrets
from asyncio import sleep
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

import httpx

from payments.contract import PlatformUnavailableError
from payments.wechat import errors

ATTEMPTS_MAX = 3
BACKOFF_S = 0.2  # doubled each time, with full jitter on top
CALL_TIMEOUT_S = 8.0  # of one attempt
TOTAL_S = 25.0  # of all that one question takes, pauses too

T = TypeVar("T")
_random = secrets.SystemRandom()


class Answer(NamedTuple):
    """An answer as it came; `retry_after` is its header."""

    status: int
    content: bytes
    retry_after: str = ""


async def persist(attempt: Callable[[], Awaitable[T]], timeout_s: float | None = None) -> T:
    """What `attempt` gives, once it gives something; raises its last PaymentError.

    A pause that the platform asks for (Retry-After) is kept where the time allows it; where it
    does not, nothing is tried before it is over.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + TOTAL_S
    for number in range(ATTEMPTS_MAX):
        left_s = until - clock()
        try:
            return await _once(attempt, min(timeout_s or CALL_TIMEOUT_S, left_s))
        except PlatformUnavailableError as error:
            pause_s = BACKOFF_S * 2**number * (1 + _random.random())
            pause_s = max(pause_s, errors.asked_pause_s(error))
            is_last = number == ATTEMPTS_MAX - 1 or error.code in errors.NOT_AT_ONCE
            if is_last or clock() + pause_s >= until:
                raise
        await sleep(pause_s)
    raise AssertionError  # the last attempt returned or raised


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """Several calls for one question; together they take no longer than one may."""
    try:
        async with asyncio.timeout(TOTAL_S):
            yield
    except TimeoutError as error:
        raise PlatformUnavailableError(f"no answer within {TOTAL_S:.0f} s") from error


async def content_of(call: Awaitable[Answer]) -> bytes:
    """The content of a good answer; what the other answers mean is raised."""
    answer = await call
    if answer.status not in {200, 204}:
        raise errors.error_from_answer(answer.status, answer.content, answer.retry_after)
    return answer.content


async def _once(attempt: Callable[[], Awaitable[T]], timeout_s: float) -> T:
    try:
        async with asyncio.timeout(timeout_s):
            return await attempt()
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise PlatformUnavailableError(f"no answer: {type(error).__name__}") from error
