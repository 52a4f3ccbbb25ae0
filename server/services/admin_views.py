"""What managers see: their sites, the shops with what is left, one shop's meters. Reads only."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.core.supply.control_state import ControlState
from server.models import database

PAGE_MAX = 200
QUERY_MAX = 64
STALE_AFTER = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class SiteRef:
    """A mall a manager may see."""

    id: int
    code: str
    name: str
    timezone: str


@dataclass(frozen=True, slots=True)
class ShopLine:
    """One shop in a list. `tenancy_id` and `balance_fen` are None while nobody lives in it.

    `switching`: a relay's state is wished for or commanded and not read back yet.
    """

    shop_id: int
    site_id: int
    site_code: str
    code: str
    name: str
    shop_token: str
    tenancy_id: int | None
    balance_fen: int | None
    low_balance_fen: int
    control_state: ControlState | None
    switching: bool
    held: bool
    last_reading_at: datetime | None
    supply_state: str | None
    reasons: tuple[str, ...]
    findings: int
    cases: int

    @property
    def glance(self) -> str:
        """The one word a person needs: switching, off, ready, low, on or unknown."""
        if self.switching:
            return "switching"
        if self.control_state is ControlState.DISCONNECTED:
            return "off"
        if self.control_state is ControlState.READY_FOR_RECONNECTION:
            return "ready"
        if self.balance_fen is not None and self.balance_fen < self.low_balance_fen:
            return "low"
        return "unknown" if self.control_state is None else "on"


@dataclass(frozen=True, slots=True)
class MeterLine:
    """One meter of a shop: what it said last, what it should do, and what is wrong with it."""

    code: str
    gateway_code: str
    profile: str
    has_relay: bool
    read_at: datetime | None
    register_wh: int | None
    power_w: int | None
    finding: str | None
    desired: str | None
    commanded_at: datetime | None
    confirmed: str | None
    confirmed_at: datetime | None
    hold_reason: str | None
    hold_by: str | None
    held_at: datetime | None
    case_code: str | None

    @property
    def switching(self) -> bool:
        """Between a wish or a command and its read-back."""
        return self.has_relay and is_switching(
            self.desired, self.confirmed, self.commanded_at, self.confirmed_at, self.case_code
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """The overview's numbers over all shops of a site (or of all sites)."""

    shops: int
    off: int
    switching: int
    low: int
    findings: int
    payment_cases: int


@dataclass(frozen=True, slots=True)
class ActLine:
    """One row of a shop's audit log."""

    at: datetime
    actor: str
    act: str
    subject: str
    reason: str


def is_switching(
    desired: str | None,
    confirmed: str | None,
    commanded_at: datetime | None,
    confirmed_at: datetime | None,
    case_code: str | None,
) -> bool:
    """Whether nobody may say connected or disconnected of this relay now.

    A case is a known failure, and readiness awaits a person: both are told as they are.
    """
    if case_code is not None or confirmed == ControlState.READY_FOR_RECONNECTION:
        return False
    if commanded_at is not None and (confirmed_at is None or confirmed_at < commanded_at):
        return True
    if confirmed is None or desired is None or desired == ControlState.READY_FOR_RECONNECTION:
        return False
    return desired != confirmed


async def sites(site_id: int | None) -> list[SiteRef]:
    """The malls of a manager (`site_id` None: all)."""
    found = await database.rows(
        database.pool(),
        "SELECT id, code, name, timezone FROM site WHERE $1::bigint IS NULL OR id = $1"
        " ORDER BY code LIMIT 500",
        site_id,
    )
    return [SiteRef(**line) for line in found]


async def site_of_code(site_id: int | None, code: str) -> SiteRef:
    """One of a manager's malls; NotFoundError for others' and unknown ones alike."""
    for site in await sites(site_id):
        if site.code == code:
            return site
    raise NotFoundError(f"site {code!r}")


async def find_shop(site_id: int | None, code: str, site_code: str | None) -> ShopLine:
    """The one shop of this code; ConflictError (`site_needed`) where several malls have it."""
    if site_code is not None:
        site_id = (await site_of_code(site_id, site_code)).id
    found = await database.rows(
        database.pool(), f"{_SHOPS} WHERE s.code = $2 LIMIT 2", site_id, code
    )
    if not found:
        raise NotFoundError(f"shop {code!r}")
    if len(found) > 1:
        raise ConflictError(f"shop {code!r}", code="site_needed")
    return _shop_line(found[0])


async def shop_of_id(shop_id: int) -> ShopLine:
    """The shop of this id, for doors that found it otherwise than as a manager."""
    found = await database.row(database.pool(), f"{_SHOPS} WHERE s.id = $2", None, shop_id)
    if found is None:
        raise NotFoundError("shop")
    return _shop_line(found)


