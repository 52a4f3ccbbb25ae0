"""The platforms' door: verify, keep, commit, answer; what was kept is then credited apart.

A notice that does not prove itself changes nothing, and its sender is told so in its own form.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, cast

import msgspec
import structlog
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import raw

from payments.contract import NoticeAnswer, NoticeRejectedError, PaymentPlatform, Platform
from server.core.errors import InvalidInputError, NotFoundError, UnavailableError
from server.handlers.settling import Settling
from server.http.context import WebContext
from server.http.openapi import Operation, attach
from server.services import payment_inbox
from server.services.sites import find_site

log = structlog.get_logger(__name__)

NOTICE_BYTES_MAX = 64 * 1024
ANSWER_S = 4.0  # the platforms wait five


class WechatRefusal(msgspec.Struct):
    """What asks WeChat Pay for another delivery."""

    code: str
    message: str


OPERATIONS = (
    Operation(
        method="POST",
        path="/payments/wechat/{site}/notify",
        summary="A signed, encrypted notice of WeChat Pay v3",
        tag="platform",
        status=204,
        body=dict[str, Any],
        bearer=False,
        others={400: WechatRefusal},
    ),
    Operation(
        method="POST",
        path="/payments/alipay/{site}/notify",
        summary="A signed notice of Alipay; the answer is `success`, or anything else",
        tag="platform",
        body=dict[str, str],
        body_type="application/x-www-form-urlencoded",
        answer=str,
        media_type="text/plain",
        bearer=False,
    ),
)


# What asks for another delivery where it is not even known which merchant that would be.
UNAVAILABLE: Mapping[Platform, NoticeAnswer] = MappingProxyType(
    {
        Platform.WECHAT: NoticeAnswer(
            503, b'{"code":"FAIL","message":"unavailable"}', "application/json"
        ),
        Platform.ALIPAY: NoticeAnswer(503, b"failure", "text/plain"),
    }
)


def blueprint(context: WebContext) -> Blueprint:
    """POST /payments/{wechat,alipay}/{site}/notify."""
    doors = Blueprint("payment_callbacks", url_prefix="/payments")
    attach(doors, OPERATIONS)
    door = _Door(context)

    async def wechat(request: Request, site: str) -> HTTPResponse:
        return await door.receive(request, site, Platform.WECHAT)

    async def alipay(request: Request, site: str) -> HTTPResponse:
        return await door.receive(request, site, Platform.ALIPAY)

    async def stop(_app: object) -> None:
        await door.settling.ended()

    doors.add_route(wechat, "/wechat/<site:str>/notify", methods=["POST"], stream=True)
    doors.add_route(alipay, "/alipay/<site:str>/notify", methods=["POST"], stream=True)
    doors.listener("after_server_stop")(stop)
    return doors


class _Door:
    """Both platforms' way in, at one web process."""

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._intake = payment_inbox.Intake()
        self._sites: dict[str, int] = {}  # a site keeps its code and is never taken away
        self.settling = Settling(context)

    async def receive(self, request: Request, site_code: str, name: Platform) -> HTTPResponse:
        """Answer in the platform's own form; where we cannot now, so that it comes again."""
        body = await _body(request)
        try:
            async with asyncio.timeout(ANSWER_S):
                return _answer(await self._received(request, body, site_code, name))
        except (UnavailableError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            log.error("a notice was not kept", platform=name.value, site=site_code, why=why)  # noqa: TRY400  the database's absence has been told with its trace
            return _answer(UNAVAILABLE[name])

    async def _received(
        self, request: Request, body: bytes | None, site_code: str, name: Platform
    ) -> NoticeAnswer:
        site_id, platform = await self._merchant(site_code, name)
        if body is None:
            return self._rejected(platform, site_code, "the body is too large")
        now = self._context.clock()
        headers = {key.lower(): value for key, value in request.headers.items()}
        try:
            notice = platform.parse_notice(headers, body, now)
        except NoticeRejectedError as error:
            return self._rejected(platform, site_code, error.detail)
        told = payment_inbox.Told(site_id, platform, notice, now)
        try:
            kept, notice_id = await self._intake.keep(told)
        except InvalidInputError as error:  # a zero character, which PostgreSQL cannot hold
            return self._rejected(platform, site_code, error.detail)
        if kept is payment_inbox.Kept.CONTRADICTED or notice_id is None:
            return platform.acknowledge(accepted=False, reason="contradicts the order")
        self.settling.begin(notice_id)
        return platform.acknowledge(accepted=True)

    @staticmethod
    def _rejected(platform: PaymentPlatform, site_code: str, reason: str) -> NoticeAnswer:
        log.warning(
            "notice rejected", platform=platform.platform.value, site=site_code, reason=reason
        )
        return platform.acknowledge(accepted=False, reason=reason)

    async def _merchant(self, site_code: str, name: Platform) -> tuple[int, PaymentPlatform]:
        """Whose notice this would be; a mall without a merchant is like one that is not there."""
        with suppress(NotFoundError):
            site_id = self._sites.get(site_code)
            if site_id is None:
                site_id = self._sites[site_code] = await find_site(site_code)
            platform = await self._context.platforms.of_site(site_id, name)
            if platform is not None:
                return site_id, platform
        raise NotFoundError("no such merchant")


async def _body(request: Request) -> bytes | None:
    """The raw body as it came, None as soon as it is too large: the rest is not read."""
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > NOTICE_BYTES_MAX:
        return None
    body, stream = bytearray(), cast("Any", request.stream)  # its type knows no iteration
    async for part in stream:
        body += part
        if len(body) > NOTICE_BYTES_MAX:
            return None
    return bytes(body)


def _answer(answer: NoticeAnswer) -> HTTPResponse:
    return raw(answer.body, status=answer.status, content_type=answer.content_type)
