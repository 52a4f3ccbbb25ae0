"""A day's bars as whole units of an SVG: no script draws them, and a table stands behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from server.services.usage import UsagePoint

WIDTH, HEIGHT, TOP, BASE = 480, 170, 20, 148
SLOT = WIDTH // 24
# dearest first; what has no period (a flat price) is drawn as `single`
PERIODS = ("sharp", "peak", "flat", "valley", "deep_valley", "single")
STEPS_WH = (100, 200, 500)


@dataclass(frozen=True, slots=True)
class Segment:
    """One period's part of a bar."""

    period: str
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour: its place, its parts from the bottom up, and its row of the table."""

    hour: str
    x: int
    segments: tuple[Segment, ...]
    energy_wh: int
    amount_fen: int


@dataclass(frozen=True, slots=True)
class DayChart:
    """A day's hours; `top_wh` is the height of the scale, `periods` those that occur."""

    bars: tuple[Bar, ...]
    top_wh: int
    periods: tuple[str, ...]
    width: int = WIDTH
    height: int = HEIGHT
    top: int = TOP
    base: int = BASE
    bar_width: int = SLOT - 5


def day_chart(points: Sequence[UsagePoint], timezone: str) -> DayChart:
    """The chart of a day's hourly usage."""
    zone = ZoneInfo(timezone)
    top_wh = _round_up(max((point.energy_wh for point in points), default=0))
    bars = tuple(_bar(point, zone, top_wh) for point in points[:25])
    seen = {segment.period for bar in bars for segment in bar.segments}
    return DayChart(bars, top_wh, tuple(period for period in PERIODS if period in seen))


def _bar(point: UsagePoint, zone: ZoneInfo, top_wh: int) -> Bar:
    local: datetime = point.start.astimezone(zone)
    split = {**point.by_period, "single": point.energy_wh - sum(point.by_period.values())}
    segments, filled_wh = [], 0
    for period in reversed(PERIODS):
        energy_wh = max(split.get(period, 0), 0)
        low, high = (
            (BASE - TOP) * filled_wh // top_wh,
            (BASE - TOP) * (filled_wh + energy_wh) // top_wh,
        )
        if high > low:
            segments.append(Segment(period, BASE - high, high - low))
        filled_wh += energy_wh
    x = local.hour * SLOT + 3
    return Bar(f"{local:%H:%M}", x, tuple(segments), point.energy_wh, point.amount_fen)


def _round_up(energy_wh: int) -> int:
    """The next round figure, so that the scale can be read."""
    scale = 1
    while True:
        for step in STEPS_WH:
            if energy_wh <= step * scale:
                return step * scale
        scale *= 10
