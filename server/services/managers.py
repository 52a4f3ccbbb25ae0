"""Managers: their accounts and sessions. What each may do is in manager_acts."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from asyncpg import UniqueViolationError
from tortoise.exceptions import IntegrityError

from server.core.errors import (
    ConflictError,
    InvalidInputError,
    UnauthenticatedError,
    UnavailableError,
)
from server.models import database
from server.services import guesses
from server.services.manager_acts import Deed, Role, record_act

T = TypeVar("T")

SESSION_LIFE = timedelta(hours=12)
SESSIONS_MAX = 20  # open ones a manager; the oldest end
NAME_MAX = 64
PASSWORD_MIN, PASSWORD_MAX = 8, 256
GUESSES_PER_NAME, GUESSES_PER_ADDRESS = 10, 50
GUESS_WINDOW_S = 900
LOGINS_AT_ONCE, LOGINS_WAITING_MAX = 2, 50
OPERATOR = "operator"  # who has the command line, and with it the database
NAME_SCOPE, ADDRESS_SCOPE = "manager_name", "manager_address"


class _Gate(asyncio.Semaphore):
    """Lets few logins work at once, and tells how many wait."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.waiting = 0

    async def acquire(self) -> Literal[True]:
        """Wait for a place."""
        self.waiting += 1
        try:
            return await super().acquire()
        finally:
            self.waiting -= 1


_gate = _Gate(LOGINS_AT_ONCE)
# argon2 is slow on purpose: threads of its own keep it from starving every other executor user
_hashing = ThreadPoolExecutor(max_workers=LOGINS_AT_ONCE, thread_name_prefix="argon2")
_hasher = PasswordHasher()


@dataclass(frozen=True, slots=True)
class Manager:
    """A manager as doors know them; `site_id` None: all sites."""

    id: int
    name: str
    role: Role
    site_id: int | None


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A fresh session; the token is shown once and kept only as its digest."""

    token: str
    expires_at: datetime
    manager: Manager


def token_digest(token: str) -> str:
    """What the tables keep of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


async def add(name: str, password: str, role: Role, site_id: int | None, now: datetime) -> int:
    """A new manager's id; ConflictError where the name is taken. The operator's act, logged."""
    if not 1 <= len(name) <= NAME_MAX or name != name.strip() or not name.isprintable():
        raise InvalidInputError(f"a name has 1 to {NAME_MAX} printable characters: {name!r}")
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise InvalidInputError(f"a password has {PASSWORD_MIN} to {PASSWORD_MAX} characters")
    digest = await _in_thread(_hasher.hash, password)
    try:
        async with database.transaction() as connection:
            [added] = await database.rows(
                connection,
                "INSERT INTO manager (name, password_hash, role, site_id, created_at)"
                " VALUES ($1, $2, $3, $4, $5) RETURNING id",
                *(name, digest, role.value, site_id, now),
            )
            facts = {"role": role.value}
            deed = Deed(site_id, OPERATOR, "manager.add", f"manager:{name}", "", facts)
            await record_act(connection, deed, now)
    except (UniqueViolationError, IntegrityError) as error:
        raise ConflictError(f"there is a manager named {name!r} already") from error
    return int(added["id"])


async def log_in(name: str, password: str, now: datetime, *, address: str) -> OpenedSession:
    """A session, or UnauthenticatedError (`wrong_login`); limited by name and by address."""
    if _gate.waiting >= LOGINS_WAITING_MAX:
        raise UnavailableError("too many logins at once")
    async with _gate:
        manager = await _guess(name, password, now, address)
    if manager is None:
        raise UnauthenticatedError(code="wrong_login")
    await guesses.forget(NAME_SCOPE, name)
    return await _open_session(manager, address, now)


async def _guess(name: str, password: str, now: datetime, address: str) -> Manager | None:
    """One try, counted if it is wrong; one at a time for a name and for an address."""
    subject = name[:NAME_MAX]
    async with database.transaction() as connection:
        for scope, who in ((NAME_SCOPE, subject), (ADDRESS_SCOPE, address)):
            await guesses.lock_within(connection, scope, who)
            await guesses.check_within(connection, scope, who, now)
        found = await database.row(
            connection,
            "SELECT id, name, role, site_id, password_hash FROM manager WHERE name = $1",
            name,
        )
        digest = found["password_hash"] if found else await _in_thread(_nobodys_digest)
        right = await _in_thread(_fits, digest, password[: PASSWORD_MAX + 1])
        if found is not None and right:
            return _manager(found)
        for scope, who, limit in (
            (NAME_SCOPE, subject, GUESSES_PER_NAME),
            (ADDRESS_SCOPE, address, GUESSES_PER_ADDRESS),
        ):
            await guesses.record_failure_within(
                connection, scope, who, now, limit=limit, window_s=GUESS_WINDOW_S
            )
    return None


async def manager_of(token: str, now: datetime) -> Manager:
    """Whose session this is; UnauthenticatedError where it is nobody's or over."""
    found = await database.row(
        database.pool(),
        "SELECT m.id, m.name, m.role, m.site_id FROM manager_session s"
        " JOIN manager m ON m.id = s.manager_id WHERE s.token_hash = $1 AND s.expires_at > $2",
        *(token_digest(token), now),
    )
    if found is None:
        raise UnauthenticatedError
    return _manager(found)


async def log_out(token: str) -> None:
    """End this session; ending it twice is no error."""
    await database.rows(
        database.pool(), "DELETE FROM manager_session WHERE token_hash = $1", token_digest(token)
    )


async def _open_session(manager: Manager, address: str, now: datetime) -> OpenedSession:
    token = secrets.token_urlsafe(32)
    expires_at = now + SESSION_LIFE
    async with database.transaction() as connection:
        await database.rows(
            connection,
            "DELETE FROM manager_session WHERE manager_id = $1 AND (expires_at <= $2 OR token_hash"
            " IN (SELECT token_hash FROM manager_session WHERE manager_id = $1"
            " ORDER BY expires_at DESC OFFSET $3))",
            *(manager.id, now, SESSIONS_MAX - 1),
        )
        await database.rows(
            connection,
            "INSERT INTO manager_session (token_hash, manager_id, expires_at) VALUES ($1, $2, $3)",
            *(token_digest(token), manager.id, expires_at),
        )
        subject, facts = f"manager:{manager.name}", {"address": address}
        deed = Deed(manager.site_id, manager.name, "session.open", subject, "", facts)
        await record_act(connection, deed, now)
    return OpenedSession(token, expires_at, manager)


def _manager(found: database.Row) -> Manager:
    return Manager(found["id"], found["name"], Role(found["role"]), found["site_id"])


def _fits(digest: str, password: str) -> bool:
    try:
        return _hasher.verify(digest, password)
    except VerificationError:
        return False


@lru_cache(maxsize=1)
def _nobodys_digest() -> str:
    """Unknown names cost as much work as known ones."""
    return _hasher.hash(secrets.token_urlsafe(16))


async def _in_thread(work: Callable[..., T], *values: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(_hashing, work, *values)
