"""The whole product through its public face alone: commands, site file, HTTP, sockets.

The roles run as `mallwatt run` starts them; the meters are another maker's.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest_asyncio

from server.local.ports import free_port
from tests.http import http_client
from tests.outside.mall_file import SHOP, SITE
from tests.outside.other_meters import OtherMeter, OtherMeterBank
from tests.outside.product import API, Product, answers, bind, log_in, running, stop, until

TEMPLATES = """
[weixin.templates]
low_balance = {id = "T-low-balance", fields = {shop = "thing1", balance = "amount2"}}
"""


@pytest_asyncio.fixture
async def meters() -> AsyncIterator[OtherMeterBank]:
    async with OtherMeterBank({1: OtherMeter()}) as bank:
        yield bank


@pytest_asyncio.fixture
async def product(
    database_url: str, redis_url: str, tmp_path: Path, meters: OtherMeterBank
) -> AsyncIterator[Product]:
    site = SITE.format(port=meters.port) + SHOP.format(code="A1", name="茶饮", unit=1) + TEMPLATES
    (tmp_path / "site.toml").write_text(site, encoding="utf-8")
    listen = f"127.0.0.1:{free_port()}"
    sandbox = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.cli", "sandbox", "--listen", listen),
        *("--data", str(tmp_path), "--keys", f"{tmp_path}/keys"),
    )
    try:
        await until(lambda: answers(f"http://{listen}/health"), 20, "the sandbox answers")
        async with running(database_url, redis_url, tmp_path, f"http://{listen}") as product:
            yield product
    finally:
        await stop(sandbox)


async def test_import_bind_run_empty_pay_and_have_power_again(
    product: Product, meters: OtherMeterBank
) -> None:
    code, out, err = await product.command("import", str(product.folder / "site.toml"))
    assert code == 0, err
    assert out.startswith("created ")
    meter = meters.units[1]
    async with http_client(base_url=product.url, timeout=10) as http:
        tenant = await bind(http, await log_in(http, product), "A1", "demo-alice")
        await until(lambda: _has_reading(http, tenant), 10, "a first reading")

        meter.energy += 50  # half a kilowatt-hour of the 1.00 yuan that was there
        await until(lambda: _told(product), 10, "the tenant is told that little is left")
        meter.energy += 51
        await until(lambda: not meter.coil, 10, "the shop is disconnected")
        shop = (await http.get(f"{API}/shops", headers=tenant)).json()["items"][0]
        for method, platform, expected in (
            ("wechat_native", "wechat", 3.0),
            ("alipay_qr", "alipay", 3.0),
        ):
            took_s = await _pay_and_wait(http, tenant, shop["id"], method, platform, meter)
            assert took_s < expected
            meter.energy += 300
            await until(lambda: not meter.coil, 30, "the shop is disconnected again")
    await _check_commands(product, meter)


async def _has_reading(http: httpx.AsyncClient, tenant: dict[str, str]) -> bool:
    shops = (await http.get(f"{API}/shops", headers=tenant)).json()["items"]
    shop = (await http.get(f"{API}/shops/{shops[0]['id']}", headers=tenant)).json()
    return shop["last_reading_at"] is not None and shop["control_state"] == "connected"


async def _told(product: Product) -> bool:
    """Whether the message arrived at the tenant's WeChat, once."""
    async with http_client(base_url=product.env["MALLWATT_WEIXIN_API_URL"]) as weixin:
        messages = (await weixin.get("/control/weixin/messages")).json()["items"]
    if not messages:
        return False
    [message] = messages
    assert message["template_id"] == "T-low-balance"
    assert message["data"] == {"thing1": "茶饮", "amount2": "0.50元"}
    return True


async def _pay_and_wait(
    http: httpx.AsyncClient,
    tenant: dict[str, str],
    shop_id: object,
    method: str,
    platform: str,
    meter: OtherMeter,
) -> float:
    ordered = await http.post(
        f"{API}/shops/{shop_id}/top-ups",
        headers=tenant | {"Idempotency-Key": f"key-{method}"},
        json={"amount_fen": 201, "method": method},
    )
    assert ordered.status_code == 201, ordered.text
    payment = ordered.json()["payment"]
    sandbox = payment["code_url"].split("/pay/")[0]
    async with http_client() as payer:
        paid = await payer.post(
            f"{sandbox}/control/{platform}/pay", json={"out_trade_no": payment["out_trade_no"]}
        )
    assert paid.status_code == 200, paid.text
    took_s = await until(lambda: meter.coil, 10, "the relay is closed")
    number = ordered.json()["top_up_no"]

    async def is_confirmed() -> bool:
        top_up = (await http.get(f"{API}/top-ups/{number}", headers=tenant)).json()
        return top_up["status"] == "paid" and top_up["confirmed_at"] is not None

    await until(is_confirmed, 5, "all four ticks")
    return took_s


async def _check_commands(product: Product, meter: OtherMeter) -> None:
    code, out, err = await product.command("meter", "read", "M-A1")
    assert code == 0, err
    answer = msgspec.json.decode(out)
    assert answer["code"] == "M-A1"
    assert answer["control_state"] == "disconnected"
    assert answer["points"]["energy_total"] == {
        "value": f"{meter.energy / 100:.2f}",
        "unit": "kWh",
    }
    code, out, err = await product.command("audit", "--json")
    assert code == 0, err
    assert msgspec.json.decode(out)["passed"] is True
    code, _, err = await product.command("import", "/nowhere/site.toml")
    assert code == 1
    assert "/nowhere/site.toml" in err
