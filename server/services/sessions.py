"""A person's login: a wx.login code becomes a user and a bearer token that only its hash knows."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.channels.contract import ChannelError, LoginProvider
from server.core.errors import UnauthenticatedError, UnavailableError
from server.models.database import pool, row, rows, transaction
from server.services import guesses

SESSION_LIFE = timedelta(days=30)
SESSIONS_MAX = 20  # of one person; the oldest ends first
ADDRESS_SCOPE, CODES_PER_ADDRESS, CODES_WINDOW_S = "login_address", 60, 600
OPENID_MAX = 64

USER = """
INSERT INTO app_user (app_id, openid, created_at) VALUES ($1, $2, $3)
ON CONFLICT (app_id, openid) DO UPDATE SET openid = excluded.openid RETURNING id
"""
PRUNE = """
DELETE FROM user_session WHERE user_id = $1 AND (expires_at <= $2 OR token_hash IN (
    SELECT token_hash FROM user_session WHERE user_id = $1 ORDER BY expires_at DESC OFFSET $3))
"""
OPEN = "INSERT INTO user_session (token_hash, user_id, expires_at) VALUES ($1, $2, $3)"
USER_OF = """
SELECT app_user.id, app_user.app_id, app_user.openid FROM user_session
JOIN app_user ON app_user.id = user_session.user_id
WHERE user_session.token_hash = $1 AND user_session.expires_at > $2
"""
CLOSE = "DELETE FROM user_session WHERE token_hash = $1"


@dataclass(frozen=True, slots=True)
class User:
    """A person as one mini-program knows them."""

    id: int
    app_id: str
    openid: str


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """The token is seen here once; the table has its hash."""

    token: str
    expires_at: datetime


async def log_in(
    login: LoginProvider | None, code: str, now: datetime, *, address: str
) -> OpenedSession:
    """A session for the person behind the code.

    Raises UnauthenticatedError (`wrong_code`), LimitedError after many wrong codes from one
    address, UnavailableError where WeChat does not answer or the mini-program is off.
    """
    if login is None:
        raise UnavailableError("logins of the mini-program are off")
    await guesses.check(ADDRESS_SCOPE, address, now)
    try:
        openid = await login.openid(code)
    except ChannelError as error:
        if error.transient:
            raise UnavailableError("WeChat does not answer") from error
        await guesses.record_failure(
            ADDRESS_SCOPE, address, now, limit=CODES_PER_ADDRESS, window_s=CODES_WINDOW_S
        )
        raise UnauthenticatedError(code="wrong_code") from error
    if not 0 < len(openid) <= OPENID_MAX:
        raise UnavailableError("WeChat's answer names nobody")
    return await _open(login.app_id, openid, now)


async def user_of(token: str, now: datetime) -> User:
    """Whose session this is; raises UnauthenticatedError where it is nobody's, or over."""
    found = await row(pool(), USER_OF, token_digest(token), now)
    if found is None:
        raise UnauthenticatedError
    return User(**found)


async def log_out(token: str) -> None:
    """End a session; ending it twice is no error."""
    await rows(pool(), CLOSE, token_digest(token))


def token_digest(token: str) -> str:
    """What the table knows of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


async def _open(app_id: str, openid: str, now: datetime) -> OpenedSession:
    session = OpenedSession(secrets.token_urlsafe(32), now + SESSION_LIFE)
    async with transaction() as connection:
        user = await row(connection, USER, app_id, openid, now)
        assert user is not None  # noqa: S101  an upsert answers its row
        await rows(connection, PRUNE, user["id"], now, SESSIONS_MAX - 1)
        await rows(connection, OPEN, token_digest(session.token), user["id"], session.expires_at)
    return session
