"""What a supply should be: one line a case, then the laws that hold between all cases."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.calendar import HolidayCalendar
from server.core.errors import InvalidInputError
from server.core.supply.control_state import ControlState
from server.core.supply.policy import (
    CARRIED_OUT_WITHIN,
    Decision,
    Reason,
    ReconnectMode,
    SupplyFacts,
    SupplyPolicy,
    check_cut,
    decide,
    hoarding_room_fen,
)

ZONE = ZoneInfo("Asia/Shanghai")
CALENDAR = HolidayCalendar(
    holidays=frozenset(date(2026, 10, day) for day in range(1, 8)),
    moved_workdays=frozenset({date(2026, 10, 10)}),  # a Saturday that is worked
    first_year=2026,
    last_year=2026,
)
OFF, ON, READY = (
    ControlState.DISCONNECTED,
    ControlState.CONNECTED,
    ControlState.READY_FOR_RECONNECTION,
)


def at(text: str) -> datetime:
    """A local time such as "09-16 10:00" (a Wednesday) in 2026."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=ZONE)


NOON = at("09-16 12:00")  # a Wednesday, a workday
STANDARD = SupplyPolicy()
AT_ONCE = SupplyPolicy(notice_minutes=(), no_disconnect=())
NOTICED = SupplyPolicy(notice_minutes=(60, 30), no_disconnect=())


Columns = Mapping[str, object]


def facts(available_fen: int, *columns: Columns) -> SupplyFacts:
    """Facts at noon of a workday with a fresh reading, changed by each column."""
    base = SupplyFacts(
        available_fen=available_fen,
        now=NOON,
        zone=ZONE,
        calendar=CALENDAR,
        last_trusted_reading_at=NOON,
    )
    changes: dict[str, object] = {}
    for column in columns:
        changes |= column
    return replace(base, **changes)  # type: ignore[arg-type]  # a table's columns


def clock(text: str) -> Columns:
    return {"now": at(text), "last_trusted_reading_at": at(text)}


def read(**before: int) -> Columns:
    return {"last_trusted_reading_at": NOON - timedelta(**before)}


def emergency(fen: int) -> Columns:
    return {"emergency_credit_used_fen": fen}


def back_billing(fen: int, **before: int) -> Columns:
    """What a correction took so long ago, without a notice of its own until the last decision."""
    return {"back_billing_not_noticed_fen": fen, "back_billed_at": NOON - timedelta(**before)}


def dispute_until(until: datetime) -> Columns:
    return {"open_dispute_until": until}


def delivered(**before: int) -> Columns:
    return {"first_notice_delivered_at": NOON - timedelta(**before)}


EPISODE: Columns = {"overdrawn_since": NOON - timedelta(hours=1)}  # not cut so far
LONG: Columns = {"overdrawn_since": NOON - timedelta(hours=9)}
CUT: Columns = {**EPISODE, "previous_desired": OFF, "cut_commanded": True}
NEW_EPISODE: Columns = {"overdrawn_since": None}
NOT_CARRIED_OUT: Columns = {**EPISODE, "previous_desired": OFF}
AWAITING: Columns = {"previous_desired": READY, "cut_commanded": True}
CONFIRMED: Columns = {"reconnect_confirmed": True}
PROTECTED: Columns = {"supply_protection": True}
NEVER_READ: Columns = {"last_trusted_reading_at": None}
MOVED_OUT: Columns = {"tenancy_open": False}
TOMORROW = NOON + timedelta(days=1)
IN_2027: Columns = {
    "now": datetime(2027, 3, 3, 12, 0, tzinfo=ZONE),
    "last_trusted_reading_at": datetime(2027, 3, 3, 12, 0, tzinfo=ZONE),
}

OVERDRAWN = "overdrawn"
BILLED = "overdrawn back_billing"
BILLED_UNTOLD = "overdrawn back_billing notice_not_delivered"
OVERDRAFT = replace(AT_ONCE, overdraft_limit_fen=5_000, reconnect_at_fen=1_000)
CONFIRM = replace(AT_ONCE, reconnect=ReconnectMode.CONFIRM)
CONFIRM_NOTICED = replace(CONFIRM, notice_minutes=(60,))
NIGHT = replace(AT_ONCE, no_disconnect=("20:00-09:00",))
WEEKEND = replace(AT_ONCE, no_disconnect=("weekend",))
HOLIDAY = replace(AT_ONCE, no_disconnect=("holiday",))


