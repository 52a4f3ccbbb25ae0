"""A person comes to a tenancy: what a scan shows, the binding code, and the way out.

The printed QR code names the shop and never binds; the binding code does, and guesses at it are
limited per user and per shop. Locks: the guesses' (user, then shop), tenancy, the binding's row.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime

from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.models.database import Connection, Row, pool, row, rows, transaction
from server.services import guesses
from server.services.locks import lock_open_tenancy
from server.services.manager_acts import Act, Deed, record_act, require
from server.services.managers import Manager

USER_SCOPE, SHOP_SCOPE = "binding_user", "binding_shop"
GUESSES_PER_USER, GUESSES_PER_SHOP, GUESS_WINDOW_S = 5, 10, 900
BOUND_MAX = 200  # shops of one person
CODE_DIGITS = 8

SHOP = """
SELECT shop.id, shop.site_id, shop.code, shop.name, site.name AS site_name,
       tenancy.id AS tenancy_id, tenancy.binding_code
FROM shop JOIN site ON site.id = shop.site_id
LEFT JOIN tenancy ON tenancy.shop_id = shop.id AND tenancy.closed_at IS NULL
WHERE shop.token = $1
"""
BOUND = """
SELECT count(*) AS bound, count(*) FILTER (WHERE tenancy_id = $2) AS here
FROM binding WHERE user_id = $1 AND ended_at IS NULL
"""
BIND = """
INSERT INTO binding (user_id, tenancy_id, bound_at) VALUES ($1, $2, $3)
ON CONFLICT (user_id, tenancy_id) WHERE ended_at IS NULL DO NOTHING
"""
UNBIND_ALL = """
UPDATE binding SET ended_at = $2 WHERE tenancy_id = $1 AND ended_at IS NULL RETURNING id
"""
UNBIND = """
UPDATE binding SET ended_at = $3
WHERE user_id = $1 AND tenancy_id = $2 AND ended_at IS NULL RETURNING id
"""

CODE = """
SELECT tenancy.binding_code, tenancy.site_id, shop.code AS shop_code
FROM tenancy JOIN shop ON shop.id = tenancy.shop_id WHERE tenancy.id = $1
"""
TIMEZONE = """
SELECT site.timezone FROM binding JOIN tenancy ON tenancy.id = binding.tenancy_id
JOIN site ON site.id = tenancy.site_id
WHERE binding.user_id = $1 AND binding.tenancy_id = $2 AND binding.ended_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class ScannedShop:
    """What a scan shows before binding; `tenancy_id` only to whom it is bound already."""

    site_name: str
    shop_code: str
    masked_name: str
    tenancy_id: int | None


class WrongBindingCodeError(InvalidInputError):
    """Not the binding code of the shop's tenancy."""

    code = "wrong_binding_code"


def masked(name: str) -> str:
    """A name as strangers may see it: its first character, and a star for each further one."""
    return name[:1] + "*" * max(len(name) - 1, 1)


async def scanned_shop(user_id: int, shop_token: str) -> ScannedShop:
    """The shop of a printed code; raises NotFoundError for any other."""
    shop = await _shop_of(pool(), shop_token)
    bound = await row(pool(), BOUND, user_id, shop["tenancy_id"])
    return ScannedShop(
        site_name=shop["site_name"],
        shop_code=shop["code"],
        masked_name=masked(shop["name"]),
        tenancy_id=shop["tenancy_id"] if bound and bound["here"] else None,
    )


async def bind(user_id: int, shop_token: str, binding_code: str, now: datetime) -> int:
    """Bind a user to the shop's open tenancy, whose id this is; binding again changes nothing.

    Raises NotFoundError (no such token), LimitedError, WrongBindingCodeError, or ConflictError
    (nobody lives there, or the user has too many shops).
    """
    async with transaction() as connection:
        await guesses.lock_within(connection, USER_SCOPE, str(user_id))
        await guesses.check_within(connection, USER_SCOPE, str(user_id), now)
        shop = await _shop_of(connection, shop_token)
        await guesses.lock_within(connection, SHOP_SCOPE, str(shop["id"]))
        await guesses.check_within(connection, SHOP_SCOPE, str(shop["id"]), now)
        if shop["tenancy_id"] is None:
            raise ConflictError("nobody lives in this shop now")
        right = secrets.compare_digest(binding_code.encode(), shop["binding_code"].encode())
        if right:
            await _bind(connection, user_id, shop["tenancy_id"], now)
        else:
            await _count(connection, USER_SCOPE, user_id, GUESSES_PER_USER, now)
            await _count(connection, SHOP_SCOPE, shop["id"], GUESSES_PER_SHOP, now)
    if not right:  # raised only now, for the count must be committed
        raise WrongBindingCodeError
    return int(shop["tenancy_id"])


async def bound_timezone(user_id: int, tenancy_id: int) -> str | None:
    """The timezone of a tenancy that the user is bound to now; None for any other."""
    found = await row(pool(), TIMEZONE, user_id, tenancy_id)
    return None if found is None else str(found["timezone"])


async def unbind(user_id: int, tenancy_id: int, now: datetime) -> None:
    """End a binding; raises NotFoundError where there is none."""
    if await row(pool(), UNBIND, user_id, tenancy_id, now) is None:
        raise NotFoundError("no such binding")


async def unbind_all_within(connection: Connection, tenancy_id: int, now: datetime) -> int:
    """End everybody's access to a tenancy, under its lock; how many had it."""
    return len(await rows(connection, UNBIND_ALL, tenancy_id, now))


def new_code() -> str:
    """A binding code that nobody can know yet, short enough to be typed."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"


async def show_code(tenancy_id: int, manager: Manager, now: datetime) -> str:
    """The code with which a tenant binds, for a manager who hands it over; who looked is kept."""
    require(manager.role, Act.BINDING_CODES)
    async with transaction() as connection:
        found = await row(connection, CODE, tenancy_id)
        if found is None or manager.site_id not in {None, found["site_id"]}:
            raise NotFoundError("tenancy")
        subject = f"shop:{found['shop_code']}"
        deed = Deed(found["site_id"], manager.name, "binding_code.view", subject, "", {})
        await record_act(connection, deed, now)
        return str(found["binding_code"])


async def _shop_of(connection: Connection, shop_token: str) -> Row:
    shop = await row(connection, SHOP, shop_token)
    if shop is None:
        raise NotFoundError("no such shop token")
    return shop


async def _bind(connection: Connection, user_id: int, tenancy_id: int, now: datetime) -> None:
    await lock_open_tenancy(
        connection, tenancy_id
    )  # or who moves out meanwhile would keep this one
    bound = await row(connection, BOUND, user_id, tenancy_id)
    if bound and bound["bound"] >= BOUND_MAX and not bound["here"]:
        raise ConflictError(f"one person is bound to {BOUND_MAX} shops at most")
    await rows(connection, BIND, user_id, tenancy_id, now)
    await rows(connection, guesses.FORGET, USER_SCOPE, str(user_id))


async def _count(
    connection: Connection, scope: str, subject_id: int, limit: int, now: datetime
) -> None:
    await guesses.record_failure_within(
        connection, scope, str(subject_id), now, limit=limit, window_s=GUESS_WINDOW_S
    )
