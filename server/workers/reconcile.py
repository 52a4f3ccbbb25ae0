"""Comparing every day with the platforms' bills, each merchant for itself."""

from datetime import date, timedelta

import structlog
from prometheus_client import Counter

from server.models.database import DatabaseAwayError
from server.services.announce import announce_tenancies
from server.services.reconciliation import due_days, reconcile_day
from server.services.reconciliation_days import Merchant, forget_old_lines, merchants
from server.workers.context import WorkContext
from server.workers.loop import FAILURES

log = structlog.get_logger(__name__)

NAME = "reconcile"
CRONTAB = "3,33 * * * *"  # bills are there from ten on; what failed is tried at the next
EVERY = timedelta(minutes=30)
AWAY_DAYS_MAX = 3  # in a row without an answer: each further one would wait as long in vain

DAYS = Counter(
    "mallwatt_reconciled_days_total", "Days compared with a bill", ["platform", "outcome"]
)


async def reconcile(context: WorkContext) -> None:
    """Every day that is due, of every merchant; who fails holds up nobody else.

    The newest day first: an old one that cannot be had holds up no later one.
    """
    for merchant in await merchants():
        away = 0
        for day in reversed(await due_days(merchant, context.clock())):
            problem = await _reconcile_day(context, merchant, day)
            DAYS.labels(merchant.platform.value, problem or "finished").inc()
            away = away + 1 if problem == "unavailable" else 0
            if away == AWAY_DAYS_MAX:
                break
    await forget_old_lines(context.clock())


async def _reconcile_day(context: WorkContext, merchant: Merchant, day: date) -> str | None:
    try:
        result = await reconcile_day(merchant, day, context.platforms, context.clock)
    except DatabaseAwayError:
        raise
    except Exception:
        FAILURES.labels(NAME).inc()
        log.exception(
            "a day was not reconciled; it is tried again",
            platform=merchant.platform.value,
            merchant=merchant.merchant_id,
            day=day.isoformat(),
        )
        return "failed"
    await announce_tenancies(context.wakeups, result.tenancies)
    return result.problem