@pytest.mark.parametrize(
    ("policy", "given_facts", "desired", "reasons"),
    [
        # balance
        (STANDARD, facts(1), ON, "paid_up"),
        (STANDARD, facts(0), ON, "paid_up"),
        (AT_ONCE, facts(-1), OFF, "overdrawn"),
        (OVERDRAFT, facts(-1), ON, "within_limit"),
        (OVERDRAFT, facts(-5_000), ON, "within_limit"),
        (OVERDRAFT, facts(-5_001), OFF, "overdrawn"),
        # an episode ends only at the reconnect limit
        (OVERDRAFT, facts(999, CUT), OFF, "overdrawn"),
        (OVERDRAFT, facts(1_000, CUT), ON, "paid_up"),
        (OVERDRAFT, facts(999, EPISODE), ON, "overdrawn within_limit"),
        (OVERDRAFT, facts(-5_000, EPISODE), ON, "overdrawn within_limit"),
        (OVERDRAFT, facts(-5_001, EPISODE), OFF, "overdrawn"),
        # emergency credit moves both limits
        (OVERDRAFT, facts(-7_000, emergency(2_000)), ON, "emergency_credit"),
        (OVERDRAFT, facts(-7_001, emergency(2_000)), OFF, "overdrawn"),
        (OVERDRAFT, facts(-1_000, emergency(2_000), CUT), ON, "within_limit"),
        (OVERDRAFT, facts(-1_001, emergency(2_000), CUT), OFF, "overdrawn"),
        # supply protection: never cut, and given back if it was
        (AT_ONCE, facts(-1, PROTECTED), ON, "overdrawn protected"),
        (AT_ONCE, facts(-1, PROTECTED, CUT), ON, "overdrawn protected"),
        # back-billing never cuts without a notice of its own
        (AT_ONCE, facts(-500, back_billing(500)), ON, "overdrawn back_billing"),
        (AT_ONCE, facts(-500, back_billing(499)), OFF, "overdrawn"),
        (AT_ONCE, facts(-500, EPISODE, back_billing(500, hours=1)), ON, "overdrawn back_billing"),
        (AT_ONCE, facts(-500, EPISODE, back_billing(500, hours=1), delivered()), OFF, "overdrawn"),
        (
            NOTICED,
            facts(-500, LONG, back_billing(500, hours=9), delivered(hours=1)),
            OFF,
            OVERDRAWN,
        ),
        # … nor is a notice from before it one of its own, where nothing else was used up
        (AT_ONCE, facts(-500, LONG, back_billing(500), delivered(hours=1)), ON, BILLED),
        (NOTICED, facts(-500, LONG, back_billing(500), delivered(hours=1)), ON, BILLED_UNTOLD),
        (NOTICED, facts(-500, LONG, back_billing(499), delivered(hours=1)), OFF, OVERDRAWN),
        # … nor does it keep anybody in the dark who has paid what was used up
        (AT_ONCE, facts(-500, CUT, back_billing(500)), OFF, "overdrawn"),
        (AT_ONCE, facts(-500, CUT, back_billing(501)), ON, "overdrawn back_billing"),
        (AT_ONCE, facts(-500, CUT, back_billing(501, hours=1)), OFF, "overdrawn"),
        (OVERDRAFT, facts(998, CUT, back_billing(1)), OFF, "overdrawn"),
        (OVERDRAFT, facts(999, CUT, back_billing(1)), ON, "paid_up"),
        (CONFIRM, facts(-9, CUT, back_billing(10)), READY, f"{BILLED} awaiting_confirmation"),
        # no trusted reading for long: ask a person
        (AT_ONCE, facts(-1, NEVER_READ), ON, "overdrawn no_recent_reading"),
        (AT_ONCE, facts(-1, read(hours=72)), ON, "overdrawn no_recent_reading"),
        (AT_ONCE, facts(-1, read(hours=71, minutes=59)), OFF, "overdrawn"),
        (AT_ONCE, facts(-1, NEVER_READ, CUT), OFF, "overdrawn"),
        # a dispute holds a new cut, not one that is done
        (AT_ONCE, facts(-1, dispute_until(TOMORROW)), ON, "overdrawn disputed"),
        (AT_ONCE, facts(-1, dispute_until(NOON)), OFF, "overdrawn"),
        (AT_ONCE, facts(-1, dispute_until(TOMORROW), CUT), OFF, "overdrawn"),
        # notices: the largest of the minutes after the first delivered one of this episode
        (NOTICED, facts(-1), ON, "overdrawn notice_not_delivered"),
        (NOTICED, facts(-1, EPISODE), ON, "overdrawn notice_not_delivered"),
        (NOTICED, facts(-1, EPISODE, delivered(minutes=59)), ON, "overdrawn notice_running"),
        (NOTICED, facts(-1, EPISODE, delivered(minutes=60)), OFF, "overdrawn"),
        (NOTICED, facts(-1, delivered(minutes=60)), ON, "overdrawn notice_not_delivered"),
        (NOTICED, facts(-1, CUT), OFF, "overdrawn"),
        (NOTICED, facts(-1, CUT, NEW_EPISODE), ON, "overdrawn notice_not_delivered"),
        # quiet hours, weekends, holidays
        (NIGHT, facts(-1, clock("09-16 08:59")), ON, "overdrawn quiet_hours"),
        (NIGHT, facts(-1, clock("09-16 09:00")), OFF, "overdrawn"),
        (NIGHT, facts(-1, clock("09-16 19:59")), OFF, "overdrawn"),
        (NIGHT, facts(-1, clock("09-16 20:00")), ON, "overdrawn quiet_hours"),
        (NIGHT, facts(-1, clock("09-16 23:00"), CUT), OFF, "overdrawn"),
        (NIGHT, facts(-1, clock("09-16 23:00"), NOT_CARRIED_OUT), ON, "overdrawn quiet_hours"),
        (WEEKEND, facts(-1, clock("09-19 12:00")), ON, "overdrawn weekend"),
        (WEEKEND, facts(-1, clock("10-10 12:00")), OFF, "overdrawn"),
        (WEEKEND, facts(-1, clock("10-03 12:00")), ON, "overdrawn weekend"),
        (WEEKEND, facts(-1, clock("10-05 12:00")), OFF, "overdrawn"),
        (HOLIDAY, facts(-1, clock("10-05 12:00")), ON, "overdrawn holiday"),
        (HOLIDAY, facts(-1, clock("09-19 12:00")), OFF, "overdrawn"),
        (HOLIDAY, facts(-1, IN_2027), ON, "overdrawn holidays_unknown"),
        # all reasons are told, in their order
        (
            STANDARD,
            facts(-1, clock("10-03 21:00"), dispute_until(at("10-04 00:00"))),
            ON,
            "overdrawn disputed notice_not_delivered quiet_hours weekend holiday",
        ),
        # reconnecting with the tenant's word
        (CONFIRM, facts(1), ON, "paid_up"),
        (CONFIRM, facts(1, CUT), READY, "paid_up awaiting_confirmation"),
        (CONFIRM, facts(1, CUT, CONFIRMED), ON, "paid_up"),
        (CONFIRM, facts(1, AWAITING), READY, "paid_up awaiting_confirmation"),
        (CONFIRM, facts(1, NOT_CARRIED_OUT), ON, "paid_up"),
        (CONFIRM, facts(-1, PROTECTED, CUT), READY, "overdrawn protected awaiting_confirmation"),
        # a correction while the tenant's word is awaited is a new episode: the rules hold again
        (
            CONFIRM_NOTICED,
            facts(-1, AWAITING),
            READY,
            "overdrawn notice_not_delivered awaiting_confirmation",
        ),
        (CONFIRM_NOTICED, facts(-1, AWAITING, CONFIRMED), ON, "overdrawn notice_not_delivered"),
        # moved out: nobody's balance decides
        (AT_ONCE, facts(-1, MOVED_OUT), ON, "moved_out"),
        (AT_ONCE, facts(900, MOVED_OUT, CUT), OFF, "moved_out"),
    ],
)
def test_a_supply_should_be(
    policy: SupplyPolicy, given_facts: SupplyFacts, desired: ControlState, reasons: str
) -> None:
    decision = decide(policy, given_facts)
    assert (decision.desired, " ".join(decision.reasons)) == (desired, reasons)


