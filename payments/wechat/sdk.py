"""`wechatpayv3` with its cures: our base URL, limits, and answers proved by `signing`."""

import copy
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from wechatpayv3.async_ import AsyncWeChatPay, WeChatPayType
from wechatpayv3.async_.core import AsyncCore
from wechatpayv3.async_.type import RequestType
from wechatpayv3.async_.utils import build_authorization

from payments.contract import BillUnsoundError, PlatformUnavailableError
from payments.tls import trusted_roots
from payments.wechat.bills import PACKED_BYTES_MAX
from payments.wechat.calls import Answer, persist
from payments.wechat.certificates import (
    Certificate,
    KeyRing,
    certificates_from_answer,
    valid,
)
from payments.wechat.config import WeChatMerchant, private_key
from payments.wechat.errors import error_from_answer
from payments.wechat.signing import UnprovedError, prove

ANSWER_BYTES_MAX = 1024 * 1024
TIMEOUT = httpx.Timeout(5.0, connect=3.0)
LIMITS = httpx.Limits(max_connections=50, max_keepalive_connections=10)

_PORTS = {"http": 80, "https": 443}
_FILE = "mallwatt_file"  # a request's extension: its answer is a file, to be unpacked by us
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class WeChatSdk(AsyncWeChatPay):  # type: ignore[misc]  # the SDK has no types
    """The SDK for one merchant; call it through `at(now)`."""

    def __init__(self, core: "_Core") -> None:
        super().__init__(  # without keys: its own core is replaced at once
            wechatpay_type=WeChatPayType.JSAPI,
            mchid=core.merchant.mchid,
            private_key=None,
            cert_serial_no=core.merchant.cert_serial,
            appid=core.merchant.appid,
            apiv3_key=None,
        )
        self._core: _Core = core

    @property
    def keys(self) -> KeyRing:
        """The allow-list of platform keys."""
        return self._core.keys

    def at(self, now: datetime) -> Self:
        """The same SDK, holding answers against this time."""
        return type(self)(self._core.at(now))

    async def download_bill(self, url: str) -> Answer:
        """The file at a URL of this platform: signed for, unsigned itself; its hash proves it."""
        return await self._core.download(url)

    async def ready(self) -> None:
        """Have what proves an answer; PlatformUnavailableError without it."""
        await self.keys.ready(self._core.the_now)

    async def aclose(self) -> None:
        """Close connections."""
        await self.keys.aclose()
        await self._core.client.aclose()


def open_sdk(merchant: WeChatMerchant, base_url: str) -> WeChatSdk:
    """The SDK with this merchant's keys and connections of its own."""
    return WeChatSdk(_Core(merchant, base_url))


