"""Between a merchant's request and a platform's answer: what the faults of the table do there."""

import asyncio
import math
from collections.abc import Awaitable, Callable

from sanic import HTTPResponse, Request
from sanic.response import empty, raw

from payments.contract import Platform
from payments.sandbox.faults import Fault, Kind
from payments.sandbox.state import Sandbox

_BEFORE = (Kind.RATE_LIMITED, Kind.SERVER_ERROR, Kind.DROPPED)
_AFTER = (Kind.SERVER_ERROR_AFTER, Kind.DROPPED_AFTER)


async def through(
    sandbox: Sandbox,
    platform: Platform,
    call: str,
    request: Request,
    act: Callable[[], Awaitable[HTTPResponse]],
) -> HTTPResponse:
    """The answer of `act`, or what becomes of it; a fault "before" leaves it undone."""
    before = sandbox.faults.take(platform, call, _BEFORE)
    if before is not None:
        return _trouble(before, request)
    answer = await act()
    slow = sandbox.faults.take(platform, call, [Kind.SLOW])
    if slow is not None:
        await asyncio.sleep(slow.seconds)
    after = sandbox.faults.take(platform, call, _AFTER)
    return answer if after is None else _trouble(after, request)


def _trouble(fault: Fault, request: Request) -> HTTPResponse:
    if fault.kind in {Kind.DROPPED, Kind.DROPPED_AFTER}:
        if isinstance(request.transport, asyncio.Transport):
            request.transport.abort()  # what is returned goes nowhere
        return empty()
    if fault.kind is Kind.RATE_LIMITED:
        seconds = {"Retry-After": str(math.ceil(fault.seconds))}
        return _plain(fault, 429, "RATELIMIT_EXCEEDED", "频率超限", seconds)
    return _plain(fault, 500, "SYSTEM_ERROR", "系统异常，请稍后重试", {})


def _plain(
    fault: Fault, status: int, code: str, message: str, headers: dict[str, str]
) -> HTTPResponse:
    """As a server in front of the platform answers: not signed."""
    if fault.platform is Platform.ALIPAY:
        page = f"<html><body><h1>{status} {code}</h1></body></html>"
        return raw(page.encode(), status=status, headers=headers, content_type="text/html")
    body = f'{{"code":"{code}","message":"{message}"}}'
    return raw(body.encode(), status=status, headers=headers, content_type="application/json")
