import pytest

from tests.scenarios.world import World, local


@pytest.fixture
def world(database: None) -> World:
    """A mall on Wednesday morning, ten o'clock."""
    return World(local("2026-05-20 10:00"))
