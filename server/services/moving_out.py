"""A tenant moves out: the tenancy ends at an instant, and with it all that hung on it (decision 3).

Its last day is charged up to that instant and no further; until it is closed nothing can be paid
out (services/move_out_money). Energy from then until the next one moves in is nobody's but the
mall's. Locks: the shop's meters' news, its tenancies, then as in crediting and settlement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from server.core.calendar import local_day
from server.core.errors import ConflictError, InvalidInputError
from server.core.settlement.document import half_closed_until
from server.models.database import Connection, Row, from_json, pool, row, rows, transaction
from server.services.bindings import new_code, unbind_all_within
from server.services.correction_marks import mark_closed_days
from server.services.fixed_charges import charge_within, make_charged_months
from server.services.locks import lock_shop
from server.services.manager_acts import Deed, check_reason, record_act
from server.services.managers import Manager
from server.services.settlement import project_within
from server.services.top_up_closing import close_all_within

TENANCIES = """
SELECT tenancy.id, tenancy.opened_at, tenancy.closed_at, tenancy.first_open_day, site.timezone,
    EXISTS (SELECT 1 FROM fixed_charge_statement charged
            WHERE charged.site_id = tenancy.site_id AND charged.tenancy_id = tenancy.id
              AND charged.day >= ($2::timestamptz AT TIME ZONE site.timezone)::date) AS charged
FROM tenancy JOIN site ON site.id = tenancy.site_id
WHERE tenancy.id = ANY($1::bigint[]) ORDER BY tenancy.id
"""
# The day of moving out has no fixed charges: what is over by then is charged, and no day after it.
END = """
UPDATE tenancy SET closed_at = $2, binding_code = $3,
    fixed_open_day = CASE WHEN fixed_open_day > $4 THEN $4 ELSE fixed_open_day END
WHERE id = $1
"""
LIVING = """
SELECT (SELECT count(*) FROM binding WHERE tenancy_id = $1 AND ended_at IS NULL) AS people,
       (SELECT count(*) FROM top_up WHERE tenancy_id = $1 AND status = 'pending') AS orders
"""
LAST_CLOSED = """
SELECT DISTINCT ON (day) day, document FROM statement
WHERE site_id = $1 AND tenancy_id = $2 AND day >= $3::date - 31 AND day < $3::date
ORDER BY day DESC, version DESC
"""


@dataclass(frozen=True, slots=True)
class MoveOut:
    """Who leaves which shop when; `tenancy_id` where the caller knows whom they mean."""

    site_id: int
    shop_code: str
    at: datetime
    reason: str
    tenancy_id: int | None = None

    def __post_init__(self) -> None:
        check_reason(self.reason)


@dataclass(frozen=True, slots=True)
class MovedOut:
    """What came of it; `repeated`: this tenancy ended at that instant already."""

    tenancy_id: int
    at: datetime
    repeated: bool = False
    bindings_ended: int = 0
    orders_closed: int = 0


async def move_out(wish: MoveOut, manager: Manager, now: datetime) -> MovedOut:
    """End the tenancy of a shop; the same again answers the first.

    Raises InvalidInputError (`in_future`) and ConflictError: nobody lives there, or another than
    who was meant, or the instant is before they came or in days that are charged already.
    """
    if wish.at > now:
        raise InvalidInputError("nobody has moved out in the future", code="in_future")
    await make_charged_months(now)
    async with transaction() as connection:
        held = await lock_shop(connection, wish.site_id, wish.shop_code)
        tenancies = await rows(connection, TENANCIES, held, wish.at)
        ended = [one for one in tenancies if one["closed_at"] == wish.at]
        if ended and wish.tenancy_id in {None, ended[0]["id"]}:
            return MovedOut(ended[0]["id"], wish.at, repeated=True)
        tenancy = _leaving(tenancies, wish)
        moved = await _end(connection, tenancy, wish, now)
        facts = {
            "tenancy_id": moved.tenancy_id,
            "at": moved.at.isoformat(),
            "bindings_ended": moved.bindings_ended,
            "orders_closed": moved.orders_closed,
        }
        subject = f"shop:{wish.shop_code}"
        deed = Deed(wish.site_id, manager.name, "move_out", subject, wish.reason, facts)
        await record_act(connection, deed, now)
        return moved


def _leaving(tenancies: Sequence[Row], wish: MoveOut) -> Row:
    """Who lives there now, if the instant may be their end."""
    here = [one for one in tenancies if one["closed_at"] is None]
    if not here:
        raise ConflictError(f"nobody lives in {wish.shop_code}", code="vacant")
    [tenancy] = here
    if wish.tenancy_id not in {None, tenancy["id"]}:
        raise ConflictError(f"tenancy {tenancy['id']} lives there", code="other_tenancy")
    if wish.at <= tenancy["opened_at"]:
        text = f"the tenancy began at {tenancy['opened_at'].isoformat()}"
        raise ConflictError(text, code="before_move_in")
    if _day(tenancy, wish.at) < tenancy["first_open_day"]:
        text = f"days before {tenancy['first_open_day']} are closed"
        raise ConflictError(text, code="days_charged")
    if tenancy["charged"]:
        text = f"fixed charges of {_day(tenancy, wish.at)} or later are taken"
        raise ConflictError(text, code="days_charged")
    return tenancy


def _day(tenancy: Row, at: datetime) -> date:
    return local_day(at, ZoneInfo(tenancy["timezone"]))


async def _end(connection: Connection, tenancy: Row, wish: MoveOut, now: datetime) -> MovedOut:
    tenancy_id, day = tenancy["id"], _day(tenancy, wish.at)
    await rows(connection, END, tenancy_id, wish.at, new_code(), day)
    await _mark_split_gap(connection, wish, tenancy, now)
    moved = MovedOut(
        tenancy_id,
        wish.at,
        bindings_ended=await unbind_all_within(connection, tenancy_id, now),
        orders_closed=await close_all_within(connection, tenancy_id, now),
    )
    await charge_within(connection, [tenancy_id], now)
    days = {tenancy_id: day}
    while days:  # what was used since is not theirs; their say over the supply ends, too
        days = await project_within(connection, days, now)
    return moved


async def _mark_split_gap(
    connection: Connection, wish: MoveOut, tenancy: Row, now: datetime
) -> None:
    """Have closed days corrected that share, by registers, a gap over the end of the tenancy.

    Such a gap goes by time for everybody: all its days have to find the same (ADR 21).
    """
    last = tenancy["first_open_day"]
    first: date | None = None
    for one in await rows(connection, LAST_CLOSED, wish.site_id, tenancy["id"], last):
        until = half_closed_until(from_json(one["document"]))
        if until is None or until <= wish.at:
            break
        first = one["day"]
    if first is not None:
        await mark_closed_days(connection, {tenancy["id"]: first}, now)


async def living_in(tenancy_id: int) -> tuple[int, int]:
    """How many people are bound to a tenancy, and how many orders wait: both end with it."""
    found = await row(pool(), LIVING, tenancy_id)
    return (found["people"], found["orders"]) if found else (0, 0)