@pytest.mark.parametrize(
    ("policy", "given_facts", "again_at", "earliest_cut_at"),
    [
        (STANDARD, facts(1), None, None),
        (AT_ONCE, facts(-1, CUT), None, None),
        # quiet hours end; in front of a weekend; abutting ones are one
        (NIGHT, facts(-1, clock("09-16 21:00")), "09-17 09:00", "09-17 09:00"),
        (
            replace(AT_ONCE, no_disconnect=("20:00-09:00", "weekend")),
            facts(-1, clock("09-18 21:00")),
            "09-19 00:00",
            "09-21 09:00",
        ),
        (
            replace(AT_ONCE, no_disconnect=("20:00-22:00", "22:00-09:00")),
            facts(-1, clock("09-16 21:00")),
            "09-17 09:00",
            "09-17 09:00",
        ),
        # a holiday: without another reading the answer changes first after 72 h
        (HOLIDAY, facts(-1, clock("10-06 00:00")), "10-08 00:00", "10-08 00:00"),
        (HOLIDAY, facts(-1, clock("10-01 00:00")), "10-04 00:00", "10-08 00:00"),
        # a notice matures, or would in quiet hours
        (NOTICED, facts(-1, EPISODE, delivered()), "09-16 13:00", "09-16 13:00"),
        (
            replace(NOTICED, no_disconnect=("12:30-14:00",)),
            facts(-1, EPISODE, delivered()),
            "09-16 12:30",
            "09-16 14:00",
        ),
        # a dispute expires
        (AT_ONCE, facts(-1, dispute_until(TOMORROW)), "09-17 12:00", "09-17 12:00"),
        # what only input ends
        (NOTICED, facts(-1), "09-19 12:00", None),
        (AT_ONCE, facts(-1, PROTECTED), None, None),
        (AT_ONCE, facts(-1, NEVER_READ), None, None),
    ],
)
def test_time_alone_changes_the_answer(
    policy: SupplyPolicy,
    given_facts: SupplyFacts,
    again_at: str | None,
    earliest_cut_at: str | None,
) -> None:
    decision = decide(policy, given_facts)
    assert decision.decide_again_at == (again_at and at(again_at))
    assert decision.earliest_cut_at == (earliest_cut_at and at(earliest_cut_at))


