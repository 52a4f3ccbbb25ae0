"""What each supply should be: decided where its inputs change, in the same transaction.

Locks, in this order: tenancy, meter_control (docs/locks.md). A manager's disconnection is a hold
on the meters.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from datetime import datetime, timedelta

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
from server.core.supply.policy import Decision, SupplyFacts, decide
from server.core.supply.state import (
    ActionKind,
    Case,
    MeterControl,
    next_action,
    shown_state,
    step,
)
from server.models.database import Connection, Row, from_json, pool, rows, to_json, transaction
from server.services.balances import Balances, balances
from server.services.locks import lock_tenancies
from server.services.notices import Told, write_notices
from server.services.site_rules import SiteRules, rules_of_sites

TENANCIES = """
SELECT tenancy.id, tenancy.site_id, tenancy.shop_id, tenancy.closed_at, tenancy.supply_state,
       tenancy.overdrawn_since, tenancy.reconnect_confirmed_at, tenancy.emergency_credit_fen,
       tenancy.notice_memory, tenancy.supply_reasons, tenancy.decide_again_at,
       shop.name AS shop_name, shop.supply_policy_code,
       shop.supply_protection,
       (SELECT CASE WHEN bool_and(status.read_at IS NOT NULL) THEN min(status.read_at) END
        FROM meter JOIN meter_status status ON status.meter_id = meter.id
        WHERE meter.shop_id = tenancy.shop_id AND meter.role = 'shop') AS last_reading_at,
       (SELECT min(delivered_at) FROM notice
        WHERE notice.tenancy_id = tenancy.id AND notice.kind = 'disconnection_pending'
          AND notice.created_at >= tenancy.overdrawn_since) AS notice_delivered_at
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
WHERE tenancy.id = ANY($1::bigint[]) ORDER BY tenancy.id
"""
CONTROLS_OF_SHOPS = """
SELECT control.*, meter.shop_id, meter.gateway_id, meter.code
FROM meter_control control JOIN meter ON meter.id = control.meter_id
WHERE meter.shop_id = ANY($1::bigint[]) AND meter.role = 'shop'
ORDER BY control.meter_id FOR NO KEY UPDATE OF control
"""
DECIDED = """
UPDATE tenancy SET supply_state = decided.state, supply_reasons = decided.reasons::jsonb,
    supply_decided_at = $7, overdrawn_since = decided.overdrawn_since,
    decide_again_at = decided.again_at, notice_memory = decided.memory::jsonb,
    reconnect_confirmed_at =
        CASE WHEN decided.state <> 'disconnected' THEN tenancy.reconnect_confirmed_at END
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[])
    AS decided (id, state, reasons, overdrawn_since, again_at, memory)
WHERE tenancy.id = decided.id
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
VALID = """
UPDATE meter_control SET valid_until = valid.until, decision_version = decision_version + 1
FROM unnest($1::bigint[], $2::timestamptz[]) AS valid (meter_id, until)
WHERE meter_control.meter_id = valid.meter_id
"""
DUE = """
SELECT id FROM tenancy WHERE decide_again_at <= $1 AND closed_at IS NULL
ORDER BY decide_again_at, id LIMIT $2
"""
PUT_OFF = "UPDATE tenancy SET decide_again_at = $2 WHERE id = $1 AND decide_again_at <= $3"
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
PUT_OFF_FOR = timedelta(minutes=1)
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


async def decide_due(now: datetime, *, limit: int = 200) -> list[int]:
    """Decide anew where time alone may have changed the answer; the tenancies looked at."""
    due = await waiting_for_decision(now, limit)
    await decide_now(due, now)
    return due


async def waiting_for_decision(now: datetime, limit: int) -> list[int]:
    """The tenancies that are to be decided anew, the longest due first."""
    return [one["id"] for one in await rows(pool(), DUE, now, limit)]


async def decide_now(tenancy_ids: Sequence[int], now: datetime) -> None:
    """Decide these tenancies' supplies, in a transaction of its own."""
    async with transaction() as connection:
        await decide_within(connection, tenancy_ids, now)


async def put_off(tenancy_id: int, now: datetime) -> None:
    """Decide this tenancy later: it failed where others did not."""
    await rows(pool(), PUT_OFF, tenancy_id, now + PUT_OFF_FOR, now)


