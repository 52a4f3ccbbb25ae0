"""Paying at platforms of another maker: credited exactly once, and power within three seconds."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.http import http_client
from tests.outside.mall_file import SHOP, SITE
from tests.outside.other_meters import OtherMeter, OtherMeterBank
from tests.outside.other_platforms import APPID, Key, OtherPlatforms, Trade
from tests.outside.product import API, Product, bind, log_in, running, until

SHOPS = [f"A{unit}" for unit in range(1, 14)]
METHODS = ("wechat_jsapi", "wechat_native", "wechat_h5", "alipay_wap", "alipay_qr")
PLATFORMS = ("wechat_native", "alipay_qr")


@dataclass
class Mall:
    """A running product with empty, dark shops; each test takes one of its own."""

    http: httpx.AsyncClient
    owner: dict[str, str]
    meters: OtherMeterBank
    platforms: OtherPlatforms
    product: Product
    unused: list[str] = field(default_factory=lambda: list(SHOPS))

    async def shop(self) -> "Shop":
        name = self.unused.pop()
        bearer = await bind(self.http, self.owner, name, f"user-{name}")
        found = (await self.http.get(f"{API}/shops", headers=bearer)).json()["items"][0]
        return Shop(self, found["id"], bearer, self.meters.units[int(name[1:])])


@dataclass
class Shop:
    """One tenancy, seen by its tenant."""

    mall: Mall
    id: str
    bearer: dict[str, str]
    meter: OtherMeter

    async def ask(self, method: str, key: str = "first") -> httpx.Response:
        return await self.mall.http.post(
            f"{API}/shops/{self.id}/top-ups",
            headers=self.bearer | {"Idempotency-Key": key},
            json={"amount_fen": 500, "method": method},
        )

    async def order(self, method: str) -> tuple[str, Trade]:
        """Ordered, and opened by the payer."""
        answer = await self.ask(method)
        assert answer.status_code == 201, answer.text
        told = answer.json()
        assert told["status"] == "pending"
        number = told["payment"]["out_trade_no"]
        if method == "alipay_wap":
            assert await self.mall.platforms.scan(told["payment"]["url"]) == number
        if method == "alipay_qr":
            assert await self.mall.platforms.scan(told["payment"]["code_url"]) == number
        return told["top_up_no"], self.mall.platforms.trades[number]

    async def get(self, path: str) -> Any:
        answer = await self.mall.http.get(f"{API}{path}", headers=self.bearer)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def wallet(self) -> tuple[int, list[int]]:
        """What the wallet holds, and the payments in its journal."""
        journal = (await self.get(f"/shops/{self.id}/transactions"))["items"]
        paid = [one["amount_fen"] for one in journal if one["amount_fen"] == 500]
        return int((await self.get(f"/shops/{self.id}"))["wallet_fen"]), paid

    async def has_power_once(self, top_up_no: str, within_s: float = 3.0) -> None:
        """The relay closes in time, and the money is there exactly once."""
        await until(lambda: self.meter.coil, within_s, "the relay is closed")

        async def confirmed() -> bool:
            return (await self.get(f"/top-ups/{top_up_no}"))["confirmed_at"] is not None

        await until(confirmed, 5, "the read-back is shown")
        assert await self.wallet() == (600, [500])
        assert (await self.get(f"/top-ups/{top_up_no}"))["status"] == "paid"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mall(
    postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mall]:
    folder = tmp_path_factory.mktemp("other")
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE other_platforms")
    await connection.close()
    database_url = re.sub(r"/[^/]*$", "/other_platforms", postgres_url)
    units = {unit: OtherMeter() for unit in range(1, len(SHOPS) + 1)}
    async with OtherMeterBank(units) as meters, OtherPlatforms() as platforms:
        platforms.write_keys(folder / "keys")
        site = SITE.format(port=meters.port)
        site += "".join(SHOP.format(code=name, name=f"店 {name}", unit=name[1:]) for name in SHOPS)
        (folder / "site.toml").write_text(site, encoding="utf-8")
        async with (
            running(database_url, redis_url, folder, platforms.url) as product,
            http_client(base_url=product.url, timeout=15) as http,
        ):
            code, _, err = await product.command("import", str(folder / "site.toml"))
            assert code == 0, err
            owner = await log_in(http, product)
            await _run_empty(http, owner, units)
            yield Mall(http, owner, meters, platforms, product)
            code, out, _ = await product.command("audit")
            assert code == 0, out


async def _run_empty(
    http: httpx.AsyncClient, owner: dict[str, str], units: Mapping[int, OtherMeter]
) -> None:
    async def all_read() -> bool:
        shops = (await http.get("/api/admin/v1/shops", headers=owner)).json()["items"]
        return all(shop["control_state"] == "connected" for shop in shops)

    await until(all_read, 15, "every meter was read")
    for meter in units.values():
        meter.energy += 101
    await until(lambda: not any(one.coil for one in units.values()), 15, "all shops are dark")


@pytest.mark.parametrize("method", METHODS)
async def test_whoever_pays_has_power_within_three_seconds(mall: Mall, method: str) -> None:
    shop = await mall.shop()
    top_up_no, trade = await shop.order(method)
    _check_payment(mall, method, (await shop.ask(method)).json()["payment"])
    answer = await mall.platforms.notify(mall.platforms.pay(trade.out_trade_no))
    assert answer.status_code in (200, 204)
    assert answer.text == "success" or method.startswith("wechat")
    await shop.has_power_once(top_up_no)


def _check_payment(mall: Mall, method: str, payment: dict[str, str]) -> None:
    """What the phone is handed, as the platform's own code on it would check it."""
    if method == "wechat_jsapi":
        assert payment["signType"] == "RSA"
        parts = (APPID, payment["timeStamp"], payment["nonceStr"], payment["package"], "")
        mall.platforms.wechat_merchant.check("\n".join(parts).encode(), payment["paySign"])
    elif method == "wechat_h5":
        assert payment["url"].startswith("https://wx.tenpay.com/")
    elif method in PLATFORMS:
        assert payment["code_url"].startswith(("weixin://wxpay/", "https://qr.alipay.com/"))


