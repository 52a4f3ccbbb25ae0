"""A site file with many faults: one run lists all of them, none twice, none that is not there."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from server.merchants import unusable_settings
from server.services.site_file import (
    KnownCodes,
    ProfileFacts,
    SiteFileError,
    merchant_settings,
)
from server.services.site_import import import_site
from server.services.site_parsing import parse_site_file
from tests.fakes.keys import keys_in
from tests.payments.alipay_certificates import ALIPAY as ALIPAY_CERT
from tests.payments.alipay_certificates import ROOT, issued, pem
from tests.services.test_site_import import NOW

PROFILES = {
    "example/modbus": ProfileFacts("modbus", True, False, 30_000, 10**9),
    "example/dlt645": ProfileFacts("dlt645", True, False, 30_000, 10**9),
}
FAULTY = r"""
surprise = 1
[site]
code = "demo"
name = "a\u202Eb"
timezone = "Asia/Nowhere"
[merchant.wechat]
mchid = "x"
appid = "wx1"
apiv3_key_file = "none.txt"
private_key_file = "none.txt"
cert_serial = "12"
platform_public_key_file = "none.txt"
platform_public_key_id = "K"
[supply_policy."bad code"]
surprise = 1
[weixin.templates.low_balance]
id = "T\u0007"
fields = {wrong = "thing1"}
[[tariff]]
code = "flat"
kind = "flat"
price = "-1"
[[fixed_charge]]
code = "lift"
[[gateway]]
code = "gw 1"
link = "dtu"
turnaround_ms = 5001
heartbeat = "a\u0000"
[[gateway]]
code = "gw-2"
link = "modbus-tcp"
address = "nowhere"
allow_from = ["10.0.0.0/8", 5, "north"]
[[gateway]]
code = "gw-2"
link = "telnet"
[[meter]]
code = "M-1"
gateway = "gw-2"
unit = 300
profile = "example/modbus"
role = "nobody"
[[meter]]
code = "M-2"
gateway = "gw-9"
profile = "no/such"
shop = "A1"
[[meter]]
code = "M-3"
gateway = "gw-2"
profile = "example/dlt645"
shop = "A9"
[[shop]]
code = "A1"
name = "x\u2028y"
tariff = "flat"
supply_policy = "none"
fixed_charges = ["lift", "roof"]
[[shop]]
code = "A2"
name = "ok"
binding_code = "4829"
"""
PLACES = """
surprise
site.name
site.timezone
merchant.wechat.mchid
merchant.wechat.apiv3_key_file
merchant.wechat.private_key_file
merchant.wechat.platform_public_key_file
supply_policy.bad code.[key]
supply_policy.bad code.surprise
weixin.templates.low_balance.id
weixin.templates.low_balance.fields.wrong
tariff[0].price
fixed_charge[0].price
gateway
gateway[0].code
gateway[0].registration
gateway[0].turnaround_ms
gateway[0].heartbeat
gateway[1].address
gateway[1].allow_from
gateway[1].allow_from[1]
gateway[2].link
meter[0].unit
meter[0].role
meter[1].gateway
meter[1].profile
meter[2].address
meter[2].shop
shop[0].name
shop[0].binding_code
shop[0].supply_policy
shop[0].fixed_charges
shop[1].tariff
"""


def faulty_places(content: str, folder: Path) -> list[str]:
    def check(platform: str, settings: object) -> list[tuple[str, str]]:
        assert isinstance(settings, dict)
        return [*unusable_settings(platform, settings, is_production=True)]

    with pytest.raises(SiteFileError) as caught:
        parse_site_file(content, folder, PROFILES, KnownCodes(), check)
    return sorted(fault.place for fault in caught.value.faults)


def test_one_run_tells_all_faults(tmp_path: Path) -> None:
    assert faulty_places(FAULTY, tmp_path) == sorted(PLACES.strip().splitlines())


SITE = '[site]\ncode = "demo"\nname = "d"\ntimezone = "Asia/Shanghai"\n'


@pytest.mark.parametrize(
    ("content", "places"),
    [
        ("", ["site"]),
        ("site = 1\nmeter = 1\nmerchant = 1\nweixin = 1", ["merchant", "meter", "site", "weixin"]),
        (
            "gateway = [1, 2]\nshop = [1]\nmeter = [1]\ntariff = [1]\nsupply_policy = 1\n" + SITE,
            ["gateway[0]", "gateway[1]", "meter[0]", "shop[0]", "supply_policy", "tariff[0]"],
        ),
        (SITE + '["a\\u0000b"]\n', ["a\\u0000b"]),
        (SITE + "[merchant]\nwechat = 1\npaypal = {}\n", ["merchant.paypal", "merchant.wechat"]),
        (SITE + "[weixin]\ntemplates = {low = 1}\n", ["weixin.templates.low"]),
    ],
)
def test_whatever_the_shape_each_fault_is_told_once(
    tmp_path: Path, content: str, places: list[str]
) -> None:
    assert faulty_places(content, tmp_path) == places


@pytest.mark.parametrize("odd", ["\x00", "\x1b", "\n", "\u2028", "\u2029", "\u202e", "\u2066"])
def test_what_nobody_can_see_is_refused(tmp_path: Path, odd: str) -> None:
    content = SITE.replace('"d"', f'"d\\u{ord(odd):04x}e"')
    assert faulty_places(content, tmp_path) == ["site.name"]


ALIPAY = """
[merchant.alipay]
app_id = "2021000000000009"
seller_id = "2088000000000001"
private_key_file = "keys/alipay_app.pem"
alipay_public_key_file = "keys/empty.pem"
"""


async def test_an_import_refuses_keys_that_nobody_can_use(database: None, tmp_path: Path) -> None:
    keys_in(tmp_path / "keys")
    for name in ("empty.pem", "alipay_app.pem"):
        (tmp_path / "keys" / name).write_text("no key", encoding="ascii")
    path = tmp_path / "site.toml"
    path.write_text(SITE + ALIPAY, encoding="utf-8")

    def check(platform: str, settings: object) -> list[tuple[str, str]]:
        assert isinstance(settings, dict)
        return [*unusable_settings(platform, settings, is_production=False)]

    with pytest.raises(SiteFileError) as caught:
        await import_site(path, PROFILES, NOW, check_merchant=check)
    assert [one.place for one in caught.value.faults] == [
        "merchant.alipay.private_key_file",
        "merchant.alipay.alipay_public_key_file",
    ]


WECHAT = """
[merchant.wechat]
mchid = "1900000109"
appid = "wx0000000000000001"
apiv3_key_file = "keys/apiv3.txt"
private_key_file = "keys/wechat_merchant.pem"
cert_serial = "33DDFEC51BF5412F663B9B56510FD567B625FC68"
"""
KEY_FILE = 'platform_public_key_file = "keys/wechat_platform.pem"\n'
KEY_ID = 'platform_public_key_id = "PUB_KEY_ID_0119000001092026"\n'


@pytest.mark.parametrize(
    ("more", "setting"),
    [
        ("", None),  # by its certificates
        ("platform_certificates = true", None),
        (KEY_FILE + KEY_ID, None),
        (KEY_FILE + KEY_ID + "platform_certificates = true", None),  # while it changes
        (KEY_FILE, "platform_public_key_id"),
        (KEY_ID, "platform_public_key_file"),
        ("platform_certificates = false", "platform_public_key_file"),
        ('platform_certificates = "yes"', "platform_certificates"),
        ("platform_certificate = true", "platform_certificate"),
    ],
)
def test_how_the_platform_proves_itself_is_said_or_understood(
    tmp_path: Path, more: str, setting: str | None
) -> None:
    keys_in(tmp_path / "keys")

    def check(platform: str, settings: object) -> list[tuple[str, str]]:
        assert isinstance(settings, dict)
        return [*unusable_settings(platform, settings, is_production=False)]

    def parse() -> None:
        parse_site_file(SITE + WECHAT + more, tmp_path, PROFILES, KnownCodes(), check)

    if setting is None:
        parse()
        return
    with pytest.raises(SiteFileError) as caught:
        parse()
    assert [one.place for one in caught.value.faults] == [f"merchant.wechat.{setting}"]


CERTIFICATES = """
app_cert_file = "keys/app.crt"
alipay_cert_file = "keys/alipay.crt"
alipay_root_cert_file = "keys/root.crt"
"""


@pytest.mark.parametrize(
    ("ways", "places"),
    [
        pytest.param('alipay_public_key_file = "keys/alipay_platform.pem"', [], id="a key"),
        pytest.param(CERTIFICATES, [], id="certificates"),
        pytest.param("", ["alipay_public_key_file"], id="neither"),
        pytest.param(
            'alipay_public_key_file = "keys/alipay_platform.pem"' + CERTIFICATES,
            ["alipay_cert_file", "alipay_root_cert_file", "app_cert_file"],
            id="both",
        ),
        pytest.param(
            'app_cert_file = "keys/app.crt"',
            ["alipay_cert_file", "alipay_root_cert_file"],
            id="not all",
        ),
        pytest.param(
            CERTIFICATES.replace("app.crt", "none.crt"), ["app_cert_file"], id="no such file"
        ),
    ],
)
def test_alipay_goes_by_a_key_or_by_certificates(
    tmp_path: Path, ways: str, places: list[str]
) -> None:
    keys = keys_in(tmp_path / "keys")
    certificate = issued("2088-2021", keys.alipay_app)
    for file, text in (
        ("app", pem(certificate)),
        ("alipay", pem(ALIPAY_CERT)),
        ("root", pem(ROOT)),
    ):
        (tmp_path / "keys" / f"{file}.crt").write_text(text, encoding="ascii")
    content = SITE + ALIPAY.replace('alipay_public_key_file = "keys/empty.pem"', ways)

    if places:
        assert faulty_places(content, tmp_path) == [f"merchant.alipay.{one}" for one in places]
    else:
        document = parse_site_file(content, tmp_path, PROFILES, KnownCodes(), usable)
        assert document.tables.merchant.alipay is not None
        settings = merchant_settings(document.tables.merchant.alipay, tmp_path)
        assert None not in settings.values()


def usable(platform: str, settings: Mapping[str, object]) -> Sequence[tuple[str, str]]:
    return unusable_settings(platform, settings, is_production=False)


# one process is asked twice: that takes half the time
BOTH = """
import sys
from server.cli import main
sys.exit([main(["import", path]) for path in sys.argv[1:]] != [1, 1])
"""


async def test_the_command_counts_in_good_english(database_url: str, tmp_path: Path) -> None:
    paths = (tmp_path / "one.toml", tmp_path / "three.toml")
    for path, more in zip(paths, ("", ALIPAY), strict=True):
        path.write_text(SITE.replace("Asia/Shanghai", "Asia/Nowhere") + more, encoding="utf-8")
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BOTH, *map(str, paths)),
        env={"MALLWATT_DATABASE_URL": database_url, "MALLWATT_DATA_DIR": str(tmp_path / "data")},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await command.communicate()
    lines = said.decode().splitlines()
    assert command.returncode == 0, lines
    told = [line for line in lines if line.endswith("; nothing was imported")]
    assert told == ["1 error; nothing was imported", "3 errors; nothing was imported"]
    assert lines[-1] == told[-1]
