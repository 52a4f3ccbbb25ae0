"""What each supply should be: decided where its inputs change, in the same transaction.

Locks, in this order: tenancy, meter_control (docs/locks.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.core.supply.control_state import ControlState
from server.core.supply.events import policy_changed
from server.core.supply.notices import (
    NoticeDue,
    NoticeFacts,
    NoticeKind,
    due_notices,
    next_notice_at,
    still_low_fen,
)
from server.core.supply.policy import Decision, SupplyFacts, decide
from server.core.supply.state import MeterControl, shown_state, step
from server.models.database import Connection, Row, from_json, pool, rows, to_json, transaction
from server.services.balances import Balances, balances
from server.services.locks import lock_tenancies
from server.services.meter_controls import CONTROLS_OF_SHOPS, control_of, save_controls
from server.services.notices import Told, write_notices
from server.services.site_rules import SiteRules, rules_of_sites

TENANCIES = """
SELECT tenancy.id, tenancy.site_id, tenancy.shop_id, tenancy.closed_at, tenancy.supply_state,
       tenancy.overdrawn_since, tenancy.reconnect_confirmed_at, tenancy.emergency_credit_fen,
       tenancy.back_billing_fen, tenancy.back_billing_at,
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
DECIDED = """
UPDATE tenancy SET supply_state = decided.state, supply_reasons = decided.reasons::jsonb,
    supply_decided_at = $7, overdrawn_since = decided.overdrawn_since,
    decide_again_at = decided.again_at, notice_memory = decided.memory::jsonb,
    back_billing_fen = decided.back_billing_fen,
    reconnect_confirmed_at =
        CASE WHEN decided.state <> 'disconnected' THEN tenancy.reconnect_confirmed_at END
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[],
            $8::bigint[])
    AS decided (id, state, reasons, overdrawn_since, again_at, memory, back_billing_fen)
WHERE tenancy.id = decided.id
"""
DUE = """
SELECT id FROM tenancy WHERE decide_again_at <= $1 AND closed_at IS NULL
ORDER BY decide_again_at, id LIMIT $2
"""
PUT_OFF = "UPDATE tenancy SET decide_again_at = $2 WHERE id = $1 AND decide_again_at <= $3"
PUT_OFF_FOR = timedelta(minutes=1)


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
        back_billing_not_noticed_fen=tenancy["back_billing_fen"],
        back_billed_at=tenancy["back_billing_at"],
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
        changed=changed,
        dues=dues,
        memory=_remember(notice_facts, dues),
        again_at=min((at for at in again if at is not None), default=None),
    )


async def _apply(connection: Connection, decided: Sequence[_Decided], now: datetime) -> None:
    """Write what is new; most decisions find everything as it was."""
    changed = {meter: control for one in decided for meter, control in one.changed.items()}
    await save_controls(connection, changed, now)
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
            [one.decision.back_billing_fen for one in news],
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
        or was["back_billing_fen"] != one.decision.back_billing_fen
        or was["decide_again_at"] != one.again_at
        or from_json(was["supply_reasons"]) != _reasons(one)
        or from_json(was["notice_memory"]) != one.memory
    )


def _notice_facts(
    tenancy: Row, facts: SupplyFacts, decision: Decision, controls: Iterable[MeterControl]
) -> NoticeFacts:
    memory = from_json(tenancy["notice_memory"])
    same_episode = decision.overdrawn_since == tenancy["overdrawn_since"]
    pending = memory.get("pending_sent_minutes", []) if same_episode else []
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
