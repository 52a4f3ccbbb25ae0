"""The platform's keys: the one of the settings, and the certificates that it hands out.

Certificates come from GET /v3/certificates, sealed with the merchant's APIv3 key, in an answer that
one of them signs. Both have to hold, as in the platform's own SDKs: who knows neither the key nor
a private key that belongs to what was sealed can make no such answer. Fields:
pay.weixin.qq.com/doc/v3/merchant/4012551764.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import load_pem_x509_certificate

from payments.contract import PaymentError, PlatformUnavailableError
from payments.wechat.config import RSA_BITS_MIN
from payments.wechat.signing import UnprovedError, unsealed

FRESH = timedelta(hours=12)  # the platform asks for a look at least that often
PAUSE = timedelta(minutes=1)  # whoever sends serials that nobody knows makes no more requests
CERTIFICATES_MAX = 20
TASK = "wechat-certificates"

_log = logging.getLogger(__name__)
_SERIAL = re.compile(r"[0-9A-Fa-f]{1,40}", re.ASCII)

Serial = Annotated[str, msgspec.Meta(pattern=f"^{_SERIAL.pattern}$")]


class _Sealed(msgspec.Struct):
    algorithm: str
    nonce: str
    ciphertext: str
    associated_data: str = ""


class _Listed(msgspec.Struct):
    serial_no: Serial
    encrypt_certificate: _Sealed


class _List(msgspec.Struct):
    data: Annotated[list[_Listed], msgspec.Meta(min_length=1, max_length=CERTIFICATES_MAX)]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A key of the platform, and when it is valid."""

    key: RSAPublicKey
    not_before: datetime
    not_after: datetime


Fetch = Callable[[datetime], Awaitable[Mapping[str, Certificate]]]


def certificates_from_answer(content: bytes, apiv3_key: str) -> Mapping[str, Certificate]:
    """What an answer brings, by serial, not yet proved; PlatformUnavailableError if unreadable."""
    try:
        listed = msgspec.json.decode(content, type=_List).data
        return {one.serial_no: _opened(one, apiv3_key) for one in listed}
    except (msgspec.MsgspecError, ValueError, RecursionError, UnprovedError) as error:
        detail = f"the certificates have another form: {type(error).__name__}"
        raise PlatformUnavailableError(detail, code="BAD_ANSWER") from None


def valid(certificates: Mapping[str, Certificate], now: datetime) -> dict[str, RSAPublicKey]:
    """The keys that count at this time."""
    return {
        serial: one.key
        for serial, one in certificates.items()
        if one.not_before <= now <= one.not_after
    }


class KeyRing:
    """An allow-list that follows the platform's certificates, where the merchant uses them.

    Reading it sends nothing. What is unknown is asked for in the background, at most once a minute.
    """

    def __init__(self, fixed: Mapping[str, RSAPublicKey], fetch: Fetch | None) -> None:
        self._fixed = dict(fixed)
        self._fetch = fetch
        self._certificates: Mapping[str, Certificate] = {}
        self._fetched_at: datetime | None = None
        self._asked_at: datetime | None = None
        self._trouble = "none is valid"
        self._fetching: asyncio.Task[None] | None = None

    def at(self, now: datetime) -> dict[str, RSAPublicKey]:
        """Serial or public key id -> key, of all that count at this time."""
        return valid(self._certificates, now) | self._fixed

    async def ready(self, now: datetime) -> None:
        """Have a key by which an answer can be proved; PlatformUnavailableError without one."""
        if self._fetch is None:
            return
        is_blind = not self.at(now)
        is_due = self._is_older(self._fetched_at, FRESH, now)
        if is_blind or (is_due and self._is_older(self._asked_at, PAUSE, now)):
            self._start(now)
        if is_blind and self._fetching is not None:
            await asyncio.shield(self._fetching)
        if not self.at(now):
            raise PlatformUnavailableError(
                f"no platform certificate: {self._trouble}", code="NO_CERTIFICATE"
            )

    def missed(self, serial: str, now: datetime) -> None:
        """Something named a serial that is not here: the platform may have a new certificate."""
        if _SERIAL.fullmatch(serial) and self._is_older(self._asked_at, PAUSE, now):
            self._start(now)

    async def aclose(self) -> None:
        """Stop asking."""
        if self._fetching is not None:
            self._fetching.cancel()
            with suppress(asyncio.CancelledError):
                await self._fetching

    @staticmethod
    def _is_older(then: datetime | None, age: timedelta, now: datetime) -> bool:
        return then is None or abs(now - then) >= age  # abs: a clock that was put back

    def _start(self, now: datetime) -> None:
        if self._fetch is None or (self._fetching is not None and not self._fetching.done()):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # a notice read outside of a loop: the next call asks
        self._asked_at = now
        self._fetching = loop.create_task(self._follow(self._fetch, now), name=TASK)

    async def _follow(self, fetch: Fetch, now: datetime) -> None:
        try:
            self._certificates = await fetch(now)
        except PaymentError as error:
            self._trouble = error.detail
            _log.warning("no platform certificates: %s", error.detail)
            return
        self._fetched_at, self._trouble = now, "none is valid"


def _opened(listed: _Listed, apiv3_key: str) -> Certificate:
    sealed = listed.encrypt_certificate
    pem = unsealed(
        algorithm=sealed.algorithm,
        nonce=sealed.nonce,
        ciphertext=sealed.ciphertext,
        associated_data=sealed.associated_data,
        apiv3_key=apiv3_key,
    )
    certificate = load_pem_x509_certificate(pem.encode())
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey) or key.key_size < RSA_BITS_MIN:
        raise ValueError("another kind of key")
    if certificate.serial_number != int(listed.serial_no, 16):
        raise ValueError("another serial")
    return Certificate(key, certificate.not_valid_before_utc, certificate.not_valid_after_utc)
