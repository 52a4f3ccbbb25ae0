"""The demo's site file and simulator configurations, read back by those who use them."""

import json
import tomllib
from datetime import UTC, date, datetime
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient

from server.devices.simulator.bank import MeterBank
from server.devices.simulator.config import read_config
from server.local.demo.history import history_start, registers_at
from server.local.demo.mall import DEMO
from server.local.demo.simulators import SimulatorPlaces, simulator_configs
from server.local.demo.site_file import (
    AlipayMerchant,
    SitePlaces,
    WechatMerchant,
    render_site_file,
)

PLACES = SitePlaces(
    gateway_addresses={"gw-01": "127.0.0.1:15020", "gw-02": "127.0.0.1:15021"},
    wechat=WechatMerchant(
        mchid="1900000109",
        appid="wx0000000000000001",
        cert_serial="33DDFEC51BF5412F663B9B56510FD567B625FC68",
        platform_public_key_id="PUB_KEY_ID_0119000001092026",
    ),
    alipay=AlipayMerchant(app_id="2021000000000001", seller_id="2088000000000001"),
    low_balance_template='T-"1"\\',
)


@pytest.fixture(scope="module")
def site() -> dict[str, Any]:
    return tomllib.loads(render_site_file(DEMO, PLACES))


# The keys of the contract's section 3; an unknown key is an error there.
KNOWN = {
    "site": "code name timezone poll_seconds close_after_days",
    "gateway": "code link address registration allow_from heartbeat baud serial_format"
    " turnaround_ms password_file operator",
    "meter": "code gateway unit address profile transformer_ratio role shop",
    "shop": "code name area_m2 tariff supply_policy kva fixed_charges supply_protection"
    " binding_code opening_balance_fen",
    "fixed_charge": "code valid_from per basis price",
    "tariff": "code valid_from kind prices price periods blocks period",
    "supply_policy": "low_balance_fen hoarding_limit_fen emergency_credit_fen overdraft_limit_fen"
    " reconnect_at_fen notice_minutes no_disconnect reconnect",
}


@pytest.mark.parametrize("table", KNOWN)
def test_only_keys_of_the_contract_are_written(site: dict[str, Any], table: str) -> None:
    content = site[table]
    if table == "supply_policy":
        content = list(content.values())
    for row in content if isinstance(content, list) else [content]:
        assert set(row) <= set(KNOWN[table].split())
    assert set(site) == {*KNOWN, "merchant", "weixin"}


def test_merchants_carry_relative_key_paths(site: dict[str, Any]) -> None:
    assert site["merchant"]["wechat"] == {
        "mchid": "1900000109",
        "appid": "wx0000000000000001",
        "apiv3_key_file": "keys/apiv3.txt",
        "private_key_file": "keys/wechat_merchant.pem",
        "cert_serial": "33DDFEC51BF5412F663B9B56510FD567B625FC68",
        "platform_public_key_file": "keys/wechat_platform.pem",
        "platform_public_key_id": "PUB_KEY_ID_0119000001092026",
    }
    assert site["merchant"]["alipay"] == {
        "app_id": "2021000000000001",
        "seller_id": "2088000000000001",
        "private_key_file": "keys/alipay_app.pem",
        "alipay_public_key_file": "keys/alipay_platform.pem",
    }


def test_the_commercial_tariff_is_the_contracts_example(site: dict[str, Any]) -> None:
    commercial, flat = site["tariff"]
    assert commercial == {
        "code": "commercial",
        "valid_from": date(2026, 1, 1),
        "kind": "tou",
        "prices": {"sharp": "1.2345", "peak": "1.0288", "flat": "0.6172", "valley": "0.2891"},
        "periods": [
            {
                "months": list(range(1, 13)),
                "days": "all",
                "valley": ["00:00-08:00"],
                "flat": ["08:00-10:00", "12:00-18:00", "22:00-24:00"],
                "peak": ["10:00-12:00"],
                "sharp": ["18:00-22:00"],
            }
        ],
    }
    assert (flat["kind"], flat["price"]) == ("flat", "0.6883")


