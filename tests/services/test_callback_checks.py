"""What both platforms' doors look at, in which order, with true signatures, over a socket."""

import itertools
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from sanic import Sanic

import payments.alipay.client
import payments.alipay.config
import payments.wechat.client
import payments.wechat.config
from payments.contract import NoticeRejectedError, PaymentPlatform, Platform
from payments.sandbox.alipay_wire import Wire
from payments.sandbox.books import Order, OrderState
from payments.sandbox.faults import Kind
from payments.sandbox.keys import SandboxKeys, ensure_keys
from payments.sandbox.signing import Signer
from payments.sandbox.wechat_wire import Event, Seal, notice, transaction
from server.handlers import payment_callbacks
from server.http.answers import install_answers
from server.http.context import WebContext
from server.models.database import pool, rows
from server.services.wakeups import Wakeups
from server.settings import load_settings
from tests.fakes.town import serving
from tests.http import http_client
from tests.scenarios.world import World, local
from tests.services.money import wallet_fen

_numbers = itertools.count(1)
OTHER = "0000000009"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> SandboxKeys:
    return ensure_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def merchants(keys: SandboxKeys) -> Mapping[Platform, PaymentPlatform]:
    """The product's own clients; nothing here asks them to call anybody."""
    folder = keys.folder
    wechat = payments.wechat.config.load(
        mchid=keys.mchid,
        appid=keys.appid,
        cert_serial=keys.cert_serial,
        apiv3_key_file=folder / "apiv3.txt",
        private_key_file=folder / "wechat_merchant.pem",
        platform_public_key_file=folder / "wechat_platform.pem",
        platform_public_key_id=keys.platform_public_key_id,
    )
    alipay = payments.alipay.config.load(
        app_id=keys.alipay_app_id,
        seller_id=keys.alipay_seller_id,
        private_key_file=folder / "alipay_app.pem",
        alipay_public_key_file=folder / "alipay_platform.pem",
    )
    nobody = "http://127.0.0.1:9"
    return {
        Platform.WECHAT: payments.wechat.client.build(wechat, nobody),
        Platform.ALIPAY: payments.alipay.client.build(alipay, nobody),
    }


@dataclass
class Merchants:
    """The merchants of every site."""

    platforms: Mapping[Platform, PaymentPlatform]

    async def of_site(self, site_id: int, platform: Platform) -> PaymentPlatform | None:
        assert site_id > 0
        return self.platforms.get(platform)

    async def methods(self, site_id: int) -> list[Any]:
        assert site_id > 0
        return []


@dataclass
class Door:
    """A mall with an order at each platform, whose platform the test is."""

    world: World
    keys: SandboxKeys
    client: httpx.AsyncClient
    numbers: Mapping[Platform, str]

    async def tell(
        self, platform: Platform, headers: Mapping[str, str], body: bytes
    ) -> httpx.Response:
        path = f"/payments/{platform}/demo/notify"
        return await self.client.post(path, headers=dict(headers), content=body)

    def paid(self, platform: Platform, *, merchant_id: str, fen: int = 5_000) -> Order:
        number = self.numbers[platform]
        return Order(
            platform=platform,
            merchant_id=merchant_id,
            out_trade_no=number,
            amount_fen=fen,
            notify_url="",
            created_at=self.world.now,
            payload={
                **{"appid": self.keys.appid, "trade_type": "NATIVE", "notice_id": number},
                **{"subject": "电费", "trade_no": "2026052022001", "notify_id": number},
            },
            state=OrderState.PAID,
            transaction_id="4200000000202605200000000001",
            paid_at=self.world.now,
        )


@pytest_asyncio.fixture
async def door(
    database: None,
    tmp_path: Path,
    keys: SandboxKeys,
    merchants: Mapping[Platform, PaymentPlatform],
) -> AsyncIterator[Door]:
    world = World(local("2026-05-20 10:00"))
    await world.open(tmp_path, balance_fen=0)
    numbers = {}
    for platform, merchant in merchants.items():
        fake = world.directory.platforms[platform]
        fake.merchant_id, fake.app_id = merchant.merchant_id, merchant.app_id
        numbers[platform] = await order_at(world, platform)
    app: Sanic[Any, Any] = Sanic(f"checks_{next(_numbers)}", configure_logging=False)
    app.config.update(TOUCHUP=False, MOTD=False, ACCESS_LOG=False, GRACEFUL_SHUTDOWN_TIMEOUT=0.2)
    install_answers(app)
    context = WebContext(
        load_settings({"MALLWATT_DATA_DIR": str(tmp_path)}),
        lambda: world.now,
        Merchants(merchants),
        None,
        Wakeups(None),
    )
    app.blueprint(payment_callbacks.blueprint(context))
    async with serving(app) as url, http_client(base_url=url) as client:
        yield Door(world, keys, client, numbers)
