"""The product as its users start it: `mallwatt run --no-demo` and the commands beside it."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from server.local.ports import free_port
from tests.http import http_client

API = "/api/miniprogram/v1"


class Product:
    """A running `mallwatt run --no-demo`, and the commands beside it."""

    def __init__(self, env: dict[str, str], folder: Path, url: str) -> None:
        self.env = env
        self.folder = folder
        self.url = url

    async def command(self, *words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server.cli", *words),
            env=self.env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin)
        return process.returncode or 0, out.decode(), err.decode()


async def until(what: Callable[[], Any], within_s: float, why: str) -> float:
    """Wait for something to be true; how long it took."""
    start = time.monotonic()
    while time.monotonic() - start < within_s:
        found = what()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return time.monotonic() - start
        await asyncio.sleep(0.02)
    pytest.fail(f"{why}: not within {within_s} s")


async def answers(url: str) -> bool:
    async with http_client(timeout=2) as client:
        try:
            return (await client.get(url)).status_code in (200, 204)
        except httpx.HTTPError:
            return False


@asynccontextmanager
async def running(
    database_url: str, redis_url: str, folder: Path, platforms_url: str
) -> AsyncIterator[Product]:
    """The product, ready; at the end Ctrl-C ends it, cleanly and whole."""
    port = free_port()
    env = os.environ | {
        "MALLWATT_DATABASE_URL": database_url,
        "MALLWATT_REDIS_URL": redis_url,
        "MALLWATT_DATA_DIR": str(folder / "data"),
        "MALLWATT_HTTP": f"127.0.0.1:{port}",
        "MALLWATT_WEIXIN_API_URL": platforms_url,
        "MALLWATT_WECHAT_PAY_URL": platforms_url,
        "MALLWATT_ALIPAY_GATEWAY_URL": f"{platforms_url}/gateway.do",
        "PYTHONPATH": str(Path.cwd()),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.cli", "run", "--no-demo"), env=env
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await until(lambda: answers(f"{url}/health/ready"), 40, "the product answers")
        yield Product(env, folder, url)
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        await stop(process)
        _, alive = psutil.wait_procs(children, timeout=1)
        assert alive == []


async def stop(process: asyncio.subprocess.Process) -> None:
    """Ctrl-C; whoever stops cleanly answers 0."""
    with suppress(ProcessLookupError):  # it died before: its code says so below
        process.send_signal(signal.SIGINT)
    assert await process.wait() == 0


async def log_in(http: httpx.AsyncClient, product: Product) -> dict[str, str]:
    """An owner's bearer header."""
    code, _, err = await product.command(
        "manager", "add", "boss", "--role", "owner", stdin=b"a long password\n"
    )
    assert code == 0, err
    session = await http.post(
        "/api/admin/v1/sessions", json={"name": "boss", "password": "a long password"}
    )
    assert session.status_code == 201, session.text
    return {"Authorization": f"Bearer {session.json()['token']}"}


async def bind(
    http: httpx.AsyncClient, owner: dict[str, str], shop: str, code: str
) -> dict[str, str]:
    """A tenant of this shop: their bearer header."""
    found = await http.get(f"/api/admin/v1/shops/{shop}", headers=owner)
    assert found.status_code == 200, found.text
    session = await http.post(f"{API}/sessions", json={"code": code})
    assert session.status_code == 201, session.text
    bearer = {"Authorization": f"Bearer {session.json()['token']}"}
    bound = await http.post(
        f"{API}/bindings",
        headers=bearer,
        json={"shop_token": found.json()["shop_token"], "binding_code": "482913"},
    )
    assert bound.status_code == 201, bound.text
    return bearer
