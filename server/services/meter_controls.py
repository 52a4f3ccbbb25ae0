"""A meter's control as core's frozen value, read under lock and written back.

Lock order: tenancy, meter_control (docs/locks.md).
"""

from collections.abc import Mapping
from dataclasses import fields as fields_of
from datetime import datetime

from server.core.supply.control_state import ControlState
from server.core.supply.state import ActionKind, Case, MeterControl, next_action
from server.models.database import Connection, Row, rows

CONTROLS_OF_SHOPS = """
SELECT control.*, meter.shop_id, meter.gateway_id, meter.code
FROM meter_control control JOIN meter ON meter.id = control.meter_id
WHERE meter.shop_id = ANY($1::bigint[]) AND meter.role = 'shop'
ORDER BY control.meter_id FOR NO KEY UPDATE OF control
"""
CONTROL_OF_METER = """
SELECT control.*, meter.shop_id, meter.gateway_id, meter.code
FROM meter_control control JOIN meter ON meter.id = control.meter_id
WHERE control.meter_id = $1 FOR NO KEY UPDATE OF control
"""
SAVE_CONTROLS = """
UPDATE meter_control SET policy_state = saved.policy_state, commanded = saved.commanded,
    commanded_at = saved.commanded_at, confirmed = saved.confirmed,
    answered_writes = saved.answered_writes, unanswered_writes = saved.unanswered_writes,
    disconnected_by_us = saved.disconnected_by_us, case_code = saved.case_code,
    retry_at = saved.retry_at, read_back_at = saved.read_back_at,
    reconnected_at = saved.reconnected_at, permit_only = saved.permit_only,
    permitted = saved.permitted, next_action_at = saved.next_action_at,
    confirmed_at = coalesce($16, meter_control.confirmed_at)
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::int[],
            $7::int[], $8::boolean[], $9::text[], $10::timestamptz[], $11::timestamptz[],
            $12::timestamptz[], $13::boolean[], $14::boolean[], $15::timestamptz[])
    AS saved (meter_id, policy_state, commanded, commanded_at, confirmed, answered_writes,
              unanswered_writes, disconnected_by_us, case_code, retry_at, read_back_at,
              reconnected_at, permit_only, permitted, next_action_at)
WHERE meter_control.meter_id = saved.meter_id
"""
# Whoever locks several controls does it in the order of meters.
PERMIT_ONLY = """
WITH changed AS (
    SELECT control.meter_id, told.permit_only
    FROM unnest($1::bigint[], $2::boolean[]) AS told (meter_id, permit_only)
    JOIN meter_control control ON control.meter_id = told.meter_id
    WHERE control.permit_only <> told.permit_only
    ORDER BY control.meter_id FOR NO KEY UPDATE OF control
)
UPDATE meter_control SET permit_only = changed.permit_only FROM changed
WHERE meter_control.meter_id = changed.meter_id
"""
_PLAIN = frozenset({"hold", "case"})
_STATES = frozenset({"policy_state", "commanded", "confirmed"})


def control_of(found: Row) -> MeterControl:
    """A row of meter_control as core's frozen value."""
    values = {
        field.name: found[field.name]
        for field in fields_of(MeterControl)
        if field.name not in _PLAIN
    }
    for name in _STATES:
        values[name] = None if values[name] is None else ControlState(values[name])
    case = found["case_code"]
    return MeterControl(
        **values, hold=found["hold_reason"] is not None, case=None if case is None else Case(case)
    )


async def save_control(
    connection: Connection,
    meter_id: int,
    control: MeterControl,
    now: datetime,
    *,
    confirmed_at: datetime | None = None,
) -> None:
    """Write a control back, with when the collector has to look at it again."""
    await save_controls(connection, {meter_id: control}, now, confirmed_at=confirmed_at)


async def save_controls(
    connection: Connection,
    controls: Mapping[int, MeterControl],
    now: datetime,
    *,
    confirmed_at: datetime | None = None,
) -> None:
    """Write controls back by one statement; `confirmed_at` None: as it was."""
    if not controls:
        return
    columns = zip(*(_columns(one, now) for one in controls.values()), strict=True)
    values = [list(column) for column in columns]
    await rows(connection, SAVE_CONTROLS, list(controls), *values, confirmed_at)


def _columns(control: MeterControl, now: datetime) -> tuple[object, ...]:
    action = next_action(control, now)
    return (
        control.policy_state.value,
        control.commanded and control.commanded.value,
        control.commanded_at,
        control.confirmed and control.confirmed.value,
        control.answered_writes,
        control.unanswered_writes,
        control.disconnected_by_us,
        control.case and control.case.value,
        control.retry_at,
        control.read_back_at,
        control.reconnected_at,
        control.permit_only,
        control.permitted,
        now if action.kind is not ActionKind.NONE else action.wait_until,
    )


async def set_permit_only(connection: Connection, meter_ids: Mapping[int, bool]) -> None:
    """Note which meters only permit closing; their profiles say so, which services never see."""
    await rows(connection, PERMIT_ONLY, list(meter_ids), list(meter_ids.values()))
