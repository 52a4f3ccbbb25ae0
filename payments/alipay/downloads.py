"""Files that Alipay names by a URL, fetched as a stranger would: it may lie on any of its hosts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx

from payments.alipay.errors import unproven
from payments.contract import PlatformUnavailableError
from payments.tls import trusted_roots

REDIRECTS_MAX = 2
FETCH_TIMEOUT_S = 20.0
_TIMEOUT = httpx.Timeout(8.0, connect=3.0)


async def fetch(method: str, url: str, bytes_max: int, *, gateway_is_local: bool) -> bytes:
    """What is at the URL; told nothing of us. Over https, on this machine only from a gateway here.

    Raises PlatformUnavailableError whatever goes wrong: such a URL lives for seconds, so ask for
    another.
    """
    for _ in range(REDIRECTS_MAX + 1):
        url = _safe(method, url, gateway_is_local=gateway_is_local)
        try:
            async with (
                asyncio.timeout(FETCH_TIMEOUT_S),
                _opened(url, trust_env=not gateway_is_local) as response,
            ):
                if response.has_redirect_location:
                    url = str(response.url.join(response.headers["location"]))
                    continue
                if response.status_code != httpx.codes.OK:
                    code = f"http_{response.status_code}"
                    raise PlatformUnavailableError(f"{method}: not fetched ({code})", code=code)
                return await bounded(method, response.aiter_raw(), bytes_max)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            reason = type(error).__name__
            raise PlatformUnavailableError(f"{method}: not fetched ({reason})") from error
    raise unproven(method, "a URL that leads on and on")


async def bounded(method: str, chunks: AsyncIterator[bytes], bytes_max: int) -> bytes:
    """All of it, or PlatformUnavailableError."""
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > bytes_max:
            raise unproven(method, f"more than {bytes_max} bytes")
    return bytes(content)


def is_loopback(host: str) -> bool:
    """Whether the host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@asynccontextmanager
async def _opened(url: str, *, trust_env: bool) -> AsyncIterator[httpx.Response]:
    """A GET by a client of its own: no cookies, no keys, no packing that would hide a size."""
    async with (
        httpx.AsyncClient(verify=trusted_roots(), timeout=_TIMEOUT, trust_env=trust_env) as client,
        client.stream("GET", url, headers={"accept-encoding": "identity"}) as response,
    ):
        yield response


def _safe(method: str, url: str, *, gateway_is_local: bool) -> str:
    """The URL, over https unless it is on this machine; raises PlatformUnavailableError."""
    try:
        parts = urlsplit(url)
        host, port_is_sound = parts.hostname or "", parts.port != 0
    except ValueError:
        host, port_is_sound = "", False
    named = parts.scheme in {"http", "https"} if host else False
    if not named or not port_is_sound or parts.username is not None:
        raise unproven(method, "not the URL of a file")
    if is_loopback(host) and gateway_is_local:
        return url
    if is_loopback(host) or _is_private(host) or (gateway_is_local and parts.scheme != "https"):
        raise unproven(method, "a URL that does not lead to Alipay")
    return parts._replace(scheme="https").geturl()


def _is_private(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False  # a name: whether it is Alipay's, its certificate shows
