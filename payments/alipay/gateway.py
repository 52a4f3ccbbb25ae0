"""Alipay's gateway for one app: signed calls, verified answers, bounded in tries and time."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import httpx

from payments.alipay import errors, signing
from payments.alipay.answers import UnknownCertificateError, read_answer, read_unproven
from payments.alipay.config import PRIVATE_KEY_SETTING, AlipayMerchant
from payments.alipay.downloads import bounded, is_loopback
from payments.alipay.formats import shanghai_text
from payments.alipay.keyring import Keyring
from payments.alipay.sdk import Sdk, asked, load_sdk
from payments.contract import PlatformRefusedError, PlatformUnavailableError
from payments.tls import trusted_roots

DOWNLOAD = "alipay.open.app.alipaycert.download"
ANSWER_BYTES_MAX = 262_144
ATTEMPTS_MAX = 3
BACKOFF_S = 0.2  # doubled each time, with full jitter on top
CALL_TIMEOUT_S = 8.0  # of a whole attempt; a slow trickle ends too
TOTAL_S = 25.0  # of whatever one caller waits for, all attempts and calls together
_TIMEOUT = httpx.Timeout(CALL_TIMEOUT_S, connect=3.0)
_LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=8)
_BODY_FIELD = "biz_content"  # the official SDKs post it and put all else in the query

T = TypeVar("T")

_random = secrets.SystemRandom()


class Gateway:
    """Signs what is asked, believes only what Alipay signed.

    Every call may be repeated (same number, same effect), so what is transient is tried up to
    ATTEMPTS_MAX times.
    """

    def __init__(self, merchant: AlipayMerchant, url: str) -> None:
        self.url = url
        self.is_local = is_loopback(urlsplit(url).hostname or "")
        self.keyring = Keyring(merchant)
        self._app_id = merchant.app_id
        self._private_key = signing.private_key(merchant.private_key_pem, PRIVATE_KEY_SETTING)
        self._sdk: Sdk | None = None
        self._learning = asyncio.Lock()
        # A proxy of the environment is for the real platform, never for this machine.
        self._http = httpx.AsyncClient(
            verify=trusted_roots(),
            timeout=_TIMEOUT,
            limits=_LIMITS,
            trust_env=not self.is_local,
        )

    def page_url(self, params: Mapping[str, str], now: datetime) -> str:
        """The signed URL of a page that the payer's browser opens."""
        return f"{self.url}?{urlencode(self._signed(params, now))}"

    async def call(
        self, params: Mapping[str, str], now: datetime, **about: str
    ) -> Mapping[str, str]:
        """One call; the verified answer with code 10000 that says what is in `about`."""
        return await tried(lambda: self.call_once(params, now, **about))

    async def call_once(
        self, params: Mapping[str, str], now: datetime, **about: str
    ) -> Mapping[str, str]:
        """As `call`, tried once."""
        method = params["method"]
        raw = await self._post(params, now)
        try:
            answer = read_answer(raw, method, lambda number: self.keyring.key(number, now))
        except UnknownCertificateError as error:
            await self._learn(error.number, now)
            answer = read_answer(raw, method, lambda number: self.keyring.key(number, now))
        if answer.get("code") != errors.OK:
            raise errors.refusal(method, answer)
        for name, value in about.items():
            if answer.get(name) != value:
                raise errors.unproven(method, f"the answer is about another {name}")
        return answer

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()

    def _signed(self, params: Mapping[str, str], now: datetime) -> dict[str, str]:
        signed = {
            **params,
            **self.keyring.names,
            "app_id": self._app_id,
            "format": "json",
            "charset": "utf-8",
            "sign_type": "RSA2",
            "timestamp": shanghai_text(now),
        }
        content = signing.canonical(signed, without=frozenset({"sign"}))
        signed["sign"] = signing.sign(self._private_key, content.encode("utf-8"))
        return signed

    async def sdk(self) -> Sdk:
        """The official models, imported when they are first needed."""
        if self._sdk is None:
            self._sdk = await asyncio.to_thread(load_sdk)
        return self._sdk

    async def _learn(self, number: str, now: datetime) -> None:
        """Fetch the certificate with this number; it proves itself, so its answer need not."""
        async with self._learning:
            if self.keyring.key(number, now) is not None:
                return  # somebody else's answer named it too
            sdk = await self.sdk()
            params = asked(sdk.certificate, alipay_cert_sn=number)
            answer = read_unproven(await self._post(params, now), DOWNLOAD)
            if answer.get("code") != errors.OK:
                raise errors.undecided(errors.refusal(DOWNLOAD, answer))
            try:
                self.keyring.learn(number, answer.get("alipay_cert_content", ""), now)
            except ValueError as error:
                raise errors.unproven(DOWNLOAD, str(error)) from error

    async def _post(self, params: Mapping[str, str], now: datetime) -> bytes:
        method = params["method"]
        query = self._signed(params, now)
        body = {_BODY_FIELD: query.pop(_BODY_FIELD)}
        try:
            async with (
                asyncio.timeout(CALL_TIMEOUT_S),
                self._http.stream("POST", self.url, params=query, data=body) as response,
            ):
                _raise_for_status(method, response.status_code)
                return await bounded(method, response.aiter_bytes(), ANSWER_BYTES_MAX)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            reason = type(error).__name__
            raise PlatformUnavailableError(f"{method}: no answer ({reason})") from error


async def tried(call: Callable[[], Awaitable[T]]) -> T:
    """What `call` gives, tried up to ATTEMPTS_MAX times while its trouble is transient."""
    for attempt in range(ATTEMPTS_MAX - 1):
        try:
            return await call()
        except PlatformUnavailableError:
            await asyncio.sleep(BACKOFF_S * 2**attempt * (1 + _random.random()))
    return await call()


@asynccontextmanager
async def in_time(method: str, total_s: float | None = None) -> AsyncIterator[None]:
    """What is awaited inside ends by then, or as PlatformUnavailableError."""
    limit_s = TOTAL_S if total_s is None else total_s
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise PlatformUnavailableError(f"{method}: not done in {limit_s:g} s") from error


def _raise_for_status(method: str, status: int) -> None:
    if status == httpx.codes.OK:
        return
    detail, code = f"{method}: HTTP {status}", f"http_{status}"
    if status >= 500 or status in {408, 425, 429}:
        raise PlatformUnavailableError(detail, code=code)
    raise PlatformRefusedError(detail, code=code)
