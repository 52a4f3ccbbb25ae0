"""Wrong guesses: how many, how long, and that a block never grows."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from server.core.errors import LimitedError
from server.models.database import pool, rows
from server.services import guesses

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)


def after(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


async def blocked_for(at: datetime, subject: str = "ann") -> int:
    try:
        await guesses.check("code", subject, at)
    except LimitedError as error:
        return error.retry_after_s
    return 0


@pytest.mark.parametrize(
    ("limit", "window_s", "failures_at", "asked_at", "blocked_s"),
    [
        pytest.param(3, 600, [], 0, 0, id="nobody failed"),
        pytest.param(3, 600, [0, 1], 2, 0, id="below the limit"),
        pytest.param(3, 600, [0, 1, 2], 2, 600, id="at the limit"),
        pytest.param(1, 600, [0], 0, 600, id="a limit of one"),
        pytest.param(3, 86_400, [0, 1, 2], 2, 900, id="fifteen minutes at most"),
        pytest.param(3, 600, [0, 1, 2], 601, 1, id="the last second"),
        pytest.param(3, 600, [0, 1, 2], 602, 0, id="over by itself"),
        pytest.param(3, 600, [0, 1, 600], 601, 0, id="the window was over"),
        pytest.param(3, 600, [0, 1, 2, 300, 301], 301, 301, id="failures never prolong a block"),
        pytest.param(3, 600, [0, 1, 2, 602, 603], 603, 0, id="after a block the count is new"),
        pytest.param(3, 600, [0, 1, 2, 602, 603, 604], 604, 600, id="and blocks again"),
        pytest.param(3, 86_400, [0, 1, 2, 902, 903], 904, 0, id="in a long window too"),
    ],
)
async def test_a_subject_is_blocked_by_failures_in_a_window(
    database: None,
    limit: int,
    window_s: int,
    failures_at: list[int],
    asked_at: int,
    blocked_s: int,
) -> None:
    for seconds in failures_at:
        await guesses.record_failure("code", "ann", after(seconds), limit=limit, window_s=window_s)
    assert await blocked_for(after(asked_at)) == blocked_s


async def test_subjects_and_scopes_are_counted_apart(database: None) -> None:
    await guesses.record_failure("code", "ann", NOW, limit=1, window_s=60)
    await guesses.check("code", "bob", NOW)
    await guesses.check("password", "ann", NOW)
    with pytest.raises(LimitedError):
        await guesses.check("code", "ann", NOW)


async def test_forgetting_ends_a_block(database: None) -> None:
    await guesses.record_failure("code", "ann", NOW, limit=1, window_s=60)
    with pytest.raises(LimitedError):
        await guesses.check("code", "ann", NOW)
    await guesses.forget("code", "ann")
    await guesses.check("code", "ann", NOW)


async def test_failures_at_the_same_moment_are_all_counted(database: None) -> None:
    await asyncio.gather(
        *(guesses.record_failure("code", "ann", NOW, limit=50, window_s=60) for _ in range(20))
    )
    assert await rows(pool(), "SELECT failures FROM guess_counter") == [{"failures": 20}]


async def test_counters_that_ran_out_are_swept_with_the_next_failure(database: None) -> None:
    for name in range(5):
        await guesses.record_failure("code", str(name), NOW, limit=9, window_s=60)
    later = NOW + guesses.KEPT + timedelta(seconds=61)
    await guesses.record_failure("code", "ann", later, limit=9, window_s=60)
    assert await rows(pool(), "SELECT subject FROM guess_counter") == [{"subject": "ann"}]
