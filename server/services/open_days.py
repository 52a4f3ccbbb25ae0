"""Open days as they are kept, and how they go on when nothing but new readings at the end is new.

A mark in `settlement_due` whose `first_day` is NOTHING_BEFORE says so; whatever else changes an
input brings it forward to a day, and that day and all after it are projected from their readings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import accumulate, chain
from operator import itemgetter
from typing import NamedTuple

from server.core.calendar import local_day
from server.core.settlement.continuing import (
    DayFrame,
    DayLeft,
    DayNow,
    MeterSteps,
    begin_next,
    cells_between,
    day_frame,
    go_on,
    has_gap,
    may_go_on,
)
from server.core.supply.control_state import ControlState
from server.core.supply.reasons import Reason
from server.core.supply.standing import Standing, stays
from server.core.tariff.versions import version_on
from server.models.database import Connection, Row, from_json, rows
from server.services.site_rules import SiteRules, rules_of_sites

NOTHING_BEFORE = date.max  # 'infinity' in the database, so that least() gives way to any day
AHEAD = timedelta(days=1)  # no trusted reading is of a later time; it keeps later months out

# Arrays of different lengths come as one, with where each day's part begins and how long it is.
KEEP = """
INSERT INTO open_day (site_id, tenancy_id, day, energy_wh, amount_fen, estimated, complete,
                      has_later_reading, rules_version, block_start_wh, cells_wh, meter_ids,
                      read_ats, registers_wh, computed_at)
SELECT site_id, tenancy_id, day, energy_wh, amount_fen, estimated, complete, later, rules_version,
       block_start_wh, ($11::bigint[])[cell + 1:cell + cells],
       ($14::bigint[])[meter + 1:meter + meters], ($15::timestamptz[])[meter + 1:meter + meters],
       ($16::bigint[])[meter + 1:meter + meters], $19
FROM unnest($1::bigint[], $2::bigint[], $3::date[], $4::bigint[], $5::bigint[], $6::boolean[],
            $7::boolean[], $8::boolean[], $9::bigint[], $10::bigint[], $12::int[], $13::int[],
            $17::int[], $18::int[])
    AS one (site_id, tenancy_id, day, energy_wh, amount_fen, estimated, complete, later,
            rules_version, block_start_wh, cell, cells, meter, meters)
ON CONFLICT (tenancy_id, day) DO UPDATE SET energy_wh = excluded.energy_wh,
    amount_fen = excluded.amount_fen, estimated = excluded.estimated,
    complete = excluded.complete, has_later_reading = excluded.has_later_reading,
    rules_version = excluded.rules_version, block_start_wh = excluded.block_start_wh,
    cells_wh = excluded.cells_wh, meter_ids = excluded.meter_ids, read_ats = excluded.read_ats,
    registers_wh = excluded.registers_wh, computed_at = excluded.computed_at
"""
# A day that goes on: of its cells only those are told in which energy was used since.
GO_ON = """
UPDATE open_day SET energy_wh = now.energy_wh, amount_fen = now.amount_fen,
    complete = now.later AND NOT estimated, has_later_reading = now.later,
    cells_wh = cells_wh[:now.cell] || ($5::bigint[])[now.part + 1:now.part + now.parts]
               || cells_wh[now.cell + now.parts + 1:],
    read_ats = ($9::timestamptz[])[now.meter + 1:now.meter + cardinality(meter_ids)],
    registers_wh = ($10::bigint[])[now.meter + 1:now.meter + cardinality(meter_ids)],
    computed_at = $12
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[], $6::int[], $7::int[],
            $8::int[], $11::int[])
    AS now (id, energy_wh, amount_fen, later, part, parts, cell, meter)
WHERE open_day.id = now.id
"""

# The newest open day of each tenancy, a row for each new reading of its meters (or one without),
# and what its supply was last decided on.
LEFT = """
SELECT tenancy.id, tenancy.site_id, tenancy.opened_at, tenancy.closed_at, tenancy.first_open_day,
       shop.tariff_code, shop.supply_policy_code, tenancy.supply_state, tenancy.supply_reasons,
       tenancy.overdrawn_since, tenancy.decide_again_at, tenancy.notice_memory,
       tenancy.emergency_credit_fen + tenancy.back_billing_fen AS exceptions_fen,
       day.id AS open_day_id, day.day, day.rules_version, day.block_start_wh, day.cells_wh,
       day.estimated, day.meter_ids, day.read_ats, day.registers_wh, new.place, new.read_at,
       new.register_wh, new.transformer_ratio, new.rollover_wh, wallet.balance_fen - coalesce((
           SELECT sum(open_day.amount_fen) FROM open_day
           WHERE open_day.tenancy_id = tenancy.id AND open_day.day < day.day), 0)::bigint
           - coalesce((
           SELECT sum(refund.amount_fen) FROM refund
           WHERE refund.tenancy_id = tenancy.id AND refund.status = 'waiting'
             AND refund.wallet = 'electricity_wallet'), 0)::bigint AS left_fen
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id
JOIN account ON account.site_id = tenancy.site_id AND account.kind = 'electricity_wallet'
    AND coalesce(account.tenancy_id, 0) = tenancy.id
