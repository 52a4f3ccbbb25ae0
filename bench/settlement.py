"""How fast a day is settled, against a loop that only multiplies."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from bench.measure import Result, measure
from server.core.calendar import NO_HOLIDAYS
from server.core.money import fen_from_nano_yuan, micro_yuan_from_text
from server.core.settlement.day import DaySettlement, settle_day
from server.core.settlement.interval import MeterPath, path_from_rows
from server.core.tariff.parse import parse_tariff

ZONE = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 3, 4)
START = datetime(2026, 3, 3, 16, tzinfo=UTC)  # midnight in Shanghai
GAP_S = 7_200
ROLLOVER_WH = 1_000_000_000
PRICE = "0.6172"
TARIFFS = {
    "flat": parse_tariff({"code": "flat", "price": PRICE}),
    "tou": parse_tariff(
        {
            "code": "tou",
            "prices": {"sharp": "1.2345", "peak": "1.0288", "flat": PRICE, "valley": "0.2891"},
            "periods": [
                {
                    "valley": ["00:00-08:00"],
                    "flat": ["08:00-10:00", "12:00-18:00", "22:00-24:00"],
                    "peak": ["10:00-12:00"],
                    "sharp": ["18:00-22:00"],
                }
            ],
        }
    ),
}


def meter_path(readings: int) -> MeterPath:
    """A meter that was read at even paces, from the day's start to its end."""
    step = timedelta(days=1) / (readings - 1)
    rows = [(START + step * i, 1_000_000 + 24_000 * i // (readings - 1)) for i in range(readings)]
    return path_from_rows(1, "M-1", 1, ROLLOVER_WH, rows)


def settler(path: MeterPath, tariff: str) -> Callable[[], DaySettlement]:
    """The measured work: one day of one meter, with its whole explanation."""
    version = TARIFFS[tariff]

    def work() -> DaySettlement:
        fresh = replace(path)  # nothing worked out before
        return settle_day(DAY, ZONE, [fresh], version, NO_HOLIDAYS, block_start_wh=0, gap_s=GAP_S)

    return work


def multiplier(path: MeterPath) -> Callable[[], int]:
    """The limit: the same readings, each difference times one price, and nothing explained."""
    price = micro_yuan_from_text(PRICE)
    registers = [reading.register_wh for reading in path.readings]

    def at_best() -> int:
        return fen_from_nano_yuan(sum((b - a) * price for a, b in pairwise(registers)))

    return at_best


def results() -> Iterator[Result]:
    """One meter's day, read each minute and each hour, with one price and with four."""
    for readings, pace in ((1_441, "minute"), (25, "hour")):
        for tariff in TARIFFS:
            path = meter_path(readings)
            yield measure(
                f"settle a day read each {pace}, tariff {tariff}",
                "meter days",
                settler(path, tariff),
                "multiply only",
                multiplier(path),
            )