@dataclass(frozen=True, slots=True)
class _Decided:
    """One tenancy's decision with all that is to be written of it."""

    tenancy: Row
    rules: SiteRules
    facts: SupplyFacts
    decision: Decision
    controls: Mapping[int, MeterControl]
    changed: Mapping[int, MeterControl]
    dues: Sequence[NoticeDue]
    memory: Mapping[str, object]
    again_at: datetime | None


async def decide_within(
    connection: Connection, tenancy_ids: Sequence[int], now: datetime
) -> dict[int, Decision]:
    """Decide these tenancies' supplies and pass the wish on to their meters and notices."""
    if not tenancy_ids:
        return {}
    await lock_tenancies(connection, tenancy_ids)
    tenancies = await rows(connection, TENANCIES, list(tenancy_ids))
    owned = await balances(connection, tenancy_ids)
    rules = await rules_of_sites(connection, {one["site_id"] for one in tenancies})
    controls: dict[int, dict[int, MeterControl]] = {}
    shops = [one["shop_id"] for one in tenancies if one["closed_at"] is None]
    for found in await rows(connection, CONTROLS_OF_SHOPS, shops):
        controls.setdefault(found["shop_id"], {})[found["meter_id"]] = control_of(found)
    decided = []
    for tenancy in tenancies:
        mine = rules[tenancy["site_id"]]
        # whoever moved out has no say over the meters of the shop
        meters = controls.get(tenancy["shop_id"], {}) if tenancy["closed_at"] is None else {}
        facts = supply_facts(tenancy, owned[tenancy["id"]], meters.values(), mine, now)
        decided.append(_decide(tenancy, mine, facts, meters))
    await _apply(connection, decided, now)
    return {one.tenancy["id"]: one.decision for one in decided}


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


def _decide(
    tenancy: Row, rules: SiteRules, facts: SupplyFacts, controls: Mapping[int, MeterControl]
) -> _Decided:
    policy = rules.policies[tenancy["supply_policy_code"]]
    decision = decide(policy, facts)
    changed = {
        meter_id: step(control, policy_changed(decision.desired), facts.now)
        for meter_id, control in controls.items()
        if control.policy_state is not decision.desired
    }
    notice_facts = _notice_facts(tenancy, facts, decision, {**controls, **changed}.values())
    dues = due_notices(policy, decision, notice_facts)
    again = (decision.decide_again_at, next_notice_at(policy, decision, notice_facts))
    return _Decided(
        tenancy=tenancy,
        rules=rules,
        facts=facts,
        decision=decision,
        controls=controls,
        changed=changed,
        dues=dues,
        memory=_remember(notice_facts, dues),
        again_at=min((at for at in again if at is not None), default=None),
    )


async def _apply(connection: Connection, decided: Sequence[_Decided], now: datetime) -> None:
    """Write what is new; most decisions find everything as it was."""
    changed = {meter: control for one in decided for meter, control in one.changed.items()}
    await save_controls(connection, changed, now)
    valid = {
        meter: one.decision.valid_until
        for one in decided
        if one.changed or one.decision.desired is ControlState.DISCONNECTED
        for meter in one.controls
    }
    if valid:
        await rows(connection, VALID, list(valid), list(valid.values()))
    for one in decided:
        told = Told(
            one.tenancy["site_id"],
            one.tenancy["id"],
            one.tenancy["shop_name"],
            one.facts.available_fen,
        )
        await write_notices(connection, one.rules, told, one.dues, now)
    news = [one for one in decided if _is_news(one)]
    if news:
        await rows(
            connection,
            DECIDED,
            [one.tenancy["id"] for one in news],
            [one.decision.desired.value for one in news],
            [to_json(_reasons(one)) for one in news],
            [one.decision.overdrawn_since for one in news],
            [one.again_at for one in news],
            [to_json(one.memory) for one in news],
            now,
        )


def _reasons(one: _Decided) -> list[str]:
    return [reason.value for reason in one.decision.reasons]


def _is_news(one: _Decided) -> bool:
    """Whether the tenancy's row says anything else than what was decided."""
    was = one.tenancy
    confirmed_in_vain = (
        one.decision.desired is ControlState.DISCONNECTED
        and was["reconnect_confirmed_at"] is not None
    )
    return (
        confirmed_in_vain
        or was["supply_state"] != one.decision.desired.value
        or was["overdrawn_since"] != one.decision.overdrawn_since
        or was["decide_again_at"] != one.again_at
        or from_json(was["supply_reasons"]) != _reasons(one)
        or from_json(was["notice_memory"]) != one.memory
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