JOIN wallet ON wallet.account_id = account.id
CROSS JOIN LATERAL (
    SELECT * FROM open_day WHERE open_day.tenancy_id = tenancy.id ORDER BY day DESC LIMIT 1
) AS day
LEFT JOIN LATERAL (
    SELECT edge.place, reading.read_at, reading.register_wh, meter.transformer_ratio,
           meter.rollover_wh
    FROM unnest(day.meter_ids, day.read_ats) WITH ORDINALITY AS edge (meter_id, read_at, place)
    JOIN meter ON meter.id = edge.meter_id
    JOIN reading ON reading.site_id = tenancy.site_id AND reading.meter_id = edge.meter_id
        AND reading.read_at > edge.read_at AND reading.read_at < $2
        AND reading.verdict = 'trusted'
) AS new ON true
WHERE tenancy.id = ANY($1::bigint[])
"""
FIRST_OPEN_DAYS = "SELECT id, first_open_day FROM tenancy WHERE id = ANY($1::bigint[])"


class OpenDay(NamedTuple):
    """A row of open_day; the newest one of a tenancy names the readings from which it goes on."""

    site_id: int
    tenancy_id: int
    day: date
    energy_wh: int
    amount_fen: int
    estimated: bool
    complete: bool
    has_later_reading: bool
    rules_version: int
    block_start_wh: int
    cells_wh: Sequence[int]
    meter_ids: Sequence[int] = ()
    read_ats: Sequence[datetime] = ()
    registers_wh: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Going:
    """A newest day that goes on and stays the newest: its row, and where energy was used since."""

    open_day_id: int
    now: DayNow
    cells: tuple[int, int]
    meters: Sequence[MeterSteps]


@dataclass(slots=True)
class GoneOn:
    """What came of going on: what to write, and what is left to others.

    Whose supply is to be decided, and whose days are to be projected from which one on.
    """

    going: list[Going] = field(default_factory=list)
    days: list[OpenDay] = field(default_factory=list)
    to_decide: list[int] = field(default_factory=list)
    to_project: dict[int, date] = field(default_factory=dict)


async def keep_open_days(connection: Connection, days: Sequence[OpenDay], now: datetime) -> None:
    """Write open days, in place of what they were."""
    if not days:
        return
    *plain, cells, meter_ids, read_ats, registers_wh = zip(*days, strict=True)
    await rows(
        connection,
        KEEP,
        *(list(column) for column in plain),
        list(chain.from_iterable(cells)),
        *_places(cells),
        list(chain.from_iterable(meter_ids)),
        list(chain.from_iterable(read_ats)),
        list(chain.from_iterable(registers_wh)),
        *_places(meter_ids),
        now,
    )


def _places(parts: Iterable[Sequence[object]]) -> tuple[list[int], list[int]]:
    lengths = [len(part) for part in parts]
    return [0, *accumulate(lengths[:-1])], lengths


async def _keep_going(connection: Connection, going: Sequence[Going], now: datetime) -> None:
    if not going:
        return
    parts = [one.now.cells_wh[one.cells[0] : one.cells[1]] for one in going]
    meters = [one.meters for one in going]
    await rows(
        connection,
        GO_ON,
        [one.open_day_id for one in going],
        [one.now.energy_wh for one in going],
        [one.now.amount_fen for one in going],
        [one.now.has_later_reading for one in going],
        list(chain.from_iterable(parts)),
        *_places(parts),
        [one.cells[0] for one in going],
        [meter.read_ats[-1] for found in meters for meter in found],
        [meter.registers_wh[-1] for found in meters for meter in found],
        _places(meters)[0],
        now,
    )


async def go_on_within(connection: Connection, tenancy_ids: Sequence[int], now: datetime) -> GoneOn:
    """Take the newest open days on by their new readings, under the tenancies' locks."""
    gone = GoneOn()
    if not tenancy_ids:
        return gone
    left: dict[int, list[Row]] = {}
    for one in await rows(connection, LEFT, list(tenancy_ids), now + AHEAD):
        left.setdefault(one["id"], []).append(one)
    rules = await rules_of_sites(connection, {found[0]["site_id"] for found in left.values()})
    for found in left.values():
        _take_on(gone, found, rules[found[0]["site_id"]], now)
    if len(left) < len(tenancy_ids):
        missing = [one for one in tenancy_ids if one not in left]
        for one in await rows(connection, FIRST_OPEN_DAYS, missing):
            gone.to_project[one["id"]] = one["first_open_day"]
    await _keep_going(connection, gone.going, now)
    await keep_open_days(connection, gone.days, now)
    return gone


