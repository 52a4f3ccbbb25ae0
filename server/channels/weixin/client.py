"""The mini-program's WeChat API for the event loop: logins, messages, codes, shipping."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from server.channels.contract import ChannelError, Message, Sent, Shipment
from server.channels.weixin.errors import SHIPPED_CODES
from server.channels.weixin.tokens import TokenStore

if TYPE_CHECKING:
    from server.channels.weixin.api import WeixinApi

THREADS = 4  # of our own: the loop's default executor stays free for others
CALLS_MAX = 200  # waiting and running
CODE_CHARS_MAX = 128
SCENE_CHARS_MAX = 32

T = TypeVar("T")


class WeixinClient:
    """A MessageChannel, a LoginProvider and a ShippingDesk."""

    name = "weixin"

    def __init__(self, app_id: str, api: "WeixinApi") -> None:
        self.app_id = app_id
        self._api = api
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="weixin")
        self._calls = 0
        self._closed = False

    async def openid(self, code: str) -> str:
        """The person's openid; raises ChannelError (final: the code is wrong or used)."""
        if not (0 < len(code) <= CODE_CHARS_MAX and code.isascii() and code.isprintable()):
            raise ChannelError("not a login code", code="40029")
        return await self._run(lambda: self._api.login(code))

    async def send(self, message: Message, now: datetime) -> Sent:  # noqa: ARG002 - WeChat keeps its own time
        """Hand over a subscribe message; raises ChannelError."""
        return Sent(await self._run(lambda: self._api.send(message)))

    async def tell_shipped(self, shipment: Shipment, now: datetime) -> None:
        """Say that what was paid for is delivered; raises ChannelError.

        What WeChat knows as shipped is shipped: to say it again would use up its one correction.
        """
        told_at = now.isoformat(timespec="milliseconds")
        try:
            await self._run(lambda: self._api.tell_shipped(shipment, told_at))
        except ChannelError as error:
            if error.code not in SHIPPED_CODES:
                raise

    async def unlimited_code(self, scene: str, page: str) -> bytes:
        """The picture of a mini-program code; raises ChannelError."""
        if not 0 < len(scene) <= SCENE_CHARS_MAX:
            raise ChannelError(f"a scene has 1 to {SCENE_CHARS_MAX} characters", code="40169")
        return await self._run(lambda: self._api.code_picture(scene, page))

    async def aclose(self) -> None:
        """Take no more calls, end those under way, close connections."""
        self._closed = True
        await asyncio.to_thread(self._executor.shutdown)
        self._api.close()

    async def _run(self, call: Callable[[], T]) -> T:
        if self._closed:
            raise ChannelError("weixin: closed", code="closed", transient=True)
        if self._calls >= CALLS_MAX:
            raise ChannelError("weixin: too many calls at once", code="busy", transient=True)
        self._calls += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        finally:
            self._calls -= 1


def build(app_id: str, secret: str, api_url: str, store: TokenStore) -> WeixinClient:
    """A client for one mini-program; build once, keep, `aclose` at the end."""
    from server.channels.weixin.api import WeixinApi  # noqa: PLC0415 - wechatpy takes 0.4 s to import, and only two roles need it

    return WeixinClient(app_id, WeixinApi(app_id, secret, api_url, store, THREADS))