async def shops(
    site_id: int | None, query: str, cursor: str | None, limit: int = 50
) -> tuple[list[ShopLine], str | None]:
    """Shops whose code or name contains `query`, by code; the cursor of the next page or None."""
    after_site, after_code = _read_cursor(cursor)
    found = await database.rows(
        database.pool(),
        f"{_SHOPS} WHERE {_MATCH} AND (st.code, s.code) > ($3, $4) ORDER BY st.code, s.code"
        " LIMIT $5",
        *(site_id, _like(query), after_site, after_code, min(limit, PAGE_MAX) + 1),
    )
    lines = [_shop_line(line) for line in found[: min(limit, PAGE_MAX)]]
    more = len(found) > len(lines)
    return lines, _write_cursor(lines[-1]) if more and lines else None


async def shops_by_need(site_id: int | None, query: str, limit: int) -> list[ShopLine]:
    """The same, whoever needs a look first: off, switching, low; then the least balance."""
    found = await database.rows(
        database.pool(),
        _BY_NEED,
        *(site_id, _like(query), min(limit, PAGE_MAX)),
    )
    return [_shop_line(line) for line in found]


async def counts(site_id: int | None) -> Counts:
    """The overview's numbers."""
    found = await database.row(
        database.pool(),
        _COUNTS,
        site_id,
    )
    return Counts(**{name: int(value) for name, value in (found or {}).items()})


async def meters(shop_id: int) -> list[MeterLine]:
    """All meters of a shop, by code."""
    found = await database.rows(database.pool(), _METERS, shop_id)
    return [_meter_line(line) for line in found]


async def acts(site_id: int, subjects: Sequence[str], limit: int = 10) -> list[ActLine]:
    """The newest acts on these subjects (`shop:CODE`, `meter:CODE`)."""
    found = await database.rows(
        database.pool(),
        "SELECT at, actor, act, subject, reason FROM manager_act"
        " WHERE site_id = $1 AND subject = ANY($2::text[])"
        " ORDER BY id DESC LIMIT $3",
        *(site_id, list(subjects), limit),
    )
    return [ActLine(**line) for line in found]


def is_stale(read_at: datetime | None, now: datetime) -> bool:
    """Whether a reading is too old to be shown without a word."""
    return read_at is None or now - read_at > STALE_AFTER


