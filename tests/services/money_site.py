"""The site of one story: two meters of a shop, one tariff in versions, for file and reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from server.services.site_file import ProfileFacts
from tests.fakes.site_text import GATEWAY, meter_text
from tests.services.plain_reference import Price

OPENED = datetime(2026, 5, 29, 2, 0, tzinfo=UTC)  # a Friday, ten o'clock; the month ends in it
HOURS = 80
NOW = OPENED + timedelta(hours=HOURS + 2)
ROLLOVER_WH = 100_000_000
RATIOS = (1, 3)
PROFILES = {"example/demo-relay": ProfileFacts("modbus", True, False, 30_000, ROLLOVER_WH)}
OPENING_FEN = 700
SITE = """
[site]
code = "{code}"
name = "示范商场"
timezone = "Asia/Shanghai"
poll_seconds = 43_200
close_after_days = 60

{tariffs}
"""
SITE += GATEWAY + meter_text("M-1", 1, "A1")
SITE += meter_text("M-2", 2, "A1", "transformer_ratio = {ratio}\n")
SITE += """
[[shop]]
code = "A1"
name = "茶饮"
tariff = "tariff"
binding_code = "482913"
opening_balance_fen = 700
"""
BOTH = """
[[tariff]]
code = "tariff"
valid_from = {valid_from}
kind = "block"
period = "month"
blocks = [
    {{up_to_kwh = 20, prices = {{peak = "1.2345", valley = "0.2891"}}}},
    {{prices = {{peak = "{price}", valley = "0.3333"}}}},
]
periods = [{{valley = ["00:00-08:00", "20:00-24:00"], peak = ["08:00-20:00"]}}]
"""
FLAT = """
[[tariff]]
code = "tariff"
valid_from = {valid_from}
kind = "flat"
price = "{price}"
"""
SPANS = ((0, 8, "valley"), (8, 20, "peak"), (20, 24, "valley"))


@dataclass(frozen=True)
class Tariff:
    """One version as the site file has it and as the reference has it."""

    valid_from: date
    micro_yuan: int
    flat: bool

    def table(self) -> str:
        """For the site file."""
        price = f"{self.micro_yuan // 1_000_000}.{self.micro_yuan % 1_000_000:06}"
        return (FLAT if self.flat else BOTH).format(valid_from=self.valid_from, price=price)

    def price(self) -> Price:
        """For the reference."""
        if self.flat:
            return Price(self.valid_from, [(0, 24, "all")], [(None, {"all": self.micro_yuan})])
        first = {"peak": 1_234_500, "valley": 289_100}
        rest = {"peak": self.micro_yuan, "valley": 333_300}
        return Price(self.valid_from, SPANS, [(20_000, first), (None, rest)])


def write_site(path: Path, tariffs: Sequence[Tariff], ratio: int) -> None:
    """The site file with these versions of its tariff, and the second meter's transformer."""
    tables = "\n".join(one.table() for one in tariffs)
    content = SITE.format(code=path.stem, tariffs=tables, ratio=ratio)
    path.write_text(content, encoding="utf-8")
