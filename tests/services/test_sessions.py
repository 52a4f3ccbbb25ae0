"""Sessions below the door: how many, whose, and what WeChat may answer."""

from datetime import timedelta

import pytest

from server.core.errors import LimitedError, UnauthenticatedError, UnavailableError
from server.models.database import pool, rows
from server.services import sessions
from tests.fakes.login import FakeLogin
from tests.fakes.town import NOW


class OddLogin(FakeLogin):
    """WeChat answers something that is no openid."""

    def __init__(self, openid: str) -> None:
        super().__init__()
        self._openid = openid

    async def openid(self, code: str) -> str:
        assert code
        return self._openid


async def log_in(login: FakeLogin, code: str) -> sessions.OpenedSession:
    return await sessions.log_in(login, code, NOW, address="192.0.2.7")


async def test_one_person_is_one_user_however_often_they_log_in(database: None) -> None:
    login = FakeLogin()
    first, second = await log_in(login, "ann-1"), await log_in(login, "ann-2")
    assert first.token != second.token
    assert first.expires_at == NOW + timedelta(days=30)
    ann = await sessions.user_of(first.token, NOW)
    assert ann == await sessions.user_of(second.token, NOW)
    assert (ann.app_id, ann.openid) == ("wx-test", "openid-ann")
    bob = await sessions.user_of((await log_in(login, "bob-1")).token, NOW)
    assert bob.id != ann.id


async def test_a_code_is_good_once(database: None) -> None:
    login = FakeLogin()
    await log_in(login, "ann-1")
    with pytest.raises(UnauthenticatedError) as wrong:
        await log_in(login, "ann-1")
    assert wrong.value.code == "wrong_code"


async def test_the_oldest_session_makes_room(database: None) -> None:
    login = FakeLogin()
    opened = [await log_in(login, f"ann-{n}") for n in range(sessions.SESSIONS_MAX + 3)]
    kept = await rows(pool(), "SELECT count(*) AS n FROM user_session")
    assert kept == [{"n": sessions.SESSIONS_MAX}]
    await sessions.user_of(opened[-1].token, NOW)


async def test_logging_out_ends_one_session(database: None) -> None:
    login = FakeLogin()
    here, there = await log_in(login, "ann-1"), await log_in(login, "ann-2")
    await sessions.log_out(here.token)
    await sessions.log_out(here.token)
    with pytest.raises(UnauthenticatedError):
        await sessions.user_of(here.token, NOW)
    await sessions.user_of(there.token, NOW)


async def test_many_wrong_codes_from_one_address_are_limited(database: None) -> None:
    login = FakeLogin()
    for _ in range(sessions.CODES_PER_ADDRESS):
        with pytest.raises(UnauthenticatedError):
            await log_in(login, "bad")
    with pytest.raises(LimitedError):
        await log_in(login, "ann-1")
    await sessions.log_in(login, "ann-1", NOW, address="192.0.2.8")


@pytest.mark.parametrize("openid", ["", "x" * 65])
async def test_an_answer_that_names_nobody_logs_nobody_in(database: None, openid: str) -> None:
    with pytest.raises(UnavailableError):
        await log_in(OddLogin(openid), "ann-1")
    assert await rows(pool(), "SELECT id FROM app_user") == []
