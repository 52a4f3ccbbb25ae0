"""Projecting, closing, correcting and charging days, and deciding what time alone changes.

A tenancy that fails is put aside: the others of its batch are done without it.
"""

from collections.abc import Sequence

from server.services import corrections, fixed_charges, settlement, supply
from server.services.announce import announce_tenancies
from server.workers.apart import BatchWork, do_batch
from server.workers.context import WorkContext

BATCH = 200


async def settle_readings(context: WorkContext) -> int:
    """One batch of tenancies that have new readings."""
    now = context.clock()

    async def alone(tenancy_id: int) -> Sequence[int]:
        return await settlement.settle_due(now, only=tenancy_id)

    return await _do(
        context,
        BatchWork(
            name="settle",
            together=lambda: settlement.settle_due(now),
            waiting=lambda: settlement.waiting_to_settle(now, settlement.BATCH_MAX),
            alone=alone,
            put_aside=lambda tenancy_id: settlement.put_aside(tenancy_id, now),
        ),
    )


async def decide_supplies(context: WorkContext) -> int:
    """One batch of tenancies whose quiet hours end, whose notices mature, and the like."""
    now = context.clock()

    async def alone(tenancy_id: int) -> Sequence[int]:
        await supply.decide_now([tenancy_id], now)
        return [tenancy_id]

    return await _do(
        context,
        BatchWork(
            name="decide",
            together=lambda: supply.decide_due(now, limit=BATCH),
            waiting=lambda: supply.waiting_for_decision(now, BATCH),
            alone=alone,
            put_aside=lambda tenancy_id: supply.put_off(tenancy_id, now),
        ),
    )


async def close_ready_days(context: WorkContext) -> int:
    """One day of every tenancy that is ready."""
    now = context.clock()

    async def together() -> Sequence[int]:
        return await settlement.close_next_days(await settlement.closable(now, BATCH), now)

    return await _do(
        context,
        BatchWork(
            name="close_days",
            together=together,
            waiting=lambda: settlement.closable(now, BATCH),
            alone=lambda tenancy_id: settlement.close_next_days([tenancy_id], now),
            put_aside=lambda tenancy_id: settlement.put_closing_aside(tenancy_id, now),
        ),
    )


async def charge_fixed_days(context: WorkContext) -> int:
    """The past days' fixed charges of a batch of tenancies."""
    now = context.clock()

    async def alone(tenancy_id: int) -> Sequence[int]:
        return await fixed_charges.charge_due(now, only=tenancy_id)

    done = await do_batch(
        BatchWork(
            name="fixed_charges",
            together=lambda: fixed_charges.charge_due(now, limit=BATCH),
            waiting=lambda: fixed_charges.waiting_to_charge(now, BATCH),
            alone=alone,
            put_aside=lambda tenancy_id: fixed_charges.put_charging_aside(tenancy_id, now),
        )
    )
    return len(done)


async def correct_days(context: WorkContext) -> int:
    """A month of closed days of each of a batch of tenancies whose readings changed since."""
    now = context.clock()

    async def alone(tenancy_id: int) -> Sequence[int]:
        return await corrections.correct_due(now, only=tenancy_id)

    return await _do(
        context,
        BatchWork(
            name="correct",
            together=lambda: corrections.correct_due(now),
            waiting=lambda: corrections.waiting_to_correct(now, corrections.BATCH_MAX),
            alone=alone,
            put_aside=lambda tenancy_id: corrections.put_aside(tenancy_id, now),
        ),
    )


async def _do(context: WorkContext, work: BatchWork) -> int:
    done = await do_batch(work)
    await announce_tenancies(context.wakeups, done)
    return len(done)