class _Core(AsyncCore):  # type: ignore[misc]  # the SDK has no types
    now: datetime | None = None

    def __init__(self, merchant: WeChatMerchant, base_url: str) -> None:
        super().__init__(
            mchid=merchant.mchid,
            cert_serial_no=merchant.cert_serial,
            private_key=None,
            apiv3_key=merchant.apiv3_key,
        )
        self.merchant = merchant
        self._private_key = private_key(merchant.private_key_pem)  # the SDK reads PKCS#8 only
        fetch = self._certificates_now if merchant.platform_certificates else None
        self.keys = KeyRing(merchant.platform_keys, fetch)
        self.client = _client(base_url)
        self._gate_way = base_url.rstrip("/")

    def at(self, now: datetime) -> "_Core":
        core = copy.copy(self)
        core.now = now
        return core

    @property
    def the_now(self) -> datetime:
        """The time of this call."""
        if self.now is None:
            raise RuntimeError("call the SDK through at(now)")
        return self.now

    async def request(  # the SDK's own loses the headers, and fetches for an unknown serial
        self,
        path: str,
        method: RequestType = RequestType.GET,
        data: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One signed request; its answer, proved if it is a good one."""
        response = await self._send(path, method, data)
        if response.is_success:
            self._prove(response, self.keys.at(self.the_now))
        retry_after = response.headers.get("retry-after", "")
        return Answer(response.status_code, response.content, retry_after)

    async def download(self, url: str) -> Answer:
        """A file up to the size of a bill; its URL must be below ours: the signature stays here."""
        path = path_below(self._gate_way, url)
        async with self.client.stream(
            "GET",
            self._gate_way + path,
            headers={"Authorization": self._authorization(RequestType.GET, path, None)},
            extensions={_FILE: True},
        ) as response:
            content = b"".join([chunk async for chunk in response.aiter_raw()])  # still packed
        return Answer(response.status_code, content, response.headers.get("retry-after", ""))

    async def _send(
        self,
        path: str,
        method: RequestType = RequestType.GET,
        data: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        body = None if data is None else json.dumps(data)
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Authorization": self._authorization(method, path, body),
        }
        if self.merchant.platform_public_key_id is not None:  # asks to be answered with this one
            headers["Wechatpay-Serial"] = self.merchant.platform_public_key_id
        return await self.client.request(
            method.value, self._gate_way + path, content=body, headers=headers
        )

    async def _certificates_now(self, now: datetime) -> Mapping[str, Certificate]:
        return await persist(lambda: self.at(now).fetch_certificates())

    async def fetch_certificates(self) -> Mapping[str, Certificate]:
        """The platform's certificates, proved by one of them; PaymentError."""
        response = await self._send("/v3/certificates")
        if response.status_code != 200:
            raise error_from_answer(response.status_code, response.content)
        found = certificates_from_answer(response.content, self.merchant.apiv3_key)
        self._prove(response, self.keys.at(self.the_now) | valid(found, self.the_now))
        return found

    def _authorization(self, method: RequestType, path: str, body: str | None) -> str:
        text: str = build_authorization(
            path, method.value, self._mchid, self._cert_serial_no, self._private_key, data=body
        )
        return text

    def _prove(self, response: httpx.Response, keys: Mapping[str, RSAPublicKey]) -> None:
        try:
            prove(response.headers, response.content.decode(), keys, self.the_now)
        except (UnprovedError, UnicodeDecodeError) as error:
            serial = response.headers.get("wechatpay-serial", "")
            if serial not in keys:
                self.keys.missed(serial, self.the_now)
            raise PlatformUnavailableError(
                f"unproved answer: {error}", code="BAD_SIGNATURE"
            ) from None


def path_below(base_url: str, url: str) -> str:
    """The path and query of a URL of the platform; BillUnsoundError for anywhere else."""
    try:
        base, place = httpx.URL(base_url), httpx.URL(url.strip())
        path = place.raw_path.decode("ascii")
    except (httpx.InvalidURL, UnicodeDecodeError):
        raise BillUnsoundError("download_url: is none", code="BILL_UNSOUND") from None
    places = [(u.scheme, u.host, u.port or _PORTS.get(u.scheme), u.userinfo) for u in (base, place)]
    inside = base.raw_path.decode("ascii").rstrip("/")
    if places[0] != places[1] or not path.startswith(f"{inside}/"):
        raise BillUnsoundError("download_url: is elsewhere", code="BILL_UNSOUND")
    return path.removeprefix(inside)


def _client(base_url: str) -> httpx.AsyncClient:
    # A proxy of the environment is right for the real platform, and wrong for a sandbox here.
    here = urlsplit(base_url).hostname in _LOOPBACK
    return httpx.AsyncClient(
        verify=trusted_roots(),
        timeout=TIMEOUT,
        trust_env=not here,
        limits=LIMITS,
        headers={"Accept-Encoding": "identity"},  # so that the limit below means what it says
        event_hooks={"response": [_limit]},
    )


async def _limit(answer: httpx.Response) -> None:
    is_file = _FILE in answer.request.extensions
    packing = answer.headers.get("content-encoding", "identity")
    if packing != "identity" and not is_file:  # unpacked unasked, and a kilobyte can be a gigabyte
        raise PlatformUnavailableError("the answer is packed unasked", code="BAD_ANSWER")
    if isinstance(answer.stream, httpx.AsyncByteStream):
        bytes_max = PACKED_BYTES_MAX if is_file else ANSWER_BYTES_MAX
        answer.stream = _Limited(answer.stream, bytes_max)


class _Limited(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, bytes_max: int) -> None:
        self._stream = stream
        self._bytes_max = bytes_max

    async def __aiter__(self) -> AsyncIterator[bytes]:
        taken = 0
        async for chunk in self._stream:
            taken += len(chunk)
            if taken > self._bytes_max:
                raise PlatformUnavailableError("the answer is too large", code="BAD_ANSWER")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