def _take_on(gone: GoneOn, found: Sequence[Row], rules: SiteRules, now: datetime) -> None:
    """Take one tenancy on, or say from which day on it is to be projected."""
    one = found[0]
    frame = None
    if one["rules_version"] == rules.version and one["closed_at"] is None:
        frame = _frame(rules, one["tariff_code"], one["day"])
        other_cells = len(one["cells_wh"]) != len(frame.grid.periods)  # the holidays are others
        if other_cells or not may_go_on(frame, one["read_ats"], one["opened_at"]):
            frame = None
    meters = _meters(found) if frame is not None else []
    if frame is None or (days := _days_now(frame, one, meters, rules, now)) is None:
        read_ats = one["read_ats"]
        touched = local_day(min(read_ats), rules.zone) if read_ats else one["first_open_day"]
        gone.to_project[one["id"]] = touched
        return
    if len(days) == 1:
        since, until = min(one["read_ats"]), max(meter.read_ats[-1] for meter in meters)
        cells = cells_between(frame, since, until)
        gone.going.append(Going(one["open_day_id"], days[0], cells, meters))
    else:
        gone.days += [_row(one, days[0], ()), _row(one, days[1], meters)]
    available_fen = one["left_fen"] - sum(day.amount_fen for day in days)
    policy = rules.policies[one["supply_policy_code"]]
    if one["exceptions_fen"] or not stays(policy, _standing_of(one), available_fen):
        gone.to_decide.append(one["id"])


def _meters(found: Sequence[Row]) -> list[MeterSteps]:
    """What each meter has shown since, from where the day was left."""
    one = found[0]
    meters = [
        MeterSteps(1, 1, [read_at], [register_wh])
        for read_at, register_wh in zip(one["read_ats"], one["registers_wh"], strict=True)
    ]
    new = found if len(found) == 1 else sorted(found, key=itemgetter("read_at"))
    for row in new:
        if row["place"] is not None:
            read_ats, registers_wh = meters[row["place"] - 1][2:]
            read_ats.append(row["read_at"])
            registers_wh.append(row["register_wh"])
            meters[row["place"] - 1] = MeterSteps(
                row["transformer_ratio"], row["rollover_wh"], read_ats, registers_wh
            )
    return meters


def _days_now(
    frame: DayFrame, one: Row, meters: Sequence[MeterSteps], rules: SiteRules, now: datetime
) -> Sequence[DayNow] | None:
    """The day, and the next one if it has begun; None where that takes more than new readings."""
    newest = min(max(meter.read_ats[-1] for meter in meters), now)
    if has_gap(meters, timedelta(seconds=rules.gap_s)):
        return None
    left = DayLeft(one["block_start_wh"], one["cells_wh"], one["estimated"])
    today = go_on(frame, left, meters)
    if newest < frame.ends_at:
        return (today,)
    following = _frame(rules, one["tariff_code"], one["day"] + timedelta(days=1))
    if following.version != frame.version or newest >= following.ends_at:
        return None
    return today, begin_next(following, today, meters)


def _frame(rules: SiteRules, tariff_code: str, day: date) -> DayFrame:
    version = version_on(rules.tariffs[tariff_code], day)
    return day_frame(day, rules.zone, version, rules.calendar)


def _row(one: Row, day: DayNow, meters: Sequence[MeterSteps]) -> OpenDay:
    return OpenDay(
        one["site_id"],
        one["id"],
        day.day,
        day.energy_wh,
        day.amount_fen,
        day.estimated,
        day.complete,
        day.has_later_reading,
        one["rules_version"],
        day.block_start_wh,
        day.cells_wh,
        one["meter_ids"] if meters else (),
        [meter.read_ats[-1] for meter in meters],
        [meter.registers_wh[-1] for meter in meters],
    )


def _standing_of(one: Row) -> Standing:
    return _standing(
        one["supply_state"],
        one["supply_reasons"],
        one["overdrawn_since"],
        one["decide_again_at"],
        one["notice_memory"],
    )


@lru_cache(maxsize=1_024)
def _standing(
    state: str,
    reasons: str,
    overdrawn_since: datetime | None,
    decide_again_at: datetime | None,
    notice_memory: str,
) -> Standing:
    """Most tenancies stand alike, so that few of these texts are ever read."""
    memory = from_json(notice_memory)
    return Standing(
        state=ControlState(state),
        reasons=tuple(Reason(reason) for reason in from_json(reasons)),
        overdrawn_since=overdrawn_since,
        decide_again_at=decide_again_at,
        low_sent_fen=frozenset(memory.get("low_sent_fen", ())),
        pending_sent_minutes=frozenset(memory.get("pending_sent_minutes", ())),
        told=ControlState(memory["told"]) if "told" in memory else None,
    )
