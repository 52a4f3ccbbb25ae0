"""A day's bars: whole units, stacked to their sum, never above the scale."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from server.handlers.charts import BASE, PERIODS, TOP, day_chart
from server.services.usage import UsagePoint

START = datetime(2026, 5, 19, 16, tzinfo=UTC)  # midnight in Shanghai


def _point(hour: int, by_period: dict[str, int]) -> UsagePoint:
    energy_wh = sum(by_period.values())
    return UsagePoint(START + timedelta(hours=hour), energy_wh, 7, by_period, estimated=False)


def test_an_hour_is_where_the_malls_clock_says() -> None:
    chart = day_chart([_point(0, {"valley": 100}), _point(18, {"sharp": 200})], "Asia/Shanghai")
    assert [bar.hour for bar in chart.bars] == ["00:00", "18:00"]
    assert [(part.period, part.y, part.height) for part in chart.bars[1].segments] == [
        ("sharp", TOP, BASE - TOP)
    ]
    assert chart.periods == ("sharp", "valley")
    assert chart.top_wh == 200


def test_a_price_without_periods_has_bars_too() -> None:
    point = UsagePoint(START, 200, 7, {}, estimated=False)
    chart = day_chart([point], "Asia/Shanghai")
    assert [part.period for part in chart.bars[0].segments] == ["single"]


def test_a_day_without_usage_has_a_scale_and_no_bars() -> None:
    chart = day_chart([_point(0, {})], "Asia/Shanghai")
    assert chart.top_wh > 0
    assert chart.bars[0].segments == ()


@given(
    st.lists(
        st.dictionaries(st.sampled_from(PERIODS[:-1]), st.integers(0, 10_000_000)), max_size=24
    )
)
def test_bars_stay_inside_and_parts_touch(hours: list[dict[str, int]]) -> None:
    points = [_point(hour, by_period) for hour, by_period in enumerate(hours)]
    for bar in day_chart(points, "Asia/Shanghai").bars:
        floor = BASE
        for part in bar.segments:
            assert part.y + part.height == floor
            floor = part.y
        assert floor >= TOP