@pytest.mark.parametrize(
    ("policy", "given_facts", "again_at"),
    [
        (AT_ONCE, facts(-1), "09-16 12:05"),
        (AT_ONCE, facts(-1, CUT), None),  # it stays cut until its episode ends
        (replace(AT_ONCE, no_disconnect=("12:02-13:00",)), facts(-1), "09-16 12:02"),
        (AT_ONCE, facts(-1, read(hours=71, minutes=59)), "09-16 12:01"),
    ],
)
def test_a_disconnection_not_carried_out_stands_until(
    policy: SupplyPolicy, given_facts: SupplyFacts, again_at: str | None
) -> None:
    decision = decide(policy, given_facts)
    assert decision.desired is OFF
    assert decision.decide_again_at == (again_at and at(again_at))


def test_a_cut_not_carried_out_in_time_is_weighed_again() -> None:
    policy = replace(AT_ONCE, no_disconnect=("12:02-13:00",))
    first = decide(policy, facts(-1))
    assert first.desired is OFF
    assert first.decide_again_at == at("09-16 12:02")
    later = facts(-1, NOT_CARRIED_OUT, {"now": first.decide_again_at})
    assert decide(policy, later).desired is ON
    assert decide(policy, replace(later, cut_commanded=True)).desired is OFF


def test_a_second_meter_is_cut_only_when_a_new_cut_is_allowed() -> None:
    night = facts(-1, clock("09-16 23:00"), CUT)
    assert decide(NIGHT, night).desired is OFF
    assert check_cut(NIGHT, night).desired is ON
    assert check_cut(NIGHT, replace(night, now=NOON)).desired is OFF


def test_an_episode_keeps_its_start() -> None:
    started = decide(NOTICED, facts(-1)).overdrawn_since
    assert started == NOON
    going_on = facts(-9, clock("09-16 17:00"), {"overdrawn_since": started})
    assert decide(NOTICED, going_on).overdrawn_since == NOON
    assert decide(NOTICED, replace(going_on, available_fen=1)).overdrawn_since is None


