"""A month before the demo began: what the meters showed, and when the shops paid at the desk."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import accumulate

from server.core.errors import InvalidInputError
from server.devices.simulator.load import SLOT_US, WATT_US_PER_WH, noise, spans
from server.local.demo.blueprint import Mall, Meter, Shop

DAYS = 30
SLOT = timedelta(microseconds=SLOT_US)
SHOWN_WH = 10  # the demo's meters show hundredths of a kWh
HUNDRED_YUAN_FEN = 10_000
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
    if (start - datetime.fromtimestamp(0, start.tzinfo)) % SLOT:
        raise InvalidInputError("a history starts at a quarter of an hour")
    by_load = [
        [span.watt_us for span in spans(load, start, now, mall.zone)]
        for load in mall.loads_behind(meter)
    ]
    steps = [sum(parts) * (_PERMILLE + meter.loss_permille) // _PERMILLE for parts in zip(*by_load)]
    counted = list(accumulate(steps, initial=0))
    utc_start = start.astimezone(now.tzinfo)
    moments = [min(utc_start + i * SLOT, now) for i in range(len(counted))]
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
    if days < _FEWEST_TOP_UPS:
        raise InvalidInputError("a history of payments needs some days")
    seed = int(shop.binding_code)
    count = _FEWEST_TOP_UPS + seed % 3
    nearly_empty = shop.code == mall.nearly_empty_shop
    margin_fen = cost_until_now_fen * shop.days_left // days
    plan: list[PlannedTopUp] = []
    paid_fen = 0
    for i in range(count - 1 if nearly_empty else count):
        target_fen = cost_until_now_fen * (i + 1) // count + margin_fen
        hundreds = target_fen // HUNDRED_YUAN_FEN + (0 if nearly_empty else 1)
        amount_fen = hundreds * HUNDRED_YUAN_FEN - paid_fen
        if amount_fen > 0:
            paid_at = _at_the_desk(mall, seed, start + i * days // count * timedelta(days=1))
            plan.append(PlannedTopUp(shop.code, paid_at, amount_fen))
            paid_fen += amount_fen
    return tuple(plan)


def last_top_up_at(mall: Mall, shop: Shop, now: datetime) -> datetime:
    """When the nearly empty shop paid for the last time: a week ago, at the desk."""
    return _at_the_desk(mall, int(shop.binding_code), now - timedelta(days=7))


def _at_the_desk(mall: Mall, seed: int, day: datetime) -> datetime:
    """Some minute of the desk's hours on a local day."""
    local = day.astimezone(mall.zone)
    half = _DESK_HOURS * 60 // 2
    minutes = half + noise(seed, local.toordinal(), half - 1)
    return datetime.combine(local.date(), time(_DESK_OPENS_AT), mall.zone) + timedelta(
        minutes=minutes
    )
