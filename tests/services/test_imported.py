"""What `imported` writes again is what the import wrote."""

from pathlib import Path

import pytest

from tests import imported as module
from tests.databases import LastingDatabase
from tests.imported import everything, imported
from tests.services.conftest import NOW, PROFILES, SITE


async def test_the_second_time_is_as_the_first(
    lasting_database: LastingDatabase,
    database: None,
    site_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site_path.write_text(SITE.replace("示范商场", "it's {another}"), encoding="utf-8")
    first = await imported(site_path, PROFILES, NOW)
    was = await everything()
    assert was.count("INSERT") > 10
    await lasting_database.empty()
    assert "INSERT" not in await everything()
    with monkeypatch.context() as patch:
        patch.setattr(module, "import_site", None)  # it is not called
        assert await imported(site_path, PROFILES, NOW) == first
    assert await everything() == was
    # where a mall is, the product's own import says what becomes of it
    again = await imported(site_path, PROFILES, NOW)
    assert (again.created, again.updated) == ({}, {})