def test_back_billing_is_an_episode_of_its_own() -> None:
    """Owed and told of, nearly paid, then corrected: told of it, and only then cut."""
    billed = facts(-500, LONG, back_billing(500), delivered(hours=1))
    first = decide(AT_ONCE, billed)
    assert (first.overdrawn_since, first.back_billing_fen) == (NOON, 500)
    untold = replace(billed, overdrawn_since=NOON, first_notice_delivered_at=None)
    assert decide(AT_ONCE, untold).overdrawn_since == NOON
    told = replace(untold, first_notice_delivered_at=NOON)
    second = decide(AT_ONCE, told)
    assert (second.desired, second.back_billing_fen) == (OFF, 0)
    assert decide(AT_ONCE, facts(0, back_billing(500))).back_billing_fen == 0  # it was absorbed


@pytest.mark.parametrize(
    "wrong",
    [
        {"now": NOON.replace(tzinfo=None)},
        {"emergency_credit_used_fen": -1},
        {"back_billing_not_noticed_fen": -1},
    ],
)
def test_facts_that_cannot_be_are_refused(wrong: Columns) -> None:
    with pytest.raises(InvalidInputError):
        facts(1, wrong)


@pytest.mark.parametrize(
    ("available_fen", "pending_fen", "room_fen"),
    [
        (0, 0, 5_000_000),
        (4_999_999, 0, 1),
        (4_000_000, 999_999, 1),
        (5_000_000, 0, 0),
        (6_000_000, 5, 0),
        (-100, 0, 5_000_100),
    ],
)
def test_the_hoarding_limit_leaves_room(
    available_fen: int, pending_fen: int, room_fen: int
) -> None:
    room = hoarding_room_fen(STANDARD, available_fen=available_fen, pending_fen=pending_fen)
    assert room == room_fen


# --- laws ---

SPANS = ["20:00-09:00", "12:00-13:30", "00:00-06:00", "22:00-24:00", "00:00-24:00"]
POLICIES = st.builds(
    SupplyPolicy,
    overdraft_limit_fen=st.integers(0, 50),
    reconnect_at_fen=st.integers(0, 50),
    notice_minutes=st.sampled_from([(), (0,), (45,), (4_320, 30)]),
    no_disconnect=st.lists(st.sampled_from([*SPANS, "weekend", "holiday"]), max_size=4).map(tuple),
    reconnect=st.sampled_from(ReconnectMode),
)
# Around the National Day holiday and its moved workday, by minutes.
INSTANTS = st.integers(-3 * 1440, 14 * 1440).map(lambda m: at("09-28 00:00") + timedelta(minutes=m))
FACTS = st.builds(
    SupplyFacts,
    available_fen=st.integers(-150, 100),
    now=INSTANTS,
    zone=st.just(ZONE),
    calendar=st.just(CALENDAR),
    last_trusted_reading_at=st.none() | INSTANTS,
    previous_desired=st.sampled_from(ControlState),
    cut_commanded=st.booleans(),
    overdrawn_since=st.none() | INSTANTS,
    emergency_credit_used_fen=st.integers(0, 30),
    back_billing_not_noticed_fen=st.sampled_from([0, 0, 40]),
    back_billed_at=st.none() | INSTANTS,
    supply_protection=st.sampled_from([False, False, False, True]),
    first_notice_delivered_at=st.none() | INSTANTS,
    open_dispute_until=st.none() | INSTANTS,
    tenancy_open=st.sampled_from([True, True, True, False]),
    reconnect_confirmed=st.booleans(),
).map(lambda f: replace(f, back_billed_at=f.back_billed_at and min(f.back_billed_at, f.now)))
NEW_CUTS = FACTS.map(lambda f: replace(f, cut_commanded=False, tenancy_open=True))


@given(POLICIES, FACTS)
def test_whoever_is_at_the_reconnect_limit_is_not_left_in_the_dark(
    policy: SupplyPolicy, given_facts: SupplyFacts
) -> None:
    paid_fen = policy.reconnect_at_fen - given_facts.emergency_credit_used_fen
    paid = replace(given_facts, available_fen=paid_fen, tenancy_open=True, reconnect_confirmed=True)
    if paid.overdrawn_since is not None or paid_fen >= -policy.overdraft_limit_fen:
        assert decide(policy, paid).desired is ON


