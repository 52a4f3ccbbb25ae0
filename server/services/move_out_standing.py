"""How somebody who has moved out stands: what is still to be charged, what is left or owed."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

from server.core.errors import ConflictError, NotFoundError
from server.models.database import Connection, Row, pool, row, rows
from server.services.balances import balances
from server.services.corrections import correct_due
from server.services.fixed_charges import charge_due
from server.services.readings import ensure_months
from server.services.settlement import close_next_days, settle_due

LISTED_MAX = 20

_ENDED = """
SELECT tenancy.id, tenancy.site_id, shop.code AS shop_code, tenancy.opened_at, tenancy.closed_at,
    tenancy.first_open_day, local.last_day,
    coalesce(tenancy.fixed_open_day < local.last_day, false) AS charges_wait,
    EXISTS (SELECT 1 FROM settlement_due WHERE tenancy_id = tenancy.id)
        OR EXISTS (SELECT 1 FROM correction_due WHERE tenancy_id = tenancy.id) AS settlement_waits
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id JOIN site ON site.id = tenancy.site_id
CROSS JOIN LATERAL (
    SELECT (tenancy.closed_at AT TIME ZONE site.timezone)::date AS last_day
) AS local
"""
ONE = f"{_ENDED} WHERE shop.site_id = $1 AND shop.code = $2 AND tenancy.id = $3"
OF_SHOP = f"""{_ENDED} WHERE shop.site_id = $1 AND shop.code = $2 AND tenancy.closed_at IS NOT NULL
ORDER BY tenancy.closed_at DESC, tenancy.id DESC LIMIT {LISTED_MAX}
"""


class Waits(StrEnum):
    """What has to happen before anything can be paid out."""

    LAST_DAY = "last_day"
    SETTLEMENT = "settlement"  # readings are being settled, or closed days corrected
    FIXED_CHARGES = "fixed_charges"


@dataclass(frozen=True, slots=True)
class Standing:
    """An ended tenancy: what it still waits for, and what is available in each of its wallets."""

    site_id: int
    shop_code: str
    tenancy_id: int
    moved_in_at: datetime
    moved_out_at: datetime
    first_open_day: date
    last_day: date
    waits_for: tuple[Waits, ...]
    available_fen: dict[str, int]


class NotSettledError(ConflictError):
    """Something is still to be charged; the detail says what."""

    code = "move_out_not_settled"


class MoreThanLeftError(ConflictError):
    """The wallet has not so much, or owes another amount."""

    code = "more_than_left"


@dataclass(frozen=True, slots=True)
class Leaver:
    """Whose money it is: a tenancy that has ended, and where it was."""

    site_id: int
    shop_code: str
    tenancy_id: int

    @property
    def subject(self) -> str:
        """How the audit log names it."""
        return f"shop:{self.shop_code}"


async def ended_tenancies(site_id: int, shop_code: str) -> list[Standing]:
    """The last ones who moved out of a shop, the newest first."""
    found = await rows(pool(), OF_SHOP, site_id, shop_code)
    return [await _standing(pool(), one) for one in found]


async def standing_of(leaver: Leaver) -> Standing:
    """How one of them stands; NotFoundError, ConflictError (`not_moved_out`)."""
    return await _standing(pool(), await _ended(pool(), leaver))


async def catch_up(leaver: Leaver, now: datetime) -> None:
    """Do at once what workers would do in a moment, so that nobody waits for them at the desk."""
    ended, only = await _ended(pool(), leaver), leaver.tenancy_id
    while await settle_due(now, only=only):
        pass
    while await correct_due(now, only=only):
        pass
    while await charge_due(now, only=only):
        pass
    while ended["first_open_day"] <= ended["last_day"]:
        day = ended["first_open_day"]
        await ensure_months("statement", {datetime(day.year, day.month, day.day, 12, tzinfo=UTC)})
        if not await close_next_days([only], now):
            return
        ended = await _ended(pool(), leaver)


async def _ended(connection: Connection, leaver: Leaver) -> Row:
    found = await row(connection, ONE, leaver.site_id, leaver.shop_code, leaver.tenancy_id)
    if found is None:
        raise NotFoundError(f"no tenancy {leaver.tenancy_id} of shop {leaver.shop_code!r}")
    if found["closed_at"] is None:
        raise ConflictError(f"tenancy {leaver.tenancy_id} goes on", code="not_moved_out")
    return found


async def _standing(connection: Connection, ended: Row) -> Standing:
    waits = {
        Waits.LAST_DAY: ended["first_open_day"] <= ended["last_day"],
        Waits.SETTLEMENT: ended["settlement_waits"],
        Waits.FIXED_CHARGES: ended["charges_wait"],
    }
    owned = (await balances(connection, [ended["id"]]))[ended["id"]]
    return Standing(
        site_id=ended["site_id"],
        shop_code=ended["shop_code"],
        tenancy_id=ended["id"],
        moved_in_at=ended["opened_at"],
        moved_out_at=ended["closed_at"],
        first_open_day=ended["first_open_day"],
        last_day=ended["last_day"],
        waits_for=tuple(one for one, waiting in waits.items() if waiting),
        available_fen={
            "electricity": owned.available_fen,
            "fixed_charges": owned.fixed_available_fen,
        },
    )


async def settled_fen(connection: Connection, leaver: Leaver, wallet: str) -> int:
    """What is available in a wallet, under the tenancy's lock; NotSettledError before that."""
    standing = await _standing(connection, await _ended(connection, leaver))
    if standing.waits_for:
        waits = ", ".join(standing.waits_for)
        text = f"waits for {waits}: {standing.first_open_day} to {standing.last_day}"
        raise NotSettledError(
            text if Waits.LAST_DAY in standing.waits_for else f"waits for {waits}"
        )
    return standing.available_fen[wallet]
