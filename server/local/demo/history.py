"""A month before the demo began: what the meters showed, and when the shops paid at the desk."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import accumulate

from server.core.errors import InvalidInputError
from server.devices.simulator.load import SLOT_US, WATT_US_PER_WH, noise, spans
from server.local.demo.blueprint import Mall, Meter, Shop

DAYS = 30
SLOT = timedelta(microseconds=SLOT_US)
SHOWN_WH = 10  # the demo's meters show hundredths of a kWh
HUNDRED_YUAN_FEN = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PERMILLE = 1_000
_DESK_OPENS_AT, _DESK_HOURS = 10, 10
_FEWEST_TOP_UPS = 2


@dataclass(frozen=True, slots=True)
class PastReading:
    """What a meter showed: its own register, before the transformer ratio is applied."""

    meter: str
    read_at: datetime
    register_wh: int


@dataclass(frozen=True, slots=True)
class PlannedTopUp:
    """A payment at the desk."""

    shop: str
    paid_at: datetime
    amount_fen: int


def history_start(mall: Mall, now: datetime, days: int = DAYS) -> datetime:
    """The local midnight with which the history begins."""
    local = now.astimezone(mall.zone)
    return datetime.combine(local.date() - timedelta(days=days), time(), mall.zone)


def past_readings(
    mall: Mall, meter: Meter, start: datetime, now: datetime, every: timedelta = SLOT
) -> tuple[PastReading, ...]:
    """Readings from `start` on (local midnight), `every` so often, and one at `now`.

    Midnights and the borders of price periods lie on quarters of an hour, so none is missed.
    """
    if every < SLOT or every % SLOT:
        raise InvalidInputError("readings are whole quarters of an hour apart")
    moments, counted = _counted(mall, meter, start, now)
    wanted = every // SLOT
    last = len(moments) - 1
    return tuple(
        PastReading(meter.code, moment, _register_wh(meter, counted[i]) // SHOWN_WH * SHOWN_WH)
        for i, moment in enumerate(moments)
        if i % wanted == 0 or i == last
    )


def registers_at(mall: Mall, start: datetime, now: datetime) -> dict[str, int]:
    """The register of every meter at `now`: where the simulators go on."""
    return {
        meter.code: _register_wh(meter, _counted(mall, meter, start, now)[1][-1])
        for meter in mall.meters
    }


def _counted(
    mall: Mall, meter: Meter, start: datetime, now: datetime
) -> tuple[list[datetime], list[int]]:
    """Each quarter of an hour from `start` and `now`, with the exact energy counted until then."""
    if (start - _EPOCH) % SLOT:
        raise InvalidInputError("a history starts at a quarter of an hour")
    by_load = [
        [span.watt_us for span in spans(load, start, now, mall.zone)]
        for load in mall.loads_behind(meter)
    ]
    with_losses = _PERMILLE + meter.loss_permille
    steps = [sum(parts) * with_losses // _PERMILLE for parts in zip(*by_load, strict=True)]
    counted = list(accumulate(steps, initial=0))
    begin, end = start.astimezone(UTC), now.astimezone(UTC)
    moments = [min(begin + i * SLOT, end) for i in range(len(counted))]
    return moments, counted


def _register_wh(meter: Meter, counted_watt_us: int) -> int:
    return meter.start_wh + counted_watt_us // (WATT_US_PER_WH * meter.ratio)


def top_up_plan(
    mall: Mall, shop: Shop, cost_until_now_fen: int, start: datetime, now: datetime
) -> tuple[PlannedTopUp, ...]:
    """Payments in whole hundreds of yuan that cover what a shop used since `start`.

    Afterwards it has about `days_left` days left. The nearly empty shop's plan stays below its
    cost: whoever loads the demo adds one at `last_top_up_at` with the exact rest.
    """
    days = (now - start) // timedelta(days=1)
    count = _count_top_ups(shop)
    if days < count:
        raise InvalidInputError(f"{count} payments need as many days")
    nearly_empty = shop.code == mall.nearly_empty_shop
    margin_fen = cost_until_now_fen * shop.days_left // days
    plan: list[PlannedTopUp] = []
    paid_fen = 0
    for i in range(count - 1 if nearly_empty else count):
        target_fen = cost_until_now_fen * (i + 1) // count + margin_fen
        hundreds = target_fen // HUNDRED_YUAN_FEN + (0 if nearly_empty else 1)
        amount_fen = hundreds * HUNDRED_YUAN_FEN - paid_fen
        if amount_fen > 0:
            paid_at = _at_the_desk(mall, shop, start, i * days // count)
            plan.append(PlannedTopUp(shop.code, paid_at, amount_fen))
            paid_fen += amount_fen
    return tuple(plan)


def last_top_up_at(mall: Mall, shop: Shop, start: datetime, now: datetime) -> datetime:
    """When the nearly empty shop paid for the last time: the turn that its plan leaves out."""
    count = _count_top_ups(shop)
    days = (now - start) // timedelta(days=1)
    return _at_the_desk(mall, shop, start, (count - 1) * days // count)


def _count_top_ups(shop: Shop) -> int:
    return _FEWEST_TOP_UPS + int(shop.binding_code) % 3


def _at_the_desk(mall: Mall, shop: Shop, start: datetime, day: int) -> datetime:
    """Some minute of the desk's hours on the day-th local day."""
    date = start.astimezone(mall.zone).date() + timedelta(days=day)
    half = _DESK_HOURS * 60 // 2
    minutes = half + noise(int(shop.binding_code), day, half - 1)
    return datetime.combine(date, time(_DESK_OPENS_AT), mall.zone) + timedelta(minutes=minutes)
