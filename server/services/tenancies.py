"""A tenancy as its people see it: what is left, for how long, at what price, and the supply."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

from server.core.calendar import local_day
from server.core.errors import NotFoundError
from server.core.money import price_text
from server.core.supply.control_state import ControlState
from server.core.supply.emergency import EmergencyCredit, emergency_credit
from server.core.supply.state import MeterControl, shown_state
from server.core.tariff.rating import price_at
from server.core.tariff.versions import TariffVersion, block_period_start, version_on
from server.models.database import Connection, Row, from_json, pool, row, rows
from server.services.balances import balances
from server.services.day_inputs import BLOCKS
from server.services.meter_controls import control_of
from server.services.site_rules import SiteRules, site_rules

DAYS_OF_MEAN = 7
DAYS_LOOKED_BACK = 35  # use that is older says nothing about tomorrow
DAYS_LEFT_MAX = 9_999
PAGE_MAX = 50

# The age of a balance is that of the oldest meter: None until every meter has been read.
TENANCIES = """
SELECT tenancy.id, tenancy.site_id, tenancy.shop_id, tenancy.supply_state, tenancy.supply_reasons,
       tenancy.emergency_credit_fen,
       shop.code AS shop_code, shop.name AS shop_name, shop.tariff_code, shop.supply_policy_code,
       site.name AS site_name, site.timezone,
       (SELECT CASE WHEN bool_and(status.read_at IS NOT NULL) THEN min(status.read_at) END
        FROM meter LEFT JOIN meter_status status ON status.meter_id = meter.id
        WHERE meter.shop_id = tenancy.shop_id AND meter.role = 'shop') AS last_reading_at
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id JOIN site ON site.id = tenancy.site_id
WHERE tenancy.id = ANY($1::bigint[]) ORDER BY tenancy.id
"""
CONTROLS = """
SELECT control.*, meter.shop_id FROM meter_control control
JOIN meter ON meter.id = control.meter_id
WHERE meter.shop_id = ANY($1::bigint[]) AND meter.role = 'shop'
"""
TODAY = """
SELECT energy_wh, amount_fen FROM open_day WHERE tenancy_id = $1 AND day = $2
"""
# Whole days with use before today, closed ones by their newest version.
USED_DAYS = """
SELECT amount_fen FROM (
    SELECT day, amount_fen FROM open_day
    WHERE tenancy_id = $2 AND day >= $3 AND day < $4
    UNION ALL
    (SELECT DISTINCT ON (day) day, amount_fen FROM statement
    WHERE site_id = $1 AND tenancy_id = $2 AND day >= $3 AND day < $4
    ORDER BY day, version DESC)
) AS used WHERE amount_fen > 0 ORDER BY day DESC LIMIT $5
"""
BOUND = """
SELECT tenancy_id FROM binding WHERE user_id = $1 AND ended_at IS NULL AND tenancy_id > $2
ORDER BY tenancy_id LIMIT $3
"""


class CurrentPrice(NamedTuple):
    """What the next kWh costs: its period (None: none) and yuan per kWh."""

    period: str | None
    price: str


class TodayUse(NamedTuple):
    """What was used since the local midnight."""

    energy_wh: int
    amount_fen: int


@dataclass(frozen=True, slots=True)
class TenancySummary:
    """A line in a person's list of shops; `control_state` None: nothing was read back yet."""

    tenancy_id: int
    shop_code: str
    shop_name: str
    site_name: str
    balance_fen: int
    control_state: ControlState | None
    last_reading_at: datetime | None
    timezone: str


@dataclass(frozen=True, slots=True)
class TenancyOverview:
    """All that is true of a tenancy now: `balance_fen` is wallet less open days less reserved.

    `price_now` None: no tariff version is valid yet. `supply_reasons` are those of `supply_state`,
    or begin with `held` while a manager holds a meter disconnected. The emergency credit that runs,
    and the one that could be asked for now, are in no balance.
    """

    tenancy_id: int
    site_id: int
    shop_code: str
    shop_name: str
    site_name: str
    balance_fen: int
    wallet_fen: int
    open_days_fen: int
    reserved_fen: int
    fixed_charges_balance_fen: int
    control_state: ControlState | None
    last_reading_at: datetime | None
    price_now: CurrentPrice | None
    days_left: int | None
    today: TodayUse
    supply_state: str
    supply_reasons: tuple[str, ...]
    timezone: str
    emergency_credit_fen: int
    emergency_credit_offered_fen: int


async def bound_tenancies(user_id: int, after: int, limit: int = PAGE_MAX) -> list[int]:
    """The tenancies that a user is bound to, in order, behind the id `after`."""
    found = await rows(pool(), BOUND, user_id, after, min(limit, PAGE_MAX))
    return [one["tenancy_id"] for one in found]


