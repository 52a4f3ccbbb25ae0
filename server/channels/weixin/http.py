"""The HTTP session under wechatpy, with the limits that wechatpy does not set."""

import logging
import time
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

ANSWER_BYTES_MAX = 2_097_152  # a large QR code has some 100 kB
CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 8.0  # of a whole answer; a slow trickle ends too
_CHUNK_BYTES = 65_536

# Its DEBUG lines quote URLs, and these hold the secret (login) or a token.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


class AnswerTooLongError(requests.RequestException):
    """More bytes or more time than an answer may take."""


class BoundedSession(requests.Session):
    """A session whose answers are bounded in bytes and time, and which follows no redirect."""

    def __init__(self, base_url: str, connections: int) -> None:
        super().__init__()
        # A proxy of the environment is for the real platform, never for this machine.
        self.trust_env = not is_loopback(base_url)
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=0))

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]  # wechatpy passes all by name
        """As requests does, within the limits above."""
        end = time.monotonic() + ANSWER_TIMEOUT_S
        response = super().request(
            method,
            url,
            **kwargs
            | {
                "timeout": (CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
                "stream": True,
                "allow_redirects": False,
            },
        )
        content = bytearray()
        with response:
            for chunk in response.iter_content(_CHUNK_BYTES):
                content += chunk
                if len(content) > ANSWER_BYTES_MAX or time.monotonic() > end:
                    raise AnswerTooLongError("an answer without end")
        response._content = bytes(content)  # noqa: SLF001 - where requests itself keeps what it has read
        return response


def is_loopback(url: str) -> bool:
    """Whether a URL is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
