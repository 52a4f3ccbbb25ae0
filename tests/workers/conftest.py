"""The mall with its meters on sockets, and meters that are quick to be silent."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from server.devices import patience
from server.services.wakeups import Wakeups
from tests.workers.collected_mall import (
    METER,
    SHOP,
    SITE,
    Mall,
    gateway_table,
    modbus_gateway,
    open_mall,
)


@pytest_asyncio.fixture
async def wakeups(redis_url: str) -> AsyncIterator[Wakeups]:
    redis = Redis.from_url(redis_url)
    yield Wakeups(redis)
    await redis.aclose()


@pytest_asyncio.fixture
async def mall(database: None, wakeups: Wakeups, tmp_path: Path) -> AsyncIterator[Mall]:
    async with open_mall(tmp_path, wakeups, modbus_gateway("gw-01", range(1, 3))) as mall:
        shops = "".join(SHOP.format(number=n) + METER.format(number=n) for n in (1, 2))
        await mall.load(SITE + gateway_table(mall.bank.ports["gw-01"]) + shops)
        yield mall


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meters answer at once here: what is silent shall not take seconds to be so."""
    for name in ("FIRST_TIMEOUT_S", "SHORTEST_TIMEOUT_S", "LONGEST_TIMEOUT_S", "MUTE_TIMEOUT_S"):
        monkeypatch.setattr(patience, name, getattr(patience, name) / 5)
