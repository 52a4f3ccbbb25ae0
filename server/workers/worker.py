"""The worker role: which loops run, and which jobs are rung for."""

import asyncio
from datetime import timedelta
from functools import partial

from server.services.holidays import learn_holidays
from server.services.jobs import forget_old_slots
from server.services.readings import make_months_ahead
from server.services.wakeups import INBOX, OUTBOX, SETTLE
from server.workers.bell import TimedJob, ring
from server.workers.context import WorkContext
from server.workers.garbage import search_less
from server.workers.inbox import query_alipay, query_wechat, settle_notices
from server.workers.loop import keep_doing
from server.workers.notices import send_messages
from server.workers.reconcile import CRONTAB, EVERY, NAME, reconcile
from server.workers.refunds import ask_for_refunds
from server.workers.settle import (
    charge_fixed_days,
    close_ready_days,
    correct_days,
    decide_supplies,
    settle_readings,
)
from server.workers.shipping import tell_shipments

CLOSE_EVERY = CHARGE_EVERY = timedelta(minutes=1)


async def run_worker(context: WorkContext) -> None:
    """Run every loop of the role until cancelled."""
    search_less()
    wakeups = context.wakeups
    async with asyncio.TaskGroup() as group:
        for name, step, topics in (
            ("inbox", settle_notices, [INBOX]),
            ("queries_wechat", query_wechat, []),
            ("queries_alipay", query_alipay, []),
            ("refunds", ask_for_refunds, []),
            ("settle", settle_readings, [SETTLE]),
            ("correct", correct_days, []),
            ("decide", decide_supplies, []),
            ("outbox", send_messages, [OUTBOX]),
            ("shipping", tell_shipments, []),
        ):
            group.create_task(keep_doing(name, partial(step, context), wakeups, topics))
        group.create_task(ring(_jobs(context), context.clock))


def _jobs(context: WorkContext) -> list[TimedJob]:
    async def close() -> None:
        while await close_ready_days(context):
            await context.wakeups.tell(OUTBOX)

    async def charge() -> None:
        while await charge_fixed_days(context):
            pass

    async def forget() -> None:
        await forget_old_slots(context.clock())

    async def learn() -> None:
        await learn_holidays(context.clock())

    async def make_months() -> None:
        await make_months_ahead(context.clock())

    return [
        TimedJob("months_ahead", "7 5 * * *", timedelta(days=1), make_months),
        TimedJob("close_days", "* * * * *", CLOSE_EVERY, close),
        TimedJob("fixed_charges", "* * * * *", CHARGE_EVERY, charge),
        TimedJob("holidays", "27 * * * *", timedelta(hours=1), learn),
        TimedJob("forget_slots", "17 3 * * *", timedelta(days=1), forget),
        TimedJob(NAME, CRONTAB, EVERY, partial(reconcile, context)),
    ]