async def summaries(tenancy_ids: Sequence[int]) -> list[TenancySummary]:
    """These tenancies in the order of their ids; three statements, however many they are."""
    connection = pool()
    found = await rows(connection, TENANCIES, tenancy_ids)
    owned = await balances(connection, tenancy_ids)
    controls = await _controls(connection, [one["shop_id"] for one in found])
    return [
        TenancySummary(
            tenancy_id=one["id"],
            shop_code=one["shop_code"],
            shop_name=one["shop_name"],
            site_name=one["site_name"],
            balance_fen=owned[one["id"]].available_fen,
            control_state=shown_state(controls.get(one["shop_id"], ())),
            last_reading_at=one["last_reading_at"],
            timezone=one["timezone"],
        )
        for one in found
    ]


async def overview(tenancy_id: int, now: datetime) -> TenancyOverview:
    """Everything about one tenancy; raises NotFoundError."""
    connection = pool()
    found = await row(connection, TENANCIES, [tenancy_id])
    if found is None:
        raise NotFoundError("no such tenancy")
    rules = await site_rules(connection, found["site_id"])
    today = local_day(now, rules.zone)
    owned = (await balances(connection, [tenancy_id]))[tenancy_id]
    controls = (await _controls(connection, [found["shop_id"]])).get(found["shop_id"], [])
    return TenancyOverview(
        tenancy_id=tenancy_id,
        site_id=found["site_id"],
        shop_code=found["shop_code"],
        shop_name=found["shop_name"],
        site_name=found["site_name"],
        balance_fen=owned.available_fen,
        wallet_fen=owned.wallet_fen,
        open_days_fen=owned.open_days_fen,
        reserved_fen=owned.reserved_fen,
        fixed_charges_balance_fen=owned.fixed_charges_fen,
        control_state=shown_state(controls),
        last_reading_at=found["last_reading_at"],
        price_now=await _price_now(connection, found, rules, now),
        days_left=await _days_left(connection, found, today, owned.available_fen),
        today=await _today(connection, tenancy_id, today),
        supply_state=found["supply_state"],
        supply_reasons=_reasons(found, controls),
        timezone=rules.zone.key,
        emergency_credit_fen=found["emergency_credit_fen"],
        emergency_credit_offered_fen=_offered_fen(found, rules, owned.available_fen),
    )


def _offered_fen(tenancy: Row, rules: SiteRules, available_fen: int) -> int:
    """The emergency credit that could be asked for now; 0 for none."""
    policy = rules.policies[tenancy["supply_policy_code"]]
    granted_fen = tenancy["emergency_credit_fen"]
    said = emergency_credit(policy, available_fen=available_fen, granted_fen=granted_fen)
    return policy.emergency_credit_fen if said is EmergencyCredit.OFFERED else 0


def _reasons(tenancy: Row, controls: Sequence[MeterControl]) -> tuple[str, ...]:
    """A hold is a reason of its own, and reasons to be connected say nothing beside it."""
    reasons = tuple(from_json(tenancy["supply_reasons"]))
    if not any(control.hold for control in controls):
        return reasons
    off = tenancy["supply_state"] == ControlState.DISCONNECTED.value
    return ("held", *(reasons if off else ()))


async def _controls(
    connection: Connection, shop_ids: Sequence[int]
) -> dict[int, list[MeterControl]]:
    controls: dict[int, list[MeterControl]] = {}
    for one in await rows(connection, CONTROLS, shop_ids):
        controls.setdefault(one["shop_id"], []).append(control_of(one))
    return controls


async def _today(connection: Connection, tenancy_id: int, today: date) -> TodayUse:
    found = await row(connection, TODAY, tenancy_id, today)
    return TodayUse(found["energy_wh"], found["amount_fen"]) if found else TodayUse(0, 0)


async def _price_now(
    connection: Connection, tenancy: Row, rules: SiteRules, now: datetime
) -> CurrentPrice | None:
    local = now.astimezone(rules.zone)
    try:
        version = version_on(rules.tariffs.get(tenancy["tariff_code"], ()), local.date())
    except NotFoundError:
        return None
    used_wh = await _used_in_block_period(connection, tenancy, version, local.date())
    price = price_at(version, local, rules.calendar, used_wh)
    return CurrentPrice(price.period and price.period.value, price_text(price.price_micro_yuan))


async def _used_in_block_period(
    connection: Connection, tenancy: Row, version: TariffVersion, today: date
) -> int:
    since = block_period_start(version, today)
    if since is None:
        return 0
    until = today + timedelta(days=1)
    found = await row(connection, BLOCKS, [tenancy["site_id"]], [tenancy["id"]], [since], [until])
    return int(found["energy_wh"]) if found else 0


async def _days_left(
    connection: Connection, tenancy: Row, today: date, balance_fen: int
) -> int | None:
    """Whole days that the balance lasts at the mean of the last days with use."""
    since = today - timedelta(days=DAYS_LOOKED_BACK)
    found = await rows(
        connection, USED_DAYS, tenancy["site_id"], tenancy["id"], since, today, DAYS_OF_MEAN
    )
    used_fen = sum(int(one["amount_fen"]) for one in found)
    if used_fen == 0:
        return None
    return min(max(balance_fen, 0) * len(found) // used_fen, DAYS_LEFT_MAX)
