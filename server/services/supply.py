"""What each supply should be: decided where its inputs change, in the same transaction.

Locks, in this order: tenancy, meter_control. A manager's disconnection is a hold on the meters.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields as fields_of
from datetime import datetime

from server.core.errors import ConflictError, NotFoundError
from server.core.supply.control_state import ControlState
from server.core.supply.events import Event, held, hold_released, policy_changed
from server.core.supply.notices import (
    NoticeDue,
    NoticeFacts,
    NoticeKind,
    due_notices,
    next_notice_at,
    still_low_fen,
)
from server.core.supply.policy import Decision, SupplyFacts, SupplyPolicy, decide
from server.core.supply.state import (
    ActionKind,
    Case,
    MeterControl,
    next_action,
    shown_state,
    step,
)
from server.models.database import Connection, Row, from_json, rows, to_json, transaction
from server.services.balances import Balances, balances
from server.services.notices import Told, write_notices
from server.services.site_rules import SiteRules, site_rules

TENANCIES = """
SELECT tenancy.id, tenancy.site_id, tenancy.shop_id, tenancy.closed_at, tenancy.supply_state,
       tenancy.overdrawn_since, tenancy.reconnect_confirmed_at, tenancy.emergency_credit_fen,
       tenancy.notice_memory, shop.name AS shop_name, shop.supply_policy_code,
       shop.supply_protection,
       (SELECT CASE WHEN bool_and(status.read_at IS NOT NULL) THEN min(status.read_at) END
        FROM meter JOIN meter_status status ON status.meter_id = meter.id
        WHERE meter.shop_id = tenancy.shop_id AND meter.role = 'shop') AS last_reading_at,
       (SELECT min(delivered_at) FROM notice
        WHERE notice.tenancy_id = tenancy.id AND notice.kind = 'disconnection_pending'
          AND notice.created_at >= tenancy.overdrawn_since) AS notice_delivered_at
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
WHERE tenancy.id = ANY($1::bigint[]) ORDER BY tenancy.id FOR NO KEY UPDATE OF tenancy
"""
CONTROLS_OF_SHOPS = """
SELECT control.*, meter.shop_id, meter.gateway_id, meter.code
FROM meter_control control JOIN meter ON meter.id = control.meter_id
WHERE meter.shop_id = ANY($1::bigint[]) AND meter.role = 'shop'
ORDER BY control.meter_id FOR NO KEY UPDATE OF control
"""
DECIDED = """
UPDATE tenancy SET supply_state = $2::text, supply_reasons = $3::jsonb, supply_decided_at = $4,
    overdrawn_since = $5, decide_again_at = $6, notice_memory = $7::jsonb,
    reconnect_confirmed_at = CASE WHEN $2::text <> 'disconnected' THEN reconnect_confirmed_at END
WHERE id = $1
"""
SAVE_CONTROL = """
UPDATE meter_control SET policy_state = $2, commanded = $3, commanded_at = $4, confirmed = $5,
    answered_writes = $6, unanswered_writes = $7, disconnected_by_us = $8, case_code = $9,
    retry_at = $10, read_back_at = $11, reconnected_at = $12, permit_only = $13, permitted = $14,
    next_action_at = $15, confirmed_at = coalesce($16, confirmed_at)
