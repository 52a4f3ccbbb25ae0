"""The roots that platforms are trusted by, read once a process."""

import functools
import ssl

import httpx


@functools.cache
def trusted_roots() -> ssl.SSLContext:
    """For every client of a platform: to read the roots takes 0.1 s."""
    return httpx.create_ssl_context()
