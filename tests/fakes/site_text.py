"""Parts of site files: a gateway, meters with a relay, shops; and how a test changes a file."""

from pathlib import Path

from server.services.site_file import ProfileFacts

RELAY = "example/demo-relay"
PROFILES = {RELAY: ProfileFacts("modbus", True, False, 30_000, 1_000_000_000)}
GATEWAY = """
[[gateway]]
code = "gw-01"
link = "modbus-tcp"
address = "127.0.0.1:15020"
"""


def meter_text(code: str, unit: int | str, shop: str, more: str = "") -> str:
    """A meter on that gateway; `more` are further lines."""
    return f"""
[[meter]]
code = "{code}"
gateway = "gw-01"
unit = {unit}
profile = "{RELAY}"
shop = "{shop}"
{more}"""


def shop_text(
    code: str,
    name: str = "茶饮",
    *,
    tariff: str = "flat",
    policy: str = "immediate",
    binding_code: str = "482913",
    more: str = "",
) -> str:
    """A shop; `more` are further lines."""
    return f"""
[[shop]]
code = "{code}"
name = "{name}"
tariff = "{tariff}"
supply_policy = "{policy}"
binding_code = "{binding_code}"
{more}"""


SECOND_SHOP = shop_text("A2", "面馆", binding_code="482914")


def change(path: Path, *pairs: tuple[str, str]) -> None:
    """Write the file anew with each second text in place of the first."""
    content = path.read_text(encoding="utf-8")
    for was, becomes in pairs:
        assert was in content, was
        content = content.replace(was, becomes, 1)
    path.write_text(content, encoding="utf-8")
