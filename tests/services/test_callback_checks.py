"""What both platforms' doors look at, in which order, with true signatures, over a socket."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
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
from payments.contract import (
    Method,
    NoticeRejectedError,
    PaymentPlatform,
    Platform,
    Trade,
    TradeStatus,
)
from payments.sandbox.alipay_wire import Wire
from payments.sandbox.books import Order, OrderState
from payments.sandbox.faults import Kind
from payments.sandbox.keys import SandboxKeys
from payments.sandbox.signing import Signer
from payments.sandbox.wechat_wire import Event, Seal, notice, transaction
from server.core.errors import InvalidInputError
from server.handlers import payment_callbacks
from server.http.answers import install_answers
from server.http.context import WebContext
from server.models.database import DatabaseAwayError, pool, rows
from server.services import payment_inbox, top_ups
from server.services.wakeups import Wakeups
from server.settings import load_settings
from tests.fakes.keys import keys_in
from tests.fakes.town import serving
from tests.http import http_client
from tests.scenarios.world import World, local
from tests.services.money import wallet_fen

_numbers = itertools.count(1)
OTHER = "0000000009"
METHODS = {Platform.WECHAT: Method.WECHAT_NATIVE, Platform.ALIPAY: Method.ALIPAY_QR}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> SandboxKeys:
    return keys_in(tmp_path_factory.mktemp("merchants") / "keys")


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
    client: httpx.AsyncClient | None
    numbers: Mapping[Platform, str]

    async def tell(
        self, platform: Platform, headers: Mapping[str, str], body: bytes
    ) -> httpx.Response:
        path = f"/payments/{platform}/demo/notify"
        assert self.client is not None
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
                "appid": self.keys.appid,
                "trade_type": "NATIVE",
                "subject": "电费",
                "trade_no": "2026052022001",
                "notify_id": number,
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


async def order_at(world: World, platform: Platform) -> str:
    method = METHODS[platform]
    wish = top_ups.TopUpOrder(
        tenancy_id=world.tenancy_id,
        amount_fen=5_000,
        method=method,
        wallet="electricity",
        idempotency_key=platform.value,
        user_id=None,
        payer_id=None,
        client_ip=None,
        public_url="http://mall.test",
    )
    view = await top_ups.order(wish, world.directory, world.now)
    assert view.payment is not None
    return view.payment["out_trade_no"]


# Each is wrong in one way; they stand in the order in which they are looked at.
OF_WECHAT = (
    ("size", "the body is too large"),
    ("window", "the timestamp is outside the window"),
    ("serial", "the serial is unknown"),
    ("signature", "the signature is wrong"),
    ("seal", "the resource cannot be decrypted with the merchant's key"),
    ("merchant", "contradicts the order"),
    ("app", "contradicts the order"),
    ("currency", "contradicts the order"),
    ("amount", "contradicts the order"),
)


def wechat_notice(
    door: Door, wrong: frozenset[str] = frozenset(), state: str = "SUCCESS"
) -> tuple[Mapping[str, str], bytes]:
    keys, now = door.keys, door.world.now
    order = door.paid(
        Platform.WECHAT,
        merchant_id=OTHER if "merchant" in wrong else keys.mchid,
        fen=4_999 if "amount" in wrong else 5_000,
    )
    content = transaction(order, state)
    if "app" in wrong:
        content["appid"] = OTHER
    if "currency" in wrong:
        content["amount"]["currency"] = "USD"
    event = Event("1", "TRANSACTION.SUCCESS", "支付成功", now, "transaction", content)
    signer = Signer(
        OTHER if "serial" in wrong else keys.platform_public_key_id,
        keys.wechat_platform,
        Kind.WRONG_SIGNATURE if "signature" in wrong else None,
    )
    seal = Seal("x" * 32 if "seal" in wrong else keys.apiv3_key, signer)
    at = now - timedelta(seconds=301) if "window" in wrong else now
    posting = notice("", event, seal, at)
    return posting.headers, posting.body + b" " * 70_000 if "size" in wrong else posting.body


async def test_wechats_notices_are_looked_at_in_this_order(door: Door) -> None:
    names = [name for name, _ in OF_WECHAT]
    for place, (name, reason) in enumerate(OF_WECHAT):
        told = await door.tell(Platform.WECHAT, *wechat_notice(door, frozenset(names[place:])))
        assert (name, told.status_code) == (name, 400)
        assert (name, told.json()) == (name, {"code": "FAIL", "message": reason})
    assert await kept() == 0
    assert await kinds() == ["other_amount", "other_app", "other_currency", "other_merchant"]
    for state in ("NOTPAY", "SUCCESS", "SUCCESS"):
        told = await door.tell(Platform.WECHAT, *wechat_notice(door, state=state))
        assert (state, told.status_code, told.content) == (state, 204, b"")
    assert (await kept(), await credited_fen(door)) == (2, 5_000)


OF_ALIPAY = ("size", "form", "sign_type", "signature", "facts", "merchant", "app", "amount")


def alipay_notice(
    door: Door, wrong: frozenset[str] = frozenset(), status: str = "TRADE_SUCCESS"
) -> tuple[Mapping[str, str], bytes]:
    keys, now = door.keys, door.world.now
    order = door.paid(
        Platform.ALIPAY,
        merchant_id=OTHER if "merchant" in wrong else keys.alipay_seller_id,
        fen=4_999 if "amount" in wrong else 5_000,
    )
    flaw = Kind.WRONG_SIGNATURE if "signature" in wrong else None
    wire = Wire(keys, lambda _: Signer("", keys.alipay_platform, flaw))
    facts = wire._paid(order, now) | {"trade_status": status}
    facts |= {"notify_id": status}
    if "facts" in wrong:
        facts["total_amount"] = "50.001"
    if "app" in wrong:
        facts["app_id"] = OTHER
    if "sign_type" in wrong:
        facts["sign_type"] = "RSA"
    body = wire._form(facts, "notice").encode()
    if "size" in wrong:
        body += b"&a=" + b"x" * 70_000
    form = "application/json" if "form" in wrong else "application/x-www-form-urlencoded"
    return {"content-type": form}, body


async def test_alipays_notices_are_looked_at_in_this_order(
    door: Door, merchants: Mapping[Platform, PaymentPlatform]
) -> None:
    codes = []
    for place, name in enumerate(OF_ALIPAY):
        headers, body = alipay_notice(door, frozenset(OF_ALIPAY[place:]))
        told = await door.tell(Platform.ALIPAY, headers, body)
        assert (name, told.status_code, told.content) == (name, 200, b"failure")
        try:
            merchants[Platform.ALIPAY].parse_notice(headers, body, door.world.now)
        except NoticeRejectedError as error:
            codes.append(error.code)
    assert codes == ["form", "form", "sign_type", "sign", "facts"]  # the size is the door's
    assert await kept() == 0
    assert await kinds() == ["other_amount", "other_app", "other_merchant"]
    for status in ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_SUCCESS", "TRADE_FINISHED"):
        told = await door.tell(Platform.ALIPAY, *alipay_notice(door, status=status))
        assert (status, told.content) == (status, b"success")
    assert (await kept(), await credited_fen(door)) == (3, 5_000)


async def test_twenty_at_once_are_one_credit(door: Door) -> None:
    headers, body = wechat_notice(door)
    told = await asyncio.gather(*(door.tell(Platform.WECHAT, headers, body) for _ in range(20)))
    assert {one.status_code for one in told} == {204}
    assert (await kept(), await credited_fen(door)) == (1, 5_000)


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 20_000


async def test_the_rest_of_a_body_that_is_too_large_is_not_read(door: Door) -> None:
    """Also where nobody says how large it is: more than Sanic itself would take is not awaited."""
    path = "/payments/wechat/demo/notify"
    for body in (b"x" * 65_537, chunks(4)):
        assert door.client is not None
        told = await door.client.post(path, content=body)
        assert (told.status_code, told.json()["message"]) == (400, "the body is too large")


AWAY = (
    (Platform.WECHAT, b'{"code":"FAIL","message":"unavailable"}'),
    (Platform.ALIPAY, b"failure"),
)


@pytest.mark.parametrize("where", ["inbox", "merchant", "slow"])
async def test_without_the_database_it_is_to_come_again(
    door: Door, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """In the platform's own form, and in time also where the database only does not answer."""

    async def away(*_: object) -> Any:
        if where == "slow":
            await asyncio.Event().wait()
        raise DatabaseAwayError("away")

    with monkeypatch.context() as patch:
        patch.setattr(payment_inbox, "KEEP_S", 0.05)
        if where == "merchant":
            patch.setattr(payment_callbacks, "find_site", away)
        else:
            patch.setattr(payment_inbox, "rows", away)
        for platform, form in AWAY:
            told = await door.tell(platform, *NOTICES[platform](door))
            assert (platform, told.status_code, told.content) == (platform, 503, form)
    assert await kept() == 0
    for platform, _ in AWAY:
        assert (await door.tell(platform, *NOTICES[platform](door))).is_success
    assert (await kept(), await credited_fen(door)) == (2, 10_000)


