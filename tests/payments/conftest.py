"""What the payment tests share: keys made at run time, a running sandbox, a merchant's door."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from payments.alipay import client as alipay_client
from payments.alipay import config as alipay_config
from payments.alipay.client import AlipayPlatform
from payments.sandbox.app import SandboxConfig, bind_loopback, public_url, serving
from payments.sandbox.keys import SandboxKeys
from payments.sandbox.state import Sandbox
from payments.wechat.client import WeChatPlatform, build
from payments.wechat.config import WeChatMerchant, load
from tests.fakes.keys import keys_in
from tests.http import http_client
from tests.payments.peer import Peer, http_answer
from tests.payments.shops import QUICK, Yard, open_yard


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
    return keys_in(tmp_path_factory.mktemp("sandbox") / "keys")


@pytest_asyncio.fixture(scope="session")
async def sandbox(
    tmp_path_factory: pytest.TempPathFactory, keys: SandboxKeys
) -> AsyncIterator[Sandbox]:
    """One sandbox on a real socket for all tests; each orders under numbers of its own."""
    place = bind_loopback("127.0.0.1", "0")
    config = SandboxConfig(
        public_url(place), tmp_path_factory.mktemp("sandbox"), keys.folder, pace=QUICK
    )
    async with serving(config, place) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def payer(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    """A person or script that opens the sandbox's pages."""
    async with http_client(base_url=sandbox.public_url, follow_redirects=True) as client:
        yield client


@pytest_asyncio.fixture(scope="module")
async def running_yard(
    tmp_path_factory: pytest.TempPathFactory, keys: SandboxKeys
) -> AsyncIterator[Yard]:
    """A sandbox of the module's own, quick, by a clock that the tests move."""
    async with open_yard(tmp_path_factory.mktemp("yard"), keys) as running:
        yield running


@pytest.fixture
def yard(running_yard: Yard) -> Yard:
    """The module's sandbox at noon, without faults and with money enough."""
    running_yard.begin()
    return running_yard


@pytest.fixture
def number() -> str:
    """An out_trade_no that nobody used yet."""
    return f"T{secrets.token_hex(8)}"


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


@pytest_asyncio.fixture(scope="session")
async def wechat(sandbox: Sandbox, merchant: WeChatMerchant) -> AsyncIterator[WeChatPlatform]:
    """WeChat Pay as the product sees it, at the running sandbox."""
    platform = build(merchant, sandbox.public_url)
    yield platform
    await platform.aclose()


@pytest_asyncio.fixture(scope="session")
async def alipay(sandbox: Sandbox) -> AsyncIterator[AlipayPlatform]:
    """Alipay as the product sees it, at the running sandbox."""
    keys = sandbox.keys
    config = alipay_config.load(
        app_id=keys.alipay_app_id,
        seller_id=keys.alipay_seller_id,
        private_key_file=keys.folder / "alipay_app.pem",
        alipay_public_key_file=keys.folder / "alipay_platform.pem",
    )
    platform = alipay_client.build(config, f"{sandbox.public_url}/gateway.do")
    yield platform
    await platform.aclose()
