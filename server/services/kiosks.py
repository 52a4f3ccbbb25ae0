"""Kiosks: enrolled once by a manager, then known by a cookie; they see doors, never balances."""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from server.core.errors import InvalidInputError, NotFoundError, UnauthenticatedError
from server.models import database
from server.services.manager_acts import Act, Deed, record_act, require
from server.services.managers import Manager, token_digest

NAME_MAX = 64
QUERY_MAX = 64
_ID = re.compile("[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kiosk:
    """An enrolled kiosk and its mall."""

    id: int
    site_id: int
    site_name: str
    name: str


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A kiosk as managers see it."""

    id: int
    site_code: str
    site_name: str
    timezone: str
    name: str
    enrolled_at: datetime
    enrolled_by: str


@dataclass(frozen=True, slots=True)
class Door:
    """A shop as its door shows it; `tenancy_id` None: nobody lives there."""

    shop_id: int
    code: str
    name: str
    tenancy_id: int | None


async def enrol(site_id: int, name: str, manager: Manager, now: datetime) -> str:
    """The new kiosk's token, shown once; writes the audit row in the same transaction."""
    require(manager.role, Act.KIOSKS)
    if manager.site_id not in {None, site_id}:
        raise NotFoundError("site")
    name = name.strip()
    if not 1 <= len(name) <= NAME_MAX:
        raise InvalidInputError(f"a kiosk's name has 1 to {NAME_MAX} characters")
    token = secrets.token_urlsafe(32)
    async with database.transaction() as connection:
        await database.rows(
            connection,
            "INSERT INTO kiosk (site_id, name, token_hash, enrolled_at, enrolled_by)"
            " VALUES ($1, $2, $3, $4, $5)",
            *(site_id, name, token_digest(token), now, manager.name),
        )
        deed = Deed(site_id, manager.name, "kiosk.enrol", f"kiosk:{name}", "", {})
        await record_act(connection, deed, now)
    return token


async def enrolled(site_id: int | None) -> list[Enrolled]:
    """The kiosks of a mall (None: of all), the newest first."""
    found = await database.rows(database.pool(), _ENROLLED, site_id)
    return [Enrolled(**line) for line in found]


async def end(kiosk_id: str, manager: Manager, now: datetime) -> None:
    """Make a kiosk a strange screen again; writes the audit row in the same transaction."""
    require(manager.role, Act.KIOSKS)
    if _ID.fullmatch(kiosk_id) is None:
        raise NotFoundError("kiosk")
    async with database.transaction() as connection:
        ended = await database.row(
            connection,
            "DELETE FROM kiosk WHERE id = $1 AND ($2::bigint IS NULL OR site_id = $2)"
            " RETURNING site_id, name, enrolled_at, enrolled_by",
            *(int(kiosk_id), manager.site_id),
        )
        if ended is None:
            raise NotFoundError("kiosk")
        facts = {
            "enrolled_at": ended["enrolled_at"].isoformat(),
            "enrolled_by": ended["enrolled_by"],
        }
        subject = f"kiosk:{ended['name']}"
        deed = Deed(ended["site_id"], manager.name, "kiosk.end", subject, "", facts)
        await record_act(connection, deed, now)


async def kiosk_of(token: str) -> Kiosk:
    """Which kiosk this is; UnauthenticatedError where none."""
    found = await database.row(
        database.pool(),
        "SELECT k.id, k.site_id, st.name AS site_name, k.name FROM kiosk k"
        " JOIN site st ON st.id = k.site_id WHERE k.token_hash = $1",
        token_digest(token),
    )
    if found is None:
        raise UnauthenticatedError
    return Kiosk(**found)


async def doors(site_id: int, query: str, limit: int = 12) -> list[Door]:
    """Shops whose code or name contains the query; a code that starts with it first."""
    query = query.strip()[:QUERY_MAX]
    if not query:
        return []
    found = await database.rows(
        database.pool(),
        f"{_DOORS} WHERE s.site_id = $1 AND (position(upper($2) IN upper(s.code)) > 0"
        " OR position(upper($2) IN upper(s.name)) > 0)"
        " ORDER BY NOT starts_with(upper(s.code), upper($2)), s.code LIMIT $3",
        *(site_id, query, limit),
    )
    return [Door(**line) for line in found]


async def door(site_id: int, code: str) -> Door:
    """One shop of the kiosk's mall."""
    found = await database.row(
        database.pool(), f"{_DOORS} WHERE s.site_id = $1 AND s.code = $2", site_id, code
    )
    if found is None:
        raise NotFoundError(f"shop {code!r}")
    return Door(**found)


_ENROLLED = """
SELECT k.id, st.code AS site_code, st.name AS site_name, st.timezone, k.name, k.enrolled_at,
    k.enrolled_by
FROM kiosk k JOIN site st ON st.id = k.site_id
WHERE $1::bigint IS NULL OR k.site_id = $1 ORDER BY k.id DESC LIMIT 500
"""
_DOORS = (
    "SELECT s.id AS shop_id, s.code, s.name, t.id AS tenancy_id FROM shop s"
    " LEFT JOIN tenancy t ON t.shop_id = s.id AND t.closed_at IS NULL"
)
