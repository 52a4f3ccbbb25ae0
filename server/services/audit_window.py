"""Which part of the books an audit looks at, as ranges that every question can use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from server.core.errors import InvalidInputError
from server.models.database import Connection, row, rows, transaction

ID_MIN, ID_MAX = -(2**63), 2**63 - 1
FIRST_DAY, LAST_DAY = date(1, 1, 1), date(9999, 12, 31)
EVER = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))

# One state of the books, however long it takes and whatever is written meanwhile. It reads for
# minutes where others may not, is no danger to anybody's locks, and knows its parameters.
SNAPSHOT = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = '10min'",
    "SET LOCAL plan_cache_mode = force_custom_plan",
    "SET LOCAL work_mem = '64MB'",
)
BOUNDS = """
SELECT min($1::date::timestamp AT TIME ZONE timezone) AS begins_at,
       max($2::date::timestamp AT TIME ZONE timezone) AS ends_at FROM site
"""
# The order of ids is that of writing, but for what was written at the same moment: from the first
# to the last of the days. (OFFSET keeps the index of ids from being walked for its ends.)
IDS = """
SELECT min(id) AS first_id, max(id) AS last_id FROM (
    SELECT id FROM ledger_transaction WHERE created_at >= $1 AND created_at < $2 OFFSET 0
) AS written
"""


@dataclass(frozen=True, slots=True)
class Window:
    """Days `[first_day, end_day)`: statements of these days, and what was written in them.

    `first_id` to `last_id` are the transactions written from `begins_at` to `ends_at`, the days'
    first and last instants at any site.
    """

    first_day: date = FIRST_DAY
    end_day: date = LAST_DAY
    begins_at: datetime = EVER[0]
    ends_at: datetime = EVER[1]
    first_id: int = ID_MIN
    last_id: int = ID_MAX

    @property
    def ids(self) -> tuple[int, int]:
        """The journal's part."""
        return self.first_id, self.last_id

    @property
    def days(self) -> tuple[date, date]:
        """The statements' part."""
        return self.first_day, self.end_day

    @property
    def times(self) -> tuple[datetime, datetime]:
        """When it was."""
        return self.begins_at, self.ends_at


@asynccontextmanager
async def snapshot() -> AsyncIterator[Connection]:
    """A connection that sees one state of the books and cannot change them."""
    async with transaction() as connection:
        for setting in SNAPSHOT:
            await rows(connection, setting)
        yield connection


async def window_of(connection: Connection, since: date | None, until: date | None) -> Window:
    """From `since` (None: the beginning) through `until` (None: now)."""
    first_day, last_day = since or FIRST_DAY, until or LAST_DAY - timedelta(days=1)
    if first_day > last_day:
        raise InvalidInputError(f"from {first_day} to {last_day} there is no day")
    if since is None and until is None:
        return Window()
    end_day = last_day + timedelta(days=1)
    bounds = await row(connection, BOUNDS, first_day, end_day) or {}
    begins_at, ends_at = bounds.get("begins_at") or EVER[0], bounds.get("ends_at") or EVER[1]
    ids = await row(connection, IDS, begins_at, ends_at) or {}
    first_id, last_id = ids.get("first_id"), ids.get("last_id")
    if first_id is None or last_id is None:
        first_id, last_id = 1, 0
    return Window(first_day, end_day, begins_at, ends_at, first_id, last_id)