@pytest.mark.parametrize("method", PLATFORMS)
async def test_twenty_notices_at_once_are_one_payment(mall: Mall, method: str) -> None:
    shop = await mall.shop()
    top_up_no, trade = await shop.order(method)
    mall.platforms.pay(trade.out_trade_no)
    notify = mall.platforms.notify
    answers = await asyncio.gather(
        *(
            notify(trade, **({"typed": bool(n % 2)} if "wechat" in method else {}))
            for n in range(20)
        )
    )
    assert {answer.status_code for answer in answers} <= {200, 204}
    await shop.has_power_once(top_up_no)


Forgery = Callable[[OtherPlatforms], dict[str, Any]]
WECHAT_FORGERIES: dict[str, Forgery] = {
    "another key": lambda _: {"key": Key()},
    "a signature probe": lambda _: {"signature": "WECHATPAY/SIGNTEST/" + "A" * 325},
    "no base64": lambda _: {"signature": "%%%"},
    "an unknown serial": lambda _: {"serial": "PUB_KEY_ID_0000000000000000000000"},
    "six minutes old": lambda _: {"age_s": 360},
    "from the future": lambda _: {"age_s": -360},
    "another APIv3 key": lambda _: {"apiv3_key": "0" * 32},
    "another amount": lambda _: {"facts": {"amount": {"total": 999_999, "currency": "CNY"}}},
    "another currency": lambda _: {"facts": {"amount": {"total": 500, "currency": "USD"}}},
    "another merchant": lambda _: {"facts": {"mchid": "1900000110"}},
    "another app": lambda _: {"facts": {"appid": "wx0000000000000002"}},
    "signed by the merchant itself": lambda fake: {"key": fake.wechat_merchant},
}
ALIPAY_FORGERIES: dict[str, Forgery] = {
    "another key": lambda _: {"key": Key()},
    "no signature": lambda _: {"signature": "AAAA"},
    "another amount": lambda _: {"facts": {"total_amount": "9999.99"}},
    "another seller": lambda _: {"facts": {"seller_id": "2088000000000002"}},
    "another app": lambda _: {"facts": {"app_id": "2021000000000002"}},
    "signed by the merchant itself": lambda fake: {"key": fake.alipay_app},
}


@pytest.mark.parametrize(
    ("method", "forgeries"),
    [("wechat_native", WECHAT_FORGERIES), ("alipay_qr", ALIPAY_FORGERIES)],
)
async def test_forgeries_are_refused_and_the_true_one_still_counts(
    mall: Mall, method: str, forgeries: dict[str, Forgery]
) -> None:
    shop = await mall.shop()
    top_up_no, trade = await shop.order(method)
    unpaid = replace(trade, state="SUCCESS", paid=trade.created)  # the platform knows of none
    told = {}
    for name, forge in forgeries.items():
        answer = await mall.platforms.notify(unpaid, **forge(mall.platforms))
        told[name] = answer.text == "success" if method == "alipay_qr" else answer.is_success
    assert told == dict.fromkeys(forgeries, False)
    assert await shop.wallet() == (100, [])
    assert not shop.meter.coil
    assert (await mall.platforms.notify(mall.platforms.pay(trade.out_trade_no))).is_success
    await shop.has_power_once(top_up_no)


@pytest.mark.parametrize("method", METHODS[1:3])
async def test_a_notice_may_come_before_the_order_is_answered(mall: Mall, method: str) -> None:
    shop = await mall.shop()
    mall.platforms.pay_before_answer = True
    answer = await shop.ask(method)
    assert answer.status_code == 201, answer.text
    await shop.has_power_once(answer.json()["top_up_no"])


async def test_a_lost_notice_is_asked_for(mall: Mall) -> None:
    shop = await mall.shop()
    top_up_no, trade = await shop.order("wechat_native")
    mall.platforms.pay(trade.out_trade_no)
    await shop.has_power_once(top_up_no, within_s=6)
    assert (await mall.platforms.notify(trade)).is_success  # and comes late: no second credit
    await asyncio.sleep(0.2)
    assert await shop.wallet() == (600, [500])


async def test_a_platform_in_trouble_is_told_and_tried_again(mall: Mall) -> None:
    shop = await mall.shop()
    mall.platforms.fail_next = 50
    refused = await shop.ask("wechat_native")
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "payment_platform"
    mall.platforms.fail_next, mall.platforms.delay_s = 0, 1.0
    answers = await asyncio.gather(*(shop.ask("wechat_native") for _ in range(3)))
    mall.platforms.delay_s = 0
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["payment"]["out_trade_no"] for answer in answers}) == 1
    other = await mall.http.post(
        f"{API}/shops/{shop.id}/top-ups",
        headers=shop.bearer | {"Idempotency-Key": "first"},
        json={"amount_fen": 501, "method": "wechat_native"},
    )
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")
    number = answers[0].json()["payment"]["out_trade_no"]
    await mall.platforms.notify(mall.platforms.pay(number))
    await shop.has_power_once(answers[0].json()["top_up_no"])
