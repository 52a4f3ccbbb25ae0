"""The collector's side of supply: what is to be done on a bus, may it still, how did it end.

A disconnection is decided once more at the head of the bus queue, on a fresh reading and under
the tenancy's lock, and committed before the write (design, decision 7). The write itself is noted
as unanswered before it is made: a kill in between leaves a doubt, which a read-back ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.core.supply.control_state import ControlState
from server.core.supply.events import Event, read_back, write_answered, write_unanswered
from server.core.supply.policy import Decision, check_cut
from server.core.supply.state import ActionKind, MeterControl, next_action, shown_state, step
from server.models.database import Connection, Row, pool, row, rows, transaction
from server.services.balances import balances
from server.services.leases import holds_lease
from server.services.locks import lock_tenancies
from server.services.meter_controls import (
    CONTROL_OF_METER,
    CONTROLS_OF_SHOPS,
    control_of,
    save_control,
)
from server.services.readings import NewReading, ensure_months, keep_within
from server.services.settlement import project_within
from server.services.site_rules import site_rules
from server.services.supply import TENANCIES, decide_within, supply_facts

PENDING = """
SELECT control.meter_id, meter.gateway_id, meter.code FROM meter_control control
JOIN meter ON meter.id = control.meter_id
WHERE control.next_action_at <= $2 AND meter.gateway_id = ANY($1::bigint[])
  AND NOT control.meter_id = ANY($3::bigint[])
ORDER BY control.next_action_at LIMIT 500
"""
TENANCY_OF_METER = """
SELECT tenancy.id, meter.site_id FROM meter
LEFT JOIN tenancy ON tenancy.shop_id = meter.shop_id AND tenancy.closed_at IS NULL
WHERE meter.id = $1
"""
# Of these read-backs, the ones that tell something: most polls find the relay as it was.
NEWS = """
SELECT control.meter_id FROM unnest($1::bigint[], $2::text[]) AS seen (meter_id, state)
JOIN meter_control control ON control.meter_id = seen.meter_id
JOIN meter ON meter.id = control.meter_id
WHERE control.next_action_at <= $3
   OR control.confirmed IS DISTINCT FROM seen.state AND NOT (control.permitted
      AND control.confirmed = 'ready_for_reconnection' AND seen.state = 'disconnected')
   OR seen.state = 'connected' AND EXISTS (
      SELECT 1 FROM tenancy JOIN top_up ON top_up.tenancy_id = tenancy.id
      WHERE tenancy.shop_id = meter.shop_id AND tenancy.closed_at IS NULL
        AND top_up.credited_at IS NOT NULL AND top_up.confirmed_at IS NULL)
"""
DUE_OF = "DELETE FROM settlement_due WHERE tenancy_id = $1 RETURNING first_day"
COMMANDED = """
UPDATE top_up SET commanded_at = $2 WHERE tenancy_id = $1 AND credited_at IS NOT NULL
  AND commanded_at IS NULL AND confirmed_at IS NULL
"""
CONFIRMED = """
UPDATE top_up SET confirmed_at = $2 WHERE tenancy_id = $1 AND credited_at IS NOT NULL
  AND confirmed_at IS NULL
"""
LOOK_AGAIN = "UPDATE meter_control SET next_action_at = $2 WHERE meter_id = $1"
REFUSED_FOR = timedelta(minutes=5)  # a cut refused by the policy, which names no instant


@dataclass(frozen=True, slots=True)
class PendingControl:
    """A meter on whose bus something is to be done for its control."""

    meter_id: int
    gateway_id: int
    meter_code: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the collector's report changed, for whoever watches."""

    control: MeterControl
    tenancy_id: int | None


async def pending_controls(
    gateway_ids: Sequence[int], now: datetime, *, but: Sequence[int] = ()
) -> list[PendingControl]:
    """The meters of these gateways that wait for a write or a read-back, without those of `but`.

    Meters that are mute wait for ever: left in, they would hide the others behind the limit.
    """
    found = await rows(pool(), PENDING, list(gateway_ids), now, list(but))
    return [PendingControl(one["meter_id"], one["gateway_id"], one["code"]) for one in found]


async def news(states: Mapping[int, ControlState], now: datetime) -> list[int]:
    """The meters whose read-back is worth a `record`."""
    values = [state.value for state in states.values()]
    return [one["meter_id"] for one in await rows(pool(), NEWS, list(states), values, now)]


async def wished_action(meter_id: int, now: datetime) -> ActionKind:
    """What is to be done with a meter's relay now."""
    found = await row(
        pool(), "SELECT control.* FROM meter_control control WHERE meter_id = $1", meter_id
    )
    return ActionKind.NONE if found is None else next_action(control_of(found), now).kind