WHERE meter_id = $1
"""
VALID = """
UPDATE meter_control SET valid_until = $2, decision_version = decision_version + 1
WHERE meter_id = ANY($1::bigint[])
"""
DUE = """
SELECT id FROM tenancy WHERE decide_again_at <= $1 AND closed_at IS NULL
ORDER BY decide_again_at LIMIT $2
"""
HOLD = """
UPDATE meter_control SET hold_reason = $2, hold_by = $3, held_at = $4 WHERE meter_id = $1
"""
ACT = """
INSERT INTO manager_act (site_id, actor, act, subject, reason, facts, at)
VALUES ($1, $2, $3, $4, $5, '{}', $6)
"""
SHOP = "SELECT id FROM shop WHERE site_id = $1 AND code = $2"
METER = """
SELECT meter.id, meter.site_id, meter.gateway_id FROM meter
WHERE meter.site_id = $1 AND meter.code = $2
"""
CONTROL_OF_METER = """
SELECT control.*, meter.shop_id, meter.gateway_id, meter.code
FROM meter_control control JOIN meter ON meter.id = control.meter_id
WHERE control.meter_id = $1 FOR NO KEY UPDATE OF control
"""
_PLAIN = frozenset({"hold", "case"})
_STATES = frozenset({"policy_state", "commanded", "confirmed"})


class NoRelayError(ConflictError):
    """The meter, or every meter of the shop, has no relay to switch."""

    code = "no_relay"


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
    action = next_action(control, now)
    look_at = now if action.kind is not ActionKind.NONE else action.wait_until
    await rows(
        connection,
        SAVE_CONTROL,
        meter_id,
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
        look_at,
        confirmed_at,
    )


async def decide_due(now: datetime, *, limit: int = 200) -> list[int]:
    """Decide anew where time alone may have changed the answer; the tenancies looked at."""
    async with transaction() as connection:
        due = [one["id"] for one in await rows(connection, DUE, now, limit)]
        await decide_within(connection, due, now)
        return due


async def decide_within(
    connection: Connection, tenancy_ids: Sequence[int], now: datetime
) -> dict[int, Decision]:
    """Decide these tenancies' supplies and pass the wish on to their meters and notices."""
    if not tenancy_ids:
        return {}
    tenancies = await rows(connection, TENANCIES, sorted(tenancy_ids))
    owned = await balances(connection, tenancy_ids)
    found = await rows(connection, CONTROLS_OF_SHOPS, [one["shop_id"] for one in tenancies])
    controls: dict[int, dict[int, MeterControl]] = {}
    for one in found:
        controls.setdefault(one["shop_id"], {})[one["meter_id"]] = control_of(one)
    decisions = {}
    for tenancy in tenancies:
        rules = await site_rules(connection, tenancy["site_id"])
        policy = rules.policies[tenancy["supply_policy_code"]]
        meters = controls.get(tenancy["shop_id"], {}) if tenancy["closed_at"] is None else {}
        facts = supply_facts(tenancy, owned[tenancy["id"]], meters.values(), rules, now)
        decision = decide(policy, facts)
        await _apply(connection, tenancy, policy, facts, decision, meters)
        decisions[tenancy["id"]] = decision
    return decisions


def supply_facts(
    tenancy: Row,
    owned: Balances,
    controls: Iterable[MeterControl],
    rules: SiteRules,
    now: datetime,
) -> SupplyFacts:
    """All that core needs to decide one tenancy's supply."""
    return SupplyFacts(
        available_fen=owned.available_fen,
        now=now,
        zone=rules.zone,
        calendar=rules.calendar,
        last_trusted_reading_at=tenancy["last_reading_at"],
        previous_desired=ControlState(tenancy["supply_state"]),
        cut_commanded=any(one.disconnected_by_us for one in controls),
        overdrawn_since=tenancy["overdrawn_since"],
        emergency_credit_used_fen=tenancy["emergency_credit_fen"],
        supply_protection=tenancy["supply_protection"],
        first_notice_delivered_at=tenancy["notice_delivered_at"],
        tenancy_open=tenancy["closed_at"] is None,
        reconnect_confirmed=tenancy["reconnect_confirmed_at"] is not None,
    )


async def _apply(
    connection: Connection,
    tenancy: Row,
    policy: SupplyPolicy,
    facts: SupplyFacts,
    decision: Decision,
    controls: Mapping[int, MeterControl],
) -> None:
    now = facts.now
    changed = {
        meter_id: step(control, policy_changed(decision.desired), now)
        for meter_id, control in controls.items()
        if control.policy_state is not decision.desired
    }
    for meter_id, control in changed.items():
        await save_control(connection, meter_id, control, now)
    if changed or decision.desired is ControlState.DISCONNECTED:
        await rows(connection, VALID, list(controls), decision.valid_until)
    after = {**controls, **changed}
    rules = await site_rules(connection, tenancy["site_id"])
    notice_facts = _notice_facts(tenancy, facts, decision, after.values())
    dues = due_notices(policy, decision, notice_facts)
    told = Told(tenancy["site_id"], tenancy["id"], tenancy["shop_name"], facts.available_fen)
    await write_notices(connection, rules, told, dues, now)
    again = [decision.decide_again_at, next_notice_at(policy, decision, notice_facts)]
    await rows(
        connection,
        DECIDED,
        tenancy["id"],
        decision.desired.value,
        to_json([reason.value for reason in decision.reasons]),
        now,
        decision.overdrawn_since,
        min((at for at in again if at is not None), default=None),
        to_json(_remember(notice_facts, dues)),
    )


