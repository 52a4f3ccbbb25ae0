"""What the payment tests share: keys made at run time, a running sandbox, a merchant's door."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from payments.sandbox.app import SandboxConfig, bind_loopback, public_url, serving
from payments.sandbox.keys import SandboxKeys, ensure_keys
from payments.sandbox.state import Sandbox
from payments.wechat.client import WeChatPlatform, build
from payments.wechat.config import WeChatMerchant, load


@dataclass
class Received:
    """One HTTP request as it came; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Peer:
    """A small HTTP server: keeps what it gets, answers from a script, then with the last one."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    script: list[bytes] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def answers(self, *answers: bytes) -> None:
        """The whole answers (status line, headers, body) to give, in order."""
        self.script = list(answers)

    async def wait_for(self, count: int, timeout_s: float = 5.0) -> list[Received]:
        """Everything received, once there is that much."""
        async with asyncio.timeout(timeout_s), self.arrived:
            await self.arrived.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        pairs = (line.partition(": ") for line in head[1:] if line)
        headers = {name.lower(): value for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        async with self.arrived:
            self.received.append(Received(method, target, headers, body))
            self.arrived.notify_all()
        writer.write(answer)
        await writer.drain()
        writer.close()


def http_answer(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """An answer as it goes over the wire."""
    lines = [f"HTTP/1.1 {status} X", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if status != 204:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    """A peer that answers 204 unless told otherwise."""
    it = Peer(script=[http_answer(204)])
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    it.url = f"http://{host}:{port}"
    async with server:
        yield it


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> SandboxKeys:
    """The sandbox mall's keys, made once a test run."""
    return ensure_keys(tmp_path_factory.mktemp("keys"))


@pytest_asyncio.fixture
async def sandbox(tmp_path: Path, keys: SandboxKeys) -> AsyncIterator[Sandbox]:
    """A sandbox on a real socket, with its own data and the shared keys."""
    place = bind_loopback("127.0.0.1", "0")
    async with serving(SandboxConfig(public_url(place), tmp_path, keys.folder), place) as running:
        yield running


@pytest.fixture(scope="session")
def merchant(keys: SandboxKeys) -> WeChatMerchant:
    """The sandbox mall at WeChat Pay, loaded from its key files."""
    return load(
        mchid=keys.mchid,
        appid=keys.appid,
        apiv3_key_file=keys.folder / "apiv3.txt",
        private_key_file=keys.folder / "wechat_merchant.pem",
        cert_serial=keys.cert_serial,
        platform_public_key_file=keys.folder / "wechat_platform.pem",
        platform_public_key_id=keys.platform_public_key_id,
    )


@pytest_asyncio.fixture
async def wechat(sandbox: Sandbox, merchant: WeChatMerchant) -> AsyncIterator[WeChatPlatform]:
    """WeChat Pay as the product sees it, at the running sandbox."""
    platform = build(merchant, sandbox.public_url)
    yield platform
    await platform.aclose()