async def authorise(
    meter_id: int, wanted: ControlState, reading: NewReading, found: ControlState, now: datetime
) -> bool:
    """Whether the write may be made now; if so it is noted, committed, as not answered yet.

    `reading` and the relay's state `found` are fresh from the head of the bus queue.
    """
    await ensure_months("reading", {reading.read_at})
    async with transaction() as connection:
        if not await holds_lease(connection, meter_id, reading.epoch):
            return False
        tenancy = await row(connection, TENANCY_OF_METER, meter_id)
        tenancy_id = tenancy["id"] if tenancy else None
        await keep_within(connection, [reading], now)
        if tenancy_id is not None:
            await _settle_and_decide(connection, tenancy_id, now)
        control = await _control(connection, meter_id)
        if control is None:
            return False
        before, control = control, step(control, read_back(found), now)
        if not _is_wished(control, wanted, now):
            seen_at = None if control.confirmed is before.confirmed else now
            await save_control(connection, meter_id, control, now, confirmed_at=seen_at)
            return False
        if wanted is ControlState.DISCONNECTED and not control.hold:
            cut = await _check_cut(connection, tenancy_id, now)
            if cut is None or cut.desired is not ControlState.DISCONNECTED:
                await save_control(connection, meter_id, control, now)
                again = cut and cut.decide_again_at
                await rows(connection, LOOK_AGAIN, meter_id, again or now + REFUSED_FOR)
                return False
        control = step(control, write_unanswered(wanted), now)
        if wanted is ControlState.CONNECTED and tenancy_id is not None:
            await rows(connection, COMMANDED, tenancy_id, now)
        await save_control(connection, meter_id, control, now)
        return True


async def _settle_and_decide(connection: Connection, tenancy_id: int, now: datetime) -> None:
    """Bring a tenancy's open days and its decision up to its newest reading.

    Locks in the settling worker's order, or the two would wait for each other.
    """
    due = await row(connection, DUE_OF, tenancy_id)
    await lock_tenancies(connection, [tenancy_id])
    if due is None:
        await decide_within(connection, [tenancy_id], now)
        return
    first_days = {tenancy_id: due["first_day"]}
    while first_days:
        first_days = await project_within(connection, first_days, now)


def _is_wished(control: MeterControl, wanted: ControlState, now: datetime) -> bool:
    kind = next_action(control, now).kind
    if wanted is ControlState.CONNECTED:
        return kind is ActionKind.RECONNECT
    return kind is ActionKind.DISCONNECT


async def _check_cut(
    connection: Connection, tenancy_id: int | None, now: datetime
) -> Decision | None:
    """Whether a new disconnection is allowed at this instant, by the policy itself."""
    if tenancy_id is None:
        return None
    tenancy = (await rows(connection, TENANCIES, [tenancy_id]))[0]
    rules = await site_rules(connection, tenancy["site_id"])
    found = await rows(connection, CONTROLS_OF_SHOPS, [tenancy["shop_id"]])
    owned = (await balances(connection, [tenancy_id]))[tenancy_id]
    facts = supply_facts(tenancy, owned, [control_of(one) for one in found], rules, now)
    policy = rules.policies[tenancy["supply_policy_code"]]
    return check_cut(policy, facts)


async def _control(connection: Connection, meter_id: int) -> MeterControl | None:
    found = await row(connection, CONTROL_OF_METER, meter_id)
    return None if found is None else control_of(found)


async def record(
    meter_id: int,
    epoch: int,
    now: datetime,
    *,
    written: ControlState | None,
    found: ControlState | None,
) -> Recorded | None:
    """What a bus job showed: `written` was answered, `found` was read back; None: epoch stale.

    Readings' read-backs come this way too, with nothing written.
    """
    async with transaction() as connection:
        if not await holds_lease(connection, meter_id, epoch):
            return None
        tenancy = await row(connection, TENANCY_OF_METER, meter_id)
        tenancy_id = tenancy["id"] if tenancy else None
        if tenancy_id is not None:
            await lock_tenancies(connection, [tenancy_id])
        before = await row(connection, CONTROL_OF_METER, meter_id)
        if before is None:
            return None
        control = _stepped(control_of(before), written, found, now)
        await _save(connection, before, control, found, now)
        if tenancy_id is not None and control != control_of(before):
            await decide_within(connection, [tenancy_id], now)  # notices of what is shown
        if tenancy_id is not None and found is ControlState.CONNECTED:
            await _confirm_top_ups(connection, tenancy_id, before["shop_id"], now)
        return Recorded(control, tenancy_id)


def _stepped(
    control: MeterControl,
    written: ControlState | None,
    found: ControlState | None,
    now: datetime,
) -> MeterControl:
    events: list[Event] = []
    if written is not None:
        events.append(write_answered(written))
    if found is not None:
        events.append(read_back(found))
    for event in events:
        control = step(control, event, now)
    return control


async def _save(
    connection: Connection,
    before: Row,
    control: MeterControl,
    found: ControlState | None,
    now: datetime,
) -> None:
    """Write only what says something new: ordinary polls mostly do not."""
    commanded_at, confirmed_at = control.commanded_at, before["confirmed_at"]
    proves = found is not None and (
        confirmed_at is None or (commanded_at is not None and confirmed_at < commanded_at)
    )
    changed = control != control_of(before)
    if changed or proves:
        at = now if found is not None else None
        await save_control(connection, before["meter_id"], control, now, confirmed_at=at)
    elif before["next_action_at"] is not None and before["next_action_at"] <= now:
        await save_control(connection, before["meter_id"], control, now)


async def _confirm_top_ups(
    connection: Connection, tenancy_id: int, shop_id: int, now: datetime
) -> None:
    """The last tick of a top-up: every relay of the shop was read back connected since."""
    found = await rows(connection, CONTROLS_OF_SHOPS, [shop_id])
    if shown_state(control_of(one) for one in found) is ControlState.CONNECTED:
        await rows(connection, CONFIRMED, tenancy_id, now)
