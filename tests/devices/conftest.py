"""What the tests of this room share: a shorter patience, and profiles by name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from server.devices import patience
from server.devices.profiles.catalogue import load_profile
from server.devices.profiles.profile import Profile
from tests.fakes.profiles import shipped_profiles


@pytest.fixture(scope="session")
def demo_profile() -> Profile:
    """example/demo-relay, as shipped."""
    return shipped_profiles()["example/demo-relay"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timeouts of a tenth, so that tests of silence take no seconds."""
    for name in (
        "FIRST_TIMEOUT_S",
        "SHORTEST_TIMEOUT_S",
        "LONGEST_TIMEOUT_S",
        "MUTE_TIMEOUT_S",
        "SHORTEST_REST_S",
    ):
        monkeypatch.setattr(patience, name, getattr(patience, name) / 10)


@pytest.fixture
def read_profile(tmp_path: Path) -> Callable[[str], Profile]:
    """A profile from its text."""

    def read(text: str) -> Profile:
        path = tmp_path / "profile.yaml"
        path.write_text(text, "utf-8")
        return load_profile(path)

    return read
