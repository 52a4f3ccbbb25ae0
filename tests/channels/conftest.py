"""What the channel tests share: a running sandbox and clients of its WeChat API."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from payments.sandbox.app import SandboxConfig, bind_loopback, public_url, serving
from payments.sandbox.state import Sandbox
from server.channels.weixin.client import WeixinClient, build
from server.channels.weixin.tokens import MemoryTokenStore, TokenStore
from tests.http import http_client

SECRET = "sandbox-secret"

Connect = Callable[[TokenStore], WeixinClient]


@pytest.fixture(scope="session")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sandboxes' keys are, made once a test run."""
    return tmp_path_factory.mktemp("keys")


@pytest_asyncio.fixture(scope="module")
async def sandbox(
    tmp_path_factory: pytest.TempPathFactory, key_folder: Path
) -> AsyncIterator[Sandbox]:
    """A sandbox of the module's own: its WeChat API remembers what scripts told it."""
    data = tmp_path_factory.mktemp("sandbox")
    with bind_loopback("127.0.0.1", "0") as place:
        async with serving(SandboxConfig(public_url(place), data, key_folder), place) as running:
            yield running


@pytest_asyncio.fixture
async def control(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    """A script that talks to the sandbox."""
    async with http_client(base_url=sandbox.public_url) as client:
        yield client


@pytest_asyncio.fixture
async def connect(sandbox: Sandbox) -> AsyncIterator[Connect]:
    """Makes clients, each as another process would, and closes them at the end."""
    made: list[WeixinClient] = []

    def build_one(store: TokenStore) -> WeixinClient:
        made.append(build(sandbox.keys.appid, SECRET, sandbox.public_url, store))
        return made[-1]

    yield build_one
    for client in made:
        await client.aclose()


@pytest.fixture
def weixin(connect: Connect) -> WeixinClient:
    """The mini-program's client with a token cache of its own."""
    return connect(MemoryTokenStore())