async def test_a_bad_notice_that_came_with_others_fails_alone(door: Door) -> None:
    """PostgreSQL keeps no zero character; who came with it in one group is kept."""
    world, intake = door.world, payment_inbox.Intake()
    fake = world.platform
    for number in range(4):
        fake.trades[f"T{number}"] = Trade(f"T{number}", TradeStatus.WAITING, fake.merchant_id)
    notices = [fake.parse_notice(*fake.notice_of(f"T{number}"), NOW) for number in range(4)]
    notices[2] = replace(notices[2], raw="\0")
    answers = await asyncio.gather(
        *(intake.keep(payment_inbox.Told(world.site_id, fake, one, NOW)) for one in notices),
        return_exceptions=True,
    )
    assert [isinstance(one, InvalidInputError) for one in answers] == [False, False, True, False]
    assert await kept() == 3


async def kept() -> int:
    return int((await rows(pool(), "SELECT count(*) AS n FROM payment_notice"))[0]["n"])


async def kinds() -> list[str]:
    found = await rows(pool(), "SELECT kind FROM payment_case ORDER BY kind")
    return [one["kind"] for one in found]


async def credited_fen(door: Door) -> int:
    """What the wallet holds once all that was kept is settled."""
    async with asyncio.timeout(10):
        while await rows(pool(), "SELECT 1 AS open FROM payment_notice WHERE settled_at IS NULL"):  # noqa: ASYNC110  only the table tells
            await asyncio.sleep(0.01)
    return await wallet_fen(door.world.tenancy_id)


