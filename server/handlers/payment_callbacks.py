"""The platforms' door: verify, keep, commit, answer; then credit what was kept.

A notice that does not prove itself changes nothing, and its sender is told so in its own form.
"""

from contextlib import suppress
from typing import Any

import msgspec
import structlog
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import raw

from payments.contract import NoticeAnswer, NoticeRejectedError, PaymentPlatform, Platform
from server.core.errors import NotFoundError
from server.http.context import WebContext
from server.http.openapi import Operation, attach
from server.services import payment_inbox
from server.services.announce import announce_tenancies
from server.services.sites import find_site
from server.services.wakeups import INBOX

log = structlog.get_logger(__name__)

NOTICE_BYTES_MAX = 64 * 1024


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


def blueprint(context: WebContext) -> Blueprint:
    """POST /payments/{wechat,alipay}/{site}/notify."""
    doors = Blueprint("payment_callbacks", url_prefix="/payments")
    attach(doors, OPERATIONS)

    async def wechat(request: Request, site: str) -> HTTPResponse | None:
        return await _receive(context, request, site, Platform.WECHAT)

    async def alipay(request: Request, site: str) -> HTTPResponse | None:
        return await _receive(context, request, site, Platform.ALIPAY)

    doors.add_route(wechat, "/wechat/<site:str>/notify", methods=["POST"])
    doors.add_route(alipay, "/alipay/<site:str>/notify", methods=["POST"])
    return doors


async def _receive(
    context: WebContext, request: Request, site_code: str, name: Platform
) -> HTTPResponse | None:
    site_id, platform = await _merchant(context, site_code, name)
    if len(request.body) > NOTICE_BYTES_MAX:
        return _answer(platform.acknowledge(accepted=False, reason="the body is too large"))
    now = context.clock()
    try:
        headers = {key.lower(): value for key, value in request.headers.items()}
        notice = platform.parse_notice(headers, request.body, now)
    except NoticeRejectedError as error:
        log.warning("notice rejected", platform=name.value, site=site_code, reason=error.detail)
        return _answer(platform.acknowledge(accepted=False, reason=error.detail))
    kept, notice_id = await payment_inbox.keep(site_id, platform, notice, now)
    if kept is payment_inbox.Kept.CONTRADICTED or notice_id is None:
        return _answer(platform.acknowledge(accepted=False, reason="contradicts the order"))
    await _answer_and_settle(context, request, platform, notice_id)
    return None


async def _merchant(
    context: WebContext, site_code: str, name: Platform
) -> tuple[int, PaymentPlatform]:
    """Whose notice this would be; a mall without a merchant is like one that is not there."""
    with suppress(NotFoundError):
        site_id = await find_site(site_code)
        platform = await context.platforms.of_site(site_id, name)
        if platform is not None:
            return site_id, platform
    raise NotFoundError("no such merchant")


async def _answer_and_settle(
    context: WebContext, request: Request, platform: PaymentPlatform, notice_id: int
) -> None:
    """Answer first; should crediting fail here, the inbox worker does it a second later."""
    answer = platform.acknowledge(accepted=True)
    response = await request.respond(_answer(answer))
    if response is not None:
        await response.eof()
    credited = await payment_inbox.settle(notice_id, context.clock())
    if credited is not None and credited.tenancy_id is not None:
        await announce_tenancies(context.wakeups, [credited.tenancy_id])
    await context.wakeups.tell(INBOX)


def _answer(answer: NoticeAnswer) -> HTTPResponse:
    return raw(answer.body, status=answer.status, content_type=answer.content_type)