@given(POLICIES, NEW_CUTS)
def test_nobody_is_cut_unless_every_rule_allows_it(
    policy: SupplyPolicy, given_facts: SupplyFacts
) -> None:
    f = given_facts
    if decide(policy, f).desired is not OFF:
        return
    local = f.now.astimezone(ZONE)
    assert f.available_fen < -policy.overdraft_limit_fen - f.emergency_credit_used_fen
    assert not f.supply_protection
    assert f.open_dispute_until is None or f.open_dispute_until <= f.now
    assert f.last_trusted_reading_at is not None
    assert f.now - f.last_trusted_reading_at < timedelta(hours=72)
    own_fen = f.available_fen + f.back_billing_not_noticed_fen
    if own_fen >= -policy.overdraft_limit_fen - f.emergency_credit_used_fen:
        assert f.overdrawn_since is not None
        assert f.back_billed_at is None or f.back_billed_at <= f.overdrawn_since
        assert f.first_notice_delivered_at is not None
    if policy.notice_minutes:
        assert f.first_notice_delivered_at is not None
        wait = timedelta(minutes=max(policy.notice_minutes))
        assert f.now >= f.first_notice_delivered_at + wait
    assert not any(_in_span(item, local) for item in policy.no_disconnect if "-" in item)
    is_moved = local.date() in CALENDAR.moved_workdays
    assert "weekend" not in policy.no_disconnect or local.weekday() < 5 or is_moved
    assert "holiday" not in policy.no_disconnect or local.date() not in CALENDAR.holidays


def _in_span(span: str, local: datetime) -> bool:
    """The plain reading of a span, by comparing texts."""
    start, end = span.split("-")
    clock = local.strftime("%H:%M")
    return start <= clock < end if start < end else clock >= start or clock < end


@given(POLICIES, NEW_CUTS)
def test_decide_again_at_is_exact(policy: SupplyPolicy, given_facts: SupplyFacts) -> None:
    """Until then nothing changes; then something does (or five weeks are over)."""
    decision = decide(policy, given_facts)
    kept = _kept(given_facts, decision)
    if (
        given_facts.overdrawn_since != kept.overdrawn_since
    ):  # a notice from before the episode is none of its own
        kept = replace(kept, first_notice_delivered_at=None)
    until = decision.decide_again_at or given_facts.now + timedelta(days=20)
    for share in (1, 5, 9):
        between = given_facts.now + (until - given_facts.now) * share // 10
        assert _answer(decide(policy, replace(kept, now=between))) == _answer(decision)
    if decision.decide_again_at is None or decision.desired is OFF:
        return
    changed = _answer(decide(policy, replace(kept, now=until))) != _answer(decision)
    assert changed or until - given_facts.now > timedelta(days=34)


def _kept(given_facts: SupplyFacts, decision: Decision) -> SupplyFacts:
    """With what a decision is to keep for the next one."""
    return replace(
        given_facts,
        overdrawn_since=decision.overdrawn_since,
        back_billing_not_noticed_fen=decision.back_billing_fen,
    )


def _answer(decision: Decision) -> tuple[ControlState, tuple[Reason, ...]]:
    return decision.desired, decision.reasons


@given(POLICIES, NEW_CUTS)
def test_the_earliest_cut_comes_then_and_not_before(
    policy: SupplyPolicy, given_facts: SupplyFacts
) -> None:
    decision = decide(policy, given_facts)
    if decision.earliest_cut_at is None:
        return
    kept = _kept(given_facts, decision)
    cut_at = decision.earliest_cut_at
    fresh = replace(kept, now=cut_at, last_trusted_reading_at=cut_at)
    assert decide(policy, fresh).desired is OFF
    if cut_at > given_facts.now:
        just_before = replace(fresh, now=cut_at - timedelta(microseconds=1))
        assert decide(policy, just_before).desired is not OFF


@given(POLICIES, FACTS)
def test_the_zone_of_now_does_not_matter(policy: SupplyPolicy, given_facts: SupplyFacts) -> None:
    elsewhere = replace(given_facts, now=given_facts.now.astimezone(UTC))
    assert decide(policy, elsewhere) == decide(policy, given_facts)


@given(POLICIES, FACTS)
def test_a_decision_to_disconnect_always_ends(
    policy: SupplyPolicy, given_facts: SupplyFacts
) -> None:
    decision = decide(policy, given_facts)
    newly_cut = check_cut(policy, given_facts)
    for one in (decision, newly_cut):
        if given_facts.tenancy_open and one.desired is OFF and one.earliest_cut_at is not None:
            assert one.decide_again_at is not None
            assert given_facts.now < one.decide_again_at <= given_facts.now + CARRIED_OUT_WITHIN
