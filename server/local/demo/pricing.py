"""What the demo's energy costs: arithmetic to plan payments with, not the product's rating."""

from datetime import datetime, timedelta

from server.core.money import NANO_YUAN_PER_FEN, fen_from_nano_yuan, micro_yuan_from_text
from server.devices.simulator.load import WATT_US_PER_WH, spans
from server.local.demo.blueprint import Mall, Shop

EMPTY_AFTER = timedelta(seconds=100)
# The simulators start some moments after the balance is computed, maybe beyond a change of price.
LATER_STARTS = tuple(timedelta(seconds=seconds) for seconds in range(0, 101, 10))
LEAST_LEFT_FEN = 1


def cost_nano_yuan(mall: Mall, shop: Shop, start: datetime, end: datetime) -> int:
    """What a shop's meters cost between two moments by its tariff."""
    tariff = mall.tariff(shop.tariff)
    prices = [micro_yuan_from_text(tariff.price_text_at(hour)) for hour in range(24)]
    priced = sum(
        span.watt_us * prices[span.local_hour]
        for meter in mall.meters_of(shop)
        for load in meter.loads
        for span in spans(load, start, end, mall.zone)
    )
    return priced // WATT_US_PER_WH


def cost_fen(mall: Mall, shop: Shop, start: datetime, end: datetime) -> int:
    """The same in fen, half up."""
    return fen_from_nano_yuan(cost_nano_yuan(mall, shop, start, end))


def nearly_empty_balance_fen(mall: Mall, now: datetime, lasts: timedelta = EMPTY_AFTER) -> int:
    """What the nearly empty shop should have left now, so that its load has used it up in time.

    The least over the starts that are likely: just before a cheaper period the money would
    otherwise last twice as long.
    """
    shop = mall.shop(mall.nearly_empty_shop)
    least = min(
        cost_nano_yuan(mall, shop, now + later, now + later + lasts) for later in LATER_STARTS
    )
    return max(LEAST_LEFT_FEN, least // NANO_YUAN_PER_FEN)