def test_gateways_say_where_they_are(site: dict[str, Any]) -> None:
    assert site["gateway"] == [
        {"code": "gw-01", "link": "modbus-tcp", "address": "127.0.0.1:15020"},
        {
            "code": "gw-02",
            "link": "rtu-over-tcp",
            "address": "127.0.0.1:15021",
            "baud": 9600,
            "serial_format": "8N1",
            "turnaround_ms": 20,
        },
        {
            "code": "gw-03",
            "link": "dtu",
            "registration": "DTU000003",
            "allow_from": ["127.0.0.0/8"],
            "heartbeat": "HB",
            "baud": 9600,
            "serial_format": "8E1",
            "turnaround_ms": 20,
        },
    ]


def test_shops_meters_and_policies_are_all_there(site: dict[str, Any]) -> None:
    assert [shop["code"] for shop in site["shop"]] == [shop.code for shop in DEMO.shops]
    assert site["shop"][0] == {
        "code": "A101",
        "name": "沐茶鲜果茶",
        "area_m2": "36.5",
        "tariff": "commercial",
        "supply_policy": "standard",
        "kva": "20",
        "fixed_charges": ["service", "cleaning"],
        "supply_protection": False,
        "binding_code": "482913",
    }
    meters = {meter["code"]: meter for meter in site["meter"]}
    assert (meters["M-A101"]["unit"], meters["M-A101"]["shop"]) == (1, "A101")
    assert meters["M-C301-1"]["address"] == "202605240001"
    assert (meters["M-F01"]["role"], meters["M-F01"]["transformer_ratio"]) == ("feeder", 20)
    immediate = site["supply_policy"]["immediate"]
    assert (immediate["notice_minutes"], immediate["no_disconnect"]) == ([], [])
    assert site["supply_policy"]["standard"]["notice_minutes"] == [4320, 30]


def test_text_is_written_so_that_it_reads_back(site: dict[str, Any]) -> None:
    template = site["weixin"]["templates"]["low_balance"]
    assert template == {"id": 'T-"1"\\', "fields": {"shop": "thing1", "balance": "amount2"}}


def test_without_merchants_and_templates_their_tables_are_absent() -> None:
    places = SitePlaces(
        gateway_addresses=PLACES.gateway_addresses, meter_password_file="keys/meters.txt"
    )
    bare = tomllib.loads(render_site_file(DEMO, places))
    assert set(bare) == set(KNOWN)
    assert bare["gateway"][2]["password_file"] == "keys/meters.txt"


NOW = datetime(2026, 6, 18, 6, 37, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def registers_wh() -> dict[str, int]:
    return registers_at(DEMO, history_start(DEMO, NOW), NOW)


def configs(registers_wh: dict[str, int], folder: str) -> dict[str, dict[str, object]]:
    codes = [gateway.code for gateway in DEMO.gateways]
    places = SimulatorPlaces(
        addresses=dict.fromkeys(codes, "127.0.0.1:0") | {"gw-03": "127.0.0.1:9"},
        state_folders={code: f"{folder}/{code}" for code in codes},
    )
    return simulator_configs(DEMO, registers_wh, places)


@pytest.mark.parametrize(("code", "meters"), [("gw-01", 12), ("gw-02", 10), ("gw-03", 8)])
async def test_each_configuration_wakes_its_meters_where_the_history_ends(
    registers_wh: dict[str, int], code: str, meters: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = str(tmp_path_factory.mktemp("state"))
    raw = json.dumps(configs(registers_wh, folder)[code]).encode()
    async with MeterBank(read_config(raw)) as bank:
        assert len(bank.meters) == meters
        for meter in bank.meters.values():
            assert 0 <= meter.register_wh - registers_wh[meter.code] <= 5
            assert meter.drawn_w() > 0


async def test_the_demo_is_read_over_its_socket(
    registers_wh: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = str(tmp_path_factory.mktemp("state"))
    raw = json.dumps(configs(registers_wh, folder)["gw-01"]).encode()
    async with MeterBank(read_config(raw)) as bank:
        client = AsyncModbusTcpClient("127.0.0.1", port=bank.ports["gw-01"], timeout=2)
        assert await client.connect()
        high, low = (await client.read_holding_registers(0, count=2, device_id=11)).registers
        client.close()
        assert 0 <= (high << 16 | low) - registers_wh["M-A111"] // 10 <= 1