# $1: the one site, or NULL. The balance is the contract's: wallet - open days - reserved refunds
# (as services/balances has it), the state core/supply/state.shown_state, the rest is_switching().
_SHOPS = """
SELECT s.id AS shop_id, s.site_id, st.code AS site_code, s.code, s.name, s.token AS shop_token,
    t.id AS tenancy_id, t.supply_state, t.supply_reasons AS reasons,
    CASE WHEN t.id IS NOT NULL THEN coalesce(w.balance_fen, 0) - coalesce(o.amount_fen, 0)
        - coalesce(waits.amount_fen, 0) END AS balance_fen,
    coalesce((p.rules -> 'low_balance_fen' ->> 0)::bigint, 10000) AS low_balance_fen,
    m.last_reading_at, coalesce(m.findings, 0) AS findings, coalesce(m.cases, 0) AS cases,
    coalesce(m.any_disconnected, false) AS any_disconnected,
    coalesce(m.any_ready, false) AS any_ready, coalesce(m.all_connected, false) AS all_connected,
    coalesce(m.switching, false) AS switching, coalesce(m.held, false) AS held
FROM shop s
JOIN site st ON st.id = s.site_id AND ($1::bigint IS NULL OR st.id = $1)
LEFT JOIN tenancy t ON t.shop_id = s.id AND t.closed_at IS NULL
LEFT JOIN account a
    ON a.site_id = s.site_id AND a.kind = 'electricity_wallet' AND a.tenancy_id = t.id
LEFT JOIN wallet w ON w.account_id = a.id
LEFT JOIN supply_policy p ON p.site_id = s.site_id AND p.code = s.supply_policy_code
LEFT JOIN LATERAL (
    SELECT sum(amount_fen)::bigint AS amount_fen FROM open_day WHERE tenancy_id = t.id
) o ON true
LEFT JOIN LATERAL (
    SELECT sum(amount_fen)::bigint AS amount_fen FROM refund
    WHERE tenancy_id = t.id AND status = 'waiting' AND wallet = 'electricity_wallet'
) waits ON true
LEFT JOIN LATERAL (
    SELECT max(ms.read_at) AS last_reading_at,
        count(*) FILTER (WHERE ms.finding IS NOT NULL) AS findings,
        count(*) FILTER (WHERE mc.case_code IS NOT NULL) AS cases,
        bool_or(mc.confirmed = 'disconnected' AND mc.policy_state <> 'ready_for_reconnection')
            FILTER (WHERE me.has_relay) AS any_disconnected,
        bool_or(mc.confirmed = 'ready_for_reconnection'
            OR mc.confirmed = 'disconnected' AND mc.policy_state = 'ready_for_reconnection')
            FILTER (WHERE me.has_relay) AS any_ready,
        bool_and(mc.confirmed = 'connected') FILTER (WHERE me.has_relay) AS all_connected,
        bool_or(mc.hold_reason IS NOT NULL) AS held,
        bool_or(mc.case_code IS NULL AND mc.confirmed IS DISTINCT FROM 'ready_for_reconnection'
            AND (mc.commanded_at > coalesce(mc.confirmed_at, '-infinity')
                OR mc.confirmed <> CASE WHEN mc.hold_reason IS NOT NULL THEN 'disconnected'
                    WHEN mc.policy_state = 'ready_for_reconnection' THEN mc.confirmed
                    ELSE mc.policy_state END)) FILTER (WHERE me.has_relay) AS switching
    FROM meter me
    LEFT JOIN meter_status ms ON ms.meter_id = me.id
    LEFT JOIN meter_control mc ON mc.meter_id = me.id
    WHERE me.shop_id = s.id
) m ON true
"""
_MATCH = "(s.code ILIKE $2 OR s.name ILIKE $2)"
_URGENCY = (
    "CASE WHEN any_disconnected OR any_ready OR switching OR cases > 0 THEN 0"
    " WHEN balance_fen < low_balance_fen THEN 1 WHEN findings > 0 THEN 2 ELSE 3 END"
)
# both only put the constants above together
_BY_NEED = (
    f"SELECT * FROM ({_SHOPS} WHERE {_MATCH}) shops ORDER BY {_URGENCY},"  # noqa: S608 - constants
    " balance_fen NULLS LAST, site_code, code LIMIT $3"
)
_COUNTS = f"""
SELECT count(*) AS shops, count(*) FILTER (WHERE any_disconnected AND NOT switching) AS off,
    count(*) FILTER (WHERE switching) AS switching,
    count(*) FILTER (WHERE balance_fen < low_balance_fen) AS low,
    coalesce(sum(findings), 0) AS findings,
    (SELECT count(*) FROM payment_case WHERE closed_at IS NULL
        AND ($1::bigint IS NULL OR site_id = $1)) AS payment_cases
FROM ({_SHOPS}) shops
"""  # noqa: S608 - constants
_METERS = """
SELECT me.code, g.code AS gateway_code, me.profile, me.has_relay, ms.read_at, ms.register_wh,
    ms.points, ms.finding, mc.policy_state, mc.commanded_at, mc.confirmed, mc.confirmed_at,
    mc.hold_reason, mc.hold_by, mc.held_at, mc.case_code
FROM meter me
JOIN gateway g ON g.id = me.gateway_id
LEFT JOIN meter_status ms ON ms.meter_id = me.id
LEFT JOIN meter_control mc ON mc.meter_id = me.id
WHERE me.shop_id = $1 ORDER BY me.code LIMIT 100
"""


def _shop_line(line: database.Row) -> ShopLine:
    state = None
    if line.pop("any_disconnected"):
        state = ControlState.DISCONNECTED
    if line.pop("any_ready") and state is None:
        state = ControlState.READY_FOR_RECONNECTION
    if line.pop("all_connected") and state is None:
        state = ControlState.CONNECTED
    reasons = database.from_json(line.pop("reasons") or "[]")
    return ShopLine(control_state=state, reasons=tuple(reasons), **line)


def _meter_line(line: database.Row) -> MeterLine:
    points = database.from_json(line.pop("points") or "{}")
    policy_state = line.pop("policy_state")
    desired = policy_state if line["hold_reason"] is None else ControlState.DISCONNECTED.value
    return MeterLine(desired=desired, power_w=_power_w(points), **line)


def _power_w(points: dict[str, Any]) -> int | None:
    """Whole watts of the point `power_total` ({"value": "1.234", "unit": "kW"}), if it has one."""
    point = points.get("power_total")
    if not isinstance(point, dict) or point.get("unit") != "kW":
        return None
    try:
        return int(msgspec.convert(point["value"], type=Decimal, strict=False) * 1000)
    except (KeyError, msgspec.ValidationError):
        return None


def _like(query: str) -> str:
    """A LIKE pattern that contains the query, whose own wildcards mean themselves."""
    if len(query) > QUERY_MAX:
        raise InvalidInputError(f"a query has at most {QUERY_MAX} characters")
    escaped = query.strip().replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


def _write_cursor(line: ShopLine) -> str:
    return base64.urlsafe_b64encode(f"{line.site_code}\n{line.code}".encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return "", ""
    try:
        content = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise InvalidInputError("not a cursor of this list") from error
    site_code, _, code = content.replace("\0", "").partition("\n")
    return site_code, code