NOTICES = {Platform.WECHAT: wechat_notice, Platform.ALIPAY: alipay_notice}


# What strangers send: anything at all, and true notices with one place changed.
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *(f"wechatpay-{name}" for name in ("timestamp", "nonce", "serial", "signature")),
            *("wechatpay-signature-type", "content-type"),
        ]
    ),
    st.text(max_size=40) | st.sampled_from(["1779242400", "application/x-www-form-urlencoded"]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=5,
)
BODIES = (
    st.binary(max_size=200)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.sampled_from([b"[" * 5_000, b'{"resource":' * 2_000, b"sign=&sign_type=RSA2", b"\xff" * 9])
)


CHANGES = st.lists(st.tuples(st.integers(0), st.integers(0, 255)))
NOW = local("2026-05-20 10:00")


@given(headers=HEADERS, body=BODIES, changes=CHANGES)
@settings(max_examples=60)
def test_what_strangers_send_is_refused_and_nothing_else(
    keys: SandboxKeys,
    merchants: Mapping[Platform, PaymentPlatform],
    headers: dict[str, str],
    body: bytes,
    changes: list[tuple[int, int]],
) -> None:
    """Or it says the same as the true notice: a form can be written in more than one way."""
    numbers = dict.fromkeys(Platform, "20260520000001")
    door = Door(World(NOW), keys, None, numbers)
    for platform, merchant in merchants.items():
        own_headers, own_body = NOTICES[platform](door)
        own_headers = {name.lower(): value for name, value in own_headers.items()}
        true = merchant.parse_notice(own_headers, own_body, NOW)
        changed = bytearray(own_body)
        for place, value in changes:
            changed[place % len(changed)] = value
        for told in ((headers, body), (own_headers, body), (own_headers, bytes(changed))):
            with suppress(NoticeRejectedError):
                assert merchant.parse_notice(*told, NOW).digest == true.digest


@given(headers=HEADERS)
@settings(max_examples=50)
def test_what_strangers_say_of_wechats_signature_is_refused(
    keys: SandboxKeys, merchants: Mapping[Platform, PaymentPlatform], headers: dict[str, str]
) -> None:
    door = Door(World(NOW), keys, None, dict.fromkeys(Platform, "20260520000001"))
    own_headers, body = wechat_notice(door)
    own = {name.lower(): value for name, value in own_headers.items()}
    told = own | headers
    with suppress(NoticeRejectedError):
        merchants[Platform.WECHAT].parse_notice(told, body, NOW)
        assert told | {"content-type": ""} == own | {"content-type": ""}
