"""Who is calling, through our own proxies, and what the limits on guessing count by."""

from types import SimpleNamespace
from typing import Any

import pytest

from server.http.bodies import client_address, limited_address
from server.services import managers
from tests.http import http_client
from tests.pages.mall import Mall, lasting_mall, mall, mall_port, serve_mall, staged

__all__ = ["lasting_mall", "mall", "mall_port", "staged"]  # fixtures


@pytest.mark.parametrize(
    ("said_by_proxy", "socket", "address", "limited"),
    [
        ("", "192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("198.51.100.7", "127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("unknown", "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("\udcff", "127.0.0.1", "127.0.0.1", "127.0.0.1"),  # bytes that are no text
        ("", "", "", ""),  # a socket file
        # a household is given 2^64 addresses: it counts as one
        ("2001:db8:1:2::5", "::1", "2001:db8:1:2::5", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "::1", "2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::5", "::1", "2001:db8:1:3::5", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.1", "::1", "::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_an_address(said_by_proxy: str, socket: str, address: str, limited: str) -> None:
    request: Any = SimpleNamespace(remote_addr=said_by_proxy, ip=socket)
    assert client_address(request).replace("c000:201", "192.0.2.1") == address
    assert limited_address(request) == limited


@pytest.mark.parametrize(
    ("proxies", "forwarded", "counted_apart"),
    [
        ("0", "{n}.0.0.1", False),  # nobody stands before us: what a client claims is nothing
        ("1", "{n}.0.0.1, 198.51.100.7", False),  # our proxy wrote the last one alone
        ("1", "198.51.100.7, {n}.0.0.1", True),
    ],
)
async def test_a_client_cannot_choose_what_it_is_counted_by(
    mall: Mall,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    proxies: str,
    forwarded: str,
    counted_apart: bool,
) -> None:
    monkeypatch.setattr(managers, "GUESSES_PER_ADDRESS", 4)  # each guess costs an argon2
    wrong = {"name": "nobody", "password": "x"}
    answers = set()
    async with (
        serve_mall(tmp_path, MALLWATT_PROXIES_COUNT=proxies) as behind,
        http_client(base_url=behind.url) as client,
    ):
        for n in range(1, managers.GUESSES_PER_ADDRESS + 2):
            headers = {"X-Forwarded-For": forwarded.format(n=n)}
            form = {**wrong, "name": f"nobody{n}"}
            answer = await client.post("/api/admin/v1/sessions", json=form, headers=headers)
            answers.add(answer.status_code)
    assert answers == ({401} if counted_apart else {401, 429})
