"""The next tenant moves in: a new tenancy of the shop as the site file has it, with empty wallets.

Nothing of the former one comes along: no money, no bindings, no episode of the supply. Only that
the light may be out does: whether it comes back is the policy's to decide, at once. A manager's
hold stays. Energy from the instant on is theirs, split where the readings lie around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.core.calendar import local_day
from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.core.supply.control_state import ControlState
from server.core.tariff.versions import version_on
from server.models.database import Connection, Row, from_json, row, rows, to_json, transaction
from server.services.bindings import new_code
from server.services.journal import open_accounts
from server.services.locks import lock_shop
from server.services.manager_acts import Deed, check_reason, record_act
from server.services.managers import Manager
from server.services.settlement import project_within
from server.services.site_rules import SiteRules, site_rules

AHEAD = timedelta(seconds=60)  # by which somebody's clock may be fast
BACK = timedelta(days=31)  # from further back it is a slip of the finger

TENANCIES = """
SELECT id, opened_at, closed_at, supply_state, notice_memory FROM tenancy
WHERE id = ANY($1::bigint[]) ORDER BY opened_at, id
"""
SHOP = "SELECT id, tariff_code FROM shop WHERE site_id = $1 AND code = $2"
OPEN = """
INSERT INTO tenancy (site_id, shop_id, opened_at, binding_code, opening_balance_fen,
    first_open_day, fixed_open_day, supply_state, supply_reasons, emergency_credit_fen,
    notice_memory)
VALUES ($1, $2, $3, $4, 0, $5, $5, $6, '[]', 0, $7::jsonb) RETURNING id
"""


@dataclass(frozen=True, slots=True)
class MoveIn:
    """Into which shop somebody moves, and when."""

    site_id: int
    shop_code: str
    at: datetime
    reason: str

    def __post_init__(self) -> None:
        check_reason(self.reason)


@dataclass(frozen=True, slots=True)
class MovedIn:
    """The new tenancy; its binding code is told once: None where it was opened before."""

    tenancy_id: int
    at: datetime
    binding_code: str | None

    @property
    def repeated(self) -> bool:
        """Whether the same was done before."""
        return self.binding_code is None


async def move_in(wish: MoveIn, manager: Manager, now: datetime) -> MovedIn:
    """Open a tenancy; the same again answers the first, without its binding code.

    Raises NotFoundError, InvalidInputError (`in_future`, `too_long_ago`) and ConflictError: the
    shop is occupied or was at that time, or has no tariff yet.
    """
    if wish.at > now + AHEAD:
        raise InvalidInputError("nobody has moved in in the future", code="in_future")
    if wish.at < now - BACK:
        raise InvalidInputError(f"more than {BACK.days} days ago", code="too_long_ago")
    async with transaction() as connection:
        held = await lock_shop(connection, wish.site_id, wish.shop_code)
        shop = await row(connection, SHOP, wish.site_id, wish.shop_code)
        if shop is None:
            raise NotFoundError(f"shop {wish.shop_code!r}")
        before = await rows(connection, TENANCIES, held)
        for one in before:
            if one["closed_at"] is None and one["opened_at"] == wish.at:
                return MovedIn(one["id"], wish.at, None)
        rules = await site_rules(connection, wish.site_id)
        _check_free(wish, before)
        version_on(rules.tariffs[shop["tariff_code"]], local_day(wish.at, rules.zone))
        made = await _open(connection, wish, shop, before, rules)
        await _begin(connection, made.tenancy_id, wish, rules, now)
        facts = {"tenancy_id": made.tenancy_id, "at": wish.at.isoformat()}
        subject = f"shop:{wish.shop_code}"
        deed = Deed(wish.site_id, manager.name, "move_in", subject, wish.reason, facts)
        await record_act(connection, deed, now)
        return made


def _check_free(wish: MoveIn, before: Sequence[Row]) -> None:
    for one in before:
        if one["closed_at"] is None:
            raise ConflictError(f"tenancy {one['id']} lives in {wish.shop_code}", code="occupied")
        if one["closed_at"] > wish.at:
            text = f"tenancy {one['id']} lived there until {one['closed_at'].isoformat()}"
            raise ConflictError(text, code="occupied")


async def _open(
    connection: Connection, wish: MoveIn, shop: Row, before: Sequence[Row], rules: SiteRules
) -> MovedIn:
    """The tenancy's row and wallets; how its meters were wished last, the policy goes on from."""
    state, memory = ControlState.CONNECTED.value, {}
    if before:
        state = before[-1]["supply_state"]
        told = from_json(before[-1]["notice_memory"]).get("told")
        memory = {} if told is None else {"told": told}
    code = new_code()
    made = await row(
        connection,
        OPEN,
        *(wish.site_id, shop["id"], wish.at, code, local_day(wish.at, rules.zone), state),
        to_json(memory),
    )
    assert made is not None  # noqa: S101  INSERT … RETURNING answers its row
    await open_accounts(connection, wish.site_id, made["id"])
    return MovedIn(made["id"], wish.at, code)


async def _begin(
    connection: Connection, tenancy_id: int, wish: MoveIn, rules: SiteRules, now: datetime
) -> None:
    """Charge what was used since, which cuts nobody without a notice, and decide the supply."""
    days = {tenancy_id: local_day(wish.at, rules.zone)}
    while days:
        days = await project_within(connection, days, now, corrected=[tenancy_id])
