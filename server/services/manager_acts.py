"""What a manager may do, what one did, and the one-use tokens of dangerous pages."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from server.core.errors import ConflictError, ForbiddenError, InvalidInputError
from server.models import database

TOKEN_LIFE = timedelta(seconds=60)
REASON_MAX = 200


class Role(StrEnum):
    """What a manager is in the mall."""

    OWNER = "owner"
    FINANCE = "finance"
    ENGINEER = "engineer"
    SERVICE = "service"
    READ_ONLY = "read_only"


class Act(StrEnum):
    """What a role may be allowed."""

    READ = "read"
    MONEY = "money"
    DEVICES = "devices"
    SUPPLY = "supply"
    KIOSKS = "kiosks"
    TICKETS = "tickets"
    NOTICES = "notices"
    BINDING_CODES = "binding_codes"


# what is not here is denied
ALLOWED: Mapping[Role, frozenset[Act]] = {
    Role.OWNER: frozenset(Act),
    Role.FINANCE: frozenset({Act.READ, Act.MONEY}),
    Role.ENGINEER: frozenset({Act.READ, Act.DEVICES, Act.SUPPLY, Act.KIOSKS}),
    Role.SERVICE: frozenset({Act.READ, Act.TICKETS, Act.NOTICES, Act.BINDING_CODES}),
    Role.READ_ONLY: frozenset({Act.READ}),
}


def may(role: Role, act: Act) -> bool:
    """Whether the table allows it."""
    return act in ALLOWED.get(role, frozenset())


def require(role: Role, act: Act) -> None:
    """Nothing, or ForbiddenError."""
    if not may(role, act):
        raise ForbiddenError(f"{act.value} needs another role than {role.value}")


def check_reason(reason: str) -> None:
    """Refuse no reason (`reason_needed`), and one that nobody could store or read."""
    if not reason.strip():
        raise InvalidInputError("a reason is needed", code="reason_needed")
    if len(reason) > REASON_MAX or "\0" in reason:
        raise InvalidInputError(f"a reason has at most {REASON_MAX} characters, and no NUL")


async def issue_token(manager_id: int, act: str, facts: Mapping[str, object], now: datetime) -> str:
    """A token for one POST of this act, within a minute, on exactly these facts."""
    token = secrets.token_urlsafe(24)
    async with database.transaction() as connection:
        await database.rows(connection, "DELETE FROM act_token WHERE expires_at <= $1", now)
        await database.rows(
            connection,
            "INSERT INTO act_token (token_hash, manager_id, act, facts_hash, expires_at)"
            " VALUES ($1, $2, $3, $4, $5)",
            *(_digest(token), manager_id, act, _facts_digest(facts), now + TOKEN_LIFE),
        )
    return token


async def redeem_token(
    token: str, manager_id: int, act: str, facts: Mapping[str, object], now: datetime
) -> None:
    """Use a token up; ConflictError (`facts_changed`) where it is spent, late or of other facts."""
    spent = await database.row(
        database.pool(),
        "DELETE FROM act_token WHERE token_hash = $1 AND manager_id = $2 AND act = $3"
        " RETURNING facts_hash, expires_at",
        *(_digest(token), manager_id, act),
    )
    if spent is None or spent["expires_at"] <= now or spent["facts_hash"] != _facts_digest(facts):
        raise ConflictError(code="facts_changed")


@dataclass(frozen=True, slots=True)
class Deed:
    """One row of the audit log."""

    site_id: int | None
    actor: str
    act: str
    subject: str
    reason: str
    facts: Mapping[str, object]


async def record_act(connection: database.Connection, deed: Deed, now: datetime) -> None:
    """Write a deed down, in the act's own transaction."""
    await database.rows(
        connection,
        "INSERT INTO manager_act (site_id, actor, act, subject, reason, facts, at)"
        " VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7)",
        *(deed.site_id, deed.actor, deed.act, deed.subject, deed.reason),
        *(database.to_json(deed.facts), now),
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _facts_digest(facts: Mapping[str, object]) -> str:
    return hashlib.sha256(database.to_json(facts).encode()).hexdigest()