def _notice_facts(
    tenancy: Row, facts: SupplyFacts, decision: Decision, controls: Iterable[MeterControl]
) -> NoticeFacts:
    memory = from_json(tenancy["notice_memory"])
    pending = memory.get("pending_sent_minutes", []) if decision.overdrawn_since else []
    return NoticeFacts(
        available_fen=facts.available_fen,
        now=facts.now,
        low_sent_fen=frozenset(memory.get("low_sent_fen", [])),
        pending_sent_minutes=frozenset(pending),
        shown=shown_state(controls),
        told=ControlState(memory.get("told", ControlState.CONNECTED)),
    )


def _remember(facts: NoticeFacts, dues: Sequence[NoticeDue]) -> dict[str, object]:
    """What is told by now, for the next time."""
    low = set(still_low_fen(facts.available_fen, facts.low_sent_fen))
    pending = set(facts.pending_sent_minutes)
    told = facts.told
    for due in dues:
        if due.kind is NoticeKind.LOW_BALANCE:
            low |= set(due.covers)
        elif due.kind is NoticeKind.DISCONNECTION_PENDING:
            pending |= set(due.covers)
        else:
            told = facts.shown or told
    return {
        "low_sent_fen": sorted(low),
        "pending_sent_minutes": sorted(pending),
        "told": told.value,
    }


async def hold_shop(
    site_id: int, shop_code: str, *, actor: str, reason: str, now: datetime
) -> list[int]:
    """A manager disconnects a shop until a manager ends it; the gateways to wake."""
    return await _switch_shop(site_id, shop_code, held(), actor=actor, reason=reason, now=now)


async def release_shop(
    site_id: int, shop_code: str, *, actor: str, reason: str, now: datetime
) -> list[int]:
    """A manager ends a hold, or closes what others opened; the gateways to wake."""
    return await _switch_shop(
        site_id, shop_code, hold_released(), actor=actor, reason=reason, now=now
    )


async def _switch_shop(
    site_id: int, shop_code: str, event: Event, *, actor: str, reason: str, now: datetime
) -> list[int]:
    async with transaction() as connection:
        shops = await rows(connection, SHOP, site_id, shop_code)
        if not shops:
            raise NotFoundError(f"no shop {shop_code}")
        found = await rows(connection, CONTROLS_OF_SHOPS, [shops[0]["id"]])
        if not found:
            raise NoRelayError(f"no meter of {shop_code} has a relay")
        for one in found:
            await _switch(connection, one, event, actor=actor, reason=reason, now=now)
        act = "disconnect" if event == held() else "reconnect"
        await rows(connection, ACT, site_id, actor, act, f"shop:{shop_code}", reason, now)
        return sorted({one["gateway_id"] for one in found})


async def switch_meter(
    site_id: int, meter_code: str, *, disconnect: bool, actor: str, reason: str, now: datetime
) -> tuple[int, int]:
    """Hold one meter disconnected, or end that; its id and its gateway's."""
    async with transaction() as connection:
        meters = await rows(connection, METER, site_id, meter_code)
        if not meters:
            raise NotFoundError(f"no meter {meter_code}")
        found = await rows(connection, CONTROL_OF_METER, meters[0]["id"])
        if not found:
            raise NoRelayError(f"meter {meter_code} has no relay")
        event = held() if disconnect else hold_released()
        await _switch(connection, found[0], event, actor=actor, reason=reason, now=now)
        act = "disconnect" if disconnect else "reconnect"
        await rows(connection, ACT, site_id, actor, act, f"meter:{meter_code}", reason, now)
        return meters[0]["id"], meters[0]["gateway_id"]


async def _switch(
    connection: Connection, found: Row, event: Event, *, actor: str, reason: str, now: datetime
) -> None:
    control = step(control_of(found), event, now)
    hold = (reason[:200] or "-", actor[:64], now) if control.hold else (None, None, None)
    await rows(connection, HOLD, found["meter_id"], *hold)
    await save_control(connection, found["meter_id"], control, now)
