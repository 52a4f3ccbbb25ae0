"""The demo's own files: keys, ports, site file, simulators' configurations and states, password.

Ports are chosen once and kept, so that the second start finds what the first one left.
"""

import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

import msgspec

from payments.sandbox.keys import (
    ALIPAY_APP_ID,
    ALIPAY_SELLER_ID,
    WECHAT_APPID,
    WECHAT_CERT_SERIAL,
    WECHAT_MCHID,
    WECHAT_PLATFORM_PUBLIC_KEY_ID,
    ensure_keys,
)
from server.local.demo.blueprint import Mall
from server.local.demo.history import history_start, registers_at
from server.local.demo.simulators import SimulatorPlaces, simulator_configs
from server.local.demo.site_file import (
    AlipayMerchant,
    SitePlaces,
    WechatMerchant,
    render_site_file,
)
from server.local.ports import free_port
from server.local.supervisor import Child
from server.models.database import pool, rows
from server.settings import TEST_SECRET, Address, Settings

LOOPBACK = "127.0.0.1"
LOW_BALANCE_TEMPLATE = "T-LOW-BALANCE"
METER_PASSWORD = "02 123456"  # noqa: S105  of simulated meters, which nothing else hangs on
GATEWAYS = ("gw-01", "gw-02", "gw-03")

TOKENS = """
SELECT shop.code, shop.name, shop.token, tenancy.binding_code FROM shop
JOIN tenancy ON tenancy.shop_id = shop.id AND tenancy.closed_at IS NULL
WHERE shop.code = $1
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the demo's simulated world listens."""

    sandbox: int
    gw_01: int
    gw_02: int
    dtu: int


class DemoFolder:
    """Everything that the demo keeps beside the database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site_path = folder / "site.toml"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @cached_property
    def ports(self) -> Ports:
        """The ports of the first start."""
        path = self.folder / "ports.json"
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=Ports)
        ports = Ports(free_port(), free_port(), free_port(), free_port())
        self._write_secret(path, msgspec.json.encode(ports))
        return ports

    @property
    def sandbox_url(self) -> str:
        """Where the sandbox platforms answer."""
        return f"http://{LOOPBACK}:{self.ports.sandbox}"

    def password(self) -> str:
        """The demo manager's password, made at the first start."""
        path = self.folder / "password.txt"
        if not path.exists():
            self._write_secret(path, secrets.token_hex(5).encode())
        return path.read_text(encoding="ascii").strip()

    @staticmethod
    def _write_secret(path: Path, content: bytes) -> None:
        """Write a file that nobody else may read, also one that was there with another mode."""
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o600)
            file.write(content)

    def pointed_at_sandbox(self, settings: Settings) -> Settings:
        """Settings whose platforms are the sandbox's; what the operator set himself stays."""
        given = os.environ
        changes: dict[str, str | Address] = {}
        if "MALLWATT_WEIXIN_API_URL" not in given:
            changes["weixin_api_url"] = self.sandbox_url
            changes["weixin_appid"] = WECHAT_APPID
            changes["weixin_secret"] = TEST_SECRET
        if "MALLWATT_WECHAT_PAY_URL" not in given:
            changes["wechat_pay_url"] = self.sandbox_url
        if "MALLWATT_ALIPAY_GATEWAY_URL" not in given:
            changes["alipay_gateway_url"] = f"{self.sandbox_url}/gateway.do"
        if settings.dtu_listen is None:
            changes["dtu_listen"] = Address(LOOPBACK, self.ports.dtu)
        return replace(settings, **changes)  # type: ignore[arg-type]  # each name has its field's type

    def write_site_file(self, mall: Mall) -> None:
        """The demo mall's site file with this machine's ports, and the keys beside it."""
        ensure_keys(self.folder / "keys")
        self._write_secret(self.folder / "keys" / "meters.txt", METER_PASSWORD.encode())
        places = SitePlaces(
            gateway_addresses={
                "gw-01": f"{LOOPBACK}:{self.ports.gw_01}",
                "gw-02": f"{LOOPBACK}:{self.ports.gw_02}",
            },
            wechat=WechatMerchant(
                mchid=WECHAT_MCHID,
                appid=WECHAT_APPID,
                cert_serial=WECHAT_CERT_SERIAL,
                platform_public_key_id=WECHAT_PLATFORM_PUBLIC_KEY_ID,
            ),
            alipay=AlipayMerchant(app_id=ALIPAY_APP_ID, seller_id=ALIPAY_SELLER_ID),
            low_balance_template=LOW_BALANCE_TEMPLATE,
            meter_password_file="keys/meters.txt",  # noqa: S106  a path
        )
        self._write_secret(self.site_path, render_site_file(mall, places).encode())

    def write_simulators(self, mall: Mall, now: datetime) -> None:
        """The simulators' configurations, their meters standing as history left them."""
        addresses = {
            "gw-01": f"{LOOPBACK}:{self.ports.gw_01}",
            "gw-02": f"{LOOPBACK}:{self.ports.gw_02}",
            "gw-03": f"{LOOPBACK}:{self.ports.dtu}",
        }
        states = {code: str(self.folder / "meters" / code) for code in GATEWAYS}
        places = SimulatorPlaces(addresses=addresses, state_folders=states)
        registers = registers_at(mall, history_start(mall, now), now)
        for code, config in simulator_configs(mall, registers, places).items():
            self._write_secret(self.folder / f"{code}.json", msgspec.json.encode(config))

    def children(self, env: Mapping[str, str]) -> list[Child]:
        """The sandbox platforms and a simulator process a gateway."""
        sandbox = (
            *(sys.executable, "-m", "payments.sandbox"),
            *("--listen", f"{LOOPBACK}:{self.ports.sandbox}"),
            *("--data", str(self.folder / "sandbox"), "--keys", str(self.folder / "keys")),
        )
        simulators = [
            Child(
                f"meters of {code}",
                (
                    sys.executable,
                    "-m",
                    "server.devices.simulator",
                    str(self.folder / f"{code}.json"),
                ),
                env,
                mute=True,
            )
            for code in GATEWAYS
        ]
        return [Child("sandbox", sandbox, env), *simulators]

    @staticmethod
    async def hints(settings: Settings, mall: Mall, *, first_start: bool) -> list[str]:
        """What somebody who looks at the demo should try."""
        found = await rows(pool(), TOKENS, mall.nearly_empty_shop)
        return [
            hint(
                f"{one['code']} {one['name']}",
                f"{settings.public_url}/s/{one['token']}",
                one["binding_code"],
                first_start=first_start,
            )
            for one in found
        ]


def hint(shop: str, page_url: str, binding_code: str, *, first_start: bool) -> str:
    """How to follow one shop; that it is about to run empty is known at the first start only."""
    course = " runs empty within minutes" if first_start else ""
    return f"shop {shop}{course}: top it up at {page_url} (binding code {binding_code})"
