"""What the tests of the core share: nothing but cold caches."""

import pytest

from server.core.settlement.continuing import day_frame
from server.core.settlement.grid import day_grid
from server.core.tariff.periods import day_spans
from server.core.tariff.versions import block_prices


@pytest.fixture(scope="session", autouse=True)
def cold_caches() -> None:
    """A mutant runs in a process that has rated before: it may not live on kept answers."""
    for cached in (block_prices, day_frame, day_grid, day_spans):
        cached.cache_clear()
